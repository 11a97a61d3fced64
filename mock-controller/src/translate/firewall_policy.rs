//! One FirewallPolicy to one list of the Kubernetes block.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    Compiled, GroupProblem, KnownGroups, KnownKind, Names, Outcome, PolicyObject, Rejection,
    RuleProblem, source_group,
};
use crate::{
    crd::{
        FirewallPolicySpec, FirewallPolicyStatus, FirewallRule, GroupRef, GroupStatus,
        InlineSmartGroup, SmartGroupSelector,
    },
    policy::{
        Action, FlowAppRequirement, K8S_ATTACHMENT_POINT, KubernetesSelector, Logging, PortRange,
        Protocol, Rule, Selector, SmartGroup, Switches, WebGroup,
    },
};

pub(super) fn compile(
    names: &Names,
    object: &PolicyObject<FirewallPolicySpec>,
    spec: &FirewallPolicySpec,
    controller: &KnownGroups<'_>,
    switches: &Switches,
) -> Result<Compiled, Rejection> {
    let mut groups = Groups::declare(names, spec, controller, switches)?;
    let mut rules = Vec::with_capacity(spec.rules.len());
    let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in &spec.rules {
        let occurrence = occurrences.entry(&rule.name).or_default();
        let uuid = names.rule(&rule.name, *occurrence);
        *occurrence += 1;
        let source = source_group(names, rule.selector.as_ref());
        let compiled = source.and_then(|source| {
            let source = groups.add_source(source);
            groups.rule(uuid, source, rule)
        });
        rules.push(compiled.map_err(|problem| Rejection::Rule {
            rule: rule.name.clone(),
            problem,
        })?);
    }
    let (ruleset, _) = names.ruleset();
    let status = FirewallPolicyStatus {
        attachment_point: Some(K8S_ATTACHMENT_POINT.to_string()),
        ruleset: Some(ruleset.to_string()),
        last_reconciled_generation: Some(object.generation),
        smart_groups: spec
            .smart_groups
            .iter()
            .map(|group| status(&group.name, &groups.smart_by_name))
            .collect(),
        web_groups: spec
            .web_groups
            .iter()
            .map(|group| status(&group.name, &groups.web_by_name))
            .collect(),
    };
    Ok(Compiled {
        object: names.object(),
        smart_groups: groups.smart,
        web_groups: groups.web,
        list: (!rules.is_empty()).then(|| names.list(rules)),
        translated: object.translated(Outcome::FirewallPolicy(status)),
    })
}

fn status(name: &str, uuids: &BTreeMap<String, Uuid>) -> GroupStatus {
    GroupStatus {
        name: name.to_owned(),
        uuid: uuids.get(name).map(Uuid::to_string),
    }
}

/// The groups that the object's rules can refer to.
struct Groups<'a> {
    controller: &'a KnownGroups<'a>,
    smart: Vec<SmartGroup>,
    sources: BTreeSet<Uuid>,
    web: Vec<WebGroup>,
    smart_by_name: BTreeMap<String, Uuid>,
    web_by_name: BTreeMap<String, Uuid>,
}

impl<'a> Groups<'a> {
    fn declare(
        names: &Names,
        spec: &FirewallPolicySpec,
        controller: &'a KnownGroups<'a>,
        switches: &Switches,
    ) -> Result<Self, Rejection> {
        let mut groups = Self {
            controller,
            smart: Vec::new(),
            sources: BTreeSet::new(),
            web: Vec::new(),
            smart_by_name: BTreeMap::new(),
            web_by_name: BTreeMap::new(),
        };
        for declared in &spec.smart_groups {
            let group = smart_group(names, declared).map_err(|problem| Rejection::SmartGroup {
                group: declared.name.clone(),
                problem,
            })?;
            groups
                .smart_by_name
                .insert(declared.name.clone(), group.uuid);
            groups.smart.push(group);
        }
        for declared in &spec.web_groups {
            let (uuid, name) = names.web_group(&declared.name);
            let group = WebGroup::new(uuid, name, declared.domains.clone(), switches).map_err(
                |problem| Rejection::WebGroup {
                    group: declared.name.clone(),
                    problem,
                },
            )?;
            groups.web_by_name.insert(declared.name.clone(), uuid);
            groups.web.push(group);
        }
        Ok(groups)
    }

    fn add_source(&mut self, group: SmartGroup) -> Uuid {
        let uuid = group.uuid;
        if self.sources.insert(uuid) {
            self.smart.push(group);
        }
        uuid
    }

    fn rule(&self, uuid: Uuid, source: Uuid, rule: &FirewallRule) -> Result<Rule, RuleProblem> {
        let protocol = protocol(rule.protocol.as_deref())?;
        let ports = ports(rule)?;
        if protocol == Some(Protocol::Icmp) && !(ports.is_empty() && rule.web_groups.is_empty()) {
            return Err(RuleProblem::Icmp);
        }
        if rule.destination_smart_groups.is_empty() {
            return Err(RuleProblem::NoDestination);
        }
        let smart = |group: &GroupRef| self.resolve_smart(group);
        let web = |group: &GroupRef| self.resolve_web(group);
        Ok(Rule {
            uuid,
            name: rule.name.clone(),
            sources: vec![source],
            destinations: rule
                .destination_smart_groups
                .iter()
                .map(smart)
                .collect::<Result<_, _>>()?,
            web_groups: rule.web_groups.iter().map(web).collect::<Result<_, _>>()?,
            protocol,
            ports,
            action: action(rule.action.as_deref())?,
            logging: logging(rule)?,
            watch: rule.watch.unwrap_or(false),
            flow_app_requirement: flow_app_requirement(rule.flow_app_requirement.as_deref())?,
        })
    }

