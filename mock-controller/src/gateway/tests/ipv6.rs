//! IPv6 through both engines: judged by the same rules, and passed on under the client's own address.

use std::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use etherparse::{IcmpEchoHeader, Icmpv6Type, IpNumber, Ipv6Header, PacketBuilder};
use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::{Fault, Faults},
    gateway::{Config, DropReason, Gateway, Side, Transmit},
    policy::{
        Action, AttachmentPoint, Cidr, DefaultAction, Inventory, Logging, Policy, PolicyList,
        Protocol, Rule, Selector, SmartGroup, Snapshot, Switches, WebGroup,
    },
    record::{LogRecord, SessionStage},
};

const START: Duration = Duration::from_secs(1);
const NAME: &str = "ehr.example.org";
const POD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0x11);
const FAR_END: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 1);
const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 2);
const ONE_HOST: Uuid = Uuid::from_u128(0x6001);
const ALL_IPV6: Uuid = Uuid::from_u128(0x6002);

fn end(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddrV6::new(address, port, 0, 0).into()
}

/// `rules` from any IPv6 address, over a default of deny and log.
fn gateway_for(rules: Vec<Rule>, faults: Faults) -> Gateway {
    let mut policy = Policy::new(DefaultAction {
        action: Action::Deny,
        logging: Logging::StartAndEnd,
    });
    for (uuid, block, length) in [
        (ONE_HOST, FAR_END, 128),
        (ALL_IPV6, Ipv6Addr::UNSPECIFIED, 0),
    ] {
        policy.add_smart_group(SmartGroup {
            uuid,
            name: uuid.to_string(),
            selectors: vec![Selector::Cidr(Cidr::new(block.into(), length).unwrap())],
        });
    }
    let names = WebGroup::new(
        Uuid::from_u128(0x2000 + NAME.len() as u128),
        NAME.into(),
        vec![NAME.into()],
        &Switches::default(),
    );
    policy.add_web_group(names.unwrap());
    policy.add_list(PolicyList {
        uuid: Uuid::from_u128(1),
        name: "test".into(),
        attachment_point: AttachmentPoint::Kubernetes,
        object: None,
        rules,
    });
    let snapshot = Snapshot::compile(1, &policy, &Inventory::default(), &Switches::default());
    Gateway::new(Config::new(OUTSIDE), faults, 7, Arc::new(snapshot))
}

fn to(destination: Uuid, action: Action, port: Option<u16>, domains: &[&str]) -> Rule {
    let protocol = port.map(|_| Protocol::Tcp);
    Rule {
        uuid: Uuid::from_u128(0x7000),
        sources: vec![ALL_IPV6],
        destinations: vec![destination],
        ..rule(action, protocol, port, domains)
    }
}

fn permit_one_host() -> Vec<Rule> {
    vec![to(ONE_HOST, Action::Permit, None, &[])]
}

fn udp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16)) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source.0.octets(), destination.0.octets(), 64)
        .udp(source.1, destination.1)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

