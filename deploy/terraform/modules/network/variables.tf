variable "prefix" {
  description = "First part of every name."
  type        = string
}

variable "cidr" {
  description = "Address range of the VPC, /16 to /20."
  type        = string
}

variable "zones" {
  description = "Availability zones: a private and a public subnet in each."
  type        = list(string)
}

variable "log_key_arn" {
  description = "Key that flow logs are encrypted with."
  type        = string
}
