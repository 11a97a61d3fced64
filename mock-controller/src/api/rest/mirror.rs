//! The groups and lists that FirewallPolicy and WebgroupPolicy objects look like (`reference/aviatrix-dcf.md` section
//! 1.3, `reference/aviatrix-controller-api.md` section 9). They can be read and not written, and go with their object.
//!
//! Faithful: names, the K8s Policy List and its attachment point, that Kubernetes lists carry `metadata.k8s`. Ours: what
//! is in `metadata.k8s`, that the K8s Policy List shows the others as its sub-policies, and priorities in steps of one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    policy::{
        FlowAppRequirement, K8S_ATTACHMENT_POINT, KubernetesSelector, ObjectRef, PolicyList, Rule,
        Selector, SmartGroup, WebGroup,
    },
    translate::Mirrored,
};

/// The system's list in which all others of the Kubernetes block stand.
const K8S_POLICY_LIST: Uuid = Uuid::from_u128(0xdefa_11a1_3000_6000_4000_0000_0000_0000);

/// Groups by uuid.
pub(super) fn app_domains(mirrors: &[Mirrored]) -> BTreeMap<Uuid, Value> {
    let mut groups = BTreeMap::new();
    for mirrored in mirrors {
        for group in &mirrored.smart_groups {
            groups.insert(group.uuid, smart_group(group));
        }
        for group in &mirrored.web_groups {
            groups.insert(group.uuid, web_group(group));
        }
    }
    groups
}

/// The K8s Policy List, and behind it one list per object, in evaluation order.
pub(super) fn policies(mirrors: &[Mirrored]) -> Vec<Value> {
    let lists: Vec<_> = mirrors
        .iter()
        .filter_map(|mirrored| Some((&mirrored.object, mirrored.list.as_ref()?)))
        .collect();
    let parts: Vec<_> = lists
        .iter()
        .enumerate()
        .map(|(priority, (_, list))| json!({"list": list.uuid, "name": list.name, "priority": priority}))
        .collect();
    let system = json!({
        "uuid": K8S_POLICY_LIST,
        "name": "K8s Policy List",
        "attach_to": K8S_ATTACHMENT_POINT,
        "policies": [],
        "sub_policies": parts,
        "system_resource": true,
    });
    let mirrored = lists.iter().map(|(object, list)| policy_list(object, list));
    [system].into_iter().chain(mirrored).collect()
}

fn policy_list(object: &ObjectRef, list: &PolicyList) -> Value {
    let rules: Vec<_> = list.rules.iter().enumerate().map(rule).collect();
    json!({
        "uuid": list.uuid,
        "name": list.name,
        "policies": rules,
        "system_resource": true,
        "metadata": {"k8s": {
            "cluster_id": object.cluster,
            "kind": object.kind,
            "namespace": object.namespace,
            "name": object.name,
        }},
    })
}

fn rule((priority, rule): (usize, &Rule)) -> Value {
    let protocol = match rule.protocol {
        Some(protocol) => protocol.to_string(),
        None => "PROTOCOL_UNSPECIFIED".to_owned(),
    };
    let ports: Vec<_> = rule
        .ports
        .iter()
        .map(|range| json!({"lo": range.first, "hi": range.last}))
        .collect();
    let requirement = match rule.flow_app_requirement {
        FlowAppRequirement::AppUnspecified => "APP_UNSPECIFIED",
        FlowAppRequirement::TlsRequired => "TLS_REQUIRED",
    };
    json!({
        "uuid": rule.uuid,
        "name": rule.name,
        "action": rule.action.name(),
        "priority": priority,
        "protocol": protocol,
        "src_ads": rule.sources,
        "dst_ads": rule.destinations,
        "web_filters": rule.web_groups,
        "port_ranges": ports,
        "logging": rule.logging.is_on(),
        "watch": rule.watch,
        "flow_app_requirement": requirement,
        "system_resource": true,
    })
}

fn smart_group(group: &SmartGroup) -> Value {
    let any: Vec<_> = group
        .selectors
        .iter()
        .filter_map(|selector| match selector {
            Selector::Cidr(block) => Some(json!({"all": {"cidr": block.to_string()}})),
            Selector::Kubernetes(selector) => Some(json!({"all": kubernetes(selector)})),
            // Policy objects have no such selectors.
            Selector::Group(_) | Selector::PublicInternet => None,
        })
        .collect();
    json!({"uuid": group.uuid, "name": group.name, "selector": {"any": any}})
}

fn kubernetes(selector: &KubernetesSelector) -> Map<String, Value> {
    let own = [
        ("type", Some("k8s")),
        ("k8s_cluster_id", selector.cluster.as_deref()),
        ("k8s_namespace", selector.namespace.as_deref()),
        ("k8s_service", selector.service.as_deref()),
        ("k8s_pod", selector.pod.as_deref()),
    ];
    let own = own
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
    let labels = |prefix: &'static str, labels: &BTreeMap<String, String>| {
        let labels = labels.iter();
        labels
            .map(|(key, value)| (format!("{prefix}.{key}"), value.as_str().into()))
            .collect::<Vec<_>>()
    };
    own.chain(labels("namespacetags", &selector.namespace_labels))
        .chain(labels("tags", &selector.labels))
        .collect()
}

fn web_group(group: &WebGroup) -> Value {
    let any: Vec<_> = group
        .domains
        .iter()
        .map(|domain| json!({"all": {"snifilter": domain}}))
        .collect();
    json!({"uuid": group.uuid, "name": group.name, "selector": {"any": any}})
}
