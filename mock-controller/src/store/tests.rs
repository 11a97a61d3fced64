#![allow(clippy::unwrap_used)]

mod exactness;
mod policies;
mod validation;

use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::policy::{ALL_WEB, ANYWHERE, Action, Logging, PUBLIC_INTERNET, Protocol};

pub(super) const KUBE_CONFIG: &str = "apiVersion: v1
clusters:
- cluster:
    server: https://127.0.0.1:1234
  name: mycluster
contexts:
- context:
    cluster: mycluster
    user: myuser
  name: muser@mycluster
current-context: muser@mycluster
kind: Config
preferences: {}
users:
- name: myuser
  user:
    token: thisisnotasecret
";

pub(super) fn group(all: Value) -> Value {
    json!({"name": "g", "selector": {"any": [{"all": all}]}})
}

pub(super) fn rule(name: &str, priority: i64) -> Value {
    json!({"name": name, "action": "PERMIT", "priority": priority, "protocol": "TCP",
        "src_ads": [ANYWHERE], "dst_ads": [PUBLIC_INTERNET], "port_ranges": [{"lo": 443}]})
}

pub(super) fn contributed(store: &Store) -> Policy {
    let mut policy = Policy::new(store.default_action());
    store.contribute(&mut policy);
    policy
}

/// The rules in force, in evaluation order.
pub(super) fn rules_of(store: &Store) -> Vec<String> {
    let lists = contributed(store).lists;
    lists
        .into_iter()
        .flat_map(|list| list.rules)
        .map(|rule| rule.name)
        .collect()
}

#[test]
fn a_rule_reaches_the_policy_with_its_groups() {
    let mut store = Store::default();
    let subnet = store
        .create_app_domain(group(json!({"cidr": "10.244.0.0/16"})))
        .unwrap();
    let web = store
        .create_app_domain(group(json!({"snifilter": "*.s3.test"})))
        .unwrap();
    let mut sent = rule("allow", 10);
    sent["src_ads"] = json!([subnet]);
    sent["web_filters"] = json!([web]);
    sent["logging"] = true.into();
    store.set_policy_list(vec![sent]).unwrap();
    let policy = contributed(&store);
    let rule = &policy.lists[0].rules[0];
    assert_eq!(
        (rule.protocol, rule.action, rule.logging),
        (Some(Protocol::Tcp), Action::Permit, Logging::Start)
    );
    assert_eq!((rule.ports[0].first, rule.ports[0].last), (443, 443));
    assert_eq!(
        (&rule.sources, &rule.web_groups),
        (&vec![subnet], &vec![web])
    );
    assert_eq!(policy.web_groups[&web].domains, ["*.s3.test"]);
}

/// The profile counts only with the switch on; without one it is the session's start.
#[rstest]
#[case(true, None, Logging::Start)]
#[case(true, Some(1), Logging::Start)]
#[case(true, Some(2), Logging::End)]
#[case(true, Some(3), Logging::StartAndEnd)]
#[case(false, Some(3), Logging::Off)]
fn the_log_profile_says_which_records_a_rule_leaves(
    #[case] switch: bool,
    #[case] profile: Option<u128>,
    #[case] expected: Logging,
) {
    let log_profile =
        profile.map(|last| Uuid::from_u128(0xdef0_00ad_7000_0000_0000_0000_0000_0000 + last));
    let mut store = Store::default();
    let mut sent = rule("allow", 10);
    sent["logging"] = switch.into();
    sent["log_profile"] = json!(log_profile);
    store.set_policy_list(vec![sent]).unwrap();
    let action = json!({"action": "DENY", "logging": switch, "log_profile": log_profile});
    store.set_default_action_rule(action).unwrap();
    let policy = contributed(&store);
    assert_eq!(policy.lists[0].rules[0].logging, expected);
    assert_eq!(policy.default_action.logging, expected);
}

#[test]
fn out_of_the_box_everything_passes_unlogged() {
    let store = Store::default();
    let default = contributed(&store).default_action;
    assert_eq!(
        (default.action, default.logging),
        (Action::Permit, Logging::Off)
    );
    assert_eq!(
        **store.default_action_rule(),
        json!({"action": "PERMIT", "logging": false, "log_profile": ""})
    );
}

