# Three kinds of nodes: CPU nodes that serve, GPU nodes that serve engines, spot nodes that train and may go at any time.
# Labels and taints are what the chart's node selectors and tolerations name.

locals {
  groups = {
    serving = {
      instance_types = [var.serving_nodes.instance_type]
      capacity       = "ON_DEMAND"
      image          = "AL2023_x86_64_STANDARD"
      least          = var.serving_nodes.least
      most           = var.serving_nodes.most
      taint          = null
    }
    gpu = {
      instance_types = [var.gpu_nodes.instance_type]
      capacity       = "ON_DEMAND"
      image          = "AL2023_x86_64_NVIDIA"
      least          = var.gpu_nodes.least
      most           = var.gpu_nodes.most
      taint          = "nvidia.com/gpu"
    }
    training = {
      instance_types = var.training_nodes.instance_types
      capacity       = "SPOT"
      image          = "AL2023_x86_64_STANDARD"
      least          = 0
      most           = var.training_nodes.most
      taint          = "fraudserve/training"
    }
  }
  present = { for name, group in local.groups : name => group if group.most > 0 }
  node_policies = toset([
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryReadOnly",
  ])
}

resource "aws_launch_template" "node" {
  for_each = local.present

  name_prefix = "${var.prefix}-${each.key}-"

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 100
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  # a hop limit of 1: a pod cannot ask for the node's own credentials
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.prefix}-${each.key}" }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = local.present

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  instance_types  = each.value.instance_types
  capacity_type   = each.value.capacity
  ami_type        = each.value.image
  labels          = { "fraudserve/pool" = each.key }

  scaling_config {
    desired_size = each.value.least
    min_size     = each.value.least
    max_size     = each.value.most
  }

  update_config {
    max_unavailable = 1
  }

  launch_template {
    id      = aws_launch_template.node[each.key].id
    version = aws_launch_template.node[each.key].latest_version
  }

  dynamic "taint" {
    for_each = each.value.taint == null ? [] : [each.value.taint]

    content {
      key    = taint.value
      value  = "true"
      effect = "NO_SCHEDULE"
    }
  }

  lifecycle {
    # the autoscaler's, from the first day on
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}

data "aws_iam_policy_document" "node_is_taken" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name               = "${var.prefix}-node"
  assume_role_policy = data.aws_iam_policy_document.node_is_taken.json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = local.node_policies

  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.here.partition}:iam::aws:policy/${each.value}"
}
