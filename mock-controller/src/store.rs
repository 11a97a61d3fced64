//! What an administrator configured on the controller, in memory alone: SmartGroups and WebGroups ("app domains"), the
//! V1 policy list, rulesets at attachment points, the default action, feature switches.
//!
//! Objects are taken and kept in the vendor's wire form (`reference/aviatrix-controller-api.md` sections 2 to 4), each
//! exactly as sent with a uuid added, because clients compare what they read back; `wire` reads them for the policy
//! model. What does not parse is refused when it is set. The store must not know Kubernetes objects.

pub mod accounts;
pub mod clusters;
pub mod features;
pub mod settings;
pub mod spoke_gateways;
pub mod syslog;
mod wire;

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::policy::{
    AttachmentPoint, DefaultAction, Policy, PolicyList, SmartGroup, Switches, WebGroup,
};

pub use wire::InvalidObject;

/// The feature without which Kubernetes identities resolve to nothing.
pub const FEATURE_K8S: &str = "k8s";
/// The feature without which policy objects in clusters are ignored.
pub const FEATURE_K8S_DCF_POLICIES: &str = "k8s_dcf_policies";

const V1_POLICY_LIST: Uuid = Uuid::from_u128(0xdefa_11a1_1000_0000_0000_0000_0000_0000);
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2b_7c9e_5d41_4c0b_9a77_1f0e_54c3_0001);

/// Why the store refuses a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    #[error("App domain not found: {0}; create the group before a rule refers to it")]
    AppDomainNotFound(Uuid),
    #[error(
        "smart group {group} is present in one or more dfw policies ({rule}); remove it from the rule first"
    )]
    GroupInUse { group: Uuid, rule: String },
    #[error("nothing can be attached to {}; it belongs to the controller", .0.name())]
    NotAttachable(AttachmentPoint),
}

/// The administrator's side of the policy. Fresh ones are as the vendor ships them: no rules, default action PERMIT
/// without log; the Kubernetes features are on.
#[derive(Clone, Debug)]
pub struct Store {
    app_domains: BTreeMap<Uuid, Value>,
    policy_list: Vec<Value>,
    rulesets: BTreeMap<AttachmentPoint, Ruleset>,
    default_action: DefaultAction,
    features: BTreeMap<String, bool>,
    remote_syslog: syslog::RemoteSyslogs,
    clusters: clusters::KubernetesClusters,
    accounts: accounts::Accounts,
    spoke_gateways: spoke_gateways::SpokeGateways,
    copilot: Option<settings::CopilotAssociation>,
    tasks: settings::Tasks,
    created: u64,
    switches: Switches,
}

#[derive(Clone, Debug)]
struct Ruleset {
    uuid: Uuid,
    name: String,
    policies: Vec<Value>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Switches::default())
    }
}

impl Store {
    /// A fresh store that judges domains by `switches`.
    pub fn new(switches: Switches) -> Self {
        let features = [FEATURE_K8S, FEATURE_K8S_DCF_POLICIES].map(|name| (name.to_owned(), true));
        Self {
            app_domains: BTreeMap::new(),
            policy_list: Vec::new(),
            rulesets: BTreeMap::new(),
            default_action: DefaultAction::default(),
            features: features.into(),
            remote_syslog: syslog::RemoteSyslogs::new(),
            clusters: clusters::KubernetesClusters::new(),
            accounts: accounts::Accounts::new(),
            spoke_gateways: spoke_gateways::SpokeGateways::new(),
            copilot: None,
            tasks: settings::Tasks::default(),
            created: 0,
            switches,
        }
    }

    /// Creates a SmartGroup or a WebGroup from its wire form, `{"name": .., "selector": {"any": [{"all": {..}}]}}`.
    pub fn create_app_domain(&mut self, mut object: Value) -> Result<Uuid, Error> {
        wire::AppDomain::parse(Uuid::nil(), &object, &self.switches)?;
        let uuid = self.fresh_uuid();
        wire::set_uuid(&mut object, uuid);
        self.app_domains.insert(uuid, object);
        Ok(uuid)
    }

