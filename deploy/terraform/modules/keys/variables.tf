variable "prefix" {
  description = "First part of the names of the keys."
  type        = string
}
