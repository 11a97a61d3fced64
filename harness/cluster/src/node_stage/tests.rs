#![allow(clippy::unwrap_used)]

use super::*;
use crate::fabric::packet::checksum;
use etherparse::{IpNumber, Ipv4Header, PacketBuilder, SlicedPacket, TransportSlice};
use policy::{Isolation, Peers, PodPolicy, Ports, Rule};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeMap;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
const ALICE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const T0: Duration = Duration::from_secs(1);

fn stage() -> NodeStage {
    let mut stage = NodeStage::new(NodeConfig {
        addresses: vec![NODE],
        pods: vec!["10.244.0.0/16".parse().unwrap()],
        services: "10.96.0.0/16".parse().unwrap(),
        masquerade: false,
        seed: 0,
    });
    let port = |protocol| ServicePort {
        address: VIP,
        protocol,
        port: 80,
    };
    let endpoints = vec![SocketAddrV4::new(BOB, 8080)];
    stage.set_services(ServiceTable(BTreeMap::from([
        (port(Protocol::Tcp), endpoints.clone()),
        (port(Protocol::Udp), endpoints),
    ])));
    stage
}

fn tuple(protocol: Protocol, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Tuple {
    Tuple {
        protocol,
        source: source.0.into(),
        source_port: source.1,
        destination: destination.0.into(),
        destination_port: destination.1,
    }
}

fn build(flow: &Tuple, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (flow.source, flow.destination) else {
        panic!("the flow {flow} is not of IPv4")
    };
    let ip = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
    let mut packet = Vec::new();
    match flow.protocol {
        Protocol::Tcp => ip
            .tcp(flow.source_port, flow.destination_port, 1, 1000)
            .syn()
            .write(&mut packet, payload),
        Protocol::Udp => ip
            .udp(flow.source_port, flow.destination_port)
            .write(&mut packet, payload),
        Protocol::Icmp if flow.source_port == 0 => ip
            .icmpv4_echo_reply(flow.destination_port, 1)
            .write(&mut packet, payload),
        Protocol::Icmp => ip
            .icmpv4_echo_request(flow.source_port, 1)
            .write(&mut packet, payload),
        Protocol::Other(number) => ip.write(&mut packet, IpNumber(number), payload),
    }
    .unwrap();
    packet
}

/// Passes a packet and returns what became of it.
fn pass(stage: &mut NodeStage, packet: &[u8]) -> (Passage, Vec<u8>) {
    let mut packet = packet.to_vec();
    let parsed = Parsed::new(&packet).unwrap();
    (stage.pass(T0, &mut packet, &parsed), packet)
}

fn forwarded(stage: &mut NodeStage, packet: &[u8]) -> Vec<u8> {
    match pass(stage, packet) {
        (Passage::Forward(tuple), packet) => {
            let parsed = Parsed::new(&packet).unwrap();
            assert_eq!(
                (parsed.tuple.source, parsed.tuple.destination),
                (tuple.source, tuple.destination)
            );
            packet
        }
        (other, _) => panic!("not forwarded: {other:?}"),
    }
}

/// Every checksum in the packet, computed from scratch by another implementation.
fn assert_sound(packet: &[u8]) {
    assert_eq!(checksum(&packet[..20]), 0, "IP header checksum");
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("IPv4")
    };
    let (source, destination) = (ip.header().source(), ip.header().destination());
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let expected = header
                .calc_checksum_ipv4_raw(source, destination, tcp.payload())
                .unwrap();
            assert_eq!(header.checksum, expected, "TCP checksum");
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let expected = header
                .calc_checksum_ipv4_raw(source, destination, udp.payload())
                .unwrap();
            assert_eq!(header.checksum, expected, "UDP checksum");
        }
        TransportSlice::Icmpv4(icmp) => assert_eq!(checksum(icmp.slice()), 0, "ICMP checksum"),
        TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => panic!("not built here"),
    }
}

#[rstest]
#[case(Protocol::Tcp)]
#[case(Protocol::Udp)]
fn a_service_flow_is_translated_there_and_back(#[case] protocol: Protocol) {
    let mut stage = stage();
    let request = tuple(protocol, (ALICE, 40000), (VIP, 80));
    let there = forwarded(&mut stage, &build(&request, b"hello"));
    let arrived = Parsed::new(&there).unwrap().tuple;
    assert_eq!(arrived, tuple(protocol, (ALICE, 40000), (BOB, 8080)));
    assert_sound(&there);
    let back = forwarded(&mut stage, &build(&arrived.reversed(), b"world"));
    assert_eq!(Parsed::new(&back).unwrap().tuple, request.reversed());
    assert_sound(&back);
}

