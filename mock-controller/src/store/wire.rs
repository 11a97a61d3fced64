//! Reads the vendor's JSON for the policy model.

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::policy::{
    Action, FlowAppRequirement, KubernetesSelector, PortRange, Protocol, Rule, Selector,
    SmartGroup, Switches, WebGroup,
};

/// An object of the wire that the policy model cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{name}`: {problem}")]
pub struct InvalidObject {
    kind: &'static str,
    name: String,
    problem: String,
}

/// A group of either kind: both live in one collection, and their selectors tell them apart.
pub(super) enum AppDomain {
    Smart(SmartGroup),
    Web(WebGroup),
}

#[derive(Deserialize)]
struct WireGroup {
    name: String,
    selector: WireSelector,
}

#[derive(Deserialize)]
struct WireSelector {
    any: Vec<WireAll>,
}

#[derive(Deserialize)]
struct WireAll {
    all: Map<String, Value>,
}

impl AppDomain {
    pub(super) fn parse(
        uuid: Uuid,
        object: &Value,
        switches: &Switches,
    ) -> Result<Self, InvalidObject> {
        let invalid = |problem: String| InvalidObject {
            kind: "group",
            name: name_of(object),
            problem,
        };
        let group = WireGroup::deserialize(object).map_err(|error| invalid(error.to_string()))?;
        let blocks: Vec<_> = group.selector.any.iter().map(|block| &block.all).collect();
        if blocks
            .iter()
            .any(|all| all.contains_key("snifilter") || all.contains_key("urlfilter"))
        {
            let domains = blocks
                .iter()
                .map(|all| domain(all))
                .collect::<Result<_, _>>()
                .map_err(invalid)?;
            let web = WebGroup::new(uuid, group.name, domains, switches);
            return web
                .map(Self::Web)
                .map_err(|error| invalid(error.to_string()));
        }
        let selectors = blocks
            .iter()
            .map(|all| selector(all))
            .collect::<Result<_, _>>()
            .map_err(invalid)?;
        Ok(Self::Smart(SmartGroup {
            uuid,
            name: group.name,
            selectors,
        }))
    }
}

fn domain(all: &Map<String, Value>) -> Result<String, String> {
    match all.get("snifilter") {
        Some(Value::String(domain)) if all.len() == 1 => Ok(domain.clone()),
        _ => Err("each block of a web group is one snifilter; url filters need decryption, which is not modelled".into()),
    }
}

fn selector(all: &Map<String, Value>) -> Result<Selector, String> {
    let mut kubernetes = KubernetesSelector::default();
    let mut cidr = None;
    for (key, value) in all {
        let value = value
            .as_str()
            .ok_or_else(|| format!("`{key}` is not a string"))?
            .to_owned();
        match key.as_str() {
            "type" if value == "k8s" => {}
            "cidr" => cidr = Some(value.parse().map_err(|error| format!("{error}"))?),
            "k8s_cluster_id" => kubernetes.cluster = Some(value),
            "k8s_namespace" => kubernetes.namespace = Some(value),
            "k8s_service" => kubernetes.service = Some(value),
            "k8s_pod" => kubernetes.pod = Some(value),
            _ => match key.split_once('.') {
                Some(("tags", label)) => drop(kubernetes.labels.insert(label.to_owned(), value)),
                Some(("namespacetags", label)) => {
                    drop(kubernetes.namespace_labels.insert(label.to_owned(), value))
                }
                _ => {
                    return Err(format!(
                        "`{key}` = `{value}` needs a cloud inventory, which is not modelled"
                    ));
                }
            },
        }
    }
    match cidr {
        Some(cidr) if all.len() == 1 => Ok(Selector::Cidr(cidr)),
        Some(_) => Err("`cidr` stands alone in its block".into()),
        None if all.is_empty() => Err("a block without keys selects nothing".into()),
        None => Ok(Selector::Kubernetes(kubernetes)),
    }
}

