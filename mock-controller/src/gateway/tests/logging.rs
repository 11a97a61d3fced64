//! The logging switch of each rule, and of the default action: what it decides is enforced either way.

use std::time::Duration;

use rstest::rstest;

use super::{hello, peer::Peer, world::*};
use crate::policy::{Action, Logging, Protocol, Rule};
use crate::record::{LogRecord, SessionEvent, SessionStage};

const LISTED: &str = "ehr.example.org";
const UNLISTED: &str = "evil.example.com";

/// Whether the server saw a packet, and the rules that the log names.
fn outcome(rules: Vec<Rule>, name: &str) -> (bool, Vec<Option<uuid::Uuid>>) {
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(name)));
    let server = Peer::new(SERVER, 9, vec![]);
    let mut world = World::new(gateway(rules), client, Some(server));
    world.run(Duration::from_secs(1));
    let decided = world.records.iter().map(LogRecord::decided_by).collect();
    (!world.sent(Hop::ToServer).is_empty(), decided)
}

#[rstest]
#[case::permit_by_name(LISTED, 0)]
#[case::denial_by_address(UNLISTED, 1)]
fn a_rule_without_logging_leaves_no_record(#[case] name: &str, #[case] decides: usize) {
    let mut rules = permit_names(&[LISTED]);
    let (passed, logged) = outcome(rules.clone(), name);
    assert!(!logged.is_empty());
    assert!(logged.iter().all(|rule| *rule == Some(rule_uuid(decides))));
    rules[decides].logging = Logging::Off;
    assert_eq!(outcome(rules, name), (passed, vec![]));
}

#[test]
fn the_switch_of_one_rule_is_not_that_of_another() {
    let mut rules = permit_names(&[LISTED]);
    rules[0].logging = Logging::Off;
    let (passed, logged) = outcome(rules, UNLISTED);
    assert!(!passed);
    assert_eq!(logged, [Some(rule_uuid(1))]);
}

#[test]
fn a_packet_filter_s_denial_without_logging_leaves_no_record() {
    let logging = |logging| Rule {
        logging,
        ..rule(Action::Deny, Some(Protocol::Tcp), Some(443), &[])
    };
    assert_eq!(
        outcome(vec![logging(Logging::Start)], LISTED).1,
        [Some(rule_uuid(0))]
    );
    assert_eq!(
        outcome(vec![logging(Logging::Off)], LISTED),
        (false, vec![])
    );
}

/// How many records one session leaves: when it is decided, and when it ends.
#[rstest]
#[case::by_name(&[LISTED], Logging::Off, 0)]
#[case::by_name_at_its_start(&[LISTED], Logging::Start, 1)]
#[case::by_name_at_its_end(&[LISTED], Logging::End, 1)]
#[case::by_name_at_both(&[LISTED], Logging::StartAndEnd, 2)]
#[case::by_address(&[], Logging::Off, 0)]
#[case::by_address_at_its_start(&[], Logging::Start, 1)]
#[case::by_address_at_its_end(&[], Logging::End, 1)]
#[case::by_address_at_both(&[], Logging::StartAndEnd, 2)]
fn a_permitted_session_is_logged_when_the_profile_says(
    #[case] names: &[&str],
    #[case] logging: Logging,
    #[case] records: usize,
) {
    let permit = Rule {
        logging,
        ..rule(Action::Permit, Some(Protocol::Tcp), Some(443), names)
    };
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(LISTED)));
    let server = Peer::new(SERVER, 9, vec![]);
    let mut world = World::new(gateway(vec![permit]), client, Some(server));
    world.run(Duration::from_secs(600));
    assert!(!world.sent(Hop::ToServer).is_empty());
    let ends = world.records.iter().filter(|record| is_end(record));
    assert_eq!(
        ends.count(),
        usize::from(logging.at_end()),
        "{:?}",
        world.records
    );
    assert_eq!(world.records.len(), records, "{:?}", world.records);
}

/// A denied flow has no end that could be recorded in the place of its start.
#[rstest]
#[case(&[LISTED])]
#[case(&[])]
fn a_denial_is_logged_under_any_profile(#[case] names: &[&str]) {
    for logging in [Logging::Start, Logging::End, Logging::StartAndEnd] {
        let deny = Rule {
            logging,
            ..rule(Action::Deny, Some(Protocol::Tcp), Some(443), names)
        };
        assert_eq!(
            outcome(vec![deny], LISTED),
            (false, vec![Some(rule_uuid(0))])
        );
    }
}

fn is_end(record: &LogRecord) -> bool {
    match record {
        LogRecord::L4(record) => record
            .session
            .as_ref()
            .is_some_and(|session| session.event != SessionEvent::Start),
        LogRecord::L7(record) => record.session_stage == SessionStage::End,
    }
}
