//! What is refused, in whose words, and what is accepted though this fake cannot resolve it.

use std::net::Ipv4Addr;

use super::*;
use crate::policy::{
    Action, Application, DefaultAction, FiveTuple, Inventory, Protocol, Selector, Snapshot,
    Switches,
};

fn with(mut rule: Value, change: Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        rule[key.as_str()] = value.clone();
    }
    rule
}

#[rstest]
#[case::zone(json!({"type": "k8s", "zone": "us-east-2a"}), "invalid selector combination for k8s resource type")]
#[case::service_and_pod(json!({"type": "k8s", "k8s_cluster_id": "c", "k8s_namespace": "n", "k8s_service": "s", "k8s_pod": "p"}),
    "invalid selector combination for k8s resource type")]
#[case::pod_alone(json!({"type": "k8s", "k8s_pod": "p"}), "invalid selector combination for k8s resource type")]
#[case::namespacetags_and_service(json!({"type": "k8s", "k8s_service": "s", "namespacetags.team": "pay"}), "namespacetags")]
#[case::node(json!({"type": "k8s_node", "k8s_namespace": "n"}),
    "invalid selector keys for k8s_node resource type. invalid keys ['k8s_namespace']")]
#[case::node_twice(json!({"type": "k8s_node", "k8s_namespace": "n", "k8s_pod": "p"}), "invalid keys ['k8s_namespace', 'k8s_pod']")]
#[case::unknown_key(json!({"type": "vm", "colour": "red"}), "invalid keys ['colour']")]
#[case::no_type(json!({"k8s_namespace": "n"}), "`type` is required")]
#[case::cidr(json!({"cidr": "10.0.0.0/40"}), "10.0.0.0/40")]
#[case::cidr_not_alone(json!({"cidr": "10.0.0.0/8", "type": "vm"}), "`cidr` cannot be used with other filters")]
#[case::fqdn_not_alone(json!({"fqdn": "a.test", "site": "s"}), "cannot be used with other filters")]
#[case::empty(json!({}), "without keys")]
#[case::number(json!({"cidr": 10}), "`cidr` of a selector is not a string")]
#[case::double_star(json!({"snifilter": "**.example.com"}), "`**` is not allowed")]
#[case::characters(json!({"snifilter": "bücher.example"}), "letters, digits")]
#[case::url_as_domain(json!({"snifilter": "https://example.com/x"}), "letters, digits")]
#[case::both(json!({"snifilter": "a.test", "urlfilter": "a.test/x"}), "one snifilter or one urlfilter")]
#[case::web_and_smart(json!({"snifilter": "a.test", "cidr": "10.0.0.0/8"}), "one snifilter or one urlfilter")]
fn selectors_that_are_refused(#[case] all: Value, #[case] expected: &str) {
    let mut store = Store::default();
    let error = store.create_app_domain(group(all)).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(store.app_domains().count(), 3);
}

#[rstest]
#[case::name_missing(json!({"selector": {"any": [{"all": {"cidr": "10.0.0.0/8"}}]}}), "`name` is missing")]
#[case::name_blank(json!({"name": " ", "selector": {"any": [{"all": {"cidr": "10.0.0.0/8"}}]}}), "`name` is empty")]
#[case::name_type(json!({"name": 1, "selector": {"any": []}}), "`name` is not a string but a number")]
#[case::selector(json!({"name": "g"}), "`selector` is missing")]
#[case::any(json!({"name": "g", "selector": {"any": {}}}), "`any` is not a list")]
#[case::nothing(json!({"name": "g", "selector": {"any": []}}), "`selector.any` is empty")]
#[case::all(json!({"name": "g", "selector": {"any": [{"all": []}]}}), "`all`: expected a JSON object, not a list")]
#[case::not_an_object(json!([]), "expected a JSON object")]
#[case::mixed(json!({"name": "g", "selector": {"any": [{"all": {"snifilter": "a.test"}}, {"all": {"urlfilter": "a.test/x"}}]}}),
    "domains or URLs, not both")]
