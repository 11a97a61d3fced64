//! Objects as tenants write them, and what the compiled policy then says about flows.
#![allow(clippy::unwrap_used)]

use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::policy::{
    Application, DefaultAction, FirstPacket, FiveTuple, InventoryPod, InventoryService, Labels,
    Logging, Protocol, Snapshot, Verdict,
};

mod seeded;

const CLUSTER: &str = "c1";

fn labels(value: Value) -> Labels {
    serde_json::from_value(value).unwrap()
}

/// Pods: mcp/ehr 10.244.0.10, mcp/crm 10.244.0.11, dev/ehr 10.244.0.12; Service mcp/ehr selects app=ehr.
fn inventory() -> ClusterInventory {
    let pod = |namespace: &str, app: &str, address: [u8; 4]| InventoryPod {
        namespace: namespace.into(),
        name: app.into(),
        labels: labels(json!({"app": app})),
        addresses: vec![address.into()],
    };
    ClusterInventory {
        namespaces: ["mcp", "dev"]
            .map(|name| (name.to_owned(), Labels::new()))
            .into(),
        pods: vec![
            pod("mcp", "ehr", [10, 244, 0, 10]),
            pod("mcp", "crm", [10, 244, 0, 11]),
            pod("dev", "ehr", [10, 244, 0, 12]),
        ],
        services: vec![InventoryService {
            namespace: "mcp".into(),
            name: "ehr".into(),
            selector: labels(json!({"app": "ehr"})),
            external_addresses: Vec::new(),
        }],
    }
}

fn object<S: DeserializeOwned>(name: &str, spec: Value) -> PolicyObject<S> {
    PolicyObject {
        namespace: "mcp".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        generation: 3,
        spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
    }
}

/// What the policy controller writes for a server with one domain.
fn server_spec() -> Value {
    json!({
        "smartGroups": [
            {"name": "obot-ehr-pods", "selectors": [{"type": "k8s", "k8sNamespace": "mcp", "tags": {"app": "ehr"}}]},
            {"name": "any-destination", "selectors": [{"cidr": "0.0.0.0/0"}]},
        ],
        "webGroups": [{"name": "obot-ehr-approved-domains", "domains": ["fhir.ehr.test"]}],
        "rules": [
            {"name": "allow-approved-egress", "action": "permit", "protocol": "tcp", "port": 443, "logging": true,
             "selector": {"matchLabels": {"app": "ehr"}}, "destinationSmartGroups": [{"name": "any-destination"}],
             "webGroups": [{"name": "obot-ehr-approved-domains"}]},
            {"name": "deny-all-external", "action": "deny", "protocol": "any", "logging": true,
             "selector": {"matchLabels": {"app": "ehr"}}, "destinationSmartGroups": [{"name": "any-destination"}]},
        ],
    })
}

fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
    spec
}

/// With the firewall on.
struct Setup {
    store: Store,
    firewall_policies: Vec<PolicyObject<FirewallPolicySpec>>,
    webgroup_policies: Vec<PolicyObject<WebgroupPolicySpec>>,
    switches: Switches,
    faults: Faults,
}

impl Default for Setup {
    fn default() -> Self {
        let mut store = Store::default();
        store.enable_firewall();
        Self {
            store,
            firewall_policies: Vec::new(),
            webgroup_policies: Vec::new(),
            switches: Switches::default(),
            faults: Faults::default(),
        }
    }
}

impl Setup {
    fn firewall(specs: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let firewall_policies = specs
            .into_iter()
            .map(|(name, spec)| object(name, spec))
            .collect();
        Self {
            firewall_policies,
            ..Self::default()
        }
    }

    fn translate(&self) -> Translation {
        let cluster = ClusterObjects {
            firewall_policies: self.firewall_policies.clone(),
            webgroup_policies: self.webgroup_policies.clone(),
            inventory: inventory(),
            arrivals: BTreeMap::new(),
        };
        let clusters = BTreeMap::from([(CLUSTER.to_owned(), cluster)]);
        translate(&self.store, &clusters, &self.switches, &self.faults)
    }

    /// The rule that decides a flow to the internet, and its action.
    fn decide(&self, source: &str, port: u16, application: &Application) -> (Action, String) {
        let Translation {
            policy, inventory, ..
        } = self.translate();
        let snapshot = Snapshot::compile(1, &policy, &inventory, &self.switches);
        let flow = FiveTuple {
            protocol: Protocol::Tcp,
            source: source.parse().unwrap(),
            source_port: 40000,
            destination: "198.51.100.7".parse().unwrap(),
            destination_port: port,
        };
        let verdict = match snapshot.first_packet(&flow) {
            FirstPacket::Decided(verdict) => verdict,
            FirstPacket::Inspect => snapshot.decide(&flow, application),
        };
        (verdict.action, verdict.rule)
    }
}

