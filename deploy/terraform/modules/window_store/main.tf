# The windows: a Redis that speaks TLS and knows a password, a copy of each shard in another zone, nothing thrown away
# when memory is full (a window that lost events would look like a customer who did not pay).

resource "aws_elasticache_subnet_group" "this" {
  name       = "${var.prefix}-windows"
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_parameter_group" "this" {
  name   = "${var.prefix}-windows"
  family = "redis7"

  parameter {
    name  = "cluster-enabled"
    value = "yes"
  }

  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_replication_group" "this" {
  replication_group_id = "${var.prefix}-windows"
  description          = "windows of customers and terminals"

  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.node_type
  port                 = 6379
  parameter_group_name = aws_elasticache_parameter_group.this.name
  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = [aws_security_group.this.id]

  num_node_groups            = var.shards
  replicas_per_node_group    = var.replicas_per_node
  automatic_failover_enabled = true
  multi_az_enabled           = true

  at_rest_encryption_enabled = true
  kms_key_id                 = var.key_arn
  transit_encryption_enabled = true
  auth_token                 = data.aws_secretsmanager_random_password.token.random_password
  auth_token_update_strategy = "ROTATE"

  snapshot_retention_limit   = 7
  snapshot_window            = "02:00-03:00"
  maintenance_window         = "sun:03:30-sun:04:30"
  auto_minor_version_upgrade = true
  apply_immediately          = false

  log_delivery_configuration {
    destination_type = "cloudwatch-logs"
    destination      = aws_cloudwatch_log_group.slow.name
    log_format       = "json"
    log_type         = "slow-log"
  }

  lifecycle {
    # drawn once; docs/images.md says how it is changed
    ignore_changes = [auth_token]
  }
}

resource "aws_cloudwatch_log_group" "slow" {
  name              = "/${var.prefix}/windows-slow"
  kms_key_id        = var.log_key_arn
  retention_in_days = 365
}

resource "aws_security_group" "this" {
  name        = "${var.prefix}-windows"
  description = "Redis, from the nodes only"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "from_nodes" {
  security_group_id            = aws_security_group.this.id
  description                  = "Redis over TLS from the cluster's nodes"
  referenced_security_group_id = var.client_group_id
  from_port                    = 6379
  to_port                      = 6379
  ip_protocol                  = "tcp"
}

data "aws_secretsmanager_random_password" "token" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "token" {
  #checkov:skip=CKV2_AWS_57:Redis changes it by hand, without an outage: old and new are good together (ROTATE)
  name        = "${var.prefix}/window-store"
  description = "password of the window store"
  kms_key_id  = var.secrets_key_arn
}

resource "aws_secretsmanager_secret_version" "token" {
  secret_id     = aws_secretsmanager_secret.token.id
  secret_string = data.aws_secretsmanager_random_password.token.random_password

  lifecycle {
    ignore_changes = [secret_string]
  }
}
