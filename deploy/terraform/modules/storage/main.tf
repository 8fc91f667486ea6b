# Buckets for releases, for the registry's artifacts and for backups, and one that is told who reads and writes them.

locals {
  buckets = {
    releases = "sealed releases that servers fetch"
    registry = "artifacts of MLflow"
    backups  = "window stores, decision logs, routes"
  }
}

data "aws_caller_identity" "here" {}

module "access" {
  source = "../bucket"

  name    = "${var.prefix}-access-${data.aws_caller_identity.here.account_id}"
  about   = "who read and wrote the others"
  key_arn = var.key_arn
}

module "data" {
  source   = "../bucket"
  for_each = local.buckets

  name       = "${var.prefix}-${each.key}-${data.aws_caller_identity.here.account_id}"
  about      = each.value
  key_arn    = var.key_arn
  log_bucket = module.access.name
}
