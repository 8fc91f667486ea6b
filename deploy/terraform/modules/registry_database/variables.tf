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

variable "instance_class" {
  description = "Size of the instance, as db.t4g.medium."
  type        = string
}

variable "storage_gib" {
  description = "GiB of storage at first."
  type        = number
}

variable "most_storage_gib" {
  description = "GiB that it may grow to."
  type        = number
}
