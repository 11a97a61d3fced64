//! From configuration to policy: the administrator's store and the policy objects of the onboarded clusters, compiled
//! to one [`Policy`] with a status per object.
//!
//! Pure, and deterministic: uuids derive from cluster, namespace and name, so that runs can be compared. Faithful: the
//! names of mirrored objects, one ruleset per object, sources limited to the object's own namespace and cluster, the
//! status fields (`reference/aviatrix-dcf.md` section 1). Ours, where the vendor's behaviour is unknown:
//!
//! - An object that cannot be translated **fails closed**: one logged rule denies everything to the sources it names
//!   (or to its whole namespace, if they cannot be read), its status stays as it was, and no other object is affected.
//! - A group name is looked up among the object's own groups first, then on the controller.
//! - A missing `protocol` means any, a missing `port` all ports; a missing `action` is an error.
//! - A WebgroupPolicy permits its domains on TCP 80 and 443, logged.

mod firewall_policy;
mod inventory;
mod names;
mod seeded;
mod webgroup_policy;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    crd::{
        FirewallPolicySpec, FirewallPolicyStatus, SourceSelector, WebgroupPolicySpec,
        WebgroupPolicyStatus,
    },
    fault::{Fault, Faults},
    policy::{
        ANYWHERE, Action, AttachmentPoint, ClusterInventory, DefaultAction, FlowAppRequirement,
        InvalidCidr, InvalidDomain, Inventory, KubernetesSelector, Logging, ObjectRef, Policy,
        PolicyList, Rule, Selector, SmartGroup, Switches, WebGroup,
    },
    store::{FEATURE_K8S, FEATURE_K8S_DCF_POLICIES, FEATURE_MICROSEG, Store},
};

pub use inventory::{pod, service};
pub use names::Names;
pub(crate) use seeded::switches as seeded_switches;

/// All that the controller knows of one cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterObjects {
    pub firewall_policies: Vec<PolicyObject<FirewallPolicySpec>>,
    pub webgroup_policies: Vec<PolicyObject<WebgroupPolicySpec>>,
    pub inventory: ClusterInventory,
    /// In which order the policy objects came, by uid; only some seeded faults ask.
    pub arrivals: BTreeMap<String, u64>,
}

impl ClusterObjects {
    pub fn has_policies(&self) -> bool {
        !(self.firewall_policies.is_empty() && self.webgroup_policies.is_empty())
    }
}

/// A policy object, as far as it can be read.
#[derive(Clone, Debug)]
pub struct PolicyObject<S> {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    /// The error where the object does not have the shape of its kind.
    pub spec: Result<S, String>,
}

/// The policy, what it is to be resolved against, and what became of each object.
#[derive(Clone, Debug)]
pub struct Translation {
    pub policy: Policy,
    pub inventory: Inventory,
    pub objects: BTreeMap<ObjectRef, Translated>,
    /// What mirrors the policy objects, in evaluation order.
    pub mirrors: Arc<Vec<Mirrored>>,
}

/// The groups and the list that one policy object became, for administrators to see. A seeded fault may keep them from
/// being enforced.
#[derive(Clone, Debug)]
pub struct Mirrored {
    pub object: ObjectRef,
    pub smart_groups: Vec<Arc<SmartGroup>>,
    pub web_groups: Vec<Arc<WebGroup>>,
    pub list: Option<PolicyList>,
}

/// What became of one policy object.
#[derive(Clone, Debug)]
pub struct Translated {
    pub uid: String,
    pub generation: i64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    FirewallPolicy(FirewallPolicyStatus),
    WebgroupPolicy(WebgroupPolicyStatus),
    /// Failed closed, for the reason given.
    Rejected(Rejection),
}