#[rstest]
#[case::no_such_port((VIP, 81))]
#[case::no_such_service((Ipv4Addr::new(10, 96, 7, 7), 80))]
fn a_service_without_endpoints_answers_port_unreachable(#[case] destination: (Ipv4Addr, u16)) {
    let mut stage = stage();
    let request = build(&tuple(Protocol::Tcp, (ALICE, 40000), destination), b"");
    let (Passage::Reject(answer, DropReason::NoEndpoint), _) = pass(&mut stage, &request) else {
        panic!("rejected")
    };
    assert_sound(&answer);
    let parsed = Parsed::new(&answer).unwrap();
    assert_eq!(
        (parsed.tuple.source, parsed.tuple.destination),
        (destination.0.into(), ALICE.into())
    );
    let cause = tuple(Protocol::Tcp, (ALICE, 40000), destination);
    assert_eq!(parsed.kind, Kind::IcmpError { cause });
}

#[test]
fn endpoints_take_turns_and_a_flow_keeps_its_own() {
    let mut stage = stage();
    let key = ServicePort {
        address: VIP,
        protocol: Protocol::Udp,
        port: 80,
    };
    let endpoints = vec![SocketAddrV4::new(ALICE, 1), SocketAddrV4::new(BOB, 2)];
    stage.set_services(ServiceTable(BTreeMap::from([(key, endpoints)])));
    let mut chosen = |port| {
        let packet = build(&tuple(Protocol::Udp, (NODE, port), (VIP, 80)), b"");
        Parsed::new(&forwarded(&mut stage, &packet))
            .unwrap()
            .tuple
            .destination
    };
    assert_eq!(
        [chosen(1), chosen(2), chosen(3), chosen(1)],
        [ALICE, BOB, ALICE, ALICE]
    );
    // When its endpoint goes, the flow finds another.
    stage.set_services(ServiceTable(BTreeMap::from([(
        key,
        vec![SocketAddrV4::new(BOB, 2)],
    )])));
    let packet = build(&tuple(Protocol::Udp, (NODE, 1), (VIP, 80)), b"");
    assert_eq!(
        Parsed::new(&forwarded(&mut stage, &packet))
            .unwrap()
            .tuple
            .destination,
        BOB
    );
}

/// A server that stops leaves its Service first and closes its connections then.
#[test]
fn a_connection_ends_as_that_of_its_service_although_its_endpoint_has_left() {
    let mut stage = stage();
    let request = tuple(Protocol::Tcp, (ALICE, 40000), (VIP, 80));
    let there = forwarded(&mut stage, &build(&request, b"hello"));
    let arrived = Parsed::new(&there).unwrap().tuple;
    stage.set_services(ServiceTable::default());
    let back = forwarded(&mut stage, &build(&arrived.reversed(), b"bye"));
    assert_eq!(Parsed::new(&back).unwrap().tuple, request.reversed());
}

#[rstest]
#[case::tcp(Protocol::Tcp, 443)]
#[case::udp(Protocol::Udp, 53)]
#[case::ping(Protocol::Icmp, 0)]
fn masquerade_hides_pods_behind_the_node(#[case] protocol: Protocol, #[case] port: u16) {
    let mut stage = stage();
    stage.set_masquerade(true);
    let flows = [ALICE, BOB].map(|pod| tuple(protocol, (pod, 40000), (OUTSIDE, port)));
    let outside = flows.map(|flow| {
        let packet = forwarded(&mut stage, &build(&flow, b"x"));
        assert_sound(&packet);
        Parsed::new(&packet).unwrap().tuple
    });
    assert_eq!(outside.map(|flow| flow.source), [NODE, NODE]);
    assert_ne!(
        outside[0].source_port, outside[1].source_port,
        "replies can be told apart"
    );
    for (seen, flow) in outside.iter().zip(flows) {
        let back = forwarded(&mut stage, &build(&seen.reversed(), b"y"));
        assert_eq!(Parsed::new(&back).unwrap().tuple, flow.reversed());
        assert_sound(&back);
    }
    // Inside the cluster pods keep their own address.
    let inside = forwarded(
        &mut stage,
        &build(&tuple(Protocol::Udp, (ALICE, 1), (BOB, 2)), b""),
    );
    assert_eq!(Parsed::new(&inside).unwrap().tuple.source, ALICE);
}