fn tls(name: &str) -> Application {
    Application::Tls {
        sni: Some(name.into()),
    }
}

fn outcome<'a>(translation: &'a Translation, name: &str) -> &'a Outcome {
    let (_, translated) = translation
        .objects
        .iter()
        .find(|(object, _)| object.name == name)
        .unwrap();
    &translated.outcome
}

#[rstest]
#[case::listed(
    "10.244.0.10",
    443,
    "fhir.ehr.test",
    Action::Permit,
    "allow-approved-egress"
)]
#[case::unlisted("10.244.0.10", 443, "evil.test", Action::Deny, "deny-all-external")]
#[case::port(
    "10.244.0.10",
    8443,
    "fhir.ehr.test",
    Action::Deny,
    "deny-all-external"
)]
#[case::other_pod("10.244.0.11", 443, "evil.test", Action::Permit, "default action")]
#[case::same_label_in_other_namespace(
    "10.244.0.12",
    443,
    "evil.test",
    Action::Permit,
    "default action"
)]
fn a_server_policy_holds_for_its_pods_alone(
    #[case] source: &str,
    #[case] port: u16,
    #[case] name: &str,
    #[case] action: Action,
    #[case] rule: &str,
) {
    let setup = Setup::firewall([("obot-ehr-fw", server_spec())]);
    assert_eq!(
        setup.decide(source, port, &tls(name)),
        (action, rule.to_owned())
    );
}

#[rstest]
#[case::missing(None, &[10, 11])]
#[case::empty(Some(json!({})), &[10, 11])]
#[case::labels(Some(json!({"matchLabels": {"app": "ehr"}})), &[10])]
#[case::service(Some(json!({"service": "ehr"})), &[10])]
#[case::unknown_service(Some(json!({"service": "none"})), &[])]
fn a_selector_stays_in_its_namespace(#[case] selector: Option<Value>, #[case] selected: &[u8]) {
    let mut rule = json!({"name": "deny", "action": "deny", "destinationSmartGroups": [{"name": "Public Internet"}]});
    if let Some(selector) = selector {
        rule["selector"] = selector;
    }
    let setup = Setup::firewall([("fw", json!({"rules": [rule]}))]);
    for last in 10..=12u8 {
        let expected = if selected.contains(&last) {
            Action::Deny
        } else {
            Action::Permit
        };
        assert_eq!(
            setup
                .decide(&format!("10.244.0.{last}"), 80, &Application::Other)
                .0,
            expected,
            "10.244.0.{last}"
        );
    }
}

#[test]
fn the_status_names_everything_that_was_made() {
    let translation = Setup::firewall([("obot-ehr-fw", server_spec())]).translate();
    let Outcome::FirewallPolicy(status) = outcome(&translation, "obot-ehr-fw") else {
        panic!("rejected")
    };
    assert_eq!(status.last_reconciled_generation, Some(3));
    assert_eq!(
        status.attachment_point.as_deref(),
        Some("defa11a1-3000-6000-5000-000000000000")
    );
    let list = &translation.policy.lists[0];
    assert_eq!(status.ruleset, Some(list.uuid.to_string()));
    for (group, declared) in status
        .smart_groups
        .iter()
        .zip(["obot-ehr-pods", "any-destination"])
    {
        assert_eq!(group.name, declared);
        let uuid: Uuid = group.uuid.as_deref().unwrap().parse().unwrap();
        assert!(
            translation.policy.smart_groups[&uuid]
                .name
                .starts_with("firewallpolicy-mcp--obot-ehr-fw--")
        );
    }
    let uuid: Uuid = status.web_groups[0]
        .uuid
        .as_deref()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        translation.policy.web_groups[&uuid].domains,
        ["fhir.ehr.test"]
    );
    let source = &translation.policy.smart_groups[&list.rules[0].sources[0]];
    assert!(
        source
            .name
            .starts_with("firewallpolicysource-mcp--obot-ehr-fw--"),
        "{}",
        source.name
    );
    assert_eq!(
        list.rules[0].sources, list.rules[1].sources,
        "one mirror per selector"
    );
    assert!(
        list.name
            .starts_with("firewallpolicylist-mcp--obot-ehr-fw--")
    );
}

