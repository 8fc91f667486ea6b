# What each service account of the chart may do on AWS, and nothing else. A pod gets its role by the token that the
# cluster signs for its service account: no key is kept anywhere.

locals {
  issuer = trimprefix(var.oidc_issuer_url, "https://")
  accounts = {
    server  = { buckets = { (var.releases_arn) = "read" }, secrets = [var.window_store_arn] }
    release = { buckets = { (var.releases_arn) = "write", (var.registry_arn) = "write" }, secrets = [] }
    mlflow  = { buckets = { (var.registry_arn) = "write" }, secrets = [var.registry_user_arn] }
    backup  = { buckets = { (var.backups_arn) = "write" }, secrets = [var.window_store_arn] }
  }
  actions = {
    read  = ["s3:GetObject"]
    write = ["s3:GetObject", "s3:PutObject"]
  }
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = var.oidc_issuer_url
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "taken_by" {
  for_each = local.accounts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:fraudserve-${each.key}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

# nobody may delete: old versions go by the buckets' own rule
data "aws_iam_policy_document" "may" {
  for_each = local.accounts

  dynamic "statement" {
    for_each = each.value.buckets

    content {
      actions   = local.actions[statement.value]
      resources = ["${statement.key}/*"]
    }
  }

  statement {
    actions   = ["s3:ListBucket"]
    resources = keys(each.value.buckets)
  }

  statement {
    actions   = contains(values(each.value.buckets), "write") ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
    resources = [var.data_key_arn]
  }

  dynamic "statement" {
    for_each = length(each.value.secrets) > 0 ? [each.value.secrets] : []

    content {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(each.value.secrets) > 0 ? [1] : []

    content {
      actions   = ["kms:Decrypt"]
      resources = [var.secrets_key_arn]
    }
  }
}

resource "aws_iam_role" "account" {
  for_each = local.accounts

  name                 = "${var.prefix}-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.taken_by[each.key].json
  max_session_duration = 3600
}

resource "aws_iam_role_policy" "account" {
  for_each = local.accounts

  name   = "what-it-needs"
  role   = aws_iam_role.account[each.key].id
  policy = data.aws_iam_policy_document.may[each.key].json
}
