//! Flows that the policy denies: what the client sees, what the log says, and that nothing leaves.

use std::{ops::Range, time::Duration};

use proptest::prelude::*;
use rstest::rstest;

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::{Fault, Faults},
    gateway::{Config, DropReason, L7Close},
    policy::{Action, Protocol},
    record::{LogRecord, Reason, SessionStage, Stage},
};

const NAME: &str = "evil.example.com";

fn world(first_bytes: Vec<u8>, l7_close: L7Close, faults: Faults) -> World {
    let config = Config {
        l7_close,
        ..Config::new(OUTSIDE)
    };
    let gateway = gateway_with(permit_names(&["ehr.example.org"]), config, faults);
    let client = Peer::new(CLIENT, 0xffff_fff0, first_bytes);
    World::new(gateway, client, Some(Peer::new(SERVER, 9, vec![])))
}

#[rstest]
#[case::fin(L7Close::Fin)]
#[case::rst(L7Close::Rst)]
fn an_unlisted_name_is_cut_off_without_an_alert(#[case] l7_close: L7Close) {
    let mut world = world(hello::rustls(Some(NAME)), l7_close, Faults::default());
    world.run(Duration::from_secs(1));
    assert!(world.client.is_established());
    assert_eq!(world.client.received(), b"", "no alert");
    assert_eq!(world.client.saw_end, l7_close == L7Close::Fin);
    assert_eq!(world.client.saw_reset, l7_close == L7Close::Rst);
    assert_eq!(world.client.has_finished(), l7_close == L7Close::Fin);
    assert_eq!(world.sent(Hop::ToServer).len(), 0);

    let [LogRecord::L7(record)] = world.records.as_slice() else {
        panic!("expected one record, got {:?}", world.records);
    };
    assert_eq!(
        (record.action, record.reason, record.enforced),
        (Action::Deny, Reason::Policy, true)
    );
    assert_eq!(
        (record.stage, record.session_stage),
        (Stage::Sni, SessionStage::Start)
    );
    assert_eq!(record.sni_hostname.as_deref(), Some(NAME));
    assert_eq!(record.decided_by, Some(rule_uuid(1)));
    assert_eq!(
        (record.flow.source, record.flow.source_port),
        ((*CLIENT.ip()).into(), CLIENT.port())
    );
    assert_eq!(
        (record.flow.destination, record.flow.destination_port),
        ((*SERVER.ip()).into(), 443)
    );
    assert_eq!(world.gateway.counters().denials, 1);
}

#[rstest]
#[case::no_name(hello::rustls(None))]
#[case::http(b"GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n".to_vec())]
#[case::two_names(hello::Hello::named("ehr.example.org").extension(0, b"\x00\x04\x00\x00\x01b").bytes())]
#[case::not_tls(b"\x00\x01\x02".to_vec())]
#[case::oversized([&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &[0; 40_000]].concat())]
#[case::beyond_the_buffer(hello::records(&[&b"\x01\x00\x70\x00"[..], &[0; 0x7000]].concat(), 1))]
#[case::endless_head([&b"GET / HTTP/1.1\r\nX: "[..], &[b'a'; 60_000]].concat())]
fn other_first_bytes_are_denied_by_the_next_rule(#[case] bytes: Vec<u8>) {
    let mut world = world(bytes, L7Close::Fin, Faults::default());
    world.run(Duration::from_secs(2));
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
    let [LogRecord::L7(record)] = world.records.as_slice() else {
        panic!("expected one record, got {:?}", world.records);
    };
    assert_eq!(
        (record.action, record.decided_by),
        (Action::Deny, Some(rule_uuid(1)))
    );
    assert!(world.client.saw_end || world.client.saw_reset);
}

#[test]
fn the_fault_permits_a_missing_name_and_nothing_else() {
    for (name, leaves) in [(None, true), (Some(NAME), false)] {
        let mut world = world(
            hello::rustls(name),
            L7Close::Fin,
            Fault::PermitMissingSni.into(),
        );
        world.run(Duration::from_secs(1));
        assert_eq!(
            !world.server.as_ref().unwrap().received().is_empty(),
            leaves
        );
        let action = if leaves { Action::Permit } else { Action::Deny };
        assert_eq!(world.records[0].action(), action);
    }
}

