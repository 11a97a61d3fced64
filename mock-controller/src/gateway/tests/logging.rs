//! The logging switch of each rule, and of the default action: what it decides is enforced either way.

use std::time::Duration;

use rstest::rstest;

use super::{hello, peer::Peer, world::*};
use crate::policy::{Action, Protocol, Rule};
use crate::record::LogRecord;

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
    rules[decides].logging = false;
    assert_eq!(outcome(rules, name), (passed, vec![]));
}

#[test]
fn the_switch_of_one_rule_is_not_that_of_another() {
    let mut rules = permit_names(&[LISTED]);
    rules[0].logging = false;
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
    assert_eq!(outcome(vec![logging(true)], LISTED).1, [Some(rule_uuid(0))]);
    assert_eq!(outcome(vec![logging(false)], LISTED), (false, vec![]));
}
