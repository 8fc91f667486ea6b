variable "prefix" {
  description = "Name of the cluster, and first part of the names of its roles."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version."
  type        = string
}

variable "administrators" {
  description = "ARNs of the roles that administer the cluster."
  type        = list(string)
}

variable "subnet_ids" {
  description = "Private subnets, one a zone."
  type        = list(string)
}

variable "secrets_key_arn" {
  description = "Key that the cluster's secrets are encrypted with."
  type        = string
}

variable "log_key_arn" {
  description = "Key that the control plane's logs are encrypted with."
  type        = string
}

variable "serving_nodes" {
  description = "CPU nodes that serve."
  type        = object({ instance_type = string, least = number, most = number })
}

variable "gpu_nodes" {
  description = "GPU nodes that serve; 0 at most: none."
  type        = object({ instance_type = string, least = number, most = number })
}

variable "training_nodes" {
  description = "Spot nodes that train."
  type        = object({ instance_types = list(string), most = number })
}
