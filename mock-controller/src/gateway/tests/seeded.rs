//! Each seeded fault of the gateway, beside a gateway without it.

use std::time::Duration;

use rstest::rstest;
use uuid::Uuid;

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::{Fault, Faults},
    gateway::{Config, Gateway, Side},
    policy::{Action, DEFAULT_ACTION, Protocol, Rule},
    record::LogRecord,
};

const LISTED: &str = "ehr.example.org";
const UNLISTED: &str = "evil.example.com";
const SECOND: Duration = Duration::from_secs(1);

/// How many packets and how many bytes of an application reached the destination, and what the log says.
fn outcome(
    faults: impl Into<Faults>,
    client: Peer,
    rules: Vec<Rule>,
) -> (usize, usize, Vec<LogRecord>) {
    let gateway = gateway_with(rules, Config::new(OUTSIDE), faults.into());
    let mut world = World::new(gateway, client, Some(Peer::new(SERVER, 9, vec![])));
    world.run(SECOND);
    let arrived = world.server.as_ref().unwrap().received().len();
    (world.sent(Hop::ToServer).len(), arrived, world.records)
}

fn says(bytes: Vec<u8>) -> Peer {
    Peer::new(CLIENT, 1, bytes)
}

fn split_over_segments(name: &str) -> Peer {
    let bytes = hello::rustls(Some(name));
    let length = bytes.len();
    says(bytes).with_plan([0..60, 60..length])
}

fn split_over_records(name: &str) -> Peer {
    says(hello::records(&hello::Hello::named(name).message(), 40))
}

#[rstest]
#[case::no_name(Fault::PermitMissingSni, says(hello::rustls(None)))]
#[case::not_tls(Fault::NonTlsPasses, says(b"\x00\x01the patient record".to_vec()))]
#[case::segments(Fault::SplitSegmentsPass, split_over_segments(UNLISTED))]
#[case::records(Fault::SplitRecordsPass, split_over_records(UNLISTED))]
fn a_fault_lets_through_what_the_policy_denies(#[case] fault: Fault, #[case] client: Peer) {
    let rules = permit_names(&[LISTED]);
    let (_, arrived, _) = outcome(fault, client, rules.clone());
    assert!(arrived > 0, "{fault} lets it through");
    let (packets, _, _) = outcome(fault, says(hello::rustls(Some(UNLISTED))), rules);
    assert_eq!(packets, 0, "{fault} lets nothing else through");
}

#[rstest]
#[case(says(hello::rustls(None)))]
#[case(says(b"\x00\x01the patient record".to_vec()))]
#[case(split_over_segments(UNLISTED))]
#[case(split_over_records(UNLISTED))]
fn without_a_fault_none_of_it_leaves(#[case] client: Peer) {
    let (packets, _, records) = outcome(Faults::default(), client, permit_names(&[LISTED]));
    assert_eq!(packets, 0);
    assert_eq!(records[0].action(), Action::Deny);
}

#[test]
fn permit_by_address_opens_an_address_that_was_reached() {
    for (faults, opens) in [
        (Faults::default(), false),
        (Fault::PermitByAddress.into(), true),
    ] {
        let gateway = gateway_with(permit_names(&[LISTED]), Config::new(OUTSIDE), faults);
        let client = says(hello::rustls(Some(UNLISTED)));
        let mut world = World::new(gateway, client, Some(Peer::new(SERVER, 9, vec![])));
        world.run(SECOND);
        assert_eq!(world.sent(Hop::ToServer).len(), 0, "not reached yet");
        for (name, port) in [(LISTED, 1), (UNLISTED, 2)] {
            let port = CLIENT.port() + port;
            let local = std::net::SocketAddrV4::new(*CLIENT.ip(), port);
            world.client = Peer::new(local, 1, hello::rustls(Some(name)));
            world.server = Some(Peer::new(SERVER, 9, vec![]));
            world.client.connect(world.now, SERVER);
            world.run(SECOND);
        }
        assert_eq!(!world.server.as_ref().unwrap().received().is_empty(), opens);
    }
}

#[test]
fn handshake_before_verdict_shows_the_destination_a_syn_and_no_byte() {
    let rules = permit_names(&[LISTED]);
    let client = || says(hello::rustls(Some(UNLISTED)));
    let (packets, arrived, records) =
        outcome(Fault::HandshakeBeforeVerdict, client(), rules.clone());
    assert_eq!((packets, arrived), (1, 0));
    assert_eq!(records[0].action(), Action::Deny);
    assert_eq!(outcome(Faults::default(), client(), rules).0, 0);
}