#[test]
fn the_fault_swallows_the_record_and_denies_all_the_same() {
    let mut world = world(
        hello::rustls(Some(NAME)),
        L7Close::Fin,
        Fault::NoDenialLog.into(),
    );
    world.run(Duration::from_secs(1));
    assert!(world.client.saw_end);
    assert_eq!(world.records, []);
    assert_eq!(world.gateway.counters().suppressed_records, 1);
}

#[rstest]
#[case::nothing(b"", true)]
#[case::half_a_record(b"\x16\x03", true)]
fn a_client_that_shows_no_name_times_out(#[case] bytes: &[u8], #[case] connected: bool) {
    let mut world = world(bytes.to_vec(), L7Close::Fin, Faults::default());
    world.run(Duration::from_secs(15));
    let [LogRecord::L7(record)] = world.records.as_slice() else {
        panic!("expected one record, got {:?}", world.records);
    };
    assert_eq!(record.reason, Reason::ConnectionSynOnlyTimeout);
    assert_eq!(
        (record.sni_hostname.as_ref(), record.decided_by),
        (None, None)
    );
    assert_eq!(world.client.saw_end, connected);
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
    world.run(Duration::from_secs(200));
    assert_eq!(world.gateway.counters().flows, 0);
}

#[test]
fn a_half_open_client_is_forgotten() {
    let mut world = world(vec![], L7Close::Fin, Faults::default());
    world
        .lost
        .extend((0..200).map(|index| (Hop::ToClient, index)));
    world.run(Duration::from_secs(11));
    let reasons: Vec<_> = world
        .records
        .iter()
        .map(|record| match record {
            LogRecord::L7(record) => record.reason,
            LogRecord::L4(_) => panic!("unexpected {record:?}"),
        })
        .collect();
    assert_eq!(reasons, [Reason::ConnectionSynOnlyTimeout]);
}

#[test]
fn a_client_that_closes_first_is_answered_and_logged() {
    let mut world = world(vec![], L7Close::Fin, Faults::default());
    world.client.closes_after = Some(0);
    world.run(Duration::from_secs(3));
    assert!(world.client.has_finished());
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
}

#[test]
fn l4_records_of_proxied_flows_are_a_switch() {
    let config = Config {
        emit_l4_for_l7: true,
        ..Config::new(OUTSIDE)
    };
    let gateway = gateway_with(
        permit_names(&["ehr.example.org"]),
        config,
        Faults::default(),
    );
    let client = Peer::new(CLIENT, 5, hello::rustls(Some(NAME)));
    let mut world = World::new(gateway, client, None);
    world.run(Duration::from_secs(1));
    let [LogRecord::L7(l7), LogRecord::L4(l4)] = world.records.as_slice() else {
        panic!("expected two records, got {:?}", world.records);
    };
    assert_eq!(
        (l4.action, Some(l4.policy), l4.flow),
        (Action::Deny, l7.decided_by, l7.flow)
    );
}