#[case::too_many(json!({"name": "g", "selector": {"any": vec![json!({"all": {"cidr": "10.0.0.1"}}); 10_001]}}), "10001 match expressions")]
fn groups_that_are_refused(#[case] object: Value, #[case] expected: &str) {
    let error = Store::default().create_app_domain(object).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[rstest]
#[case::vm(json!({"type": "vm", "account_name": "devops", "region": "us-west-2", "tags.env": "prod"}))]
#[case::vpc(json!({"type": "vpc", "name": "v", "zone": "z"}))]
#[case::subnet(json!({"type": "subnet", "res_id": "subnet-1"}))]
#[case::serverless(json!({"type": "serverless", "name": "my-function"}))]
#[case::node(json!({"type": "k8s_node", "k8s_cluster_id": "c"}))]
#[case::node_of_account(json!({"type": "k8s_node", "account_name": "aws"}))]
#[case::geo(json!({"external": "geo", "country_iso_code": "FR"}))]
#[case::threat(json!({"external": "threatiq", "severity": "major", "type": "ciarmy", "region": "eastus"}))]
#[case::site(json!({"site": "site-0"}))]
#[case::fqdn(json!({"fqdn": "www.aviatrix.com"}))]
#[case::s2c(json!({"s2c": "remote"}))]
fn what_the_fake_has_no_inventory_of_is_kept_and_selects_nothing(#[case] all: Value) {
    let mut store = Store::default();
    let sent = group(all);
    let uuid = store.create_app_domain(sent.clone()).unwrap();
    assert_eq!(
        store.app_domain(uuid).unwrap()["selector"],
        sent["selector"]
    );
    let policy = contributed(&store);
    let members = policy.smart_groups[&uuid].resolve(&policy.smart_groups, &Inventory::default());
    assert!(!members.contains("10.1.1.1".parse().unwrap()));
    assert!(policy.smart_groups[&uuid].selectors.is_empty());
}

#[test]
fn a_group_of_urls_matches_no_name() {
    let mut store = Store::default();
    let uuid = store
        .create_app_domain(group(json!({"urlfilter": "https://example.com/a/*"})))
        .unwrap();
    let group = &contributed(&store).web_groups[&uuid];
    assert!(group.domains.is_empty() && !group.all_web);
}

#[test]
fn kubernetes_selectors_reach_the_policy() {
    let mut store = Store::default();
    let all = json!({"type": "k8s", "k8s_cluster_id": "c", "namespacetags.team": "pay", "tags.app.kubernetes.io/name": "web"});
    let uuid = store.create_app_domain(group(all)).unwrap();
    let policy = contributed(&store);
    let [Selector::Kubernetes(selector)] = &policy.smart_groups[&uuid].selectors[..] else {
        panic!("one Kubernetes selector")
    };
    assert_eq!(selector.cluster.as_deref(), Some("c"));
    assert_eq!(selector.namespace_labels["team"], "pay");
    assert_eq!(selector.labels["app.kubernetes.io/name"], "web");
}

#[test]
fn a_group_keeps_its_kind_and_its_uuid() {
    let mut store = Store::default();
    let uuid = store
        .create_app_domain(group(json!({"cidr": "10.0.0.0/8"})))
        .unwrap();
    let web = store.update_app_domain(uuid, group(json!({"snifilter": "a.test"})));
    assert_eq!(web.unwrap_err().kind(), ErrorKind::Invalid);
    let mut other = group(json!({"cidr": "10.0.0.0/9"}));
    other["uuid"] = Uuid::max().to_string().into();
    let other = store.update_app_domain(uuid, other).unwrap_err();
    assert!(other.to_string().contains(&uuid.to_string()), "{other}");
    let unknown = store.update_app_domain(Uuid::max(), group(json!({"cidr": "10.0.0.0/8"})));
    assert_eq!(unknown.unwrap_err().to_string(), "App domain not found");
}

#[rstest]
#[case::unknown_group(json!({"src_ads": [Uuid::max()]}), "App domain not found")]
#[case::group_by_name(json!({"src_ads": ["nobody"]}), "App domain not found: `nobody`")]
#[case::web_group_as_source(json!({"src_ads": [ALL_WEB]}), "no smart group")]
#[case::smart_group_as_name(json!({"web_filters": [ANYWHERE]}), "no web group")]
#[case::number_as_group(json!({"src_ads": [1]}), "`src_ads` holds something that is not a string")]
#[case::of_the_default_action(json!({"uuid": crate::policy::DEFAULT_ACTION}), "belongs to another rule")]
#[case::name(json!({"name": ""}), "`name` is empty")]
#[case::action(json!({"action": "BLOCK"}), "action `BLOCK`")]
#[case::no_action(json!({"action": null}), "`action` is missing")]
#[case::protocol(json!({"protocol": "SCTP"}), "protocol `SCTP`")]
#[case::enforcement(json!({"enforcement": "MAYBE"}), "enforcement `MAYBE`")]
#[case::flow_app(json!({"flow_app_requirement": "HTTP_REQUIRED"}), "flow_app_requirement `HTTP_REQUIRED`")]
#[case::decrypt(json!({"decrypt_policy": "ALWAYS"}), "decrypt_policy `ALWAYS`")]
#[case::egress(json!({"egress_path": "EGRESS_PATH_FAR"}), "egress_path `EGRESS_PATH_FAR`")]
#[case::log_profile(json!({"log_profile": "def000ad-7000-0000-0000-000000000004"}), "log_profile")]
#[case::tls_profile(json!({"tls_profile": Uuid::max()}), "TLS profile")]
#[case::uuid(json!({"uuid": "first"}), "`uuid` is not a uuid")]
#[case::priority(json!({"priority": "high"}), "`priority` is not an integer")]
#[case::logging(json!({"logging": "yes"}), "`logging` is not true or false but a string")]
#[case::icmp_port(json!({"protocol": "ICMP"}), "icmp has neither ports nor names")]
#[case::icmp_names(json!({"protocol": "ICMP", "port_ranges": [], "web_filters": [ALL_WEB]}), "icmp has neither ports nor names")]
#[case::inverted_range(json!({"port_ranges": [{"lo": 9, "hi": 8}]}), "9-8")]
#[case::large_port(json!({"port_ranges": [{"lo": 65536}]}), "65536 is not a port")]
#[case::negative_port(json!({"port_ranges": [{"lo": -1}]}), "-1 is not a port")]
#[case::no_port(json!({"port_ranges": [{"hi": 1}]}), "`lo` is missing")]
#[case::ranges(json!({"port_ranges": vec![json!({"lo": 1}); 65]}), "65 port ranges")]
fn rules_that_are_refused(#[case] change: Value, #[case] expected: &str) {
    let mut store = Store::default();
    store.set_policy_list(vec![rule("before", 1)]).unwrap();
    let before = store.policy_list().clone();
    let refused = with(rule("r", 1), change);
    let error = store.set_policy_list(vec![refused.clone()]).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(*store.policy_list(), before);
    let error = store
        .create_policy(json!({"name": "rs", "policies": [refused]}))
        .unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(store.policies().count(), 0);
}

#[rstest]
#[case::ranges(json!({"port_ranges": vec![json!({"lo": 1}); 64]}))]
#[case::hi_zero(json!({"port_ranges": [{"lo": 443, "hi": 0}]}))]
#[case::icmp(json!({"protocol": "ICMP", "port_ranges": null}))]
#[case::lower_case(json!({"protocol": "any", "action": "deny"}))]
#[case::inspection(json!({"action": "INTRUSION_DETECTION_PERMIT", "decrypt_policy": "DECRYPT_ALLOWED", "egress_path": "EGRESS_PATH_LOCAL"}))]
#[case::profiles(json!({"tls_profile": SYSTEM_TLS_PROFILE, "log_profile": "def000ad-7000-0000-0000-000000000003"}))]
#[case::empty_profiles(json!({"tls_profile": "", "log_profile": ""}))]
#[case::no_source(json!({"src_ads": null}))]
#[case::no_destination(json!({"dst_ads": []}))]
fn rules_that_are_accepted(#[case] change: Value) {
    let mut store = Store::default();
    store
        .set_policy_list(vec![with(rule("r", 1), change)])
        .unwrap();
    assert_eq!(contributed(&store).lists[0].rules.len(), 1);
}

/// The documentation's rule and its example contradict each other, so there is a switch.
#[test]
fn domains_and_urls_in_one_group_are_a_switch() {
    let mixed = json!({"name": "wg1", "selector": {"any": [
        {"all": {"snifilter": "*.example.com"}}, {"all": {"urlfilter": "https://example.com/a/*"}}]}});
    let error = Store::default()
        .create_app_domain(mixed.clone())
        .unwrap_err();
    assert!(error.to_string().contains("not both"), "{error}");
    let mut store = Store::new(Switches {
        mixed_web_groups: true,
        ..Switches::default()
    });
    let uuid = store.create_app_domain(mixed.clone()).unwrap();
    assert_eq!(
        store.app_domain(uuid).unwrap()["selector"],
        mixed["selector"]
    );
    assert_eq!(
        contributed(&store).web_groups[&uuid].domains,
        ["*.example.com"]
    );
}

/// With `null` there is nothing to compare a flow with.
#[test]
fn a_rule_without_sources_or_destinations_matches_nothing() {
    for side in ["src_ads", "dst_ads"] {
        let mut store = Store::default();
        store
            .set_policy_list(vec![with(
                rule("r", 1),
                json!({ side: null, "action": "DENY" }),
            )])
            .unwrap();
        assert_eq!(store.policy_list()["policies"][0][side], Value::Null);
        let (policy, switches) = (contributed(&store), Switches::default());
        let snapshot = Snapshot::compile(1, &policy, &Inventory::default(), &switches);
        let flow = FiveTuple {
            protocol: Protocol::Tcp,
            source: Ipv4Addr::new(10, 0, 0, 1).into(),
            source_port: 1,
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            destination_port: 443,
        };
        let verdict = snapshot.decide(&flow, &Application::Other);
        assert_eq!(verdict.action, Action::Permit, "{side}");
    }
}

#[test]
fn a_list_that_is_null_is_empty() {
    let mut store = Store::default();
    store.put_policy_list(json!({"policies": null})).unwrap();
    assert_eq!(**store.policy_list(), json!({"policies": []}));
}

#[rstest]
#[case::action_alone(json!({"action": "deny"}), json!({"action": "deny", "logging": false, "log_profile": ""}))]
#[case::nulls(json!({"action": "DENY", "logging": null, "log_profile": null, "more": 1}),
    json!({"action": "DENY", "logging": false, "log_profile": ""}))]
