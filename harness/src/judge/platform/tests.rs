//! One difference from the design at a time, and one prerequisite at a time.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use rstest::rstest;
use serde_json::json;

use super::cause::{Cause, Known, causes, judge_named, named};
use super::*;
use crate::facts::Aspect;
use crate::judge::{Check, CheckResult, Observations};
use crate::outcome::Outcome;
use crate::scenario_data::platform::{Design, Platform};
use crate::scenario_data::tier_one::Places;

fn design() -> Design {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let places: Places = ["pod subnet", "node subnet", "api server", "copilot"]
        .into_iter()
        .map(|name| (name.to_owned(), vec!["10.0.0.9".to_owned()]))
        .chain([
            ("copilot port".to_owned(), vec!["5000".to_owned()]),
            ("cluster id".to_owned(), vec!["arn:aws:eks:1".to_owned()]),
        ])
        .collect();
    Platform::load(&scenarios, "eks")
        .unwrap()
        .at(&places)
        .unwrap()
}

/// A controller that has all of it.
fn as_designed() -> Stated {
    let design = design();
    let mut groups = design.groups.clone();
    for (index, group) in groups.iter_mut().enumerate() {
        group["uuid"] = format!("group-{index}").into();
    }
    let uuid_of = |name: &Value| {
        let own = groups.iter().find(|group| group["name"] == *name);
        own.map_or(json!("def000ad-0000-0000-0000-000000000001"), |group| {
            group["uuid"].clone()
        })
    };
    let mut rules = design.permits.clone();
    for rule in &mut rules {
        for key in ["src_ads", "dst_ads", "web_filters"] {
            let names = rule[key].as_array_mut().into_iter().flatten();
            names.for_each(|name| *name = uuid_of(name));
        }
    }
    // Order of a list means nothing, priorities do.
    rules.reverse();
    let features = design.features.iter().map(|name| (name.clone(), true));
    Stated {
        groups: Seen::Read(json!({ "app_domains": groups })),
        policy_list: Seen::Read(json!({ "policies": rules })),
        rulesets: Seen::Read(json!({"dcf_policies": [
            {"uuid": "list-1", "name": "firewallpolicylist-1", "metadata": {"k8s": {"name": "canary"}}},
        ]})),
        default_action: Seen::Read(json!({"action": "DENY", "logging": true, "log_profile": ""})),
        features: Seen::Read(features.collect()),
        syslog: Seen::Read(
            json!({"status": "enabled", "index": "9", "server": "10.0.0.9", "port": "5000",
            "protocol": "UDP", "name": "CoPilot"}),
        ),
        copilot: Seen::Read(json!({"status": true, "ip": "10.0.0.9", "public_ip": "203.0.113.20"})),
        clusters: Seen::Read(json!([{"id": "1", "cluster_id": "arn:aws:eks:1",
            "credential": {"use_csp_credentials": false, "kube_config": "x"}}])),
        types: Seen::Read(canary::TYPES.map(str::to_owned).to_vec()),
        policies: Seen::Read(Vec::new()),
    }
}

type Judge = fn(&Check, &Design, &Stated) -> CheckResult;

fn judged(judge: Judge, stated: &Stated) -> CheckResult {
    judge(&Check::new("blocked", "c"), &design(), stated)
}

/// The part of an answer that a JSON pointer names, changed.
fn with(seen: &mut Seen<Value>, place: &str, value: Value) {
    let Seen::Read(answer) = seen else {
        panic!("not read")
    };
    *answer.pointer_mut(place).unwrap() = value;
}

#[rstest]
#[case(judge_groups)]
#[case(judge_permits)]
#[case(judge_default_action)]
#[case(judge_features)]
#[case(judge_syslog)]
#[case(judge_copilot)]
#[case(judge_cluster)]
fn what_is_as_designed_passes_and_what_nobody_said_is_not_proven(#[case] judge: Judge) {
    let result = judged(judge, &as_designed());
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
    let result = judged(judge, &Stated::default());
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    let result = judged(judge, &Stated::unreadable("no answer in time"));
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    let reasons = result.reasons.join("\n");
    assert!(reasons.contains("no answer in time"), "{result}");
}

