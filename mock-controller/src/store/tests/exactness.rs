//! Objects come back exactly as sent: the drift rules of section 4.2, and any sequence of calls against plain maps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is read back of a rule, without the uuid that the store adds.
fn read_back(sent: Value) -> Value {
    let mut store = Store::default();
    store.set_policy_list(vec![sent]).unwrap();
    let mut read = store.policy_list()["policies"][0].clone();
    let uuid = read.as_object_mut().unwrap().shift_remove("uuid");
    assert!(uuid.is_some_and(|uuid| Uuid::parse_str(uuid.as_str().unwrap()).is_ok()));
    read
}

/// The page's own example, which sends everything.
#[test]
fn the_full_rule_comes_back() {
    let mut store = Store::default();
    let sent = json!({"name": "allow-web", "action": "PERMIT", "priority": 100, "protocol": "TCP",
        "src_ads": [ANYWHERE], "dst_ads": [PUBLIC_INTERNET], "web_filters": [ALL_WEB],
        "port_ranges": [{"lo": 443}, {"lo": 8000, "hi": 8100}], "logging": true, "watch": true,
        "enforcement": "MONITOR", "flow_app_requirement": "TLS_REQUIRED", "decrypt_policy": "DECRYPT_UNSPECIFIED",
        "exclude_sg_orchestration": true, "egress_path": "EGRESS_PATH_DEFAULT", "tls_profile": SYSTEM_TLS_PROFILE,
        "log_profile": "def000ad-7000-0000-0000-000000000001", "uuid": "0b5f4d9c-2d9e-4a1b-9f06-7c1f3b1f0001",
        "metadata": {"terraform": {"resource_type": "terraform-policy"}}, "something_new": [1, null]});
    store.set_policy_list(vec![sent.clone()]).unwrap();
    assert_eq!(**store.policy_list(), json!({"policies": [sent]}));
}

#[rstest]
#[case::hi_left_out(json!({"port_ranges": [{"lo": 443}]}))]
#[case::hi_zero(json!({"port_ranges": [{"lo": 443, "hi": 0}]}))]
#[case::hi_same(json!({"port_ranges": [{"lo": 443, "hi": 443}]}))]
#[case::no_enforcement(json!({}))]
#[case::no_log_profile(json!({"log_profile": ""}))]
#[case::no_names(json!({"web_filters": []}))]
#[case::null_ports(json!({"port_ranges": null}))]
#[case::any(json!({"protocol": "PROTOCOL_UNSPECIFIED"}))]
#[case::case_of_letters(json!({"protocol": "tcp"}))]
#[case::watch_false(json!({"watch": false}))]
fn nothing_is_filled_in(#[case] change: Value) {
    let mut sent = rule("r", 1);
    for (key, value) in change.as_object().unwrap() {
        sent[key.as_str()] = value.clone();
    }
    assert_eq!(read_back(sent.clone()), sent);
}

#[rstest]
#[case::monitor(json!({"enforcement": "MONITOR"}), json!({"enforcement": "MONITOR", "watch": true}))]
#[case::enforce(json!({"enforcement": "ENFORCE"}), json!({"enforcement": "ENFORCE", "watch": false}))]
#[case::disable(json!({"enforcement": "DISABLE"}), json!({"enforcement": "DISABLE", "watch": false}))]
#[case::watch(json!({"watch": true}), json!({"watch": true, "enforcement": "MONITOR"}))]
fn watch_and_enforcement_are_read_by_different_providers(
    #[case] sent: Value,
    #[case] expected: Value,
) {
    let with = |change: &Value| {
        let mut rule = rule("r", 1);
        for (key, value) in change.as_object().unwrap() {
            rule[key.as_str()] = value.clone();
        }
        rule
    };
    assert_eq!(read_back(with(&sent)), with(&expected));
}

