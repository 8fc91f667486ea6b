output "host" {
  description = "Address that a client of the cluster begins with."
  value       = aws_elasticache_replication_group.this.configuration_endpoint_address
}

output "port" {
  description = "Port, TLS only."
  value       = aws_elasticache_replication_group.this.port
}

output "token_secret_arn" {
  description = "Secret that holds the password."
  value       = aws_secretsmanager_secret.token.arn
}