fn the_default_action_has_all_its_fields(#[case] sent: Value, #[case] read: Value) {
    let mut store = Store::default();
    store.set_default_action_rule(sent).unwrap();
    assert_eq!(**store.default_action_rule(), read);
}

#[test]
fn a_cluster_that_groups_name_keeps_its_id() {
    let cluster = |id: &str| json!({"cluster_id": id, "credential": {"use_csp_credentials": true}});
    let mut store = Store::default();
    let id = store.create_kubernetes_cluster(cluster("x")).unwrap();
    store.update_kubernetes_cluster(&id, cluster("y")).unwrap();
    store
        .create_app_domain(group(json!({"type": "k8s", "k8s_cluster_id": "y"})))
        .unwrap();
    let refused = store
        .update_kubernetes_cluster(&id, cluster("z"))
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("cluster is still used in smart groups: g"),
        "{refused}"
    );
    store.update_kubernetes_cluster(&id, cluster("y")).unwrap();
}

#[test]
fn what_adds_nothing_is_never_too_much() {
    assert!(room("rules", 5, 0, 5).is_ok());
    assert!(room("rules", 6, 0, 5).is_ok());
    assert!(room("rules", 4, 1, 5).is_ok());
    assert!(room("rules", 5, 1, 5).is_err());
    assert!(room("rules", 0, 6, 5).is_err());
}