#[test]
fn a_list_keeps_the_order_in_which_it_was_sent_and_is_evaluated_by_priority() {
    let mut store = Store::default();
    store
        .set_policy_list(vec![
            rule("second", 20),
            rule("first", 10),
            rule("third", 20),
        ])
        .unwrap();
    let sent = store.policy_list()["policies"].as_array().unwrap();
    let names: Vec<_> = sent
        .iter()
        .map(|rule| rule["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["second", "first", "third"]);
    assert_eq!(rules_of(&store), ["first", "second", "third"]);
}

#[test]
fn a_rule_keeps_its_uuid_over_an_update() {
    let mut store = Store::default();
    let list = store
        .create_policy(json!({"name": "rs", "policies": [rule("r", 1)]}))
        .unwrap();
    let mut object = store.policy(list).unwrap().as_ref().clone();
    object["policies"][0]["logging"] = true.into();
    store.update_policy(list, object.clone()).unwrap();
    assert_eq!(**store.policy(list).unwrap(), object);
}

#[test]
fn the_default_action_comes_back_as_sent() {
    let mut store = Store::default();
    for sent in [
        json!({"action": "deny", "logging": true, "log_profile": "def000ad-7000-0000-0000-000000000001"}),
        json!({"action": "PERMIT", "logging": false, "log_profile": ""}),
    ] {
        store.set_default_action_rule(sent.clone()).unwrap();
        assert_eq!(**store.default_action_rule(), sent);
    }
}

#[test]
fn a_kubeconfig_comes_back_byte_for_byte() {
    let mut store = Store::default();
    let text = format!("# \t é \u{1F512}\n{KUBE_CONFIG}\n\n");
    let sent = json!({"cluster_id": "c", "credential": {"kube_config": text}});
    let id = store.create_kubernetes_cluster(sent.clone()).unwrap();
    let cluster = &store.kubernetes_clusters()[&id];
    assert_eq!(cluster.object, sent);
    assert_eq!(cluster.credential, clusters::Credential::KubeConfig(text));
}

/// A call, with objects referred to by their place among those created so far.
#[derive(Clone, Debug)]
enum Call {
    CreateGroup(Value),
    UpdateGroup(usize, Value),
    DeleteGroup(usize),
    PutPolicyList(Vec<Value>),
    CreateRuleset(Vec<Value>),
    UpdateRuleset(usize, Vec<Value>),
    DeleteRuleset(usize),
    CreateProfile(Value),
    UpdateProfile(usize, Value),
    DeleteProfile(usize),
    CreateCluster(Value),
    UpdateCluster(usize, Value),
    DeleteCluster(usize),
}

fn any_group() -> impl Strategy<Value = Value> {
    let all = prop_oneof![
        (0u8..=255, 0u8..=32).prop_map(|(n, bits)| json!({"cidr": format!("10.{n}.0.0/{bits}")})),
        "[a-z]{1,5}".prop_map(|value| json!({"type": "vm", "tags.env": value})),
        "[a-z]{1,5}".prop_map(|value| json!({"type": "k8s", "k8s_namespace": value})),
        "[a-z]{1,5}".prop_map(|value| json!({"external": "geo", "country_iso_code": value})),
    ];
    ("[ -~]{0,3}x", prop::collection::vec(all, 1..4)).prop_map(|(name, all)| {
        let any: Vec<_> = all.into_iter().map(|all| json!({"all": all})).collect();
        json!({"name": name, "selector": {"any": any}})
    })
}

fn any_rule() -> impl Strategy<Value = Value> {
    let mode = prop_oneof![
        Just(json!({})),
        Just(json!({"watch": true, "enforcement": "MONITOR"})),
        Just(json!({"watch": false, "enforcement": "DISABLE"})),
    ];
    (any::<i32>(), any::<bool>(), 1u16.., mode).prop_map(|(priority, deny, lo, mode)| {
        let action = if deny { "DENY" } else { "PERMIT" };
        let mut rule = json!({"name": "r", "action": action, "priority": priority, "protocol": "UDP",
            "src_ads": [ANYWHERE], "dst_ads": [ANYWHERE], "port_ranges": [{"lo": lo}]});
        rule.as_object_mut().unwrap().extend(mode.as_object().unwrap().clone());
        rule
    })
}

fn any_profile() -> impl Strategy<Value = Value> {
    ("[a-z]{1,4}", any::<bool>()).prop_map(|(name, sni)| {
        json!({"display_name": name, "certificate_validation": "CERTIFICATE_VALIDATION_NONE", "verify_sni": sni})
    })
}

fn any_cluster() -> impl Strategy<Value = Value> {
    (0u8..6, any::<bool>()).prop_map(|(id, inspected)| {
        json!({"cluster_id": format!("c{id}"), "credential": {"use_csp_credentials": true}, "intra_cluster_inspection_enabled": inspected})
    })
}

fn any_call() -> impl Strategy<Value = Call> {
    let rules = || prop::collection::vec(any_rule(), 0..4);
    prop_oneof![
        any_group().prop_map(Call::CreateGroup),
        (any::<usize>(), any_group()).prop_map(|(n, v)| Call::UpdateGroup(n, v)),
        any::<usize>().prop_map(Call::DeleteGroup),
        rules().prop_map(Call::PutPolicyList),
        rules().prop_map(Call::CreateRuleset),
        (any::<usize>(), rules()).prop_map(|(n, v)| Call::UpdateRuleset(n, v)),
        any::<usize>().prop_map(Call::DeleteRuleset),
        any_profile().prop_map(Call::CreateProfile),
        (any::<usize>(), any_profile()).prop_map(|(n, v)| Call::UpdateProfile(n, v)),
        any::<usize>().prop_map(Call::DeleteProfile),
        any_cluster().prop_map(Call::CreateCluster),
        (any::<usize>(), any_cluster()).prop_map(|(n, v)| Call::UpdateCluster(n, v)),
        any::<usize>().prop_map(Call::DeleteCluster),
    ]
}

/// What was sent, by what the store called it: the whole reference.
#[derive(Default)]
struct Naive {
    groups: BTreeMap<Uuid, Value>,
    rulesets: BTreeMap<Uuid, Value>,
    profiles: BTreeMap<Uuid, Value>,
    clusters: BTreeMap<String, Value>,
    policy_list: Vec<Value>,
}

fn nth<K: Clone, V>(map: &BTreeMap<K, V>, n: usize) -> Option<K> {
    map.keys().nth(n.checked_rem(map.len())?).cloned()
}

/// Drops the uuids that the store adds to objects and to their rules.
fn without_uuids(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("uuid");
        for rule in object
            .get_mut("policies")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let uuid = rule.as_object_mut().unwrap().shift_remove("uuid");
            assert!(uuid.is_some());
        }
    }
    value
}

