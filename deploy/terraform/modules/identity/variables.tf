variable "prefix" {
  description = "First part of the roles' names."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the service accounts."
  type        = string
}

variable "oidc_issuer_url" {
  description = "Who vouches for the cluster's service accounts."
  type        = string
}

variable "releases_arn" {
  description = "Bucket of sealed releases."
  type        = string
}

variable "registry_arn" {
  description = "Bucket of MLflow's artifacts."
  type        = string
}

variable "backups_arn" {
  description = "Bucket of backups."
  type        = string
}

variable "data_key_arn" {
  description = "Key of the buckets."
  type        = string
}

variable "secrets_key_arn" {
  description = "Key of the secrets."
  type        = string
}

variable "window_store_arn" {
  description = "Secret with the window store's password."
  type        = string
}

variable "registry_user_arn" {
  description = "Secret with the registry database's user and password."
  type        = string
}
