//! Masquerade, and answers to open questions.

use rstest::rstest;

use super::masquerade::{judge_masquerade_named, judge_own_addresses, masquerade};
use super::open_question::{answer_whether_it_passes, answer_whether_it_was_cut};
use super::platform::cause::{Cause, named};
use super::platform::path::{Bypass, bypass};
use super::platform::{judge_in_path, judge_reaches_copilot};
use super::*;
use crate::outcome::Outcome;

const NODE: &str = "10.0.0.10";

/// The scene with the node in the Pod's place, decided by the default action.
fn masqueraded() -> Observations {
    let mut observations = scene();
    observations.nodes = vec![NODE.parse().unwrap()];
    for record in &mut log_of(&mut observations).records {
        record.source.set_ip(NODE.parse().unwrap());
        record.decided_by = Some(DEFAULT_RULE);
    }
    observations
}

fn check() -> Check {
    Check::new("blocked", "c")
}

#[test]
fn the_condition_is_seen_where_a_node_stands_in_the_place_of_a_pod() {
    assert_eq!(masquerade(&scene()), None);
    let found = masquerade(&masqueraded()).unwrap();
    assert_eq!(
        (
            found.pod.to_string().as_str(),
            found.node.to_string().as_str()
        ),
        ("10.244.0.12", NODE)
    );
    assert!(
        found.in_words().contains("masquerade is on") && found.in_words().contains("EXTERNALSNAT")
    );
}

/// Some masquerades choose another port: then the server name tells the flow.
#[test]
fn another_port_does_not_hide_the_condition() {
    let mut observations = masqueraded();
    for record in &mut log_of(&mut observations).records {
        record.source.set_port(60_999);
    }
    assert!(masquerade(&observations).is_some());
    for record in &mut log_of(&mut observations).records {
        record.sni = None;
    }
    assert_eq!(masquerade(&observations), None);
}

/// What the node itself sends is no sign of it.
#[test]
fn the_nodes_own_requests_are_no_masquerade() {
    let mut observations = masqueraded();
    for attempt in &mut observations.attempts {
        attempt
            .sent
            .as_mut()
            .unwrap()
            .source
            .set_ip(NODE.parse().unwrap());
    }
    assert_eq!(masquerade(&observations), None);
}

#[test]
fn under_the_condition_the_policy_is_not_blamed_but_a_leak_stays_one() {
    let found = masquerade(&masqueraded()).unwrap();
    let failed = |check: &str| {
        CheckResult::stated(
            Check::new("blocked", check),
            Outcome::Failed,
            "x",
            "nothing arrived",
        )
        .showing(&["EGR-01"])
    };
    let mut leak = failed("blocked: b");
    leak.evidence.push(EvidenceLine {
        found: "it arrived".to_owned(),
        file: Some("receipts.jsonl".to_owned()),
        position: None,
        bearing: Bearing::Contradicts,
    });
    let named = named(&[Cause::Masquerade(found)], vec![failed("passed: a"), leak]);
    let outcomes: Vec<_> = named
        .iter()
        .map(|result| (result.kind.as_str(), result.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("prerequisite", Outcome::Failed),
            ("blocked", Outcome::Inconclusive),
            ("blocked", Outcome::Failed)
        ]
    );
    assert!(
        named
            .iter()
            .all(|result| result.reasons[0].contains("masquerade is on"))
    );
}

/// The gateway's own log is no proof that CoPilot has it, and the other way round.
#[rstest]
#[case::at_copilot(true, Some(true), Outcome::Passed, "CoPilot got")]
#[case::elsewhere_alone(true, Some(false), Outcome::Failed, "to another server this one did")]
#[case::at_copilot_alone(false, Some(true), Outcome::Passed, "CoPilot got")]
#[case::unseen(true, None, Outcome::Inconclusive, "nothing listens in its place")]
#[case::nowhere(
    false,
    Some(false),
    Outcome::Failed,
    "came to CoPilot or to any other server"
)]
fn a_record_reaches_copilot_or_not(
    #[case] logged: bool,
    #[case] at_copilot: Option<bool>,
    #[case] expected: Outcome,
    #[case] says: &str,
) {
    let mut observations = scene();
    let log = log_of(&mut observations);
    let whole = if logged {
        log.clone()
    } else {
        std::mem::take(log)
    };
    observations.copilot = match at_copilot {
        Some(true) => Seen::Read(whole),
        Some(false) => Seen::Read(GatewayLog::default()),
        None => Seen::NotVisible,
    };
    let check = Check::new("blocked", "c");
    let result = judge_reaches_copilot(&check, &[permitted()], &observations);
    assert_eq!(result.outcome, expected, "{result}");
    assert!(
        result.evidence.iter().any(|line| line.found.contains(says)),
        "{result}"
    );

    let mut unsent = permitted();
    unsent.sent = None;
    let result = judge_reaches_copilot(&check, &[unsent], &observations);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
}

