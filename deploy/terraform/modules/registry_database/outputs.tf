output "host" {
  description = "Address of the database."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port, TLS only."
  value       = aws_db_instance.this.port
}

output "user_secret_arn" {
  description = "Secret that holds user and password; AWS changes it."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
