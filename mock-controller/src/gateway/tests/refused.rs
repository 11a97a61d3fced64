//! Packets that no flow takes, and denied flows that go on: each leaves a record, and no more than its source may have.

use std::{net::Ipv4Addr, time::Duration};

use etherparse::{Icmpv4Type, PacketBuilder};
use rstest::rstest;
use uuid::Uuid;

use super::world::*;
use crate::{
    fault::Faults,
    gateway::{Config, DropReason, Gateway, Limits, NO_RULE},
    policy::{Action, FiveTuple, Protocol, Rule},
    record::{L4Record, LogRecord},
};

const START: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(60);
const SOURCE_PORT: u16 = 5_353;

fn ipv4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ipv4()
        .udp(SOURCE_PORT, 53)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn segment(change: impl FnOnce(&mut etherparse::TcpHeader)) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(SOURCE_PORT, 53, 9, 1_000);
    change(&mut header);
    let mut packet = Vec::new();
    ipv4()
        .tcp_header(header)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

/// Changes a packet and makes its header checksum right again.
fn edit(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    let length = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&packet[..length]);
    packet[10..12].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    packet
}

fn with_options(packet: Vec<u8>) -> Vec<u8> {
    edit(packet, |packet| {
        // Loose source route to one host (RFC 791 section 3.1), padded.
        packet.splice(20..20, [131, 7, 4, 192, 0, 2, 66, 0]);
        packet[0] = 0x47;
        packet[3] += 8;
    })
}

fn permit_all() -> Vec<Rule> {
    vec![rule(Action::Permit, None, None, &[])]
}

fn records(gateway: &mut Gateway) -> Vec<L4Record> {
    std::iter::from_fn(|| gateway.poll_record())
        .map(|record| match record {
            LogRecord::L4(record) => record,
            LogRecord::L7(record) => panic!("expected the packet filter's record, got {record:?}"),
        })
        .collect()
}

fn flow(protocol: Protocol, source_port: u16, destination_port: u16) -> FiveTuple {
    FiveTuple {
        protocol,
        source: (*CLIENT.ip()).into(),
        source_port,
        destination: (*SERVER.ip()).into(),
        destination_port,
    }
}

const UDP: FiveTuple = FiveTuple {
    protocol: Protocol::Udp,
    source: std::net::IpAddr::V4(Ipv4Addr::new(10, 244, 0, 11)),
    source_port: SOURCE_PORT,
    destination: std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 20)),
    destination_port: 53,
};

#[rstest]
#[case::first_fragment(edit(datagram(b"data"), |packet| packet[6] = 0x20), DropReason::Fragment, UDP)]
#[case::later_fragment(edit(datagram(b"data"), |packet| packet[7] = 8), DropReason::Fragment, flow(Protocol::Udp, 0, 0))]
#[case::source_route(with_options(datagram(b"data")), DropReason::HeaderOptions, UDP)]
#[case::udp_length(edit(datagram(b"data"), |packet| packet[24] = 0xff), DropReason::Malformed, UDP)]
#[case::data_without_syn(segment(|tcp| tcp.ack = true), DropReason::OutOfState, flow(Protocol::Tcp, SOURCE_PORT, 53))]
#[case::reset(segment(|tcp| tcp.rst = true), DropReason::OutOfState, flow(Protocol::Tcp, SOURCE_PORT, 53))]
#[case::syn_and_fin(segment(|tcp| (tcp.syn, tcp.fin) = (true, true)), DropReason::OutOfState, flow(Protocol::Tcp, SOURCE_PORT, 53))]
#[case::sctp(edit(datagram(b"data"), |packet| packet[9] = 132), DropReason::Untranslatable, flow(Protocol::Other(132), 0, 0))]
#[case::redirect(redirect(), DropReason::Untranslatable, flow(Protocol::Icmp, 0, 0))]
fn a_packet_that_no_flow_takes_is_logged_once_per_period(
    #[case] packet: Vec<u8>,
    #[case] reason: DropReason,
    #[case] expected: FiveTuple,
) {
    let mut gateway = gateway(permit_all());
    for (at_second, due) in [(1, 1), (2, 0), (60, 0), (61, 1), (62, 0)] {
        gateway.handle_inside(at(Duration::from_secs(at_second)), &packet);
        let records = records(&mut gateway);
        assert_eq!(records.len(), due, "at {at_second} s");
        for record in records {
            assert_eq!((record.action, record.enforced), (Action::Deny, true));
            assert_eq!((record.flow, record.policy), (expected, NO_RULE));
            assert_eq!(usize::from(record.ip_size), packet.len());
        }
    }
    assert!(gateway.poll_transmit().is_none());
    assert_eq!(gateway.counters().dropped(reason), 5);
    assert_eq!(gateway.counters().denials, 2);
}

fn redirect() -> Vec<u8> {
    let kind = Icmpv4Type::Unknown {
        type_u8: 5,
        code_u8: 0,
        bytes5to8: [0; 4],
    };
    let mut packet = Vec::new();
    ipv4().icmpv4(kind).write(&mut packet, b"").unwrap();
    packet
}