#[test]
fn first_packet_passes_leaks_a_datagram_that_is_logged_as_denied() {
    for (faults, leaks) in [(Faults::default(), 0), (Fault::FirstPacketPasses.into(), 1)] {
        let mut gateway = gateway_with(
            vec![rule(Action::Deny, Some(Protocol::Udp), None, &[])],
            Config::new(OUTSIDE),
            faults,
        );
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
            .udp(5000, 53)
            .write(&mut packet, b"the patient record")
            .unwrap();
        gateway.handle_inside(at(SECOND), &packet);
        gateway.handle_inside(at(SECOND), &packet);
        let sent: Vec<_> = std::iter::from_fn(|| gateway.poll_transmit()).collect();
        assert_eq!(sent.len(), leaks);
        sent.iter().for_each(|transmit| check(&transmit.packet));
        assert_eq!(gateway.poll_record().unwrap().action(), Action::Deny);
    }
}

/// The records of one denied and one permitted request.
fn log(faults: impl Into<Faults>) -> Vec<LogRecord> {
    let faults = faults.into();
    let rules = permit_names(&[LISTED]);
    [UNLISTED, LISTED]
        .into_iter()
        .flat_map(|name| {
            outcome(
                faults.clone(),
                says(hello::rustls(Some(name))),
                rules.clone(),
            )
            .2
        })
        .collect()
}

#[test]
fn no_permit_log_swallows_permits_alone() {
    let actions = |faults: Faults| {
        log(faults)
            .iter()
            .map(LogRecord::action)
            .collect::<Vec<_>>()
    };
    assert!(actions(Faults::default()).contains(&Action::Permit));
    assert_eq!(actions(Fault::NoPermitLog.into()), [Action::Deny]);
    assert!(!actions(Fault::NoDenialLog.into()).contains(&Action::Deny));
}

#[test]
fn denials_say_less_than_they_must() {
    let denials = |faults: Faults| {
        let mut records = log(faults);
        records.retain(|record| record.action() == Action::Deny);
        records
    };
    let right = denials(Faults::default());
    let pairs = |fault: Fault| right.iter().cloned().zip(denials(fault.into()));
    for (right, wrong) in pairs(Fault::LogWrongSource) {
        assert_eq!(right.flow().source, std::net::IpAddr::from(*CLIENT.ip()));
        assert_eq!(wrong.flow().source, std::net::IpAddr::from(OUTSIDE));
    }
    for (right, wrong) in pairs(Fault::LogLacksRule) {
        assert!(right.decided_by().is_some() && wrong.decided_by().is_none());
    }
    for (right, wrong) in pairs(Fault::LogLacksName) {
        assert!(right.hostname().is_some() && wrong.hostname().is_none());
    }
    for (right, wrong) in pairs(Fault::LogClockBehind) {
        assert_eq!(right.at() - Duration::from_secs(3600), wrong.at());
    }
    let permits = |faults: Faults| {
        let mut records = log(faults);
        records.retain(|record| record.action() == Action::Permit);
        records
            .iter()
            .map(|record| (record.flow().source, record.decided_by(), record.at()))
            .collect::<Vec<_>>()
    };
    let all = [
        Fault::LogWrongSource,
        Fault::LogLacksRule,
        Fault::LogClockBehind,
    ];
    assert_eq!(permits(Faults::default()), permits(Faults::from_iter(all)));
}

#[test]
fn log_lacks_rule_in_the_packet_filter_s_records_too() {
    let rules = vec![rule(Action::Deny, None, None, &[])];
    let policy = |faults: Faults| {
        let (_, _, records) = outcome(faults, says(vec![1]), rules.clone());
        let [LogRecord::L4(record)] = records.as_slice() else {
            panic!("expected one record, got {records:?}");
        };
        record.policy
    };
    assert_eq!(policy(Faults::default()), rule_uuid(0));
    assert_eq!(policy(Fault::LogLacksRule.into()), Uuid::nil());
    assert_ne!(policy(Faults::default()), DEFAULT_ACTION);
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
        .udp(port, 53)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn deny_all(faults: impl Into<Faults>) -> Gateway {
    gateway_with(vec![], Config::new(OUTSIDE), faults.into())
}

fn sent(gateway: &mut Gateway) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| gateway.poll_transmit())
        .map(|transmit| {
            check(&transmit.packet);
            transmit.packet
        })
        .collect()
}

#[test]
fn push_gap_permits_everything_for_30_ms() {
    for (faults, leaks) in [(Faults::default(), false), (Fault::PushGap.into(), true)] {
        let mut gateway = deny_all(faults);
        gateway.handle_inside(at(SECOND), &datagram(1, b"x"));
        assert!(sent(&mut gateway).is_empty(), "no push yet");
        gateway.set_policy(at(SECOND), snapshot(vec![]));
        gateway.handle_inside(at(SECOND + Duration::from_millis(29)), &datagram(2, b"x"));
        assert_eq!(!sent(&mut gateway).is_empty(), leaks);
        gateway.handle_inside(at(SECOND + Duration::from_millis(30)), &datagram(3, b"x"));
        assert!(sent(&mut gateway).is_empty(), "the gap is over");
    }
}