#[test]
fn a_uuid_is_one_rule() {
    let mut store = Store::default();
    let uuid = "0b5f4d9c-2d9e-4a1b-9f06-7c1f3b1f0001";
    let own = with(rule("r", 1), json!({"uuid": uuid}));
    let twice = store
        .set_policy_list(vec![own.clone(), own.clone()])
        .unwrap_err();
    assert!(matches!(twice, Error::RuleUuidTaken { .. }));
    let list = store
        .create_policy(json!({"name": "rs", "policies": [own]}))
        .unwrap();
    assert!(matches!(
        store.set_policy_list(vec![own.clone()]),
        Err(Error::RuleUuidTaken { .. })
    ));
    // Its own list may send it again.
    store
        .update_policy(list, json!({"name": "rs", "policies": [own]}))
        .unwrap();
    store.delete_policy(list).unwrap();
    store.set_policy_list(vec![own.clone()]).unwrap();
    store.set_policy_list(vec![own]).unwrap();
}

#[rstest]
#[case::action(json!({"action": "REJECT"}), "action `REJECT`")]
#[case::none(json!({"logging": true}), "`action` is missing")]
#[case::logging(json!({"action": "DENY", "logging": 1}), "`logging`")]
#[case::profile(json!({"action": "DENY", "logging": true, "log_profile": Uuid::max()}), "log_profile")]
fn default_actions_that_are_refused(#[case] object: Value, #[case] expected: &str) {
    let mut store = Store::default();
    let error = store.set_default_action_rule(object).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(store.default_action(), DefaultAction::default());
}