#[rstest]
#[case::no_group("/app_domains/0/name", json!("other"), "no group named")]
#[case::lacks("/app_domains/3/selector/any/0/all/snifilter", json!("example.com"), "eks-infrastructure-domains lacks *.s3.amazonaws.com")]
#[case::more("/app_domains/3/selector/any/0/all/snifilter", json!("example.com"), "holds example.com beyond the design")]
#[case::scope("/app_domains/0/selector/any/0/all/cidr", json!("0.0.0.0/0"), "api-server-clients lacks cidr 10.0.0.9")]
fn groups_differ(#[case] place: &str, #[case] value: Value, #[case] says: &str) {
    let mut stated = as_designed();
    with(&mut stated.groups, place, value);
    let result = judged(judge_groups, &stated);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    assert!(result.reasons.join("\n").contains(says), "{result}");
}

// The list is reversed: the permit of the API server is the last one in it.
#[rstest]
#[case::lost("/policies", json!([]), "the list of 0 rules lacks allow-api-server")]
#[case::overwritten("/policies/2/name", json!("ssh"), "lacks allow-api-server")]
#[case::order("/policies/2/priority", json!(99), "allow-eks-infrastructure comes too early")]
#[case::action("/policies/1/action", json!("DENY"), "action is DENY, expected PERMIT")]
#[case::ports("/policies/1/port_ranges", json!([{"lo": 1, "hi": 65535}]), "port_ranges is 1-65535, expected 443")]
#[case::source("/policies/0/src_ads", json!(["def000ad-0000-0000-0000-000000000000"]), "src_ads is Anywhere, expected orchestrator-pods")]
#[case::names("/policies/0/web_filters", json!([]), "web_filters is nothing, expected orchestrator-domains")]
fn permits_differ(#[case] place: &str, #[case] value: Value, #[case] says: &str) {
    let mut stated = as_designed();
    with(&mut stated.policy_list, place, value);
    let result = judged(judge_permits, &stated);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    assert!(result.reasons.join("\n").contains(says), "{result}");
}

/// What the design leaves out has the vendor's default, which an answer may say or leave out.
#[rstest]
#[case::said(json!({"enforcement": "ENFORCE", "watch": false, "flow_app_requirement": "APP_UNSPECIFIED"}), None)]
#[case::monitored(json!({"enforcement": "MONITOR"}), Some("enforcement is MONITOR, expected ENFORCE"))]
#[case::disabled(json!({"enforcement": "DISABLE"}), Some("enforcement is DISABLE, expected ENFORCE"))]
#[case::watched(json!({"watch": true}), Some("watch is true, expected false"))]
#[case::tls(json!({"flow_app_requirement": "TLS_REQUIRED"}), Some("flow_app_requirement is TLS_REQUIRED"))]
#[case::unlogged(json!({"logging": false}), Some("logging is false, expected true"))]
fn permits_that_do_less_differ(#[case] says: Value, #[case] differs: Option<&str>) {
    let mut stated = as_designed();
    let Seen::Read(list) = &mut stated.policy_list else {
        panic!("not read")
    };
    let rule = list.pointer_mut("/policies/2").unwrap();
    for (key, value) in says.as_object().unwrap() {
        rule[key] = value.clone();
    }
    let result = judged(judge_permits, &stated);
    match differs {
        None => assert!(result.passed(), "{result}"),
        Some(differs) => {
            assert_eq!(result.outcome, Outcome::Failed, "{result}");
            assert!(result.reasons.join("\n").contains(differs), "{result}");
        }
    }
}

/// A denial in front of a permit is there, whoever set it; one that is not enforced denies nothing.
#[rstest]
#[case::in_front(json!({"action": "DENY", "priority": 5}), Outcome::Failed)]
#[case::first(json!({"action": "deny"}), Outcome::Failed)]
#[case::behind(json!({"action": "DENY", "priority": 99}), Outcome::Passed)]
#[case::monitored(json!({"action": "DENY", "priority": 5, "enforcement": "MONITOR"}), Outcome::Passed)]
#[case::permits(json!({"action": "PERMIT", "priority": 5}), Outcome::Passed)]
fn a_foreign_denial_in_front_of_a_permit_is_named(
    #[case] mut rule: Value,
    #[case] expected: Outcome,
) {
    rule["name"] = "another-blueprint".into();
    let mut stated = as_designed();
    let Seen::Read(list) = &mut stated.policy_list else {
        panic!("not read")
    };
    list["policies"].as_array_mut().unwrap().push(rule);
    let result = judged(judge_permits, &stated);
    assert_eq!(result.outcome, expected, "{result}");
    let says = |text: &str| result.evidence.iter().any(|line| line.found.contains(text));
    assert!(says("another-blueprint"), "{result}");
    if expected == Outcome::Failed {
        let reasons = result.reasons.join("\n");
        assert!(reasons.contains("denies in front of allow-"), "{result}");
    }
}

