variable "prefix" {
  description = "First part of the buckets' names; the account's number is the last."
  type        = string
}

variable "key_arn" {
  description = "Key that objects are encrypted with."
  type        = string
}
