//! A small world: one attempt, and what is seen of it; each case changes one thing.
#![allow(clippy::unwrap_used)]

use fixtures::receipt::{Receipt, ReceiptEvent};
use jiff::SignedDuration;
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::evidence::gateway_log::Layer;
use crate::evidence::{Capture, GatewayLog, Packet};
use crate::judge::{ClientResult, Exchange};

const WINDOW: Duration = Duration::from_millis(20);
const CANARY: &str = "cnry-00000000000000aa";
const OTHER: &str = "cnry-00000000000000bb";
const RULE: Uuid = Uuid::from_u128(7);

fn at(millis: i64) -> Timestamp {
    let start: Timestamp = "2026-06-02T10:15:00Z".parse().unwrap();
    start + SignedDuration::from_millis(millis)
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn far() -> SocketAddr {
    end("192.0.2.66:443")
}

fn attempt(label: &str, canary: &str, port: u16) -> Attempt {
    Attempt {
        label: label.to_owned(),
        canary: canary.to_owned(),
        sent: Some(Sent {
            at: at(0),
            protocol: Protocol::Tcp,
            exchange: Exchange::Tls,
            source: SocketAddr::new("10.244.0.12".parse().unwrap(), port),
            destination: far(),
            host: None,
            sni: None,
        }),
        result: None,
    }
}

fn packet(source: SocketAddr, destination: SocketAddr) -> Packet {
    Packet {
        at: at(1),
        interface: 0,
        protocol: Protocol::Tcp,
        source,
        destination,
        payload: 10,
        opens: None,
        next: None,
        number: 1,
        outbound: None,
    }
}

fn record(port: u16, action: Action, seen_at: i64) -> GatewayRecord {
    GatewayRecord {
        line: 1,
        seen_at: Some(at(seen_at)),
        at: at(seen_at),
        exact: true,
        layer: Layer::L7,
        action,
        enforced: true,
        protocol: Protocol::Tcp,
        source: SocketAddr::new("10.244.0.12".parse().unwrap(), port),
        destination: far(),
        sni: None,
        decided_by: Some(RULE),
        reason: None,
    }
}

/// One attempt that was sent from port 1000, and nothing else.
fn silent() -> Observations {
    let rule = RuleRef {
        name: "deny-all-external".to_owned(),
        part_of: None,
        server: Some("ash".to_owned()),
        default_action: false,
    };
    Observations {
        until: at(100),
        log: Seen::Read(GatewayLog::default()),
        pod_side: Seen::Read(Capture {
            packets: vec![packet(end("10.244.0.12:1000"), far())],
            undecodable: 0,
        }),
        outside: Seen::Read(Capture::default()),
        rules: BTreeMap::from([(RULE, rule)]),
        attempts: vec![attempt("one", CANARY, 1000)],
        ..Observations::default()
    }
}

fn logged(mut observations: Observations, record: GatewayRecord) -> Observations {
    if let Seen::Read(log) = &mut observations.log {
        log.records.push(record);
    }
    observations
}

/// A flow beyond the gateway, from one of its ports.
fn left(mut observations: Observations, port: u16) -> Observations {
    if let Seen::Read(capture) = &mut observations.outside {
        let source = SocketAddr::new("203.0.113.9".parse().unwrap(), port);
        capture.packets.push(packet(source, far()));
    }
    observations
}

/// A second attempt at the same far end, of which nothing is known.
fn another(mut observations: Observations) -> Observations {
    observations.attempts.push(attempt("two", OTHER, 2000));
    observations
}

fn arrived(mut observations: Observations, canary: &str, port: u16) -> Observations {
    observations.receipts.push(Receipt {
        at: at(2),
        endpoint: "sink".to_owned(),
        local: far(),
        peer: SocketAddr::new("203.0.113.9".parse().unwrap(), port),
        event: ReceiptEvent::Bytes { received: 10 },
        canaries: vec![canary.to_owned()],
        encodings: Default::default(),
    });
    left(observations, port)
}

fn ended(mut observations: Observations, outcome: ClientOutcome, millis: i64) -> Observations {
    observations.attempts[0].result = Some(ClientResult {
        at: at(millis),
        outcome,
        status: None,
        detail: String::new(),
    });
    observations
}

fn denied() -> Observations {
    logged(silent(), record(1000, Action::Deny, 5))
}

/// `P` passed, `B` blocked, `?` unproven; a small letter: without a record.
fn seen(observations: &Observations) -> char {
    let labels = ["one".to_owned()];
    match &observe_all(&labels, observations, WINDOW)["one"] {
        Observed::Passed { by: Some(_) } => 'P',
        Observed::Passed { by: None } => 'p',
        Observed::Blocked { by: Some(_) } => 'B',
        Observed::Blocked { by: None } => 'b',
        Observed::Unproven(_) => '?',
    }
}

#[rstest]
#[case::denied_and_silent(denied(), 'B')]
#[case::silent_without_a_record(silent(), 'b')]
#[case::arrived(
    arrived(logged(silent(), record(1000, Action::Permit, 5)), CANARY, 9),
    'P'
)]
#[case::arrived_unlogged(arrived(silent(), CANARY, 9), 'p')]
#[case::arrived_although_denied(arrived(denied(), CANARY, 9), 'P')]
#[case::left_and_permitted(left(logged(silent(), record(1000, Action::Permit, 5)), 9), 'P')]
#[case::permitted_but_nothing_left(logged(silent(), record(1000, Action::Permit, 5)), '?')]
#[case::refused_by_somebody(left(ended(silent(), ClientOutcome::Refused, 5), 9), 'p')]
#[case::closed_without_a_record(ended(silent(), ClientOutcome::Closed, 5), 'b')]
#[case::left_although_denied(left(denied(), 9), 'P')]
#[case::left_unlogged(left(silent(), 9), 'p')]
#[case::somebody_left(left(another(denied()), 9), '?')]
#[case::both_left(left(left(another(denied()), 8), 9), 'P')]
#[case::another_left(arrived(denied(), OTHER, 9), 'B')]
#[case::both_logged(logged(denied(), record(1000, Action::Permit, 6)), '?')]
#[case::of_another_port(logged(silent(), record(1001, Action::Deny, 5)), 'b')]
#[case::from_before_it_was_sent(logged(silent(), record(1000, Action::Deny, -5)), 'b')]
#[case::not_quiet(ended(denied(), ClientOutcome::Closed, 99), '?')]
#[case::never_left_the_pod(Observations { pod_side: Seen::Read(Capture::default()), ..denied() }, '?')]
#[case::capture_broken(Observations { outside: Seen::Unreadable("cut".to_owned()), ..denied() }, '?')]
#[case::no_log(Observations { log: Seen::NotVisible, ..denied() }, '?')]
fn evidence_decides(#[case] observations: Observations, #[case] expected: char) {
    assert_eq!(seen(&observations), expected);
}

