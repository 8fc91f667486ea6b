variable "region" {
  description = "AWS region that everything is made in, as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region's name, as eu-central-1."
  }
}

variable "environment" {
  description = "staging or production: part of every name, so that both fit into one account."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "Write staging or production."
  }
}

variable "name" {
  description = "First part of every name."
  type        = string
  default     = "fraudserve"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "Write 2 to 21 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "zones" {
  description = "Availability zones, at least two: one may go without an outage."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name 2 to 4 different zones, as [\"eu-central-1a\", \"eu-central-1b\"]."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC; each zone gets two sixteenths of it."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("/(16|17|18|19|20)$", var.vpc_cidr))
    error_message = "Write a range from /16 to /20, as 10.40.0.0/16."
  }
}

variable "administrators" {
  description = "ARNs of the roles that administer the cluster; nobody else may, not even who made it."
  type        = list(string)

  validation {
    condition = length(var.administrators) > 0 && alltrue([
      for arn in var.administrators : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", arn))
    ])
    error_message = "Name one IAM role or more, as arn:aws:iam::123456789012:role/platform."
  }
}

variable "kubernetes_version" {
  description = "Minor version of the cluster."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "Write a minor version, as 1.33."
  }
}

variable "serving_nodes" {
  description = "CPU nodes that serve: instance type, least and most."
  type        = object({ instance_type = string, least = number, most = number })
  default     = { instance_type = "c7i.2xlarge", least = 2, most = 12 }

  validation {
    condition     = var.serving_nodes.least >= 2 && var.serving_nodes.most >= var.serving_nodes.least
    error_message = "Serve with 2 nodes or more, and with no fewer at most than at least."
  }
}

variable "gpu_nodes" {
  description = "GPU nodes that serve TensorRT engines: instance type, least and most; 0 at most: none."
  type        = object({ instance_type = string, least = number, most = number })
  default     = { instance_type = "g6.2xlarge", least = 0, most = 4 }

  validation {
    condition     = var.gpu_nodes.least >= 0 && var.gpu_nodes.most >= var.gpu_nodes.least
    error_message = "Write no fewer at most than at least, and nothing below 0."
  }
}

variable "training_nodes" {
  description = "Spot nodes for training: instance types, any of which will do, and how many at most."
  type        = object({ instance_types = list(string), most = number })
  default     = { instance_types = ["m7i.4xlarge", "m6i.4xlarge", "m7a.4xlarge"], most = 4 }

  validation {
    condition     = length(var.training_nodes.instance_types) >= 2 && var.training_nodes.most >= 1
    error_message = "Name two instance types or more: one alone is often not to be had on the spot market."
  }
}

variable "window_store" {
  description = "ElastiCache for the windows: node type, shards, replicas of each shard."
  type        = object({ node_type = string, shards = number, replicas = number })
  default     = { node_type = "cache.r7g.large", shards = 2, replicas = 1 }

  validation {
    condition     = var.window_store.shards >= 1 && var.window_store.replicas >= 1 && var.window_store.replicas <= 5
    error_message = "Have a shard or more, and 1 to 5 replicas of each: without one, a lost node is lost windows."
  }
}

variable "registry_database" {
  description = "PostgreSQL of MLflow: instance class, and GiB of storage at first and at most."
  type        = object({ instance_class = string, storage_gib = number, most_storage_gib = number })
  default     = { instance_class = "db.t4g.medium", storage_gib = 50, most_storage_gib = 200 }

  validation {
    condition     = var.registry_database.storage_gib >= 20 && var.registry_database.most_storage_gib > var.registry_database.storage_gib
    error_message = "Begin with 20 GiB or more, and let it grow beyond that."
  }
}

variable "namespace" {
  description = "Kubernetes namespace of the chart; the roles of its service accounts are bound to it."
  type        = string
  default     = "fraud"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "Write a namespace's name: lower-case letters, digits and hyphens."
  }
}

variable "requests_per_five_minutes" {
  description = "Requests from one address in five minutes beyond which the edge refuses them."
  type        = number
  default     = 100000

  validation {
    condition     = var.requests_per_five_minutes >= 100 && var.requests_per_five_minutes <= 2000000000
    error_message = "Write a number from 100 to 2,000,000,000: the firewall's own limits."
  }
}