    /// Replaces a group's definition.
    pub fn update_app_domain(&mut self, uuid: Uuid, mut object: Value) -> Result<(), Error> {
        wire::AppDomain::parse(uuid, &object, &self.switches)?;
        let stored = self
            .app_domains
            .get_mut(&uuid)
            .ok_or(Error::AppDomainNotFound(uuid))?;
        wire::set_uuid(&mut object, uuid);
        *stored = object;
        Ok(())
    }

    /// Deletes a group that no rule refers to.
    pub fn delete_app_domain(&mut self, uuid: Uuid) -> Result<(), Error> {
        if !self.app_domains.contains_key(&uuid) {
            return Err(Error::AppDomainNotFound(uuid));
        }
        if let Some(rule) = self
            .rules()
            .find(|rule| wire::references(rule).any(|reference| reference == uuid))
        {
            let rule = rule["name"].as_str().unwrap_or_default().to_owned();
            return Err(Error::GroupInUse { group: uuid, rule });
        }
        self.app_domains.remove(&uuid);
        Ok(())
    }

    /// Replaces the V1 policy list. Rules are evaluated by priority, lower numbers first.
    pub fn set_policy_list(&mut self, rules: Vec<Value>) -> Result<(), Error> {
        self.policy_list = self.accept(rules)?;
        Ok(())
    }

    /// Replaces the ruleset at an attachment point; an empty one detaches it.
    pub fn set_ruleset(
        &mut self,
        at: AttachmentPoint,
        name: &str,
        rules: Vec<Value>,
    ) -> Result<(), Error> {
        if matches!(
            at,
            AttachmentPoint::V1PolicyList | AttachmentPoint::Kubernetes
        ) {
            return Err(Error::NotAttachable(at));
        }
        let policies = self.accept(rules)?;
        if policies.is_empty() {
            self.rulesets.remove(&at);
        } else {
            let attached = self.rulesets.get(&at).map(|ruleset| ruleset.uuid);
            let uuid = attached.unwrap_or_else(|| self.fresh_uuid());
            self.rulesets.insert(
                at,
                Ruleset {
                    uuid,
                    name: name.to_owned(),
                    policies,
                },
            );
        }
        Ok(())
    }

    pub fn set_default_action(&mut self, default_action: DefaultAction) {
        self.default_action = default_action;
    }

    pub fn default_action(&self) -> DefaultAction {
        self.default_action
    }

    pub fn set_feature(&mut self, name: &str, enabled: bool) {
        self.features.insert(name.to_owned(), enabled);
    }

    /// An unknown feature reads as disabled.
    pub fn feature(&self, name: &str) -> bool {
        self.features.get(name).copied().unwrap_or(false)
    }

    /// The clusters to watch.
    pub fn kubernetes_clusters(&self) -> &clusters::KubernetesClusters {
        &self.clusters
    }

    /// Registers a cluster from its wire form; the answer is the controller's own id for it.
    pub fn create_kubernetes_cluster(&mut self, object: Value) -> Result<String, Error> {
        let id = self.fresh_uuid().to_string();
        let credential = match object["credential"]["kube_config"].as_str() {
            Some(text) if !text.is_empty() => clusters::Credential::KubeConfig(text.to_owned()),
            _ => clusters::Credential::Cloud,
        };
        let cluster_id = object["cluster_id"].as_str().unwrap_or_default().to_owned();
        self.clusters.insert(
            id.clone(),
            clusters::KubernetesCluster {
                cluster_id,
                credential,
                object,
            },
        );
        Ok(id)
    }

    pub fn delete_kubernetes_cluster(&mut self, id: &str) -> Result<(), Error> {
        self.clusters.remove(id);
        Ok(())
    }

    /// Where gateways send their log.
    pub fn remote_syslog(&self) -> &syslog::RemoteSyslogs {
        &self.remote_syslog
    }