#[rstest]
#[case::fin(Hop::ToClient, 1)]
#[case::syn_ack(Hop::ToClient, 0)]
#[case::ack_of_fin(Hop::FromClient, 3)]
fn a_denial_survives_loss(#[case] hop: Hop, #[case] index: usize) {
    let mut world = world(hello::rustls(Some(NAME)), L7Close::Fin, Faults::default());
    world.lost.insert((hop, index));
    world.run(Duration::from_secs(5));
    assert!(world.sent(hop).len() > index);
    assert!(world.client.saw_end);
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_rule_of_the_packet_filter_is_silent() {
    let rules = vec![rule(Action::Deny, Some(Protocol::Tcp), None, &[])];
    let client = Peer::new(CLIENT, 5, hello::rustls(Some(NAME)));
    let mut world = World::new(gateway(rules), client, Some(Peer::new(SERVER, 6, vec![])));
    world.run(Duration::from_secs(10));
    assert!(
        world.sent(Hop::FromClient).len() > 10,
        "the client repeats its SYN"
    );
    assert_eq!(
        (
            world.sent(Hop::ToClient).len(),
            world.sent(Hop::ToServer).len()
        ),
        (0, 0)
    );
    let [LogRecord::L4(record)] = world.records.as_slice() else {
        panic!(
            "expected one record for all of them, got {:?}",
            world.records
        );
    };
    assert_eq!(
        (record.action, record.policy, record.enforced),
        (Action::Deny, rule_uuid(0), true)
    );

    // Another attempt from the same port is another record.
    world.client = Peer::new(CLIENT, 1_000_000, vec![]);
    let now = world.now;
    world.client.connect(now, SERVER);
    world.run(Duration::from_secs(1));
    assert_eq!(world.records.len(), 2);
}

#[test]
fn a_new_policy_lets_a_denied_client_s_next_syn_through() {
    let client = Peer::new(CLIENT, 5, b"hi".to_vec());
    let mut world = World::new(gateway(vec![]), client, Some(Peer::new(SERVER, 6, vec![])));
    world.run(Duration::from_secs(1));
    assert!(!world.client.is_established());
    let now = world.now();
    world.gateway.set_policy(now, snapshot(permit_names(&[])));
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), b"hi");
}

#[test]
fn a_new_policy_that_denies_as_well_is_another_record() {
    let client = Peer::new(CLIENT, 5, vec![]);
    let mut world = World::new(gateway(vec![]), client, None);
    world.run(Duration::from_secs(1));
    let now = world.now();
    world.gateway.set_policy(now, snapshot(vec![]));
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.records.len(),
        2,
        "one per policy, however often the client repeats its SYN"
    );
}

#[test]
fn what_arrives_damaged_is_not_judged() {
    let mut world = world(
        hello::rustls(Some("ehr.example.org")),
        L7Close::Fin,
        Faults::default(),
    );
    world.corrupted.insert((Hop::FromClient, 2));
    world.run(Duration::from_secs(1));
    let received = world.server.as_ref().unwrap().received();
    assert_eq!(received.len(), world.sent(Hop::FromClient)[2].len() - 40);
    assert_eq!(world.gateway.counters().dropped(DropReason::Malformed), 1);
}

/// Segments that cover the whole in some order, some of them twice.
fn segmentation(length: usize) -> impl Strategy<Value = Vec<Range<usize>>> {
    proptest::collection::btree_set(1..length, 0..12).prop_flat_map(move |cuts| {
        let edges: Vec<usize> = [0].into_iter().chain(cuts).chain([length]).collect();
        let pieces: Vec<_> = edges.windows(2).map(|edge| edge[0]..edge[1]).collect();
        let repeated = proptest::sample::subsequence(pieces.clone(), 0..=pieces.len());
        repeated
            .prop_flat_map(move |repeated| Just([pieces.clone(), repeated].concat()).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// However a hello is cut, spread over records, repeated or reordered: the verdict is the same, and of a denied flow
    /// no packet leaves.
    #[test]
    fn segmentation_changes_nothing(
        (permitted, fragment, bytes, plan) in (any::<bool>(), prop_oneof![Just(16_384), 1usize..200]).prop_flat_map(
            |(permitted, fragment)| {
                let name = if permitted { "ehr.example.org" } else { NAME };
                let bytes = hello::records(&hello::Hello::named(name).message(), fragment);
                let plan = segmentation(bytes.len());
                (Just(permitted), Just(fragment), Just(bytes), plan)
            },
        ),
    ) {
        let client = Peer::new(CLIENT, u32::MAX - 50, bytes.clone()).with_plan(plan);
        let gateway = gateway(permit_names(&["ehr.example.org"]));
        let mut world = World::new(gateway, client, Some(Peer::new(SERVER, 9, vec![])));
        world.run(Duration::from_secs(5));
        if permitted {
            prop_assert_eq!(world.server.as_ref().unwrap().received(), bytes);
        } else {
            prop_assert_eq!(world.sent(Hop::ToServer).len(), 0, "records of {} bytes", fragment);
            prop_assert!(world.client.saw_end);
            prop_assert_eq!(world.records[0].hostname(), Some(NAME));
        }
    }
}