fn echo(source: Ipv6Addr, destination: Ipv6Addr, reply: bool) -> Vec<u8> {
    let header = IcmpEchoHeader { id: 7, seq: 1 };
    let kind = if reply {
        Icmpv6Type::EchoReply(header)
    } else {
        Icmpv6Type::EchoRequest(header)
    };
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        .icmpv6(kind)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

fn transmit(gateway: &mut Gateway) -> Option<Transmit> {
    let transmit = gateway.poll_transmit()?;
    check(&transmit.packet);
    Some(transmit)
}

/// The packet one hop further.
fn next_hop(mut packet: Vec<u8>) -> Vec<u8> {
    packet[7] -= 1;
    packet
}

#[rstest]
#[case::udp(udp((POD, 5353), (FAR_END, 53)), udp((FAR_END, 53), (POD, 5353)))]
#[case::echo(echo(POD, FAR_END, false), echo(FAR_END, POD, true))]
fn a_permitted_flow_passes_both_ways_untranslated(
    #[case] request: Vec<u8>,
    #[case] answer: Vec<u8>,
) {
    let mut gateway = gateway_for(permit_one_host(), Faults::default());
    gateway.handle_outside(at(START), &answer);
    assert_eq!(transmit(&mut gateway), None, "nothing asked for it yet");
    gateway.handle_inside(at(START), &request);
    let sent = transmit(&mut gateway).unwrap();
    assert_eq!((sent.side, sent.packet), (Side::Outside, next_hop(request)));
    gateway.handle_outside(at(START), &answer);
    let returned = transmit(&mut gateway).unwrap();
    assert_eq!(
        (returned.side, returned.packet),
        (Side::Inside, next_hop(answer))
    );
    assert!(
        matches!(gateway.poll_record(), Some(LogRecord::L4(record)) if record.action == Action::Permit)
    );
}

#[rstest]
#[case::another_host(udp((POD, 5353), (NEIGHBOUR, 53)))]
#[case::echo(echo(POD, NEIGHBOUR, false))]
fn what_no_rule_matches_falls_to_the_default_action(#[case] packet: Vec<u8>) {
    // The system group Anywhere is 0.0.0.0/0: a rule to it says nothing about IPv6.
    let anywhere = rule(Action::Permit, None, None, &[]);
    let rules = [permit_one_host(), vec![anywhere]].concat();
    let mut gateway = gateway_for(rules, Faults::default());
    gateway.handle_inside(at(START), &packet);
    gateway.handle_outside(at(START), &udp((NEIGHBOUR, 53), (POD, 5353)));
    assert_eq!(transmit(&mut gateway), None);
    let Some(LogRecord::L4(record)) = gateway.poll_record() else {
        panic!("a denial is logged");
    };
    assert_eq!(record.action, Action::Deny);
    assert_eq!(record.flow.source, POD);
    assert_eq!(record.flow.destination, NEIGHBOUR);
    gateway.handle_inside(at(START), &packet);
    assert_eq!(gateway.poll_record(), None, "a repetition is not logged");
}

#[rstest]
#[case::listed(NAME, Action::Permit)]
#[case::unlisted("other.example.com", Action::Deny)]
fn names_are_inspected_as_over_ipv4(#[case] name: &str, #[case] expected: Action) {
    let request = [hello::rustls(Some(name)), pattern(20_000)].concat();
    let mut client = Peer::new(end(POD, 40_500), 0xffff_ff00, request.clone());
    client.closes_after = Some(30_000);
    let mut server = Peer::new(end(FAR_END, 443), 0xffff_fff0, pattern(30_000));
    server.speaks_after = request.len();
    let rules = vec![to(ALL_IPV6, Action::Permit, Some(443), &[NAME])];
    let gateway = gateway_for(rules, Faults::default());
    let mut world = World::reaching(gateway, client, Some(server), end(FAR_END, 443));
    world.run(Duration::from_secs(60));
    let Some(LogRecord::L7(record)) = world.records.first() else {
        panic!("a decision is logged, got {:?}", world.records);
    };
    assert_eq!(record.action, expected);
    assert_eq!(record.sni_hostname.as_deref(), Some(name));
    let server = world.server.as_ref().unwrap();
    if expected == Action::Permit {
        assert_eq!(server.received(), request);
        assert_eq!(world.client.received(), pattern(30_000));
        let Some(LogRecord::L7(record)) = world.records.last() else {
            panic!("an end is logged");
        };
        assert_eq!(record.session_stage, SessionStage::End);
    } else {
        assert!(world.sent(Hop::ToServer).is_empty());
        assert!(world.client.saw_end);
    }
}

/// Extension headers in front of a permitted datagram.
#[rstest]
#[case::hop_by_hop(IpNumber::IPV6_HEADER_HOP_BY_HOP, DropReason::HeaderOptions)]
#[case::routing(IpNumber::IPV6_ROUTE_HEADER, DropReason::HeaderOptions)]
#[case::destination_options(IpNumber::IPV6_DESTINATION_OPTIONS, DropReason::HeaderOptions)]
#[case::authentication(IpNumber::AUTHENTICATION_HEADER, DropReason::HeaderOptions)]
#[case::mobility(IpNumber::MOBILITY_HEADER, DropReason::HeaderOptions)]
#[case::fragment(IpNumber::IPV6_FRAGMENTATION_HEADER, DropReason::Fragment)]
#[case::icmp_of_ipv4(IpNumber::ICMP, DropReason::Malformed)]
fn what_hides_the_transport_never_leaves(#[case] next: IpNumber, #[case] reason: DropReason) {
    let plain = udp((POD, 5353), (FAR_END, 53));
    let header = Ipv6Header {
        payload_length: (plain.len() - 40 + 8) as u16,
        next_header: next,
        hop_limit: 64,
        source: POD.octets(),
        destination: FAR_END.octets(),
        ..Ipv6Header::default()
    };
    let extension = [IpNumber::UDP.0, 0, 1, 4, 0, 0, 0, 0];
    let packet = [&header.to_bytes(), &extension[..], &plain[40..]].concat();
    let mut gateway = gateway_for(permit_one_host(), Faults::default());
    gateway.handle_inside(at(START), &packet);
    assert_eq!(transmit(&mut gateway), None);
    assert_eq!(gateway.counters().dropped(reason), 1);
}

#[test]
fn the_hop_limit_runs_out() {
    let mut packet = udp((POD, 5353), (FAR_END, 53));
    packet[7] = 1;
    let mut gateway = gateway_for(permit_one_host(), Faults::default());
    gateway.handle_inside(at(START), &packet);
    assert_eq!(transmit(&mut gateway), None);
    assert_eq!(gateway.counters().dropped(DropReason::Expired), 1);
}

#[test]
fn the_fault_passes_everything_of_ipv6_and_nothing_of_ipv4() {
    let mut gateway = gateway_for(vec![], Fault::Ipv6Forgotten.into());
    let packet = udp((POD, 5353), (NEIGHBOUR, 53));
    gateway.handle_inside(at(START), &packet);
    assert_eq!(transmit(&mut gateway).unwrap().packet, packet);
    assert_eq!(gateway.poll_record(), None);
    let mut ipv4 = Vec::new();
    PacketBuilder::ipv4([10, 244, 0, 11], [192, 0, 2, 66], 64)
        .udp(1, 53)
        .write(&mut ipv4, b"data")
        .unwrap();
    gateway.handle_inside(at(START), &ipv4);
    assert_eq!(transmit(&mut gateway), None);
}

proptest! {
    /// Bytes after an honest IPv6 header never panic the engine, and without a permit never leave it.
    #[test]
    fn damaged_packets_are_denied(next in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..120), cut in 0usize..160) {
        let header = Ipv6Header {
            payload_length: payload.len() as u16,
            next_header: IpNumber(next),
            hop_limit: 64,
            source: POD.octets(),
            destination: NEIGHBOUR.octets(),
            ..Ipv6Header::default()
        };
        let packet = [&header.to_bytes()[..], &payload].concat();
        let mut gateway = gateway_for(permit_one_host(), Faults::default());
        gateway.handle_inside(at(START), &packet[..cut.min(packet.len())]);
        gateway.handle_outside(at(START), &packet);
        prop_assert_eq!(gateway.poll_transmit(), None);
    }
}
