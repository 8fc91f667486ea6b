output "cluster" {
  description = "Name and endpoint of the cluster; the endpoint answers inside the VPC only."
  value       = { name = module.cluster.name, endpoint = module.cluster.endpoint }
}

output "repositories" {
  description = "Where each image is pushed, by name: server, sidecar, tools, load."
  value       = module.images.urls
}

output "buckets" {
  description = "Names of the buckets, by purpose: releases, registry, backups."
  value       = module.storage.bucket_names
}

output "window_store" {
  description = "Address of the window store, for the chart's redis.url; its password is in the secret."
  value       = { host = module.window_store.host, port = module.window_store.port, secret_arn = module.window_store.token_secret_arn }
}

output "registry_database" {
  description = "Address of MLflow's PostgreSQL; user and password are in the secret, which AWS changes by itself."
  value       = { host = module.registry_database.host, port = module.registry_database.port, secret_arn = module.registry_database.user_secret_arn }
}

output "service_account_roles" {
  description = "Role of each service account of the chart, for its annotation eks.amazonaws.com/role-arn."
  value       = module.identity.role_arns
}

output "web_acl_arn" {
  description = "The edge's firewall, for the annotation alb.ingress.kubernetes.io/wafv2-acl-arn of the ingress."
  value       = module.edge.web_acl_arn
}
