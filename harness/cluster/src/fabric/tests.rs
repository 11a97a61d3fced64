#![allow(clippy::unwrap_used)]

use super::*;
use crate::node_stage::policy::{self, Cidr, Isolation, Peer, Peers, PodPolicy, PolicyTable, Rule};
use etherparse::PacketBuilder;
use impairment::{HELD, Impairment};
use proptest::prelude::*;
use rstest::rstest;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, last: u16) -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last))
}

const NODE: IpAddr = v4(10, 0, 0, 10);
const DNS: IpAddr = v4(10, 244, 0, 2);
const ALICE: IpAddr = v4(10, 244, 0, 10);
const BOB: IpAddr = v4(10, 244, 0, 11);
const OUTSIDE: IpAddr = v4(198, 51, 100, 10);
const ALICE_6: IpAddr = v6(0xfd00, 0x10, 0x244, 10);
const BOB_6: IpAddr = v6(0xfd00, 0x10, 0x244, 11);
const OUTSIDE_6: IpAddr = v6(0x2001, 0xdb8, 0x66, 1);
const T0: Duration = Duration::from_secs(1);

struct Ports {
    node: Origin,
    internet: Origin,
    alice: Origin,
    bob: Origin,
}

fn fabric() -> (Fabric, Ports) {
    let mut fabric = Fabric::new(NodeConfig {
        addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, 10)],
        pods: vec![
            Cidr::new(v4(10, 244, 0, 0), 16),
            "fd00:10:244::/64".parse().unwrap(),
        ],
        services: Cidr::new(v4(10, 96, 0, 0), 16),
        masquerade: false,
        seed: 7,
    });
    let mut attach =
        |port, addresses: &[IpAddr]| Origin::Port(fabric.attach(port, addresses).unwrap());
    let ports = Ports {
        node: attach(Port::Node, &[NODE, DNS]),
        internet: attach(Port::Internet, &[]),
        alice: attach(Port::Pod, &[ALICE, ALICE_6]),
        bob: attach(Port::Pod, &[BOB, BOB_6]),
    };
    (fabric, ports)
}

fn datagram(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let mut packet = Vec::new();
    let ip = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        }
        ends => panic!("the ends {ends:?} are of two families"),
    };
    ip.udp(1000, 2000).write(&mut packet, b"payload").unwrap();
    packet
}

fn deliver(origin: Origin) -> Forward {
    let Origin::Port(port) = origin else {
        panic!("a port")
    };
    Forward::Deliver(port)
}

/// Where a packet goes, by names that read well in a table.
fn outcome(from: &str, source: IpAddr, destination: IpAddr) -> String {
    let (mut fabric, ports) = fabric();
    let origin = match from {
        "node" => ports.node,
        "alice" => ports.alice,
        "internet" => ports.internet,
        _ => Origin::Gateway,
    };
    let forward = fabric.handle(T0, origin, &mut datagram(source, destination));
    let named = [
        ("node", ports.node),
        ("alice", ports.alice),
        ("bob", ports.bob),
    ];
    if let Some((name, _)) = named.iter().find(|(_, port)| forward == deliver(*port)) {
        return (*name).to_owned();
    }
    match forward {
        Forward::Dropped => format!("{:?}", fabric.drops().recent[0].reason),
        other => format!("{other:?}"),
    }
}

#[rstest]
#[case("alice", ALICE, BOB, "bob")]
#[case("alice", ALICE, DNS, "node")]
#[case("alice", ALICE, NODE, "node")]
#[case("alice", ALICE, OUTSIDE, "Leave")]
#[case("alice", BOB, OUTSIDE, "Spoofed")]
#[case("alice", ALICE, v4(10, 244, 9, 9), "NoRoute")]
#[case("alice", ALICE, v4(169, 254, 169, 254), "NoRoute")]
#[case("alice", ALICE, v4(224, 0, 0, 251), "NoRoute")]
#[case("alice", ALICE, v4(255, 255, 255, 255), "NoRoute")]
#[case("node", NODE, ALICE, "alice")]
#[case("node", DNS, ALICE, "alice")]
#[case("node", NODE, OUTSIDE, "Leave")]
#[case("node", ALICE, OUTSIDE, "Spoofed")]
#[case("internet", OUTSIDE, ALICE, "Enter")]
#[case("gateway", OUTSIDE, ALICE, "alice")]
#[case("gateway", OUTSIDE, OUTSIDE, "NoRoute")]
#[case("gateway", BOB, ALICE, "Spoofed")]
#[case::ipv6_between_pods("alice", ALICE_6, BOB_6, "bob")]
#[case::ipv6_leaves("alice", ALICE_6, OUTSIDE_6, "Leave")]
#[case::ipv6_of_another("alice", BOB_6, OUTSIDE_6, "Spoofed")]
#[case::ipv6_answer("gateway", OUTSIDE_6, ALICE_6, "alice")]
#[case::ipv6_unused("alice", ALICE_6, v6(0xfd00, 0x10, 0x244, 99), "NoRoute")]
#[case::ipv6_link_local("alice", ALICE_6, v6(0xfe80, 0, 0, 1), "NoRoute")]
#[case::ipv6_multicast("alice", ALICE_6, v6(0xff02, 0, 0, 2), "NoRoute")]
#[case::ipv6_claims_from_outside("gateway", ALICE_6, BOB_6, "Spoofed")]
fn a_packet_goes(
    #[case] from: &str,
    #[case] source: IpAddr,
    #[case] destination: IpAddr,
    #[case] expected: &str,
) {
    assert_eq!(outcome(from, source, destination), expected);
}