#[test]
fn a_pod_that_asks_its_own_service_is_masqueraded() {
    let mut stage = stage();
    let request = tuple(Protocol::Tcp, (BOB, 40000), (VIP, 80));
    let arrived = Parsed::new(&forwarded(&mut stage, &build(&request, b"")))
        .unwrap()
        .tuple;
    assert_eq!(arrived, tuple(Protocol::Tcp, (NODE, 40000), (BOB, 8080)));
    let back = forwarded(&mut stage, &build(&arrived.reversed(), b""));
    assert_eq!(Parsed::new(&back).unwrap().tuple, request.reversed());
}

fn isolated(direction: PolicyDirection, rules: Vec<Rule>) -> PolicyTable {
    let isolation = Some(Isolation {
        policies: vec!["team/p".into()],
        rules,
    });
    let policy = match direction {
        PolicyDirection::Ingress => PodPolicy {
            ingress: isolation,
            egress: None,
        },
        PolicyDirection::Egress => PodPolicy {
            ingress: None,
            egress: isolation,
        },
    };
    PolicyTable(BTreeMap::from([(BOB.into(), policy)]))
}

#[test]
fn policy_judges_first_packets_after_translation_and_lets_replies_pass() {
    let mut stage = stage();
    let ports = Ports::Listed(vec![(Protocol::Tcp, 8080..=8080)]);
    let rule = Rule {
        peers: Peers::Any,
        ports,
    };
    stage.set_policies(isolated(PolicyDirection::Ingress, vec![rule]));
    let request = build(&tuple(Protocol::Tcp, (ALICE, 40000), (VIP, 80)), b"");
    let arrived = Parsed::new(&forwarded(&mut stage, &request)).unwrap().tuple;
    // Egress of BOB is not isolated, and this is a reply anyway.
    forwarded(&mut stage, &build(&arrived.reversed(), b""));
    let denied = build(&tuple(Protocol::Tcp, (ALICE, 40000), (BOB, 22)), b"");
    let reason = DropReason::NetworkPolicy {
        direction: PolicyDirection::Ingress,
        policies: vec!["team/p".into()],
    };
    assert!(matches!(pass(&mut stage, &denied), (Passage::Drop(seen), _) if seen == reason));
    // The node always reaches its pods.
    forwarded(
        &mut stage,
        &build(&tuple(Protocol::Tcp, (NODE, 40000), (BOB, 22)), b""),
    );

    stage.set_policies(isolated(PolicyDirection::Egress, Vec::new()));
    forwarded(
        &mut stage,
        &build(&tuple(Protocol::Tcp, (BOB, 8080), (ALICE, 40000)), b""),
    );
    let denied = build(&tuple(Protocol::Tcp, (BOB, 5), (ALICE, 6)), b"");
    assert!(matches!(
        pass(&mut stage, &denied),
        (Passage::Drop(DropReason::NetworkPolicy { .. }), _)
    ));
}

#[test]
fn an_address_that_changes_hands_inherits_no_flow() {
    let mut stage = stage();
    let request = tuple(Protocol::Udp, (ALICE, 40000), (BOB, 53));
    forwarded(&mut stage, &build(&request, b""));
    stage.set_policies(isolated(PolicyDirection::Egress, Vec::new()));
    stage.forget(BOB.into());
    assert!(matches!(
        pass(&mut stage, &build(&request.reversed(), b"")),
        (Passage::Drop(_), _)
    ));
}

