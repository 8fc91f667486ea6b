variable "prefix" {
  description = "First part of every name."
  type        = string
}

variable "requests_per_five_minutes" {
  description = "Requests from one address beyond which it is refused."
  type        = number
}

variable "log_key_arn" {
  description = "Key that logs are encrypted with."
  type        = string
}