#[rstest]
#[case::name(json!({"certificate_validation": "CERTIFICATE_VALIDATION_NONE"}), "`display_name` is missing")]
#[case::validation(json!({"display_name": "p", "certificate_validation": "STRICT"}), "certificate_validation `STRICT`")]
#[case::sni(json!({"display_name": "p", "certificate_validation": "CERTIFICATE_VALIDATION_NONE", "verify_sni": "yes"}), "`verify_sni`")]
#[case::bundle(json!({"display_name": "p", "certificate_validation": "CERTIFICATE_VALIDATION_NONE", "CA_bundle_id": "b"}), "`CA_bundle_id`")]
fn tls_profiles_that_are_refused(#[case] object: Value, #[case] expected: &str) {
    let error = Store::default().create_tls_profile(object).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[rstest]
#[case::exec(&KUBE_CONFIG.replace("token: thisisnotasecret", "exec: {apiVersion: client.authentication.k8s.io/v1, command: rm}"))]
#[case::auth_provider(&KUBE_CONFIG.replace("token: thisisnotasecret", "auth-provider: {name: gcp}"))]
#[case::token_file(&KUBE_CONFIG.replace("token: thisisnotasecret", "tokenFile: /etc/hostname"))]
#[case::certificate_file(&KUBE_CONFIG.replace("token: thisisnotasecret", "client-certificate: /etc/hostname"))]
#[case::key_file(&KUBE_CONFIG.replace("token: thisisnotasecret", "client-key: /etc/hostname"))]
#[case::authority_file(&KUBE_CONFIG.replace("  name: mycluster", "    certificate-authority: /etc/hostname\n  name: mycluster"))]
#[case::broken(&format!("{KUBE_CONFIG}    exec:\n      command: rm\n        args: [\"-rf\", \"/\"]\napiVersion: v1\n"))]
#[case::text("hello")]
#[case::no_context(&KUBE_CONFIG.replace("current-context: muser@mycluster\n", ""))]
#[case::other_context(&KUBE_CONFIG.replace("current-context: muser@mycluster", "current-context: nobody"))]
#[case::no_cluster(&KUBE_CONFIG.replace("    cluster: mycluster", "    cluster: other"))]
#[case::no_user(&KUBE_CONFIG.replace("    user: myuser", "    user: other"))]
#[case::large(&format!("{KUBE_CONFIG}#{}", "x".repeat(300_000)))]
fn kubeconfigs_that_are_refused(#[case] text: &str) {
    let object = json!({"cluster_id": "c", "credential": {"use_csp_credentials": false, "kube_config": text}});
    let mut store = Store::default();
    let error = store.create_kubernetes_cluster(object).unwrap_err();
    assert!(error.to_string().contains("invalid content"), "{error}");
    assert!(store.kubernetes_clusters().is_empty());
}

#[rstest]
#[case::no_id(json!({"credential": {}}), "`cluster_id` is missing")]
#[case::no_credential(json!({"cluster_id": "c"}), "`credential` is missing")]
#[case::flag(json!({"cluster_id": "c", "credential": {"use_csp_credentials": "yes"}}), "`use_csp_credentials`")]
#[case::mode(json!({"cluster_id": "c", "credential": {}, "resource": {"network_mode": "ROUND"}}), "network_mode `ROUND`")]
#[case::tags(json!({"cluster_id": "c", "credential": {}, "resource": {"tags": {"k": "v"}}}), "`tags` is not a list")]
fn clusters_that_are_refused(#[case] object: Value, #[case] expected: &str) {
    let error = Store::default()
        .create_kubernetes_cluster(object)
        .unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

/// The provider's own update test takes the credentials away.
#[test]
fn a_cluster_may_have_no_credentials() {
    let mut store = Store::default();
    let id = store
        .create_kubernetes_cluster(
            json!({"cluster_id": "c", "credential": {"use_csp_credentials": true}}),
        )
        .unwrap();
    assert_eq!(
        store.kubernetes_clusters()[&id].credential,
        clusters::Credential::Cloud
    );
    let without = json!({"cluster_id": "c", "credential": {"use_csp_credentials": false}, "gateway_tunnel_enabled": true});
    store
        .update_kubernetes_cluster(&id, without.clone())
        .unwrap();
    let cluster = &store.kubernetes_clusters()[&id];
    assert_eq!(
        (&cluster.credential, &cluster.object),
        (&clusters::Credential::Missing, &without)
    );
}