impl Naive {
    fn apply(&mut self, store: &mut Store, call: Call) {
        match call {
            Call::CreateGroup(object) => {
                let uuid = store.create_app_domain(object.clone()).unwrap();
                self.groups.insert(uuid, object);
            }
            Call::UpdateGroup(n, object) => {
                if let Some(uuid) = nth(&self.groups, n) {
                    store.update_app_domain(uuid, object.clone()).unwrap();
                    self.groups.insert(uuid, object);
                }
            }
            Call::DeleteGroup(n) => {
                if let Some(uuid) = nth(&self.groups, n) {
                    store.delete_app_domain(uuid).unwrap();
                    self.groups.remove(&uuid);
                }
            }
            Call::PutPolicyList(rules) => {
                store.set_policy_list(rules.clone()).unwrap();
                self.policy_list = rules;
            }
            Call::CreateRuleset(rules) => {
                let object = json!({"name": "rs", "policies": rules});
                let uuid = store.create_policy(object.clone()).unwrap();
                self.rulesets.insert(uuid, object);
            }
            Call::UpdateRuleset(n, rules) => {
                if let Some(uuid) = nth(&self.rulesets, n) {
                    let object = json!({"uuid": uuid, "name": "rs", "policies": rules});
                    store.update_policy(uuid, object).unwrap();
                    self.rulesets
                        .insert(uuid, json!({"name": "rs", "policies": rules}));
                }
            }
            Call::DeleteRuleset(n) => {
                if let Some(uuid) = nth(&self.rulesets, n) {
                    store.delete_policy(uuid).unwrap();
                    self.rulesets.remove(&uuid);
                }
            }
            Call::CreateProfile(object) => {
                let uuid = store.create_tls_profile(object.clone()).unwrap();
                self.profiles.insert(uuid, object);
            }
            Call::UpdateProfile(n, object) => {
                if let Some(uuid) = nth(&self.profiles, n) {
                    store.update_tls_profile(uuid, object.clone()).unwrap();
                    self.profiles.insert(uuid, object);
                }
            }
            Call::DeleteProfile(n) => {
                if let Some(uuid) = nth(&self.profiles, n) {
                    store.delete_tls_profile(uuid).unwrap();
                    self.profiles.remove(&uuid);
                }
            }
            Call::CreateCluster(object) => match store.create_kubernetes_cluster(object.clone()) {
                Ok(id) => drop(self.clusters.insert(id, object)),
                Err(_) => assert!(self.onboarded(&object, "")),
            },
            Call::UpdateCluster(n, object) => {
                if let Some(id) = nth(&self.clusters, n) {
                    match store.update_kubernetes_cluster(&id, object.clone()) {
                        Ok(()) => drop(self.clusters.insert(id, object)),
                        Err(_) => assert!(self.onboarded(&object, &id)),
                    }
                }
            }
            Call::DeleteCluster(n) => {
                if let Some(id) = nth(&self.clusters, n) {
                    store.delete_kubernetes_cluster(&id).unwrap();
                    self.clusters.remove(&id);
                }
            }
        }
    }

    fn onboarded(&self, object: &Value, but: &str) -> bool {
        let mut others = self.clusters.iter().filter(|(id, _)| *id != but);
        others.any(|(_, other)| other["cluster_id"] == object["cluster_id"])
    }

    fn check(&self, store: &Store) {
        for (uuid, sent) in &self.groups {
            let read = store.app_domain(*uuid).unwrap();
            assert_eq!(read["uuid"], uuid.to_string());
            assert_eq!(without_uuids(read), *sent);
        }
        assert_eq!(store.app_domains().count(), self.groups.len() + 3);
        for (uuid, sent) in &self.rulesets {
            let read = store.policy(*uuid).unwrap();
            assert_eq!(read["uuid"], uuid.to_string());
            assert_eq!(without_uuids(read), *sent);
        }
        assert_eq!(store.policies().count(), self.rulesets.len());
        assert_eq!(
            without_uuids(store.policy_list()),
            json!({"policies": self.policy_list})
        );
        for (uuid, sent) in &self.profiles {
            assert_eq!(without_uuids(store.tls_profile(*uuid).unwrap()), *sent);
        }
        assert_eq!(store.tls_profiles().count(), self.profiles.len() + 1);
        let clusters = store.kubernetes_clusters().iter();
        let clusters: BTreeMap<_, _> = clusters
            .map(|(id, cluster)| (id.clone(), cluster.object.clone()))
            .collect();
        assert_eq!(clusters, self.clusters);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_calls_reads_back_as_sent(calls in prop::collection::vec(any_call(), 1..30)) {
        let (mut store, mut naive) = (Store::default(), Naive::default());
        for call in calls {
            naive.apply(&mut store, call);
            naive.check(&store);
        }
    }
}