/// Somebody else's registration is none of this cluster's.
#[test]
fn another_cluster_is_not_the_one_at_hand() {
    let mut stated = as_designed();
    with(&mut stated.clusters, "/0/cluster_id", json!("another"));
    let result = judged(judge_cluster, &stated);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    assert_eq!(
        result.reasons,
        ["arn:aws:eks:1 is not registered; another is"]
    );
    let anyones = Known {
        cluster: None,
        ..known()
    };
    let observations = Observations::default();
    assert_eq!(causes(&stated, &anyones, &observations), Vec::new());
}

/// As the real controller does.
#[test]
fn a_port_range_may_be_filled_in() {
    let mut stated = as_designed();
    let filled = json!([{"lo": 443, "hi": 443}]);
    with(&mut stated.policy_list, "/policies/0/port_ranges", filled);
    assert!(judged(judge_permits, &stated).passed());
}

#[test]
fn settings_differ() {
    let mut stated = as_designed();
    stated.syslog = Seen::Read(json!({"status": "disabled"}));
    let private = json!("10.0.0.9");
    with(&mut stated.copilot, "/public_ip", private);
    stated.clusters = Seen::Read(json!([]));
    if let Seen::Read(features) = &mut stated.features {
        features.insert("k8s".to_owned(), false);
    }
    with(&mut stated.default_action, "/action", json!("PERMIT"));
    for (judge, says) in [
        (judge_syslog as Judge, "index 9 is not enabled"),
        (
            judge_copilot,
            "public_ip is 10.0.0.9, expected 203.0.113.20",
        ),
        (judge_cluster, "arn:aws:eks:1 is not registered; nothing is"),
        (judge_features, "k8s is off"),
        (judge_default_action, "the default action is PERMIT"),
    ] {
        let result = judged(judge, &stated);
        assert_eq!(result.outcome, Outcome::Failed, "{result}");
        assert!(result.reasons.join("\n").contains(says), "{result}");
    }
}

/// A page of a proxy, an answer to another question, nothing at all.
const NOT_THE_ANSWER: [fn() -> Value; 3] = [
    || json!("<html>"),
    || json!({"error": "try later"}),
    || Value::Null,
];

#[rstest]
#[case(judge_groups)]
#[case(judge_permits)]
#[case(judge_default_action)]
#[case(judge_syslog)]
#[case(judge_copilot)]
#[case(judge_cluster)]
fn an_unexpected_answer_is_not_held_against_the_design(#[case] judge: Judge) {
    for answer in NOT_THE_ANSWER {
        let result = judged(judge, &answered_by(answer()));
        assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
        let reasons = result.reasons.join("\n");
        assert!(reasons.contains("unexpected answer"), "{result}");
    }
}

/// A controller whose every answer is this one.
fn answered_by(answer: Value) -> Stated {
    Stated {
        groups: Seen::Read(answer.clone()),
        policy_list: Seen::Read(answer.clone()),
        rulesets: Seen::Read(answer.clone()),
        default_action: Seen::Read(answer.clone()),
        syslog: Seen::Read(answer.clone()),
        copilot: Seen::Read(answer.clone()),
        clusters: Seen::Read(answer),
        ..as_designed()
    }
}

#[test]
fn an_unexpected_answer_says_nothing_about_a_canary() {
    let check = Check::new("blocked", "c");
    let claim = CanaryClaim {
        check: check.clone(),
        name: "obot-mcp/canary".to_owned(),
        object: Some(canary()),
    };
    for answer in NOT_THE_ANSWER {
        let stated = answered_by(answer());
        let result = judge_reconciled(&claim, &stated);
        assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
        let result = judge_gone(&check, &canary(), &stated);
        assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    }
}

