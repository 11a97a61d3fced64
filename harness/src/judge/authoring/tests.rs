#![allow(clippy::unwrap_used)]

use rstest::rstest;

use std::collections::BTreeMap;

use super::*;
use crate::outcome::Outcome;

fn check() -> Check {
    Check::new("blocked", "a check")
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        call: "POST".to_owned(),
        status,
        body: body.to_owned(),
    }
}

#[rstest]
#[case::rejected(Some(201), 400, "field egressDomains[1]: no", &[], Outcome::Passed)]
#[case::other_status(Some(201), 500, "field egressDomains[1]: no", &[], Outcome::Failed)]
#[case::accepted(Some(201), 201, "{}", &[], Outcome::Failed)]
#[case::other_field(Some(201), 400, "field egressDomains[0]: no", &[], Outcome::Failed)]
#[case::leftover(Some(201), 400, "field egressDomains[1]: no", &["mnp1x"], Outcome::Failed)]
#[case::nothing_is_accepted(Some(400), 400, "field egressDomains[1]: no", &[], Outcome::Inconclusive)]
#[case::no_control(None, 400, "field egressDomains[1]: no", &[], Outcome::Inconclusive)]
fn rejections(
    #[case] control: Option<u16>,
    #[case] status: u16,
    #[case] body: &str,
    #[case] leftovers: &[&str],
    #[case] outcome: Outcome,
) {
    let claim = RejectionClaim {
        check: check(),
        field: "egressDomains[1]".to_owned(),
        control: control.map(|status| answer(status, "")),
        answers: vec![answer(status, body)],
        leftovers: leftovers.iter().map(|&name| name.to_owned()).collect(),
    };
    assert_eq!(judge_rejection(&claim).outcome, outcome);
    let silent = RejectionClaim {
        answers: Vec::new(),
        ..claim
    };
    assert!(
        !judge_rejection(&silent).passed(),
        "nothing sent proves nothing"
    );
}

fn policy() -> Value {
    json!({
        "metadata": {"name": "mnp1abcde", "uid": "u-1"},
        "spec": {"mcpServerName": "ms1a", "podSelector": {"app": "ms1a"}, "egressDomains": ["a.test", "b.test"]},
    })
}

#[rstest]
#[case::as_it_should(json!({}), Outcome::Passed)]
#[case::name(json!({"mcpServerName": "other"}), Outcome::Failed)]
#[case::selector(json!({"podSelector": {"app": "ms1a", "x": "y"}}), Outcome::Failed)]
#[case::domains(json!({"egressDomains": ["a.test"]}), Outcome::Failed)]
#[case::deny(json!({"denyAllEgress": true}), Outcome::Failed)]
fn one_policy(#[case] change: Value, #[case] outcome: Outcome) {
    let mut policy = policy();
    merge(&mut policy["spec"], change);
    let mut claim = PolicyClaim {
        check: check(),
        server: "the npx server".to_owned(),
        id: "ms1a".to_owned(),
        domains: vec!["b.test".to_owned(), "a.test".to_owned()],
        deny: false,
        policies: vec![policy.clone()],
    };
    assert_eq!(judge_policy(&claim).outcome, outcome);
    claim.policies.push(policy);
    assert_eq!(judge_policy(&claim).outcome, Outcome::Failed, "two");
    claim.policies.clear();
    assert_eq!(judge_policy(&claim).outcome, Outcome::Failed, "none");
}

fn merge(target: &mut Value, change: Value) {
    for (key, value) in change.as_object().unwrap() {
        target[key] = value.clone();
    }
}

