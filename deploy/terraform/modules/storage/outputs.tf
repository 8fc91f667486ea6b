output "bucket_names" {
  description = "Name of each bucket: releases, registry, backups."
  value       = { for purpose, bucket in module.data : purpose => bucket.name }
}

output "bucket_arns" {
  description = "ARN of each of them."
  value       = { for purpose, bucket in module.data : purpose => bucket.arn }
}
