output "name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of the API server, inside the VPC."
  value       = aws_eks_cluster.this.endpoint
}

output "oidc_issuer_url" {
  description = "Who vouches for the cluster's service accounts."
  value       = aws_eks_cluster.this.identity[0].oidc[0].issuer
}

output "node_security_group_id" {
  description = "Security group of the nodes: who may speak to the stores."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}