#[test]
fn the_same_objects_get_the_same_uuids_in_every_run() {
    let setup = Setup::firewall([("obot-ehr-fw", server_spec())]);
    assert_eq!(setup.translate().policy, setup.translate().policy);
}

#[rstest]
#[case::action(
    "/rules/0/action",
    Value::Null,
    "rule `allow-approved-egress`: action is missing"
)]
#[case::port("/rules/0/port", json!(70000), "70000")]
#[case::end_port("/rules/0/endPort", json!(80), "endPort 80")]
#[case::icmp("/rules/0/protocol", json!("icmp"), "icmp")]
#[case::domains("/webGroups/0/domains", json!(["https://fhir.ehr.test/"]), "https://fhir.ehr.test/")]
#[case::no_destination("/rules/1/destinationSmartGroups", json!([]), "destinationSmartGroups")]
#[case::unknown_group("/rules/1/webGroups", json!([{"name": "nowhere"}]), "web group `nowhere`")]
#[case::half_reference("/rules/1/webGroups", json!([{}]), "exactly one")]
#[case::cidr("/smartGroups", json!([{"name": "any-destination", "selectors": [{"cidr": "x.test"}]}]), "x.test")]
#[case::cloud("/smartGroups", json!([{"name": "any-destination", "selectors": [{"region": "eu"}]}]), "region")]
#[case::nothing("/smartGroups", json!([{"name": "any-destination", "selectors": [{}]}]), "without keys")]
fn a_broken_object_fails_closed_and_alone(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let broken = with(server_spec(), pointer, value);
    let crm = json!({"rules": [{"name": "crm-open", "action": "permit", "selector": {"matchLabels": {"app": "crm"}},
        "destinationSmartGroups": [{"uuid": ANYWHERE}]}]});
    let setup = Setup::firewall([("obot-ehr-fw", broken), ("crm-fw", crm)]);
    let translation = setup.translate();
    let Outcome::Rejected(reason) = outcome(&translation, "obot-ehr-fw") else {
        panic!("accepted")
    };
    assert!(reason.to_string().contains(expected), "{reason}");
    assert_eq!(
        setup.decide("10.244.0.10", 443, &tls("fhir.ehr.test")),
        (Action::Deny, "rejected-object".into())
    );
    assert!(matches!(
        outcome(&translation, "crm-fw"),
        Outcome::FirewallPolicy(_)
    ));
    assert_eq!(
        setup.decide("10.244.0.11", 443, &tls("any.test")),
        (Action::Permit, "crm-open".into())
    );
}

#[test]
fn an_unreadable_object_denies_its_namespace() {
    let setup = Setup::firewall([("fw", with(server_spec(), "/rules", json!("none")))]);
    let Outcome::Rejected(reason) = outcome(&setup.translate(), "fw").clone() else {
        panic!("accepted")
    };
    assert!(reason.to_string().contains("malformed"), "{reason}");
    for source in ["10.244.0.10", "10.244.0.11"] {
        assert_eq!(
            setup.decide(source, 80, &Application::Other).1,
            "rejected-object"
        );
    }
    assert_eq!(
        setup.decide("10.244.0.12", 80, &Application::Other).1,
        "default action"
    );
}

#[test]
fn groups_of_the_controller_are_found_by_name_and_by_uuid_and_inline_ones_win() {
    let mut setup = Setup::default();
    let partner =
        json!({"name": "partner", "selector": {"any": [{"all": {"cidr": "198.51.100.0/24"}}]}});
    let uuid = setup.store.create_app_domain(partner).unwrap();
    let rules = |reference: Value| json!({"rules": [{"name": "deny", "action": "deny", "destinationSmartGroups": [reference]}]});
    for reference in [json!({"name": "partner"}), json!({"uuid": uuid})] {
        setup.firewall_policies = vec![object("fw", rules(reference))];
        assert_eq!(
            setup.decide("10.244.0.10", 443, &Application::Other),
            (Action::Deny, "deny".into())
        );
    }
    let mut shadowed = rules(json!({"name": "partner"}));
    shadowed["smartGroups"] = json!([{"name": "partner", "selectors": [{"cidr": "192.0.2.0/24"}]}]);
    setup.firewall_policies = vec![object("fw", shadowed)];
    assert_eq!(
        setup.decide("10.244.0.10", 443, &Application::Other).1,
        "default action"
    );
}

