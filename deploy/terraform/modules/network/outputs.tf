output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Subnets of nodes and stores, one a zone."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}
