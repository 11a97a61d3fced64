# Every resource and data source of the reference that this fake serves, each as the provider's documentation and the
# published blueprints write it.
terraform {
  required_providers {
    aviatrix = {
      source = "aviatrixsystems/aviatrix"
    }
  }
}

variable "ca_file" {
  type = string
}

provider "aviatrix" {
  verify_ssl_certificate  = true
  path_to_ca_certificate  = var.ca_file
  skip_version_validation = false
}

locals {
  anywhere        = "def000ad-0000-0000-0000-000000000000"
  public_internet = "def000ad-0000-0000-0000-000000000001"
}

resource "aviatrix_distributed_firewalling_config" "dcf" {
  enable_distributed_firewalling = true
}

resource "aviatrix_k8s_config" "k8s" {
  enable_k8s          = true
  enable_dcf_policies = true
}

resource "aviatrix_account" "aws" {
  account_name       = "aws"
  cloud_type         = 1
  aws_account_number = "123456789012"
  aws_iam            = true
  aws_role_app       = "arn:aws:iam::123456789012:role/aviatrix-role-app"
  aws_role_ec2       = "arn:aws:iam::123456789012:role/aviatrix-role-ec2"
}

resource "aviatrix_spoke_gateway" "spoke" {
  cloud_type        = 1
  account_name      = aviatrix_account.aws.account_name
  gw_name           = "spoke1"
  vpc_id            = "vpc-0abc"
  vpc_reg           = "us-east-1"
  gw_size           = "t3.medium"
  subnet            = "10.1.0.0/26"
  single_ip_snat    = true
  single_az_ha      = false
  manage_ha_gateway = false
}

resource "aviatrix_kubernetes_cluster" "eks" {
  cluster_id          = "arn:aws:eks:us-east-1:123456789012:cluster/prod"
  use_csp_credentials = true
}

resource "aviatrix_kubernetes_cluster" "custom" {
  cluster_id          = "custom"
  use_csp_credentials = true
  cluster_details {
    account_name           = aviatrix_account.aws.account_name
    account_id             = "123456789012"
    name                   = "custom"
    region                 = "us-east-1"
    vpc_id                 = "vpc-0abc"
    is_publicly_accessible = true
    platform               = "kops"
    version                = "1.30"
    network_mode           = "FLAT"
    tags = {
      team = "mcp"
    }
  }
}

resource "aviatrix_smart_group" "servers" {
  name = "mcp-servers"
  selector {
    match_expressions {
      type           = "k8s"
      k8s_cluster_id = aviatrix_kubernetes_cluster.eks.cluster_id
      k8s_namespace  = "obot-mcp"
    }
  }
}

resource "aviatrix_smart_group" "nodes" {
  name = "nodes"
  selector {
    match_expressions {
      cidr = "10.0.0.0/16"
    }
    match_expressions {
      type           = "k8s"
      k8s_cluster_id = aviatrix_kubernetes_cluster.eks.cluster_id
      k8s_namespace  = "kube-system"
      k8s_service    = "kube-dns"
    }
  }
}

resource "aviatrix_web_group" "infra" {
  name = "infra"
  selector {
    match_expressions {
      snifilter = "*.eks.amazonaws.com"
    }
    match_expressions {
      snifilter = "registry.npmjs.org"
    }
  }
}

data "aviatrix_web_group" "infra" {
  name       = aviatrix_web_group.infra.name
  depends_on = [aviatrix_web_group.infra]
}

data "aviatrix_smart_groups" "all" {
  depends_on = [aviatrix_smart_group.servers, aviatrix_smart_group.nodes]
}

data "aviatrix_dcf_log_profile" "both" {
  profile_name = "start/end"
}

data "aviatrix_dcf_attachment_point" "before_ui" {
  name = "TERRAFORM_BEFORE_UI_MANAGED"
}

resource "aviatrix_dcf_tls_profile" "log_only" {
  display_name           = "log-only"
  certificate_validation = "CERTIFICATE_VALIDATION_LOG_ONLY"
  verify_sni             = true
}

resource "aviatrix_distributed_firewalling_policy_list" "infra" {
  policies {
    name             = "infra"
    action           = "PERMIT"
    priority         = 100
    protocol         = "TCP"
    logging          = true
    src_smart_groups = [aviatrix_smart_group.nodes.uuid]
    dst_smart_groups = [local.public_internet]
    web_groups       = [aviatrix_web_group.infra.uuid]
    port_ranges {
      lo = 443
    }
  }
  policies {
    name             = "dns"
    action           = "PERMIT"
    priority         = 110
    protocol         = "ANY"
    src_smart_groups = [aviatrix_smart_group.servers.uuid]
    dst_smart_groups = [aviatrix_smart_group.nodes.uuid]
  }
}

resource "aviatrix_dcf_ruleset" "early" {
  name = "early"
  rules {
    name             = "no-icmp"
    action           = "DENY"
    priority         = 1
    protocol         = "ICMP"
    logging          = true
    src_smart_groups = [local.anywhere]
    dst_smart_groups = [local.public_internet]
  }
  rules {
    name             = "web"
    action           = "PERMIT"
    priority         = 2
    protocol         = "TCP"
    src_smart_groups = [aviatrix_smart_group.servers.uuid]
    dst_smart_groups = [local.public_internet]
    web_groups       = [aviatrix_web_group.infra.uuid]
    port_ranges {
      lo = 443
    }
    port_ranges {
      lo = 8000
      hi = 8100
    }
  }
}

resource "aviatrix_dcf_ruleset" "late" {
  name = "late"
}

resource "aviatrix_dcf_policy_group" "inner" {
  name = "inner"
  ruleset_reference {
    priority    = 5
    target_uuid = aviatrix_dcf_ruleset.late.id
  }
}

# A named attachment_point is looked up before the group is made, so a new one cannot come into being this way.
resource "aviatrix_dcf_policy_group" "base" {
  name      = "base"
  attach_to = data.aviatrix_dcf_attachment_point.before_ui.id
  ruleset_reference {
    priority    = 10
    target_uuid = aviatrix_dcf_ruleset.early.id
  }
  policy_group_reference {
    priority    = 20
    target_uuid = aviatrix_dcf_policy_group.inner.id
  }
}

resource "aviatrix_distributed_firewalling_default_action_rule" "deny" {
  action      = "DENY"
  logging     = true
  log_profile = data.aviatrix_dcf_log_profile.both.profile_id
}

resource "aviatrix_remote_syslog" "receiver" {
  index    = 3
  name     = "receiver"
  server   = "10.0.0.9"
  port     = 5000
  protocol = "UDP"
}

resource "aviatrix_remote_syslog" "encrypted" {
  index               = 4
  name                = "encrypted"
  server              = "10.0.0.9"
  port                = 6514
  protocol            = "TCP"
  ca_certificate_file = file(var.ca_file)
}

resource "aviatrix_copilot_association" "copilot" {
  copilot_address = "10.0.0.8"
}