#[rstest]
#[case(ANYWHERE)]
#[case(PUBLIC_INTERNET)]
#[case(ALL_WEB)]
fn groups_of_the_system_are_listed_and_stay(#[case] uuid: Uuid) {
    let mut store = Store::default();
    let before = store.app_domain(uuid).unwrap().clone();
    assert!(store.app_domains().any(|group| *group == before));
    for refused in [
        store.delete_app_domain(uuid),
        store.update_app_domain(uuid, group(json!({"cidr": "10.0.0.0/8"}))),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(*store.app_domain(uuid).unwrap(), before);
    assert_eq!(contributed(&store).smart_groups.len(), 2);
}

#[test]
fn a_group_that_a_rule_refers_to_stays() {
    let mut store = Store::default();
    let used = store
        .create_app_domain(group(json!({"cidr": "10.244.0.0/16"})))
        .unwrap();
    let mut sent = rule("all", 1);
    sent["dst_ads"] = json!([used]);
    // Disabled rules refer to their groups all the same.
    sent["enforcement"] = "DISABLE".into();
    let list = json!({"name": "last", "policies": [sent]});
    let list = store.create_policy(list).unwrap();
    let text = store.delete_app_domain(used).unwrap_err().to_string();
    assert!(
        text.starts_with("[AVXERR-SMARTGROUP-0003]")
            && text.contains("present in one or more dfw policies"),
        "{text}"
    );
    store.delete_policy(list).unwrap();
    store.delete_app_domain(used).unwrap();
    assert_eq!(
        store.delete_app_domain(used).unwrap_err().to_string(),
        "App domain not found"
    );
}

#[test]
fn a_tls_profile_that_a_rule_refers_to_stays() {
    let mut store = Store::default();
    let profile = json!({"display_name": "p", "certificate_validation": "CERTIFICATE_VALIDATION_ENFORCE", "verify_sni": true});
    let profile = store.create_tls_profile(profile).unwrap();
    let mut sent = rule("r", 1);
    sent["tls_profile"] = profile.to_string().into();
    store.set_policy_list(vec![sent]).unwrap();
    assert_eq!(
        store.delete_tls_profile(profile).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    store.delete_policy_list();
    store.delete_tls_profile(profile).unwrap();
    let text = store.tls_profile(profile).unwrap_err().to_string();
    assert!(text.contains("not found"), "{text}");
    let system = store.delete_tls_profile(SYSTEM_TLS_PROFILE).unwrap_err();
    assert_eq!(system.kind(), ErrorKind::Conflict);
}

#[rstest]
#[case("k8s")]
#[case("k8s_node")]
fn a_cluster_that_a_group_names_stays(#[case] kind: &str) {
    let mut store = Store::default();
    let cluster = json!({"cluster_id": "arn:c", "credential": {"use_csp_credentials": true}});
    let id = store.create_kubernetes_cluster(cluster.clone()).unwrap();
    let named = store
        .create_app_domain(group(json!({"type": kind, "k8s_cluster_id": "arn:c"})))
        .unwrap();
    assert_eq!(
        store
            .delete_kubernetes_cluster(&id)
            .unwrap_err()
            .to_string(),
        "cluster is still used in smart groups: g"
    );
    let twice = store
        .create_kubernetes_cluster(cluster.clone())
        .unwrap_err();
    assert_eq!(twice, Error::AlreadyOnboarded("arn:c".into()));
    store.update_kubernetes_cluster(&id, cluster).unwrap();
    store.delete_app_domain(named).unwrap();
    store.delete_kubernetes_cluster(&id).unwrap();
    let text = store
        .delete_kubernetes_cluster(&id)
        .unwrap_err()
        .to_string();
    assert!(text.contains("not found"), "{text}");
}

#[test]
fn a_search_by_name_finds_the_oldest() {
    let mut store = Store::default();
    let created: Vec<_> = (0..4)
        .map(|n| {
            store
                .create_app_domain(group(json!({"cidr": format!("10.{n}.0.0/16")})))
                .unwrap()
        })
        .collect();
    store
        .update_app_domain(created[0], group(json!({"cidr": "192.0.2.0/24"})))
        .unwrap();
    let found = store.app_domain_named("g").unwrap();
    assert_eq!(found["uuid"], created[0].to_string());
    assert!(matches!(
        store.app_domain_named("h"),
        Err(Error::AppDomainNotFound(_))
    ));
}