/// A list in an envelope without entries is one.
#[test]
fn an_empty_collection_is_an_answer() {
    for empty in [
        json!([]),
        json!({"clusters": []}),
        json!({"clusters": null}),
    ] {
        let mut stated = as_designed();
        stated.clusters = Seen::Read(empty);
        let result = judged(judge_cluster, &stated);
        assert_eq!(result.outcome, Outcome::Failed, "{result}");
    }
}

/// Rules name groups by uuids: without the groups' names nothing can be said against them.
#[test]
fn permits_are_not_compared_with_groups_that_nobody_told() {
    let mut stated = as_designed();
    stated.groups = Seen::Unreadable("no answer in time".to_owned());
    let result = judged(judge_permits, &stated);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
}

fn canary() -> Value {
    json!({
        "metadata": {"namespace": "obot-mcp", "name": "canary", "generation": 1},
        "spec": {"smartGroups": [{"name": "anywhere"}], "webGroups": [{"name": "listed"}]},
        "status": {"ruleset": "list-1", "lastReconciledGeneration": 1,
            "smartGroups": [{"name": "anywhere", "uuid": "group-0"}], "webGroups": [{"name": "listed", "uuid": "group-1"}]},
    })
}

#[rstest]
#[case::reconciled("/metadata/name", json!("canary"), Outcome::Passed)]
#[case::older("/metadata/generation", json!(2), Outcome::Failed)]
#[case::untouched("/status", json!({}), Outcome::Failed)]
#[case::no_ruleset("/status/ruleset", json!(""), Outcome::Failed)]
#[case::not_listed("/status/ruleset", json!("list-2"), Outcome::Failed)]
#[case::no_uuid("/status/webGroups", json!([]), Outcome::Failed)]
#[case::group_not_listed("/status/webGroups/0/uuid", json!("group-99"), Outcome::Failed)]
fn a_canary_is_reconciled(#[case] place: &str, #[case] value: Value, #[case] expected: Outcome) {
    let mut object = canary();
    *object.pointer_mut(place).unwrap() = value;
    let claim = CanaryClaim {
        check: Check::new("blocked", "c"),
        name: "obot-mcp/canary".to_owned(),
        object: Some(object),
    };
    let result = judge_reconciled(&claim, &as_designed());
    assert_eq!(result.outcome, expected, "{result}");
}

#[test]
fn a_canary_is_gone_when_nothing_of_it_is_listed() {
    let check = Check::new("blocked", "c");
    assert_eq!(
        judge_gone(&check, &canary(), &as_designed()).outcome,
        Outcome::Failed
    );
    let empty = Stated {
        groups: Seen::Read(json!({"app_domains": []})),
        rulesets: Seen::Read(json!({"dcf_policies": []})),
        ..Stated::default()
    };
    assert!(judge_gone(&check, &canary(), &empty).passed());
    let half = Stated {
        groups: Seen::Unreadable("no answer in time".to_owned()),
        ..empty.clone()
    };
    let result = judge_gone(&check, &canary(), &half);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    let says = |text: &str| result.evidence.iter().any(|line| line.found.contains(text));
    assert!(
        says("no answer in time") && !says("nothing of it"),
        "{result}"
    );
    let never = json!({"metadata": {}});
    let result = judge_gone(&check, &never, &empty);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
}

fn known() -> Known {
    Known {
        gateway: [std::net::IpAddr::from([203, 0, 113, 9])].into(),
        permits: vec!["allow-api-server".to_owned()],
        cluster: Some("arn:aws:eks:1".to_owned()),
        default_denies: true,
    }
}

#[test]
fn nothing_is_named_where_all_is_as_designed_or_nobody_said_what_was_asked() {
    let none: Vec<Cause> = Vec::new();
    let observations = Observations::default();
    assert_eq!(causes(&as_designed(), &known(), &observations), none);
    assert_eq!(causes(&Stated::default(), &known(), &observations), none);
    for answer in NOT_THE_ANSWER {
        let found = causes(&answered_by(answer()), &known(), &observations);
        assert_eq!(found, none);
    }
}

