variable "prefix" {
  description = "First part of the repositories' names."
  type        = string
}

variable "key_arn" {
  description = "Key that images are encrypted with."
  type        = string
}
