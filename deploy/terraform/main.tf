# One region of fraudserve on AWS: what the chart (deploy/helm) is installed on. A second region is this again, with
# another `region` and state key. Nothing here is reachable from outside but what the chart's gateway publishes.

locals {
  prefix = "${var.name}-${var.environment}"
}

module "keys" {
  source = "./modules/keys"

  prefix = local.prefix
}

module "network" {
  source = "./modules/network"

  prefix      = local.prefix
  cidr        = var.vpc_cidr
  zones       = var.zones
  log_key_arn = module.keys.arns["logs"]
}

module "cluster" {
  source = "./modules/cluster"

  prefix             = local.prefix
  kubernetes_version = var.kubernetes_version
  administrators     = var.administrators
  subnet_ids         = module.network.private_subnet_ids
  secrets_key_arn    = module.keys.arns["secrets"]
  log_key_arn        = module.keys.arns["logs"]
  serving_nodes      = var.serving_nodes
  gpu_nodes          = var.gpu_nodes
  training_nodes     = var.training_nodes
}

module "images" {
  source = "./modules/images"

  prefix  = local.prefix
  key_arn = module.keys.arns["data"]
}

module "storage" {
  source = "./modules/storage"

  prefix  = local.prefix
  key_arn = module.keys.arns["data"]
}

module "window_store" {
  source = "./modules/window_store"

  prefix            = local.prefix
  vpc_id            = module.network.vpc_id
  subnet_ids        = module.network.private_subnet_ids
  client_group_id   = module.cluster.node_security_group_id
  key_arn           = module.keys.arns["data"]
  secrets_key_arn   = module.keys.arns["secrets"]
  log_key_arn       = module.keys.arns["logs"]
  node_type         = var.window_store.node_type
  shards            = var.window_store.shards
  replicas_per_node = var.window_store.replicas
}

module "registry_database" {
  source = "./modules/registry_database"

  prefix           = local.prefix
  vpc_id           = module.network.vpc_id
  subnet_ids       = module.network.private_subnet_ids
  client_group_id  = module.cluster.node_security_group_id
  key_arn          = module.keys.arns["data"]
  secrets_key_arn  = module.keys.arns["secrets"]
  instance_class   = var.registry_database.instance_class
  storage_gib      = var.registry_database.storage_gib
  most_storage_gib = var.registry_database.most_storage_gib
}

module "identity" {
  source = "./modules/identity"

  prefix            = local.prefix
  namespace         = var.namespace
  oidc_issuer_url   = module.cluster.oidc_issuer_url
  releases_arn      = module.storage.bucket_arns["releases"]
  registry_arn      = module.storage.bucket_arns["registry"]
  backups_arn       = module.storage.bucket_arns["backups"]
  data_key_arn      = module.keys.arns["data"]
  secrets_key_arn   = module.keys.arns["secrets"]
  window_store_arn  = module.window_store.token_secret_arn
  registry_user_arn = module.registry_database.user_secret_arn
}

module "edge" {
  source = "./modules/edge"

  prefix                    = local.prefix
  requests_per_five_minutes = var.requests_per_five_minutes
  log_key_arn               = module.keys.arns["logs"]
}