/// Why a policy object cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the object is malformed: {0}")]
    Malformed(String),
    #[error("rule `{rule}`: {problem}")]
    Rule { rule: String, problem: RuleProblem },
    #[error("smart group `{group}`: {problem}")]
    SmartGroup {
        group: String,
        problem: GroupProblem,
    },
    #[error("web group `{group}`: {problem}")]
    WebGroup {
        group: String,
        problem: InvalidDomain,
    },
    #[error(transparent)]
    Domains(#[from] InvalidDomain),
    #[error(transparent)]
    Source(#[from] RuleProblem),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    #[error("selector has both matchLabels and service: keep one")]
    AmbiguousSelector,
    #[error("action is missing: say permit or deny")]
    MissingAction,
    #[error("{field} `{value}` is unknown")]
    UnknownValue { field: &'static str, value: String },
    #[error("port {0} is not between 1 and 65535")]
    Port(i64),
    #[error("endPort {end} needs a port that is not greater")]
    PortRange { end: i64 },
    #[error("icmp has neither ports nor names: remove port and webGroups")]
    Icmp,
    #[error("no destinationSmartGroups: the rule would match nothing")]
    NoDestination,
    #[error("{kind} `{reference}` is neither declared in the object nor known to the controller")]
    UnknownGroup {
        kind: &'static str,
        reference: String,
    },
    #[error("a group reference has exactly one of name and uuid")]
    AmbiguousReference,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupProblem {
    #[error(transparent)]
    Cidr(#[from] InvalidCidr),
    #[error("cidr stands alone in its selector")]
    CidrNotAlone,
    #[error("a selector without keys selects nothing")]
    Empty,
    #[error("`{0}` needs a cloud inventory, which is not modelled")]
    Unsupported(String),
}

/// Translates everything.
pub fn translate(
    store: &Store,
    clusters: &BTreeMap<String, ClusterObjects>,
    switches: &Switches,
    faults: &Faults,
) -> Translation {
    let mut policy = Policy::new(store.default_action());
    store.contribute(&mut policy);
    let mut inventory = Inventory::default();
    let mut objects = BTreeMap::new();
    let mut mirrors = Vec::new();
    let has = |feature| store.feature(feature) || faults.has(Fault::FeaturesIgnored);
    if has(FEATURE_K8S) {
        inventory.clusters = clusters
            .iter()
            .map(|(id, cluster)| (id.clone(), cluster.inventory.clone()))
            .collect();
        if has(FEATURE_K8S_DCF_POLICIES) {
            for compiled in in_seeded_order(clusters, &policy, switches) {
                let mirrored = Mirrored {
                    object: compiled.object.clone(),
                    smart_groups: compiled.smart_groups.into_iter().map(Arc::new).collect(),
                    web_groups: compiled.web_groups.into_iter().map(Arc::new).collect(),
                    list: compiled.list,
                };
                for group in &mirrored.smart_groups {
                    policy.add_smart_group(Arc::clone(group));
                }
                for group in &mirrored.web_groups {
                    policy.add_web_group(Arc::clone(group));
                }
                if let Some(list) = &mirrored.list {
                    policy.add_list(list.clone());
                }
                mirrors.push(mirrored);
                objects.insert(compiled.object, compiled.translated);
            }
        }
    }
    if !has(FEATURE_MICROSEG) {
        // The firewall is off: what gateways see passes, and nothing is logged.
        policy.lists.clear();
        policy.default_action = DefaultAction {
            action: Action::Permit,
            logging: Logging::Off,
        };
    }
    let mut translation = Translation {
        policy,
        inventory,
        objects,
        mirrors: Arc::new(mirrors),
    };
    if !faults.is_empty() {
        let arrivals = clusters
            .values()
            .flat_map(|cluster| cluster.arrivals.clone());
        seeded::distort(&mut translation, &arrivals.collect(), faults);
    }
    translation
}

/// What one object adds to the policy.
struct Compiled {
    object: ObjectRef,
    smart_groups: Vec<SmartGroup>,
    web_groups: Vec<WebGroup>,
    list: Option<PolicyList>,
    translated: Translated,
}

/// The controller's groups, as rules of objects refer to them.
struct KnownGroups<'a> {
    smart: KnownKind<'a>,
    web: KnownKind<'a>,
}

/// Of groups that share a name, the one with the lowest uuid is meant.
#[derive(Default)]
struct KnownKind<'a> {
    uuids: HashSet<Uuid>,
    by_name: HashMap<&'a str, Uuid>,
}

impl<'a> KnownGroups<'a> {
    fn new(controller: &'a Policy) -> Self {
        let smart = controller.smart_groups.values();
        let web = controller.web_groups.values();
        Self {
            smart: smart.map(|group| (group.uuid, &*group.name)).collect(),
            web: web.map(|group| (group.uuid, &*group.name)).collect(),
        }
    }
}

impl<'a> FromIterator<(Uuid, &'a str)> for KnownKind<'a> {
    fn from_iter<I: IntoIterator<Item = (Uuid, &'a str)>>(groups: I) -> Self {
        let mut known = Self::default();
        for (uuid, name) in groups {
            known.uuids.insert(uuid);
            known.by_name.entry(name).or_insert(uuid);
        }
        known
    }
}