/// The rule that denies what can be read of it is named, and its logging switch counts.
#[rstest]
#[case::by_the_rule(true, vec![rule_uuid(1)])]
#[case::by_a_rule_that_is_not_logged(false, vec![])]
fn a_fragment_is_denied_by_the_rule_that_denies_its_ends(
    #[case] logging: bool,
    #[case] expected: Vec<Uuid>,
) {
    let mut rules = permit_names(&["ehr.example.org"]);
    if !logging {
        rules[1].logging = crate::policy::Logging::Off;
    }
    let mut gateway = gateway(rules);
    let fragment = edit(datagram(b"data"), |packet| packet[6] = 0x20);
    gateway.handle_inside(at(START), &fragment);
    // A name would be asked for on 443, and a fragment shows none.
    let of_a_hello = edit(
        segment(|tcp| (tcp.syn, tcp.destination_port) = (true, 443)),
        |packet| packet[6] = 0x20,
    );
    gateway.handle_inside(at(START), &of_a_hello);
    let rules: Vec<_> = records(&mut gateway)
        .iter()
        .map(|record| record.policy)
        .collect();
    assert_eq!(rules, [expected.clone(), expected].concat());
}

#[test]
fn a_fragment_does_not_stop_the_flow_that_it_claims_to_be_of() {
    let mut gateway = gateway(permit_all());
    let fragment = edit(datagram(b"data"), |packet| packet[6] = 0x20);
    for packet in [&fragment, &datagram(b"data"), &fragment, &datagram(b"more")] {
        gateway.handle_inside(at(START), packet);
    }
    assert_eq!(std::iter::from_fn(|| gateway.poll_transmit()).count(), 2);
    let actions: Vec<_> = records(&mut gateway)
        .iter()
        .map(|record| record.action)
        .collect();
    assert_eq!(actions, [Action::Deny, Action::Permit]);
}

#[test]
fn a_header_that_lies_is_only_counted() {
    let mut gateway = gateway(permit_all());
    let mut packet = datagram(b"data");
    packet[10] ^= 1;
    gateway.handle_inside(at(START), &packet);
    assert_eq!(records(&mut gateway), []);
    assert_eq!(gateway.counters().dropped(DropReason::Malformed), 1);
}

#[test]
fn a_packet_to_the_gateway_itself_is_logged() {
    let mut gateway = gateway(permit_all());
    let packet = edit(datagram(b"data"), |packet| {
        packet[16..20].copy_from_slice(&OUTSIDE.octets())
    });
    gateway.handle_inside(at(START), &packet);
    assert_eq!(records(&mut gateway)[0].flow.destination, OUTSIDE);
}

/// One datagram a second for two and a half linger periods.
#[test]
fn a_denied_flow_that_goes_on_is_logged_again() {
    let mut gateway = gateway(vec![]);
    let mut logged = Vec::new();
    for second in 1..=150 {
        let now = at(Duration::from_secs(second));
        gateway.handle_timeout(now);
        gateway.handle_inside(now, &datagram(b"data"));
        logged.extend(records(&mut gateway).iter().map(|_| second));
    }
    assert_eq!(logged, [1, 61, 121]);
}

#[test]
fn a_denied_flow_is_logged_again_after_a_policy_change() {
    let mut gateway = gateway(vec![]);
    let deny_udp = rule(Action::Deny, Some(Protocol::Udp), None, &[]);
    let mut policies = Vec::new();
    for policy in [
        None,
        Some(snapshot(vec![deny_udp.clone()])),
        Some(snapshot(vec![deny_udp])),
    ] {
        if let Some(policy) = policy {
            gateway.set_policy(at(START), policy);
        }
        for _ in 0..3 {
            gateway.handle_inside(at(START), &datagram(b"data"));
        }
        policies.extend(records(&mut gateway).iter().map(|record| record.policy));
    }
    let default = crate::policy::DEFAULT_ACTION;
    assert_eq!(policies, [default, rule_uuid(0), rule_uuid(0)]);
}

#[test]
fn records_of_one_source_are_bounded_and_those_of_another_are_not() {
    let config = Config {
        limits: Limits {
            denial_records: 10,
            ..Limits::default()
        },
        ..Config::new(OUTSIDE)
    };
    let mut gateway = gateway_with(vec![], config, Faults::default());
    let spread = |gateway: &mut Gateway, now| {
        for port in 1..=1_000u16 {
            let fragment = edit(datagram(b"data"), |packet| {
                packet[6] = 0x20;
                packet[20..22].copy_from_slice(&port.to_be_bytes());
            });
            gateway.handle_inside(at(now), &fragment);
        }
        records(gateway).len()
    };
    assert_eq!(spread(&mut gateway, START), 10);
    assert_eq!(gateway.counters().unlogged_denials, 990);
    let other = edit(datagram(b"data"), |packet| packet[15] = 12);
    gateway.handle_inside(at(START), &other);
    assert_eq!(records(&mut gateway).len(), 1);
    assert_eq!(spread(&mut gateway, START + LINGER), 10, "the next period");
}