#[derive(Deserialize)]
struct WireRule {
    name: String,
    action: String,
    #[serde(default)]
    priority: i64,
    protocol: String,
    src_ads: Option<Vec<Uuid>>,
    dst_ads: Option<Vec<Uuid>>,
    #[serde(default)]
    web_filters: Vec<Uuid>,
    #[serde(default)]
    port_ranges: Vec<WirePorts>,
    #[serde(default)]
    logging: bool,
    #[serde(default)]
    watch: bool,
    enforcement: Option<String>,
    #[serde(default)]
    flow_app_requirement: Option<String>,
    uuid: Uuid,
}

#[derive(Deserialize)]
struct WirePorts {
    lo: u16,
    #[serde(default)]
    hi: u16,
}

/// A rule and its priority.
pub(super) fn rule(object: &Value) -> Result<(i64, Rule), InvalidObject> {
    let invalid = |problem: String| InvalidObject {
        kind: "rule",
        name: name_of(object),
        problem,
    };
    let wire = WireRule::deserialize(object).map_err(|error| invalid(error.to_string()))?;
    let protocol = match wire.protocol.to_ascii_uppercase().as_str() {
        "ANY" | "PROTOCOL_UNSPECIFIED" => None,
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "ICMP" => Some(Protocol::Icmp),
        other => {
            return Err(invalid(format!(
                "protocol `{other}` is none of ANY, TCP, UDP, ICMP"
            )));
        }
    };
    let action = match wire.action.to_ascii_uppercase().as_str() {
        "PERMIT" | "INTRUSION_DETECTION_PERMIT" | "DEEP_PACKET_INSPECTION_PERMIT" => Action::Permit,
        "DENY" => Action::Deny,
        other => {
            return Err(invalid(format!(
                "action `{other}` is none of PERMIT, DENY, INTRUSION_DETECTION_PERMIT"
            )));
        }
    };
    if protocol == Some(Protocol::Icmp)
        && !(wire.port_ranges.is_empty() && wire.web_filters.is_empty())
    {
        return Err(invalid(
            "icmp has neither ports nor names: remove port_ranges and web_filters".into(),
        ));
    }
    let ports = wire
        .port_ranges
        .iter()
        .map(ports)
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let side = |groups: Option<Vec<Uuid>>, side: &str| match groups {
        Some(groups) if !groups.is_empty() => Ok(groups),
        _ => Err(invalid(format!(
            "no {side} groups: the rule would match nothing"
        ))),
    };
    let rule = Rule {
        uuid: wire.uuid,
        name: wire.name,
        sources: side(wire.src_ads, "source")?,
        destinations: side(wire.dst_ads, "destination")?,
        web_groups: wire.web_filters,
        protocol,
        ports,
        action,
        logging: wire.logging,
        watch: wire.watch || wire.enforcement.is_some_and(|mode| mode != "ENFORCE"),
        flow_app_requirement: match wire.flow_app_requirement.as_deref() {
            Some("TLS_REQUIRED") => FlowAppRequirement::TlsRequired,
            _ => FlowAppRequirement::AppUnspecified,
        },
    };
    Ok((wire.priority, rule))
}

fn ports(range: &WirePorts) -> Result<PortRange, String> {
    let last = if range.hi == 0 { range.lo } else { range.hi };
    if range.lo > last {
        return Err(format!("port range {}-{last} is inverted", range.lo));
    }
    Ok(PortRange {
        first: range.lo,
        last,
    })
}

/// The groups a rule refers to.
pub(super) fn references(rule: &Value) -> impl Iterator<Item = Uuid> + '_ {
    ["src_ads", "dst_ads", "web_filters"]
        .into_iter()
        .filter_map(|key| rule.get(key)?.as_array())
        .flatten()
        .filter_map(|reference| reference.as_str()?.parse().ok())
}

pub(super) fn set_uuid(object: &mut Value, uuid: Uuid) {
    if let Value::Object(object) = object {
        object.insert("uuid".to_owned(), uuid.to_string().into());
    }
}

fn name_of(object: &Value) -> String {
    object
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("unnamed")
        .to_owned()
}