#[rstest]
#[case::types(|stated: &mut Stated| stated.types = Seen::Read(Vec::new()), "types", "types are not installed")]
#[case::features(|stated: &mut Stated| stated.features = Seen::Read([("k8s".to_owned(), false)].into()), "features", "k8s is off on the firewall's controller")]
#[case::unregistered(|stated: &mut Stated| stated.clusters = Seen::Read(json!([])), "onboarding", "does not know it")]
#[case::another_registered(|stated: &mut Stated| with(&mut stated.clusters, "/0/cluster_id", json!("another")), "onboarding", "does not know it")]
#[case::unwatched(|stated: &mut Stated| stated.policies = Seen::Read(vec![json!({"metadata": {"namespace": "n", "name": "p"}})]), "onboarding", "the status of n/p is empty")]
#[case::default_action(|stated: &mut Stated| with(&mut stated.default_action, "/action", json!("PERMIT")), "default-action", "the default action permits")]
#[case::list(|stated: &mut Stated| stated.policy_list = Seen::Read(json!({"policies": []})), "tier-one-permits", "has lost allow-api-server")]
#[case::monitored(|stated: &mut Stated| with(&mut stated.policy_list, "/policies/2", json!({"name": "allow-api-server", "enforcement": "MONITOR"})), "tier-one-permits", "has lost allow-api-server (enforcement MONITOR, watch true)")]
#[case::disabled(|stated: &mut Stated| with(&mut stated.policy_list, "/policies/2", json!({"name": "allow-api-server", "enforcement": "DISABLE"})), "tier-one-permits", "has lost allow-api-server (enforcement DISABLE")]
fn each_cause_is_named(
    #[case] breaks: fn(&mut Stated),
    #[case] prerequisite: &str,
    #[case] says: &str,
) {
    let mut stated = as_designed();
    breaks(&mut stated);
    let found = causes(&stated, &known(), &Observations::default());
    let [cause] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(cause.prerequisite(), prerequisite);
    assert!(cause.in_words().contains(says), "{}", cause.in_words());

    let blamed = CheckResult::stated(
        Check::new("blocked", "passed: a"),
        Outcome::Failed,
        "x",
        "no answer",
    )
    .showing(&["EGR-01"]);
    let passed = CheckResult::stated(
        Check::new("blocked", "passed: b"),
        Outcome::Passed,
        "x",
        "answered",
    )
    .showing(&["EGR-01"]);
    let own = CheckResult::stated(
        Check::new("features-on", "features"),
        Outcome::Failed,
        "x",
        "k8s is off",
    )
    .showing(&["PLT-09"]);
    let results = named(&found, vec![blamed, passed.clone(), own]);
    let outcomes: Vec<Outcome> = results.iter().map(|result| result.outcome).collect();
    let expected = [
        Outcome::Failed,
        Outcome::Inconclusive,
        Outcome::Passed,
        Outcome::Failed,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(results[0].about[&Aspect::Prerequisite], prerequisite);
    assert_eq!(results[2], passed);
    for result in [&results[1], &results[3]] {
        assert_eq!(result.reasons[0], cause.in_words());
    }
}

#[rstest]
#[case::named(vec![Cause::FeaturesOff(vec!["k8s".to_owned()])], None, Outcome::Passed, "named: k8s is off")]
#[case::among_others(vec![Cause::NotRegistered, Cause::FeaturesOff(vec!["k8s".to_owned()])], None, Outcome::Passed, "named: k8s is off")]
#[case::enforced(vec![Cause::FeaturesOff(vec!["k8s".to_owned()])], Some("request 1"), Outcome::Failed, "request 1 passes by a policy")]
#[case::passes_anyway(vec![Cause::FeaturesOff(vec!["k8s".to_owned()]), Cause::DefaultActionPermits { seen: "x".to_owned() }], Some("request 1"), Outcome::Inconclusive, "needs no policy: the default action permits")]
#[case::another_feature(vec![Cause::FeaturesOff(vec!["microseg".to_owned()])], None, Outcome::Failed, "not named; microseg is off")]
#[case::another_cause(vec![Cause::NotRegistered], None, Outcome::Failed, "does not know it")]
#[case::none(Vec::new(), None, Outcome::Failed, "not named; nothing is")]
fn a_feature_that_is_off_has_to_be_named(
    #[case] causes: Vec<Cause>,
    #[case] passed: Option<&str>,
    #[case] expected: Outcome,
    #[case] says: &str,
) {
    let check = Check::new("blocked", "c");
    let result = judge_named(&check, "k8s", &causes, passed);
    assert_eq!(result.outcome, expected, "{result}");
    let mut lines = result.evidence.iter();
    assert!(lines.any(|line| line.found.contains(says)), "{result}");
}