#[rstest]
#[case(Protocol::Udp)]
#[case(Protocol::Tcp)]
fn an_icmp_error_returns_along_its_flow(#[case] protocol: Protocol) {
    let mut stage = stage();
    let request = tuple(protocol, (ALICE, 40000), (VIP, 80));
    let arrived = forwarded(&mut stage, &build(&request, b"hello"));
    let parsed = Parsed::new(&arrived).unwrap();
    let error = packet::port_unreachable(&arrived, &parsed).unwrap();
    let back = forwarded(&mut stage, &error);
    assert_sound(&back);
    let parsed = Parsed::new(&back).unwrap();
    assert_eq!(
        (parsed.tuple.source, parsed.tuple.destination),
        (VIP.into(), ALICE.into())
    );
    assert_eq!(parsed.kind, Kind::IcmpError { cause: request });
    assert_eq!(checksum(&back[28..48]), 0, "the quoted header's checksum");

    let stranger = build(&tuple(protocol, (ALICE, 1), (BOB, 2)), b"");
    let error = packet::port_unreachable(&stranger, &Parsed::new(&stranger).unwrap()).unwrap();
    assert!(matches!(
        pass(&mut stage, &error),
        (Passage::Drop(DropReason::Unrelated), _)
    ));
}

#[test]
fn fragments_follow_their_first_one() {
    let mut stage = stage();
    let whole = build(&tuple(Protocol::Udp, (ALICE, 40000), (VIP, 80)), &[7; 64]);
    let fragment = |range: std::ops::Range<usize>, more: bool| {
        let (mut header, _) = Ipv4Header::from_slice(&whole).unwrap();
        header.identification = 99;
        header.more_fragments = more;
        header.fragment_offset =
            etherparse::IpFragOffset::try_new((range.start / 8) as u16).unwrap();
        header.set_payload_len(range.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut packet = Vec::new();
        header.write(&mut packet).unwrap();
        packet.extend(&whole[20..][range]);
        packet
    };
    let (first, second) = (fragment(0..40, true), fragment(40..72, false));
    assert!(matches!(
        pass(&mut stage, &second),
        (Passage::Drop(DropReason::Fragment), _)
    ));
    let parts = [
        forwarded(&mut stage, &first),
        forwarded(&mut stage, &second),
    ];
    // Put together, the receiver has the datagram as it would have come in one piece.
    let mut joined = build(&tuple(Protocol::Udp, (ALICE, 40000), (BOB, 8080)), &[7; 64]);
    let expected = joined.clone();
    joined.truncate(20);
    for part in &parts {
        assert_eq!(checksum(&part[..20]), 0);
        joined.extend(&part[20..]);
    }
    assert_eq!(joined, expected);
}

proptest! {
    #[test]
    fn any_flow_comes_back_as_it_went(
        tcp: bool, source_port: u16, payload in prop::collection::vec(any::<u8>(), 0..64), masquerade: bool, service: bool,
    ) {
        let mut stage = stage();
        stage.set_masquerade(masquerade);
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let destination = if service { (VIP, 80) } else { (OUTSIDE, 443) };
        let request = tuple(protocol, (ALICE, source_port), destination);
        let there = forwarded(&mut stage, &build(&request, &payload));
        assert_sound(&there);
        let arrived = Parsed::new(&there).unwrap().tuple;
        let back = forwarded(&mut stage, &build(&arrived.reversed(), &payload));
        assert_sound(&back);
        prop_assert_eq!(Parsed::new(&back).unwrap().tuple, request.reversed());
    }

    #[test]
    fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), protocol in prop::sample::select(vec![1u8, 6, 17, 47])) {
        let mut stage = stage();
        let mut packet = bytes;
        // Most random bytes are no IPv4 packet: make most of them one.
        for (at, value) in [(0, 0x45), (2, 0), (3, packet.len() as u8), (9, protocol)] {
            if let Some(slot) = packet.get_mut(at) {
                *slot = value;
            }
        }
        if let Ok(parsed) = Parsed::new(&packet) {
            let _ = stage.pass(T0, &mut packet, &parsed);
            let _ = packet::port_unreachable(&packet, &parsed);
        }
    }

    #[test]
    fn no_damaged_error_panics(at in 0usize..60, value: u8, length in 0usize..60) {
        let mut stage = stage();
        let arrived = forwarded(&mut stage, &build(&tuple(Protocol::Udp, (ALICE, 40000), (VIP, 80)), b"hello"));
        let parsed = Parsed::new(&arrived).unwrap();
        let mut error = packet::port_unreachable(&arrived, &parsed).unwrap();
        if let Some(slot) = error.get_mut(at) {
            *slot = value;
        }
        error.truncate(length);
        if let Ok(parsed) = Parsed::new(&error) {
            let _ = stage.pass(T0, &mut error, &parsed);
        }
    }
}
