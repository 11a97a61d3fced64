//! The custom resources that tenants write: `FirewallPolicy` and `WebgroupPolicy`, `networking.aviatrix.com/v1alpha1`.
//!
//! Faithful: names, scope, fields, required fields, enums, list minima and CEL rules as `reference/aviatrix-dcf.md`
//! section 1 reads them from the vendor's charts. Fields are as loose as the schema leaves them; what a value means is
//! decided in [`translate`](crate::translate). Not faithful: field descriptions, and the wording of CEL messages.

mod schema;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The API group of both kinds.
pub const GROUP: &str = "networking.aviatrix.com";

/// The vendor's chart whose schema is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChartVersion {
    /// Without watch, logProfile, decryptPolicy, flowAppRequirement and tlsProfile: an API server prunes them.
    V8_2_0,
    #[default]
    V10_1_0,
}

/// The CustomResourceDefinitions of the newest chart.
pub fn crds() -> Vec<CustomResourceDefinition> {
    crds_of(ChartVersion::default())
}

/// The CustomResourceDefinitions as `chart` installs them.
pub fn crds_of(chart: ChartVersion) -> Vec<CustomResourceDefinition> {
    vec![schema::firewall_policy(chart), schema::webgroup_policy()]
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "networking.aviatrix.com",
    version = "v1alpha1",
    kind = "FirewallPolicy",
    plural = "firewallpolicies",
    namespaced,
    status = "FirewallPolicyStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct FirewallPolicySpec {
    /// In order: the first that matches decides.
    pub rules: Vec<FirewallRule>,
    pub smart_groups: Vec<InlineSmartGroup>,
    pub web_groups: Vec<InlineWebGroup>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FirewallRule {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<SourceSelector>,
    pub destination_smart_groups: Vec<GroupRef>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub web_groups: Vec<GroupRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decrypt_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_app_requirement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_profile: Option<String>,
}

/// A rule's source: pods by label, or those behind a Service; always in the object's own namespace and cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceSelector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A group by name (declared inline, or on the controller) or by uuid (on the controller).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InlineSmartGroup {
    pub name: String,
    pub selectors: Vec<SmartGroupSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SmartGroupSelector {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_pod_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_service: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Cloud inventory (name, region, zone, accountId, accountName, s2c, external, extArgs), which the fake lacks.
    #[serde(flatten)]
    pub cloud: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InlineWebGroup {
    pub name: String,
    pub domains: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FirewallPolicyStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment_point: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reconciled_generation: Option<i64>,
    pub smart_groups: Vec<GroupStatus>,
    pub web_groups: Vec<GroupStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "networking.aviatrix.com",
    version = "v1alpha1",
    kind = "WebgroupPolicy",
    plural = "webgrouppolicies",
    namespaced,
    status = "WebgroupPolicyStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct WebgroupPolicySpec {
    pub allowed_domains: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<SourceSelector>,
}

/// The mixed casing is the vendor's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WebgroupPolicyStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_domain_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_uuid: Option<String>,
    #[serde(rename = "smartGroupUUID", skip_serializing_if = "Option::is_none")]
    pub smart_group_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reconciled_generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn rule_properties(chart: ChartVersion) -> Value {
        let crd = serde_json::to_value(&crds_of(chart)[0]).unwrap();
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rules/items/properties")
            .unwrap()
            .clone()
    }

    #[test]
    fn definitions_carry_the_vendors_names() {
        let names: Vec<_> = crds()
            .iter()
            .map(|crd| {
                (
                    crd.metadata.name.clone().unwrap(),
                    crd.spec.names.kind.clone(),
                    crd.spec.scope.clone(),
                )
            })
            .collect();
        let expected = [
            ("firewallpolicies.networking.aviatrix.com", "FirewallPolicy"),
            ("webgrouppolicies.networking.aviatrix.com", "WebgroupPolicy"),
        ];
        for ((name, kind, scope), expected) in names.iter().zip(expected) {
            assert_eq!(
                (name.as_str(), kind.as_str(), scope.as_str()),
                (expected.0, expected.1, "Namespaced")
            );
        }
    }

    #[test]
    fn the_older_chart_lacks_five_fields() {
        let (newer, older) = (
            rule_properties(ChartVersion::V10_1_0),
            rule_properties(ChartVersion::V8_2_0),
        );
        for field in [
            "watch",
            "logProfile",
            "decryptPolicy",
            "flowAppRequirement",
            "tlsProfile",
        ] {
            assert!(
                newer.get(field).is_some() && older.get(field).is_none(),
                "{field}"
            );
        }
        assert_eq!(
            newer.as_object().unwrap().len(),
            older.as_object().unwrap().len() + 5
        );
    }

    #[test]
    fn every_typed_field_is_in_the_schema() {
        let rule = FirewallRule {
            name: "r".into(),
            selector: Some(SourceSelector::default()),
            web_groups: vec![GroupRef::default()],
            action: Some("permit".into()),
            protocol: Some("tcp".into()),
            port: Some(1),
            end_port: Some(2),
            logging: Some(true),
            watch: Some(true),
            log_profile: Some("start".into()),
            decrypt_policy: Some("decryptAllowed".into()),
            flow_app_requirement: Some("tlsRequired".into()),
            tls_profile: Some("p".into()),
            ..FirewallRule::default()
        };
        let typed = serde_json::to_value(rule).unwrap();
        let schema = rule_properties(ChartVersion::V10_1_0);
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&typed), keys(&schema));
    }

    #[test]
    fn the_documented_example_reads_as_written() {
        let spec: FirewallPolicySpec = serde_json::from_value(json!({
            "smartGroups": [{"name": "world", "selectors": [{"cidr": "0.0.0.0/0"}]}],
            "webGroups": [{"name": "ok-names", "domains": ["api.example.net", "*.cdn.example.net"]}],
            "rules": [{"name": "ok", "action": "permit", "protocol": "tcp", "port": 443, "logging": true,
                "selector": {"matchLabels": {"app": "srv1"}},
                "destinationSmartGroups": [{"name": "world"}], "webGroups": [{"name": "ok-names"}]}],
        }))
        .unwrap();
        assert_eq!(spec.rules[0].port, Some(443));
        assert_eq!(
            spec.rules[0].web_groups[0].name.as_deref(),
            Some("ok-names")
        );
        assert_eq!(
            spec.smart_groups[0].selectors[0].cidr.as_deref(),
            Some("0.0.0.0/0")
        );
    }
}