fn firewall() -> Value {
    let rule = |name: &str, action: &str, protocol: &str| {
        json!({
            "name": name, "action": action, "protocol": protocol, "logging": true,
            "selector": {"matchLabels": {"app": "ms1a"}},
            "destinationSmartGroups": [{"name": "any"}],
        })
    };
    let mut permit = rule("allow-approved-egress", "permit", "tcp");
    permit["port"] = json!(443);
    permit["webGroups"] = json!([{"name": "list"}]);
    json!({
        "metadata": {
            "name": "obot-mnp1abcde-fw", "namespace": "obot-mcp",
            "labels": {
                "obot.ai/managed-by": "aviatrix-network-policy-controller",
                "obot.ai/mcp-network-policy-name": "mnp1abcde",
                "obot.ai/mcp-server-name": "ms1a",
            },
            "annotations": {"obot.ai/mcp-network-policy-uid": "u-1"},
        },
        "spec": {
            "smartGroups": [
                {"name": "pods", "selectors": [{"type": "k8s", "k8sNamespace": "obot-mcp", "tags": {"app": "ms1a"}}]},
                {"name": "any", "selectors": [{"cidr": "0.0.0.0/0"}]},
            ],
            "webGroups": [{"name": "list", "domains": ["a.test", "b.test"]}],
            "rules": [permit, rule("deny-all-external", "deny", "any")],
        },
    })
}

fn judged(policy: Value, object: Value) -> [Outcome; 2] {
    let claim = FirewallClaim {
        shape: check(),
        marks: check(),
        server: "weather".to_owned(),
        policy,
        namespace: "obot-mcp".to_owned(),
        objects: vec![object],
    };
    judge_firewall_policy(&claim).map(|result| result.outcome)
}

#[rstest]
#[case::selector("/spec/rules/0/selector/matchLabels/app", json!("other"))]
#[case::action("/spec/rules/0/action", json!("deny"))]
#[case::port("/spec/rules/0/port", json!(null))]
#[case::logging("/spec/rules/1/logging", json!(false))]
#[case::protocol("/spec/rules/1/protocol", json!("tcp"))]
#[case::domains("/spec/webGroups/0/domains", json!(["a.test"]))]
#[case::tags("/spec/smartGroups/0/selectors/0/tags", json!({}))]
#[case::destination("/spec/smartGroups/1/selectors/0/cidr", json!("10.0.0.0/8"))]
#[case::names("/spec/rules/1/name", json!("other"))]
fn another_shape_fails(#[case] pointer: &str, #[case] wrong: Value) {
    assert_eq!(judged(policy(), firewall()), [Outcome::Passed; 2]);
    let mut object = firewall();
    *object.pointer_mut(pointer).unwrap() = wrong;
    assert_eq!(judged(policy(), object), [Outcome::Failed, Outcome::Passed]);
}

#[test]
fn order_and_number_of_rules_count() {
    let mut object = firewall();
    object["spec"]["rules"].as_array_mut().unwrap().reverse();
    assert_eq!(judged(policy(), object)[0], Outcome::Failed);
    let mut object = firewall();
    object["spec"]["rules"].as_array_mut().unwrap().pop();
    assert_eq!(judged(policy(), object)[0], Outcome::Failed);
}

#[rstest]
#[case("/metadata/namespace")]
#[case("/metadata/labels/obot.ai~1managed-by")]
#[case("/metadata/labels/obot.ai~1mcp-server-name")]
#[case("/metadata/annotations/obot.ai~1mcp-network-policy-uid")]
fn another_mark_fails(#[case] pointer: &str) {
    let mut object = firewall();
    *object.pointer_mut(pointer).unwrap() = json!("other");
    assert_eq!(judged(policy(), object), [Outcome::Passed, Outcome::Failed]);
}

#[test]
fn no_firewall_policy_fails_both() {
    let mut object = firewall();
    object["metadata"]["name"] = json!("other");
    assert_eq!(judged(policy(), object), [Outcome::Failed; 2]);
}

#[test]
fn allow_mode_lists_the_star_and_deny_mode_nothing() {
    let mut open = (policy(), firewall());
    open.0["spec"]["egressDomains"] = json!([]);
    open.1["spec"]["webGroups"][0]["domains"] = json!(["*"]);
    assert_eq!(judged(open.0, open.1)[0], Outcome::Passed);
    let mut closed = (policy(), firewall());
    closed.0["spec"]["egressDomains"] = json!([]);
    closed.0["spec"]["denyAllEgress"] = json!(true);
    assert_eq!(
        judged(closed.0.clone(), closed.1.clone())[0],
        Outcome::Failed
    );
    closed.1["spec"]["webGroups"] = json!([]);
    closed.1["spec"]["rules"].as_array_mut().unwrap().remove(0);
    assert_eq!(judged(closed.0, closed.1)[0], Outcome::Passed);
}

