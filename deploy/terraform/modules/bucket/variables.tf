variable "name" {
  description = "Name of the bucket, one in the world."
  type        = string
}

variable "about" {
  description = "What it holds."
  type        = string
}

variable "key_arn" {
  description = "Key that objects are encrypted with."
  type        = string
}

variable "log_bucket" {
  description = "Bucket that is told who reads and writes; null: this one is told by others."
  type        = string
  default     = null
}