#[test]
fn detaching_frees_the_address() {
    let (mut fabric, ports) = fabric();
    assert_eq!(fabric.attach(Port::Pod, &[BOB]), Err(AddressInUse(BOB)));
    let Origin::Port(bob) = ports.bob else {
        panic!("a port")
    };
    fabric.detach(bob);
    let forward = fabric.handle(T0, ports.alice, &mut datagram(ALICE, BOB));
    assert_eq!(forward, Forward::Dropped);
    let again = fabric.attach(Port::Pod, &[BOB]).unwrap();
    let forward = fabric.handle(T0, ports.alice, &mut datagram(ALICE, BOB));
    assert_eq!(forward, Forward::Deliver(again));
}

#[test]
fn a_new_pod_does_not_inherit_what_was_let_through_to_its_address() {
    let (mut fabric, ports) = fabric();
    let newcomer = v4(10, 244, 0, 12);
    fabric.handle(T0, ports.alice, &mut datagram(ALICE, newcomer));
    let isolated = PodPolicy {
        ingress: Some(Isolation::default()),
        egress: None,
    };
    let table = PolicyTable(BTreeMap::from([(newcomer, isolated)]));
    fabric.node_mut().set_policies(table);
    fabric.attach(Port::Pod, &[newcomer]).unwrap();
    let forward = fabric.handle(T0, ports.alice, &mut datagram(ALICE, newcomer));
    assert_eq!(forward, Forward::Dropped);
}

fn to_bob(effect: Effect) -> Vec<Impairment> {
    vec![Impairment {
        source: None,
        destination: Some(Cidr::new(BOB, 32)),
        protocol: None,
        destination_port: None,
        effect,
    }]
}

#[test]
fn a_policy_that_lists_ipv4_blocks_leaves_a_pod_no_ipv6() {
    let (mut fabric, ports) = fabric();
    let everything = |cidr: &str| Rule {
        peers: Peers::Listed(vec![Peer::Block {
            cidr: cidr.parse().unwrap(),
            except: Vec::new(),
        }]),
        ports: policy::Ports::Any,
    };
    for (listed, expected) in [("0.0.0.0/0", Forward::Dropped), ("::/0", Forward::Leave)] {
        let isolated = PodPolicy {
            ingress: None,
            egress: Some(Isolation {
                policies: vec!["team/p".into()],
                rules: vec![everything(listed)],
            }),
        };
        let table = [ALICE, ALICE_6].map(|address| (address, isolated.clone()));
        fabric.node_mut().set_policies(PolicyTable(table.into()));
        let forward = fabric.handle(T0, ports.alice, &mut datagram(ALICE_6, OUTSIDE_6));
        assert_eq!(forward, expected, "{listed}");
    }
    let dropped = &fabric.drops().recent[0];
    assert_eq!(dropped.flow.unwrap().source, ALICE_6);
    assert!(matches!(dropped.reason, DropReason::NetworkPolicy { .. }));
}

#[test]
fn losses_follow_from_the_seed() {
    let run = || {
        let (mut fabric, ports) = fabric();
        fabric
            .impairments_mut()
            .set(to_bob(Effect::Drop { probability: 0.5 }));
        (0..64)
            .map(|_| fabric.handle(T0, ports.alice, &mut datagram(ALICE, BOB)) == Forward::Dropped)
            .collect::<Vec<_>>()
    };
    let lost = run().iter().filter(|lost| **lost).count();
    assert!((1..64).contains(&lost), "some are lost: {lost}");
    assert_eq!(run(), run());
}

#[test]
fn a_partition_is_one_way_and_counted() {
    let (mut fabric, ports) = fabric();
    fabric
        .impairments_mut()
        .set(to_bob(Effect::Drop { probability: 1.0 }));
    assert_eq!(
        fabric.handle(T0, ports.alice, &mut datagram(ALICE, BOB)),
        Forward::Dropped
    );
    assert_eq!(fabric.drops().counts[&DropReason::Impaired], 1);
    assert_eq!(
        fabric.handle(T0, ports.bob, &mut datagram(BOB, ALICE)),
        deliver(ports.alice)
    );
}

#[test]
fn a_delayed_packet_comes_out_in_time_and_once() {
    let (mut fabric, ports) = fabric();
    let delay = Duration::from_millis(20);
    fabric.impairments_mut().set(to_bob(Effect::Delay(delay)));
    let mut packet = datagram(ALICE, BOB);
    assert_eq!(fabric.handle(T0, ports.alice, &mut packet), Forward::Held);
    assert_eq!(fabric.poll_timeout(), Some(T0 + delay));
    assert_eq!(fabric.poll_delayed(T0), None);
    let (from, mut held) = fabric.poll_delayed(T0 + delay).unwrap();
    assert_eq!(
        fabric.handle_delayed(T0 + delay, from, &mut held),
        deliver(ports.bob)
    );
    assert_eq!(held, packet);
    assert_eq!(fabric.poll_delayed(T0 + delay), None);
    for _ in 0..HELD {
        assert_eq!(fabric.handle(T0, ports.alice, &mut packet), Forward::Held);
    }
    assert_eq!(
        fabric.handle(T0, ports.alice, &mut packet),
        Forward::Dropped
    );
}

#[test]
fn the_account_of_drops_is_bounded() {
    let (mut fabric, ports) = fabric();
    for _ in 0..=DROPS_KEPT {
        fabric.handle(T0, ports.alice, &mut [0x50; 40]);
    }
    assert_eq!(fabric.drops().recent.len(), DROPS_KEPT);
    assert_eq!(
        fabric.drops().counts[&DropReason::NotIp],
        DROPS_KEPT as u64 + 1
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), from in 0usize..4) {
        let (mut fabric, ports) = fabric();
        let origin = [ports.alice, ports.node, ports.internet, Origin::Gateway][from];
        let mut packet = bytes;
        let _ = fabric.handle(T0, origin, &mut packet);
    }
}