#[test]
fn a_webgroup_policy_permits_its_domains() {
    let spec =
        json!({"allowedDomains": ["packages.test"], "selector": {"matchLabels": {"app": "crm"}}});
    let mut setup = Setup::default();
    setup.store.set_default_action(DefaultAction {
        action: Action::Deny,
        logging: Logging::Start,
    });
    setup.webgroup_policies = vec![object("packages", spec)];
    assert_eq!(
        setup.decide("10.244.0.11", 443, &tls("packages.test")).1,
        "allowed-domains"
    );
    assert_eq!(
        setup.decide("10.244.0.11", 443, &tls("evil.test")).1,
        "default action"
    );
    assert_eq!(
        setup.decide("10.244.0.10", 443, &tls("packages.test")).1,
        "default action"
    );
    let Outcome::WebgroupPolicy(status) = outcome(&setup.translate(), "packages").clone() else {
        panic!("rejected")
    };
    assert!(
        status.app_domain_uuid.is_some()
            && status.policy_uuid.is_some()
            && status.smart_group_uuid.is_some()
    );

    setup.switches.webgroup_policy_enforces = false;
    assert_eq!(
        setup.decide("10.244.0.11", 443, &tls("packages.test")).1,
        "default action"
    );
}

#[rstest]
#[case(FEATURE_K8S)]
#[case(FEATURE_K8S_DCF_POLICIES)]
fn without_the_feature_objects_are_no_ops(#[case] feature: &str) {
    let mut setup = Setup::firewall([("obot-ehr-fw", server_spec())]);
    setup.store.set_feature(feature, false);
    assert!(setup.translate().objects.is_empty());
    assert_eq!(
        setup.decide("10.244.0.10", 443, &tls("evil.test")),
        (Action::Permit, "default action".into())
    );
}

#[rstest]
#[case(None, Logging::Start)]
#[case(Some("start"), Logging::Start)]
#[case(Some("end"), Logging::End)]
#[case(Some("start/end"), Logging::StartAndEnd)]
fn a_policy_object_names_its_log_profile(#[case] profile: Option<&str>, #[case] expected: Logging) {
    let mut spec = server_spec();
    spec["rules"][0]["logging"] = true.into();
    spec["rules"][0]["logProfile"] = json!(profile);
    let translation = Setup::firewall([("obot-ehr-fw", spec)]).translate();
    assert_eq!(translation.policy.lists[0].rules[0].logging, expected);
}

#[test]
fn a_log_profile_that_nobody_knows_fails_closed() {
    let mut spec = server_spec();
    spec["rules"][0]["logProfile"] = "middle".into();
    let setup = Setup::firewall([("obot-ehr-fw", spec)]);
    let Outcome::Rejected(reason) = outcome(&setup.translate(), "obot-ehr-fw").clone() else {
        panic!("taken")
    };
    assert!(
        reason
            .to_string()
            .contains("logProfile `middle` is unknown"),
        "{reason}"
    );
}

/// Whatever the rules and the default action say; with it on they decide.
#[test]
fn without_the_firewall_everything_passes_unlogged() {
    let mut setup = Setup::firewall([("obot-ehr-fw", server_spec())]);
    setup.store.set_default_action(DefaultAction {
        action: Action::Deny,
        logging: Logging::Start,
    });
    assert_eq!(
        setup.decide("10.244.0.10", 443, &tls("evil.test")).0,
        Action::Deny
    );
    setup.store.set_feature(FEATURE_MICROSEG, false);
    assert_eq!(
        setup.decide("10.244.0.10", 443, &tls("evil.test")),
        (Action::Permit, "default action".into())
    );
    assert_eq!(
        setup.translate().policy.default_action.logging,
        Logging::Off
    );
}

#[test]
fn the_order_between_objects_is_drawn_from_the_seed() {
    let rule = |action: &str| json!({"rules": [{"name": action, "action": action, "destinationSmartGroups": [{"uuid": ANYWHERE}]}]});
    let mut setup = Setup::firewall([("tenant", rule("permit")), ("platform", rule("deny"))]);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..32 {
        setup.switches.object_order_seed = seed;
        let decision = setup.decide("10.244.0.10", 443, &Application::Other);
        assert_eq!(
            decision,
            setup.decide("10.244.0.10", 443, &Application::Other),
            "stable for one seed"
        );
        seen.insert(decision.1);
    }
    assert_eq!(seen.len(), 2, "both orders occur");
}
