variable "prefix" {
  description = "First part of every name."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, one a zone."
  type        = list(string)
}

variable "client_group_id" {
  description = "Security group of who may call."
  type        = string
}

variable "key_arn" {
  description = "Key that data at rest are encrypted with."
  type        = string
}

variable "secrets_key_arn" {
  description = "Key that the password is encrypted with."
  type        = string
}

variable "log_key_arn" {
  description = "Key that logs are encrypted with."
  type        = string
}

variable "node_type" {
  description = "Size of each node, as cache.r7g.large."
  type        = string
}

variable "shards" {
  description = "Shards of the cluster."
  type        = number
}

variable "replicas_per_node" {
  description = "Replicas of each shard, in other zones."
  type        = number
}