    fn resolve_smart(&self, reference: &GroupRef) -> Result<Uuid, RuleProblem> {
        let known = &self.controller.smart;
        resolve("smart group", reference, &self.smart_by_name, known)
    }

    fn resolve_web(&self, reference: &GroupRef) -> Result<Uuid, RuleProblem> {
        let known = &self.controller.web;
        resolve("web group", reference, &self.web_by_name, known)
    }
}

fn resolve(
    kind: &'static str,
    reference: &GroupRef,
    declared: &BTreeMap<String, Uuid>,
    controller: &KnownKind<'_>,
) -> Result<Uuid, RuleProblem> {
    let (text, found) = match (&reference.name, &reference.uuid) {
        (Some(wanted), None) => {
            let known = declared.get(wanted);
            let found = known.or_else(|| controller.by_name.get(&**wanted));
            (wanted, found.copied())
        }
        (None, Some(wanted)) => {
            let parsed = wanted.parse::<Uuid>().ok();
            (
                wanted,
                parsed.filter(|wanted| controller.uuids.contains(wanted)),
            )
        }
        _ => return Err(RuleProblem::AmbiguousReference),
    };
    found.ok_or_else(|| RuleProblem::UnknownGroup {
        kind,
        reference: text.clone(),
    })
}

fn smart_group(names: &Names, declared: &InlineSmartGroup) -> Result<SmartGroup, GroupProblem> {
    let (uuid, name) = names.smart_group(&declared.name);
    let selectors = declared
        .selectors
        .iter()
        .map(|selector| smart_group_selector(names, selector));
    Ok(SmartGroup {
        uuid,
        name,
        selectors: selectors.collect::<Result<_, _>>()?,
    })
}

/// A Kubernetes selector without a cluster means the object's own.
fn smart_group_selector(
    names: &Names,
    selector: &SmartGroupSelector,
) -> Result<Selector, GroupProblem> {
    let SmartGroupSelector {
        type_,
        cidr,
        k8s_cluster_id,
        k8s_namespace,
        k8s_pod_name,
        k8s_service,
        tags,
        cloud,
    } = selector;
    if let Some(key) = cloud.keys().next() {
        return Err(GroupProblem::Unsupported(key.clone()));
    }
    let kubernetes = [k8s_cluster_id, k8s_namespace, k8s_pod_name, k8s_service]
        .iter()
        .any(|part| part.is_some());
    match (type_.as_deref(), cidr) {
        (_, Some(cidr)) if !kubernetes && tags.is_empty() => {
            return Ok(Selector::Cidr(cidr.parse()?));
        }
        (_, Some(_)) => return Err(GroupProblem::CidrNotAlone),
        (Some("k8s"), None) => {}
        (None, None) if kubernetes => {}
        (None, None) => return Err(GroupProblem::Empty),
        (Some(other), None) => return Err(GroupProblem::Unsupported(format!("type {other}"))),
    }
    Ok(Selector::Kubernetes(KubernetesSelector {
        cluster: Some(
            k8s_cluster_id
                .clone()
                .unwrap_or_else(|| names.object().cluster),
        ),
        namespace: k8s_namespace.clone(),
        namespace_labels: BTreeMap::new(),
        service: k8s_service.clone(),
        pod: k8s_pod_name.clone(),
        labels: tags.clone(),
    }))
}

fn action(action: Option<&str>) -> Result<Action, RuleProblem> {
    match action {
        Some("permit" | "intrusion_detection_permit") => Ok(Action::Permit),
        Some("deny") => Ok(Action::Deny),
        Some(other) => Err(RuleProblem::UnknownValue {
            field: "action",
            value: other.to_owned(),
        }),
        None => Err(RuleProblem::MissingAction),
    }
}

fn logging(rule: &FirewallRule) -> Result<Logging, RuleProblem> {
    let profile = rule.log_profile.as_deref().map(|name| {
        Logging::of_profile(name).ok_or_else(|| RuleProblem::UnknownValue {
            field: "logProfile",
            value: name.to_owned(),
        })
    });
    Ok(Logging::of(
        rule.logging.unwrap_or(false),
        profile.transpose()?,
    ))
}

fn protocol(protocol: Option<&str>) -> Result<Option<Protocol>, RuleProblem> {
    match protocol {
        None | Some("any") => Ok(None),
        Some("tcp") => Ok(Some(Protocol::Tcp)),
        Some("udp") => Ok(Some(Protocol::Udp)),
        Some("icmp") => Ok(Some(Protocol::Icmp)),
        Some(other) => Err(RuleProblem::UnknownValue {
            field: "protocol",
            value: other.to_owned(),
        }),
    }
}

fn ports(rule: &FirewallRule) -> Result<Vec<PortRange>, RuleProblem> {
    let port = |port: i64| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or(RuleProblem::Port(port))
    };
    match (rule.port, rule.end_port) {
        (None, None) => Ok(Vec::new()),
        (Some(single), None) => Ok(vec![PortRange {
            first: port(single)?,
            last: port(single)?,
        }]),
        (Some(first), Some(end)) if first <= end => Ok(vec![PortRange {
            first: port(first)?,
            last: port(end)?,
        }]),
        (_, Some(end)) => Err(RuleProblem::PortRange { end }),
    }
}

fn flow_app_requirement(requirement: Option<&str>) -> Result<FlowAppRequirement, RuleProblem> {
    match requirement {
        None | Some("tlsNotRequired") => Ok(FlowAppRequirement::AppUnspecified),
        Some("tlsRequired") => Ok(FlowAppRequirement::TlsRequired),
        Some(other) => Err(RuleProblem::UnknownValue {
            field: "flowAppRequirement",
            value: other.to_owned(),
        }),
    }
}