/// Without a record under the Pod's own address none can come to CoPilot; one that came to another server alone was lost
/// on the way. Every other check of a prerequisite stays what it is.
#[rstest]
#[case::masquerade(Cause::Masquerade(masquerade(&masqueraded()).unwrap()), Outcome::Inconclusive)]
#[case::bypass(Cause::GatewayBypassed { bypass: Bypass { far_end: "f".to_owned(), peer: [10, 244, 0, 12].into() }, gateway: BTreeSet::new() }, Outcome::Inconclusive)]
#[case::another(Cause::NotRegistered, Outcome::Failed)]
fn a_record_that_cannot_exist_is_not_missed_at_copilot(
    #[case] cause: Cause,
    #[case] expected: Outcome,
) {
    let check = Check::new("copilot-record", "c");
    let mut unseen = masqueraded();
    unseen.copilot = Seen::Read(GatewayLog::default());
    let mut lost = scene();
    lost.copilot = Seen::Read(GatewayLog::default());
    let results = [&unseen, &lost]
        .map(|observations| judge_reaches_copilot(&check, &[permitted()], observations));
    let own = CheckResult::stated(
        Check::new("remote-syslog", "c"),
        Outcome::Failed,
        "x",
        "none on index 9",
    )
    .showing(&["PLT-07"]);
    let [unseen, lost] = results;
    let named = named(std::slice::from_ref(&cause), vec![unseen, lost, own]);
    let outcomes: Vec<_> = named.iter().map(|result| result.outcome).collect();
    let failed = Outcome::Failed;
    assert_eq!(outcomes, [failed, expected, failed, failed]);
    assert!(
        named[1..]
            .iter()
            .all(|result| result.reasons[0] == cause.in_words())
    );
}

/// Where no gateway stands in between, a far end sees the Pod itself.
#[test]
fn a_far_end_that_sees_a_pod_shows_that_the_gateway_is_not_in_the_path() {
    let gateway = BTreeSet::from([std::net::IpAddr::from([203, 0, 113, 9])]);
    let check = Check::new("blocked", "c");
    assert_eq!(bypass(&gateway, &scene()), None);
    let result = judge_in_path(&check, &[permitted()], &gateway, &scene());
    assert_eq!(result.outcome, Outcome::Passed, "{result}");

    let mut observations = scene();
    for receipt in &mut observations.receipts {
        receipt.peer.set_ip("10.244.0.12".parse().unwrap());
    }
    let found = bypass(&gateway, &observations).unwrap();
    assert_eq!(found.peer.to_string(), "10.244.0.12");
    let result = judge_in_path(&check, &[permitted()], &gateway, &observations);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    observations.receipts.clear();
    assert_eq!(bypass(&gateway, &observations), None);
    let result = judge_in_path(&check, &[permitted()], &gateway, &observations);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
}

#[rstest]
#[case::as_it_should_be(scene(), Outcome::Passed)]
#[case::hidden(masqueraded(), Outcome::Failed)]
fn own_addresses(#[case] observations: Observations, #[case] expected: Outcome) {
    let result = judge_own_addresses(&check(), &[permitted()], &observations);
    assert_eq!(result.outcome, expected, "{result}");
}

#[test]
fn the_condition_must_be_there_to_be_named() {
    let outcome = |observations: &Observations| {
        judge_masquerade_named(&check(), &[permitted()], observations).outcome
    };
    assert_eq!(outcome(&masqueraded()), Outcome::Passed);
    assert_eq!(outcome(&scene()), Outcome::Failed);
    let mut by_a_server = masqueraded();
    log_of(&mut by_a_server).records[0].decided_by = Some(PERMIT_RULE);
    assert_eq!(outcome(&by_a_server), Outcome::Failed);
}

#[rstest]
#[case::passes(Outcome::Passed, Outcome::Failed, Outcome::Answered, "it passes")]
#[case::blocked(Outcome::Failed, Outcome::Passed, Outcome::Answered, "it is blocked")]
#[case::neither(
    Outcome::Inconclusive,
    Outcome::Inconclusive,
    Outcome::Inconclusive,
    "neither was shown"
)]
fn answers_rest_on_proof(
    #[case] permit: Outcome,
    #[case] denial: Outcome,
    #[case] outcome: Outcome,
    #[case] says: &str,
) {
    let judged = |outcome| CheckResult::stated(Check::new("blocked", "c"), outcome, "x", "y");
    let result = answer_whether_it_passes(&check(), "q?", &judged(permit), &judged(denial));
    assert_eq!(result.outcome, outcome);
    assert!(result.reasons[0].starts_with(says), "{result}");
}

#[rstest]
#[case::goes_on(&[530, 900, 1050], None, Outcome::Answered, "not cut: 1 requests")]
#[case::stalled(&[530, 900], None, Outcome::Answered, "stalled")]
#[case::cut_after(&[530, 900], Some(1040), Outcome::Answered, "cut: connection reset, 40 ms after")]
#[case::cut_before(&[530, 900], Some(950), Outcome::Answered, "cut: connection reset, 50 ms before")]
#[case::never_there(&[1050], None, Outcome::Inconclusive, "nothing of it arrived")]
fn what_became_of_an_open_connection(
    #[case] arrivals: &[i64],
    #[case] ended: Option<i64>,
    #[case] outcome: Outcome,
    #[case] says: &str,
) {
    let mut observations = scene();
    let (from, to) = (end("203.0.113.9:50000"), end("198.51.100.10:443"));
    observations.receipts = arrivals
        .iter()
        .map(|&millis| receipt(at(millis), EHR, to, from, request(0), &[CONTROL_CANARY]))
        .collect();
    let mut session = permitted();
    session.result = ended.map(|millis| ClientResult {
        at: at(millis),
        outcome: ClientOutcome::Reset,
        status: None,
        detail: String::new(),
    });
    let result = answer_whether_it_was_cut(&check(), &session, at(1000), &observations);
    assert_eq!(result.outcome, outcome, "{result}");
    assert!(result.reasons[0].starts_with(says), "{result}");
}