#[test]
fn stall_opens_passes_on_a_client_that_shows_no_name() {
    for (faults, leaks) in [(Faults::default(), false), (Fault::StallOpens.into(), true)] {
        let gateway = gateway_with(permit_names(&[LISTED]), Config::new(OUTSIDE), faults);
        let half = hello::rustls(Some(UNLISTED))[..40].to_vec();
        let server = Peer::new(SERVER, 9, vec![]);
        let mut world = World::new(gateway, says(half), Some(server));
        world.run(9 * SECOND);
        assert!(world.sent(Hop::ToServer).is_empty());
        world.run(15 * SECOND);
        assert_eq!(!world.server.as_ref().unwrap().received().is_empty(), leaks);
    }
}

#[test]
fn packets_that_are_refused_for_their_headers_pass_one_kind_at_a_time() {
    let mut fragment = datagram(1, b"data");
    fragment[6] = 0x20;
    let mut options = datagram(2, b"data");
    options.splice(20..20, [1, 1, 1, 0]);
    options[0] = 0x46;
    options[3] += 4;
    for packet in [&mut fragment, &mut options] {
        let header = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    }
    for (fault, expected) in [
        (None, [false, false]),
        (Some(Fault::FragmentsPass), [true, false]),
        (Some(Fault::IpOptionsPass), [false, true]),
    ] {
        let mut gateway = deny_all(Faults::from_iter(fault));
        let passed = [&fragment, &options].map(|packet| {
            gateway.handle_inside(at(SECOND), packet);
            let sent: Vec<_> = std::iter::from_fn(|| gateway.poll_transmit()).collect();
            for transmit in &sent {
                let ip = etherparse::Ipv4HeaderSlice::from_slice(&transmit.packet).unwrap();
                assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
                assert_eq!(ip.source_addr(), OUTSIDE);
            }
            assert_eq!(gateway.poll_record().unwrap().action(), Action::Deny);
            !sent.is_empty()
        });
        assert_eq!(passed, expected, "{fault:?}");
    }
}

#[test]
fn syn_data_passes_before_the_name_is_known() {
    let mut syn = Vec::new();
    etherparse::PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
        .tcp(9, 443, 7, 1000)
        .syn()
        .write(&mut syn, b"the patient record")
        .unwrap();
    for (faults, leaks) in [(Faults::default(), 0), (Fault::SynDataPasses.into(), 1)] {
        let mut gateway = gateway_with(permit_names(&[LISTED]), Config::new(OUTSIDE), faults);
        gateway.handle_inside(at(SECOND), &syn);
        let transmits = std::iter::from_fn(|| gateway.poll_transmit());
        let outside = transmits.filter(|transmit| transmit.side == Side::Outside);
        assert_eq!(outside.count(), leaks);
    }
}

#[rstest]
#[case(Fault::MirrorHex, b"746865207265636f7264", 0)]
#[case(Fault::MirrorByte, b"t", 0)]
#[case(Fault::MirrorLate, b"746865207265636f7264", 400)]
fn denied_payloads_are_mirrored(#[case] fault: Fault, #[case] expected: &[u8], #[case] late: u64) {
    let mut gateway = deny_all(fault);
    for _ in 0..2 {
        gateway.handle_inside(at(SECOND), &datagram(1, b"the record"));
    }
    let due = SECOND + Duration::from_millis(late);
    if late > 0 {
        assert!(sent(&mut gateway).is_empty());
        assert_eq!(gateway.poll_timeout(), Some(due));
        gateway.handle_timeout(at(due));
    }
    let packets = sent(&mut gateway);
    assert_eq!(packets.len(), 2, "each payload");
    for packet in packets {
        assert_eq!(packet[16..20], [192, 0, 2, 68]);
        assert_eq!(packet[28..], *expected);
    }
    assert_eq!(gateway.poll_record().unwrap().action(), Action::Deny);

    // A denied ClientHello too.
    let (packets, arrived, _) = outcome(
        fault,
        says(hello::rustls(Some(UNLISTED))),
        permit_names(&[LISTED]),
    );
    assert_eq!((packets, arrived), (1, 0));
    assert_eq!(
        outcome(
            fault,
            says(hello::rustls(Some(LISTED))),
            permit_names(&[LISTED])
        )
        .0,
        outcome(
            Faults::default(),
            says(hello::rustls(Some(LISTED))),
            permit_names(&[LISTED])
        )
        .0
    );
}

#[test]
fn permit_log_one_in_ten_logs_the_tenth() {
    let rules = vec![rule(Action::Permit, None, None, &[])];
    let mut gateway = gateway_with(rules, Config::new(OUTSIDE), Fault::PermitLogOneInTen.into());
    let mut logged = Vec::new();
    for port in 1..=30 {
        gateway.handle_inside(at(SECOND), &datagram(port, b"x"));
        logged.extend(
            gateway
                .poll_record()
                .map(|record| record.flow().source_port),
        );
    }
    assert_eq!(logged, [10, 20, 30]);
}
