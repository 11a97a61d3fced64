//! Reads rules from the vendor's JSON for the policy model (`reference/aviatrix-controller-api.md` section 4.2).
//!
//! A rule is kept exactly as sent; [`echo`] adds what section 4.2's drift rules want. Ours, where nothing is documented:
//! the wording of refusals, and that a rule without sources or destinations, which the provider sends as null, is kept
//! and matches nothing.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    fields::{Fields, InvalidObject},
    profiles,
};
use crate::policy::{Action, FlowAppRequirement, PortRange, Protocol, Rule};

const MAX_PORT_RANGES: usize = 64;

/// A rule as the policy model has it, with what the model does not.
#[derive(Clone, Debug)]
pub(super) struct StoredRule {
    pub(super) rule: Rule,
    pub(super) priority: i64,
    /// `enforcement: DISABLE`: the rule is kept and does nothing.
    pub(super) disabled: bool,
    pub(super) tls_profile: Option<Uuid>,
}

impl StoredRule {
    /// `object` has its uuid already.
    pub(super) fn parse(object: &Value) -> Result<Self, InvalidObject> {
        Self::read(object).map_err(|problem| InvalidObject::new("rule", object, problem))
    }

    fn read(object: &Value) -> Result<Self, String> {
        let fields = Fields::of(object)?;
        let name = fields.required("name")?.to_owned();
        let action = match fields.one_of("action", &ACTIONS)? {
            Some("DENY") => Action::Deny,
            Some(_) => Action::Permit,
            None => return Err("`action` is missing".to_owned()),
        };
        let protocol = match fields.one_of("protocol", &PROTOCOLS)? {
            Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("ICMP") => Some(Protocol::Icmp),
            Some(_) => None,
            None => return Err("`protocol` is missing".to_owned()),
        };
        let ports = ports(fields.list("port_ranges")?)?;
        let web_groups = groups(fields, "web_filters")?;
        if protocol == Some(Protocol::Icmp) && !(ports.is_empty() && web_groups.is_empty()) {
            return Err(
                "icmp has neither ports nor names: remove port_ranges and web_filters".to_owned(),
            );
        }
        fields.one_of("decrypt_policy", &DECRYPT_POLICIES)?;
        fields.one_of("egress_path", &EGRESS_PATHS)?;
        fields.flag("exclude_sg_orchestration")?;
        let enforcement = fields.one_of("enforcement", &ENFORCEMENTS)?;
        let flow_app_requirement =
            match fields.one_of("flow_app_requirement", &FLOW_APP_REQUIREMENTS)? {
                Some("TLS_REQUIRED") => FlowAppRequirement::TlsRequired,
                _ => FlowAppRequirement::AppUnspecified,
            };
        let watch = fields.flag("watch")?;
        Ok(Self {
            rule: Rule {
                uuid: fields
                    .uuid("uuid")?
                    .ok_or_else(|| "`uuid` is missing".to_owned())?,
                name,
                sources: groups(fields, "src_ads")?,
                destinations: groups(fields, "dst_ads")?,
                web_groups,
                protocol,
                ports,
                action,
                logging: profiles::logging(fields)?,
                watch: enforcement.map_or(watch, |mode| mode == "MONITOR"),
                flow_app_requirement,
            },
            priority: fields.integer("priority")?.unwrap_or_default(),
            disabled: enforcement == Some("DISABLE"),
            tls_profile: fields.uuid("tls_profile")?,
        })
    }

    /// The groups it refers to, and whether each is asked to be a web group.
    pub(super) fn references(&self) -> impl Iterator<Item = (Uuid, bool)> + '_ {
        let smart = self.rule.sources.iter().chain(&self.rule.destinations);
        let web = self.rule.web_groups.iter();
        smart
            .map(|uuid| (*uuid, false))
            .chain(web.map(|uuid| (*uuid, true)))
    }
}

/// Released providers read `watch`, newer ones `enforcement` alone: whichever was sent, both are returned. Where they
/// contradict each other, `enforcement` counts, which replaces `watch`.
pub(super) fn echo(rule: &mut Map<String, Value>) {
    match rule.get("enforcement") {
        Some(Value::String(mode)) => {
            let watch = mode.eq_ignore_ascii_case("MONITOR");
            rule.insert("watch".to_owned(), watch.into());
        }
        _ if rule.get("watch") == Some(&Value::Bool(true)) => {
            rule.insert("enforcement".to_owned(), "MONITOR".into());
        }
        _ => {}
    }
}

/// The third and the fourth inspect what they permit; that is not modelled.
const ACTIONS: [&str; 4] = [
    "PERMIT",
    "DENY",
    "INTRUSION_DETECTION_PERMIT",
    "DEEP_PACKET_INSPECTION_PERMIT",
];
const PROTOCOLS: [&str; 5] = ["TCP", "UDP", "ICMP", "ANY", "PROTOCOL_UNSPECIFIED"];
const ENFORCEMENTS: [&str; 3] = ["ENFORCE", "MONITOR", "DISABLE"];
const FLOW_APP_REQUIREMENTS: [&str; 3] = ["APP_UNSPECIFIED", "TLS_REQUIRED", "NOT_TLS_REQUIRED"];
const DECRYPT_POLICIES: [&str; 3] = [
    "DECRYPT_UNSPECIFIED",
    "DECRYPT_ALLOWED",
    "DECRYPT_NOT_ALLOWED",
];
const EGRESS_PATHS: [&str; 2] = ["EGRESS_PATH_DEFAULT", "EGRESS_PATH_LOCAL"];

fn groups(fields: Fields<'_>, key: &str) -> Result<Vec<Uuid>, String> {
    let references = fields.list(key)?.iter();
    references
        .map(|reference| match reference.as_str() {
            Some(text) => Uuid::parse_str(text)
                .map_err(|_| format!("`{key}`: App domain not found: `{text}` is not a uuid")),
            None => Err(format!("`{key}` holds something that is not a string")),
        })
        .collect()
}

fn ports(ranges: &[Value]) -> Result<Vec<PortRange>, String> {
    if ranges.len() > MAX_PORT_RANGES {
        return Err(format!(
            "{} port ranges; at most {MAX_PORT_RANGES} are allowed",
            ranges.len()
        ));
    }
    let range = |range: &Value| {
        let fields = Fields::of(range)?;
        let port = |key: &str| match fields.integer(key)? {
            None => Ok(None),
            Some(port) => u16::try_from(port)
                .map(Some)
                .map_err(|_| format!("`{key}`: {port} is not a port")),
        };
        let first = port("lo")?.ok_or_else(|| "`lo` is missing".to_owned())?;
        // The client leaves `hi` out for one port, or sends 0.
        let last = port("hi")?.filter(|last| *last != 0).unwrap_or(first);
        if first > last {
            return Err(format!("port range {first}-{last} is inverted"));
        }
        Ok(PortRange { first, last })
    };
    ranges
        .iter()
        .map(|value| range(value).map_err(|error| format!("`port_ranges`: {error}")))
        .collect()
}
