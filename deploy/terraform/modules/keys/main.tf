# A key for each kind of thing, so that who may read logs cannot read data, and who may read data cannot read secrets.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  purposes = {
    data    = "objects, images, databases and caches"
    secrets = "secrets of the cluster and of its stores"
    logs    = "log groups"
  }
  account = "arn:${data.aws_partition.here.partition}:iam::${data.aws_caller_identity.here.account_id}:root"
}

data "aws_iam_policy_document" "key" {
  for_each = local.purposes

  # A key's policy names what may be done with this key alone; "*" is the key itself.
  #checkov:skip=CKV_AWS_109:the account's own administrators keep control of its keys, as AWS asks for
  #checkov:skip=CKV_AWS_111:as above; the policy holds for this one key
  #checkov:skip=CKV_AWS_356:in a key's policy the resource "*" is the key that carries it
  statement {
    sid       = "TheAccountDecides"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.account]
    }
  }

  dynamic "statement" {
    for_each = each.key == "logs" ? [1] : []

    content {
      sid       = "LogsAreWritten"
      actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = ["logs.${data.aws_region.here.name}.amazonaws.com"]
      }
    }
  }
}

resource "aws_kms_key" "this" {
  for_each = local.purposes

  description             = "${var.prefix}: ${each.value}"
  deletion_window_in_days = 30
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key[each.key].json
}

resource "aws_kms_alias" "this" {
  for_each = local.purposes

  name          = "alias/${var.prefix}-${each.key}"
  target_key_id = aws_kms_key.this[each.key].key_id
}
