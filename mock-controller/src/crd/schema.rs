//! The structural schemas, as JSON: they follow the vendor's YAML field by field, which no derive would.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{ChartVersion, GROUP};

pub(super) fn firewall_policy(chart: ChartVersion) -> CustomResourceDefinition {
    let group_status = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": string(), "uuid": string()},
    });
    definition(
        "FirewallPolicy",
        "firewallpolicies",
        &json!({
            "type": "object",
            "properties": {
                "rules": {"type": "array", "minItems": 1, "items": rule(chart)},
                "smartGroups": {"type": "array", "items": smart_group()},
                "webGroups": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": string(), "domains": {"type": "array", "items": string()}},
                }},
            },
        }),
        &json!({
            "type": "object",
            "properties": {
                "attachmentPoint": string(),
                "ruleset": string(),
                "lastReconciledGeneration": {"type": "integer", "format": "int64"},
                "smartGroups": {"type": "array", "items": group_status},
                "webGroups": {"type": "array", "items": group_status},
            },
        }),
    )
}

pub(super) fn webgroup_policy() -> CustomResourceDefinition {
    definition(
        "WebgroupPolicy",
        "webgrouppolicies",
        &json!({
            "type": "object",
            "required": ["allowedDomains"],
            "properties": {"allowedDomains": {"type": "array", "items": string()}, "selector": selector()},
        }),
        &json!({
            "type": "object",
            "properties": {
                "appDomainUuid": string(),
                "policyUuid": string(),
                "smartGroupUUID": string(),
                "lastReconciledGeneration": {"type": "integer", "format": "int64"},
            },
        }),
    )
}

fn definition(kind: &str, plural: &str, spec: &Value, status: &Value) -> CustomResourceDefinition {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": string(),
                        "kind": string(),
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": status,
                    },
                }},
            }],
        },
    });
    serde_json::from_value(definition).expect("invariant: the definitions above are well formed")
}

fn rule(chart: ChartVersion) -> Value {
    let mut properties = json!({
        "name": {"type": "string", "minLength": 1},
        "selector": selector(),
        "destinationSmartGroups": {"type": "array", "minItems": 1, "items": reference()},
        "webGroups": {"type": "array", "items": reference()},
        "action": {"type": "string", "enum": ["permit", "deny", "intrusion_detection_permit"]},
        "protocol": {"type": "string", "enum": ["tcp", "udp", "icmp", "any"]},
        "port": {"type": "integer"},
        "endPort": {"type": "integer"},
        "logging": {"type": "boolean"},
    });
    if chart == ChartVersion::V10_1_0 {
        properties["watch"] = json!({"type": "boolean"});
        properties["logProfile"] = string();
        properties["decryptPolicy"] =
            json!({"type": "string", "enum": ["decryptAllowed", "decryptNotAllowed"]});
        properties["flowAppRequirement"] =
            json!({"type": "string", "enum": ["tlsRequired", "tlsNotRequired"]});
        properties["tlsProfile"] = string();
    }
    json!({"type": "object", "required": ["name", "destinationSmartGroups"], "properties": properties})
}

fn reference() -> Value {
    json!({
        "type": "object",
        "properties": {"name": string(), "uuid": string()},
        "x-kubernetes-validations": [{
            "rule": "has(self.name) != has(self.uuid)",
            "message": "exactly one of name and uuid must be set",
        }],
    })
}

fn selector() -> Value {
    json!({
        "type": "object",
        "properties": {"matchLabels": string_map(), "service": string()},
        "x-kubernetes-validations": [{
            "rule": "!(has(self.matchLabels) && has(self.service))",
            "message": "matchLabels and service are mutually exclusive",
        }],
    })
}

fn smart_group() -> Value {
    let mut properties = json!({"tags": string_map(), "extArgs": string_map()});
    for name in [
        "type",
        "cidr",
        "k8sClusterId",
        "k8sNamespace",
        "k8sPodName",
        "k8sService",
        "name",
        "region",
        "zone",
        "accountId",
        "accountName",
        "s2c",
        "external",
    ] {
        properties[name] = string();
    }
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": string(),
            "selectors": {"type": "array", "items": {"type": "object", "properties": properties}},
        },
    })
}

fn string() -> Value {
    json!({"type": "string"})
}

fn string_map() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}