/// A port that comes back: the record is about whoever announced it last.
#[test]
fn a_reused_port_belongs_to_its_latest_user() {
    let mut observations = logged(silent(), record(1000, Action::Deny, 30));
    let mut second = attempt("two", OTHER, 1000);
    second.sent.as_mut().unwrap().at = at(20);
    observations.attempts.push(second);
    let labels = ["one".to_owned(), "two".to_owned()];
    let seen = observe_all(&labels, &observations, WINDOW);
    assert_eq!(seen["one"], Observed::Blocked { by: None });
    assert!(matches!(seen["two"], Observed::Blocked { by: Some(_) }));
}

#[test]
fn nothing_reported_is_nothing_proven() {
    let labels = ["three".to_owned()];
    let seen = observe_all(&labels, &silent(), WINDOW);
    assert!(matches!(seen["three"], Observed::Unproven(_)));
}

#[rstest]
#[case::as_expected(Verdict::Deny, true, Observed::Blocked { by: Some(ash()) }, "")]
#[case::other_verdict(Verdict::Deny, true, Observed::Passed { by: Some(ash()) }, "found permit")]
#[case::other_rule(Verdict::Deny, true, Observed::Blocked { by: Some(Decider::DefaultAction) }, "by the default action")]
#[case::no_record(Verdict::Deny, true, Observed::Blocked { by: None }, "without a record")]
#[case::unlogged(Verdict::Permit, false, Observed::Passed { by: None }, "")]
#[case::logged_too_much(Verdict::Permit, false, Observed::Passed { by: Some(ash()) }, "nothing was to be logged")]
fn differences_are_told(
    #[case] verdict: Verdict,
    #[case] logged: bool,
    #[case] observed: Observed,
    #[case] words: &str,
) {
    let by = ash();
    let expected = Expected {
        verdict,
        by,
        logged,
    };
    match compare(&expected, &observed) {
        Agreement::Agrees => assert_eq!(words, ""),
        Agreement::Differs(why) => assert!(!words.is_empty() && why.contains(words), "{why}"),
        Agreement::Unproven(why) => panic!("{why}"),
    }
}

fn ash() -> Decider {
    Decider::Rule {
        rule: "deny-all-external".to_owned(),
        server: "ash".to_owned(),
    }
}