#[test]
fn an_update_that_changed_anything_fails() {
    let state = ServerState {
        manifest: json!({"a": 1}),
        policies: vec![json!(1)],
        firewall: vec![json!(2)],
        pod: json!("pod"),
    };
    let claim = UnchangedClaim {
        check: check(),
        answer: answer(400, "egressDomains[1]"),
        field: "egressDomains[1]".to_owned(),
        before: state.clone(),
        after: state,
    };
    assert!(judge_unchanged(&claim).passed());
    let changes: [fn(&mut UnchangedClaim); 5] = [
        |claim| claim.answer.status = 200,
        |claim| claim.after.manifest = json!(0),
        |claim| claim.after.policies = vec![json!(0)],
        |claim| claim.after.firewall.clear(),
        |claim| claim.after.pod = json!("other"),
    ];
    for change in changes {
        let mut changed = claim.clone();
        change(&mut changed);
        assert_eq!(judge_unchanged(&changed).outcome, Outcome::Failed);
    }
    let mut empty = claim;
    empty.before.policies.clear();
    empty.after.policies.clear();
    assert_eq!(judge_unchanged(&empty).outcome, Outcome::Inconclusive);
}

#[test]
fn a_release_that_is_not_deployed_fails() {
    let labels = [
        ("owner", "helm"),
        ("name", "r"),
        ("status", "deployed"),
        ("version", "2"),
    ];
    let record = ReleaseRecord {
        name: "sh.helm.release.v1.r.v2".to_owned(),
        kind: "helm.sh/release.v1".to_owned(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        release: Some(
            json!({"name": "r", "namespace": "n", "version": 2, "info": {"status": "deployed"}}),
        ),
    };
    let claim = ReleaseClaim {
        check: check(),
        release: "r".to_owned(),
        namespace: "n".to_owned(),
        records: vec![record],
        pods: BTreeMap::from([("pod".to_owned(), true)]),
    };
    assert!(judge_release(&claim).passed());
    let changes: [fn(&mut ReleaseClaim); 6] = [
        |claim| claim.records.clear(),
        |claim| {
            drop(
                claim.records[0]
                    .labels
                    .insert("status".into(), "pending-install".into()),
            )
        },
        |claim| claim.records[0].release = None,
        |claim| claim.records[0].kind = "Opaque".into(),
        |claim| claim.pods = BTreeMap::from([("pod".to_owned(), false)]),
        |claim| {
            let mut newer = claim.records[0].clone();
            newer.labels.insert("version".into(), "3".into());
            newer.labels.insert("status".into(), "failed".into());
            claim.records.push(newer);
        },
    ];
    for change in changes {
        let mut changed = claim.clone();
        change(&mut changed);
        assert_eq!(judge_release(&changed).outcome, Outcome::Failed);
    }
}

#[rstest]
#[case::refused_aloud("control", "policy has empty podSelector", Outcome::Passed)]
#[case::silent("control", "policy is fine", Outcome::Failed)]
#[case::written("policy", "policy has empty podSelector", Outcome::Failed)]
#[case::nothing_is_written("other", "policy has empty podSelector", Outcome::Inconclusive)]
fn empty_selectors(#[case] written: &str, #[case] line: &str, #[case] outcome: Outcome) {
    let claim = EmptySelectorClaim {
        check: check(),
        policy: "policy".to_owned(),
        control: "control".to_owned(),
        objects: vec![json!({"metadata": {"name": format!("obot-{written}-fw")}})],
        log: vec![line.to_owned()],
    };
    assert_eq!(judge_empty_selector(&claim).outcome, outcome);
}
