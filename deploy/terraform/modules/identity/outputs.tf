output "role_arns" {
  description = "Role of each service account: server, release, mlflow, backup."
  value       = { for account, role in aws_iam_role.account : account => role.arn }
}