    /// Sends the log to one server more, in place of what its index had before.
    pub fn enable_remote_syslog(&mut self, server: syslog::RemoteSyslog) {
        self.remote_syslog.insert(server.index, server);
    }

    pub fn disable_remote_syslog(&mut self, index: u8) {
        self.remote_syslog.remove(&index);
    }

    /// Adds everything configured here to `policy`.
    pub(crate) fn contribute(&self, policy: &mut Policy) -> Result<(), Error> {
        for (uuid, object) in &self.app_domains {
            match wire::AppDomain::parse(*uuid, object, &self.switches)? {
                wire::AppDomain::Smart(group) => policy.add_smart_group(group),
                wire::AppDomain::Web(group) => policy.add_web_group(group),
            }
        }
        if !self.policy_list.is_empty() {
            let at = AttachmentPoint::V1PolicyList;
            policy.add_list(list(
                V1_POLICY_LIST,
                "V1 Policy List",
                at,
                &self.policy_list,
            )?);
        }
        for (at, ruleset) in &self.rulesets {
            policy.add_list(list(ruleset.uuid, &ruleset.name, *at, &ruleset.policies)?);
        }
        Ok(())
    }

    /// Checks rules and gives a uuid to each that has none.
    fn accept(&mut self, mut rules: Vec<Value>) -> Result<Vec<Value>, Error> {
        for rule in &mut rules {
            if rule
                .get("uuid")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                let uuid = self.fresh_uuid();
                wire::set_uuid(rule, uuid);
            }
            wire::rule(rule)?;
            if let Some(unknown) = wire::references(rule).find(|uuid| !self.has_group(*uuid)) {
                return Err(Error::AppDomainNotFound(unknown));
            }
        }
        Ok(rules)
    }

    fn has_group(&self, uuid: Uuid) -> bool {
        self.app_domains.contains_key(&uuid)
            || SmartGroup::system().iter().any(|group| group.uuid == uuid)
            || WebGroup::system().uuid == uuid
    }

    fn rules(&self) -> impl Iterator<Item = &Value> {
        self.policy_list
            .iter()
            .chain(self.rulesets.values().flat_map(|ruleset| &ruleset.policies))
    }

    /// Comparable over runs: the n-th object created has the same uuid each time.
    fn fresh_uuid(&mut self) -> Uuid {
        self.created += 1;
        Uuid::new_v5(&NAMESPACE, &self.created.to_be_bytes())
    }
}