/// The vendor's order between objects is unknown, so it is drawn from a seed: nothing may rely on it.
fn in_seeded_order(
    clusters: &BTreeMap<String, ClusterObjects>,
    controller: &Policy,
    switches: &Switches,
) -> Vec<Compiled> {
    let controller = KnownGroups::new(controller);
    let mut compiled = Vec::new();
    for (cluster, objects) in clusters {
        for object in &objects.firewall_policies {
            let names = Names::new(cluster, "FirewallPolicy", &object.namespace, &object.name);
            let result = object
                .spec
                .as_ref()
                .map_err(|error| Rejection::Malformed(error.clone()));
            let result = result.and_then(|spec| {
                firewall_policy::compile(&names, object, spec, &controller, switches)
            });
            let selectors = object
                .spec
                .iter()
                .flat_map(|spec| spec.rules.iter().map(|rule| rule.selector.as_ref()));
            compiled.push(
                result.unwrap_or_else(|reason| {
                    fail_closed(&names, object, selectors.collect(), reason)
                }),
            );
        }
        for object in &objects.webgroup_policies {
            let names = Names::new(cluster, "WebgroupPolicy", &object.namespace, &object.name);
            let result = object
                .spec
                .as_ref()
                .map_err(|error| Rejection::Malformed(error.clone()));
            let result =
                result.and_then(|spec| webgroup_policy::compile(&names, object, spec, switches));
            let selectors = object
                .spec
                .iter()
                .map(|spec| spec.selector.as_ref())
                .collect();
            compiled.push(
                result.unwrap_or_else(|reason| fail_closed(&names, object, selectors, reason)),
            );
        }
    }
    compiled
        .sort_by_cached_key(|compiled| names::order(switches.object_order_seed, &compiled.object));
    compiled
}

/// Denies everything to the sources that the object names.
fn fail_closed<S>(
    names: &Names,
    object: &PolicyObject<S>,
    selectors: Vec<Option<&SourceSelector>>,
    reason: Rejection,
) -> Compiled {
    let selectors = if selectors.is_empty() {
        vec![None]
    } else {
        selectors
    };
    let mut smart_groups: BTreeMap<Uuid, SmartGroup> = BTreeMap::new();
    for selector in selectors {
        let group = source_group(names, selector).unwrap_or_else(|_| {
            source_group(names, None)
                .expect("invariant: the whole namespace is always a valid source")
        });
        smart_groups.insert(group.uuid, group);
    }
    let rule = Rule {
        uuid: names.uuid("rejected"),
        name: "rejected-object".to_owned(),
        sources: smart_groups.keys().copied().collect(),
        destinations: vec![ANYWHERE],
        web_groups: Vec::new(),
        protocol: None,
        ports: Vec::new(),
        action: Action::Deny,
        logging: Logging::Start,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    };
    Compiled {
        object: names.object(),
        smart_groups: smart_groups.into_values().collect(),
        web_groups: Vec::new(),
        list: Some(names.list(vec![rule])),
        translated: object.translated(Outcome::Rejected(reason)),
    }
}

/// The group of a rule's sources: always within the object's own namespace and cluster.
fn source_group(
    names: &Names,
    selector: Option<&SourceSelector>,
) -> Result<SmartGroup, RuleProblem> {
    let object = names.object();
    let mut kubernetes = KubernetesSelector {
        cluster: Some(object.cluster),
        namespace: Some(object.namespace),
        ..KubernetesSelector::default()
    };
    match selector {
        Some(SourceSelector {
            match_labels: Some(_),
            service: Some(_),
        }) => return Err(RuleProblem::AmbiguousSelector),
        Some(SourceSelector {
            match_labels: Some(labels),
            ..
        }) => kubernetes.labels = labels.clone(),
        Some(SourceSelector {
            service: Some(service),
            ..
        }) => kubernetes.service = Some(service.clone()),
        Some(SourceSelector { .. }) | None => {}
    }
    let (uuid, name) = names.source(&kubernetes);
    Ok(SmartGroup {
        uuid,
        name,
        selectors: vec![Selector::Kubernetes(kubernetes)],
    })
}

impl<S> PolicyObject<S> {
    fn translated(&self, outcome: Outcome) -> Translated {
        Translated {
            uid: self.uid.clone(),
            generation: self.generation,
            outcome,
        }
    }
}

impl Names {
    /// The list that mirrors the object in the Kubernetes block.
    fn list(&self, rules: Vec<Rule>) -> PolicyList {
        let (uuid, name) = self.ruleset();
        let attachment_point = AttachmentPoint::Kubernetes;
        PolicyList {
            uuid,
            name,
            attachment_point,
            object: Some(self.object()),
            rules,
        }
    }
}

#[cfg(test)]
mod tests;