fn list(
    uuid: Uuid,
    name: &str,
    attachment_point: AttachmentPoint,
    rules: &[Value],
) -> Result<PolicyList, Error> {
    let mut parsed = rules
        .iter()
        .map(wire::rule)
        .collect::<Result<Vec<_>, _>>()?;
    parsed.sort_by_key(|(priority, _)| *priority);
    let rules = parsed.into_iter().map(|(_, rule)| rule).collect();
    Ok(PolicyList {
        uuid,
        name: name.to_owned(),
        attachment_point,
        object: None,
        rules,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::policy::{ANYWHERE, Action, Protocol};

    fn subnet() -> Value {
        json!({"name": "subnet", "selector": {"any": [{"all": {"cidr": "10.244.0.0/16"}}]}})
    }

    fn contributed(store: &Store) -> Policy {
        let mut policy = Policy::new(store.default_action());
        store.contribute(&mut policy).unwrap();
        policy
    }

    #[test]
    fn rules_are_kept_as_sent_and_evaluated_by_priority() {
        let mut store = Store::default();
        let group = store.create_app_domain(subnet()).unwrap();
        let web =
            json!({"name": "infra", "selector": {"any": [{"all": {"snifilter": "*.s3.test"}}]}});
        let web = store.create_app_domain(web).unwrap();
        let rule = |name: &str, priority: u32| {
            json!({"name": name, "action": "PERMIT", "priority": priority, "protocol": "tcp",
                "src_ads": [group], "dst_ads": [ANYWHERE], "web_filters": [web], "port_ranges": [{"lo": 443}]})
        };
        store
            .set_policy_list(vec![rule("second", 20), rule("first", 10)])
            .unwrap();

        let mut sent = rule("second", 20);
        assert!(store.policy_list[0]["uuid"].is_string());
        sent["uuid"] = store.policy_list[0]["uuid"].clone();
        assert_eq!(store.policy_list[0], sent);

        let policy = contributed(&store);
        let rules = &policy.lists[0].rules;
        assert_eq!(
            rules
                .iter()
                .map(|rule| rule.name.as_str())
                .collect::<Vec<_>>(),
            ["first", "second"]
        );
        assert_eq!(rules[0].protocol, Some(Protocol::Tcp));
        assert_eq!(
            (rules[0].ports[0].first, rules[0].ports[0].last),
            (443, 443)
        );
        assert_eq!(policy.web_groups[&web].domains, ["*.s3.test"]);
    }

    #[test]
    fn a_group_in_use_stays() {
        let mut store = Store::default();
        let group = store.create_app_domain(subnet()).unwrap();
        let rule = json!({"name": "all", "action": "DENY", "priority": 1, "protocol": "PROTOCOL_UNSPECIFIED",
            "src_ads": [group], "dst_ads": [ANYWHERE]});
        store
            .set_ruleset(AttachmentPoint::AfterKubernetes, "last", vec![rule])
            .unwrap();
        assert!(matches!(
            store.delete_app_domain(group),
            Err(Error::GroupInUse { .. })
        ));
        store
            .set_ruleset(AttachmentPoint::AfterKubernetes, "last", Vec::new())
            .unwrap();
        assert_eq!(store.delete_app_domain(group), Ok(()));
        assert_eq!(
            store.delete_app_domain(group),
            Err(Error::AppDomainNotFound(group))
        );
    }

    #[test]
    fn out_of_the_box_everything_passes_unlogged() {
        let default = contributed(&Store::default()).default_action;
        assert_eq!((default.action, default.logging), (Action::Permit, false));
    }

    #[rstest]
    #[case::unknown_group(json!({"name": "r", "action": "DENY", "protocol": "ANY", "src_ads": [Uuid::max()],
        "dst_ads": [ANYWHERE]}), "App domain not found")]
    #[case::action(json!({"name": "r", "action": "BLOCK", "protocol": "ANY", "src_ads": [ANYWHERE],
        "dst_ads": [ANYWHERE]}), "action `BLOCK`")]
    #[case::icmp_port(json!({"name": "r", "action": "DENY", "protocol": "ICMP", "src_ads": [ANYWHERE],
        "dst_ads": [ANYWHERE], "port_ranges": [{"lo": 1}]}), "ports")]
    #[case::inverted_range(json!({"name": "r", "action": "DENY", "protocol": "TCP", "src_ads": [ANYWHERE],
        "dst_ads": [ANYWHERE], "port_ranges": [{"lo": 9, "hi": 8}]}), "9-8")]
    #[case::no_source(json!({"name": "r", "action": "DENY", "protocol": "TCP", "src_ads": null,
        "dst_ads": [ANYWHERE]}), "source")]
    fn what_cannot_be_enforced_is_refused(#[case] rule: Value, #[case] expected: &str) {
        let error = Store::default()
            .set_policy_list(vec![rule])
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[rstest]
    #[case::cloud(json!({"name": "g", "selector": {"any": [{"all": {"type": "vm", "region": "us-east-1"}}]}}))]
    #[case::cidr(json!({"name": "g", "selector": {"any": [{"all": {"cidr": "10.0.0.0/40"}}]}}))]
    #[case::empty(json!({"name": "g", "selector": {"any": [{"all": {}}]}}))]
    #[case::url(json!({"name": "g", "selector": {"any": [{"all": {"urlfilter": "https://a.test/x"}}]}}))]
    #[case::shape(json!({"name": "g"}))]
    fn groups_that_cannot_be_resolved_are_refused(#[case] group: Value) {
        assert!(matches!(
            Store::default().create_app_domain(group),
            Err(Error::Invalid(_))
        ));
    }
}
