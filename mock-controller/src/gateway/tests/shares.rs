//! One source floods the gateway: it alone runs out, the attempts that are refused are recorded, others pass at once.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::Faults,
    gateway::{Config, DropReason, Limits, NO_RULE, shares::Resource},
    policy::{Action, Protocol, Rule},
    record::{L4Record, LogRecord, Reason},
};

const LISTED: &str = "ehr.example.org";
const UNLISTED: &str = "evil.example.com";
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 66);
const SECOND: Duration = Duration::from_secs(1);

/// A client other than the attacker that is about to send a listed name.
fn world(limits: Limits, rules: Vec<Rule>) -> World {
    let config = Config {
        limits,
        ..Config::new(OUTSIDE)
    };
    let gateway = gateway_with(rules, config, Faults::default());
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(LISTED)));
    World::new(gateway, client, Some(Peer::new(SERVER, 9, vec![])))
}

fn segment(port: u16, sequence: u32, acknowledged: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(ATTACKER.octets(), SERVER.ip().octets(), 64).tcp(
        port,
        SERVER.port(),
        sequence,
        60_000,
    );
    let builder = match acknowledged {
        Some(number) => builder.ack(number),
        None => builder.syn(),
    };
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

fn datagram(port: u16, destination_port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(ATTACKER.octets(), SERVER.ip().octets(), 64)
        .udp(port, destination_port)
        .write(&mut packet, b"x")
        .unwrap();
    packet
}

/// Hands the gateway a packet of the attacker; the answers.
fn attack(world: &mut World, packet: &[u8]) -> Vec<Vec<u8>> {
    let now = world.now();
    world.gateway.handle_inside(now, packet);
    let records = std::iter::from_fn(|| world.gateway.poll_record());
    world.records.extend(records);
    std::iter::from_fn(|| world.gateway.poll_transmit())
        .map(|transmit| transmit.packet)
        .collect()
}

/// The attacker completes a handshake; the number that it has to acknowledge, if the gateway answered.
fn connect(world: &mut World, port: u16) -> Option<u32> {
    let answers = attack(world, &segment(port, 100, None, b""));
    let sliced = SlicedPacket::from_ip(answers.first()?).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("a SYN is answered with TCP");
    };
    Some(tcp.sequence_number().wrapping_add(1))
}

fn assert_others_pass_at_once(world: &mut World) {
    world.run(SECOND);
    let server = world.server.as_ref().unwrap();
    assert_eq!(server.received().len(), hello::rustls(Some(LISTED)).len());
    let own = world.records.iter().any(|record| {
        record.flow().source == std::net::IpAddr::from(*CLIENT.ip())
            && record.action() == Action::Permit
    });
    assert!(own, "and its permit is logged");
}

/// Records of the attacker that name no rule: the gateway's own denials.
fn refusals(world: &World) -> Vec<&L4Record> {
    let of_attacker = world.records.iter().filter_map(|record| match record {
        LogRecord::L4(record) if record.flow.source == ATTACKER => Some(record),
        _ => None,
    });
    of_attacker
        .filter(|record| record.policy == NO_RULE)
        .collect()
}

#[test]
fn half_open_connections() {
    let mut world = world(Limits::default(), permit_names(&[LISTED]));
    for port in 1..=4_300 {
        attack(&mut world, &segment(port, 100, None, b""));
    }
    let inspections = Limits::default().inspections;
    assert_eq!(
        world.gateway.core.shares.total(Resource::Inspections),
        inspections / 2
    );
    let refused = world
        .gateway
        .counters()
        .dropped(DropReason::InspectionLimit);
    assert_eq!(refused, 4_300 - inspections as u64 / 2);
    let [refusal] = refusals(&world)[..] else {
        panic!("expected one record, got {:?}", refusals(&world));
    };
    assert_eq!(
        (
            refusal.action,
            refusal.enforced,
            refusal.flow.destination_port
        ),
        (Action::Deny, true, 443)
    );
    assert_others_pass_at_once(&mut world);

    // The next period is recorded again; the half-open ones have ended with a record each.
    world.now += Duration::from_secs(61);
    let now = world.now();
    world.gateway.handle_timeout(now);
    for port in 1..=4_300 {
        attack(&mut world, &segment(port, 200, None, b""));
    }
    assert_eq!(refusals(&world).len(), 2);
    let unfinished = world.records.iter().filter(|record| {
        matches!(record, LogRecord::L7(record) if record.reason == Reason::ConnectionSynOnlyTimeout)
    });
    assert_eq!(unfinished.count(), inspections / 2);
}

#[test]
fn connections_that_leave_a_gap() {
    let mut world = world(Limits::default(), permit_names(&[LISTED]));
    for port in 1..=470 {
        let acknowledged = connect(&mut world, port).unwrap();
        let behind_a_gap = segment(port, 101 + 39_000, Some(acknowledged), b"x");
        attack(&mut world, &behind_a_gap);
    }
    let held = held(&world.gateway).0;
    assert_eq!(held, 470, "a gap is not charged");
    assert_others_pass_at_once(&mut world);
}

#[test]
fn connections_that_fill_the_buffer_behind_a_gap() {
    let limits = Limits::default();
    let half = limits.buffered / 2;
    let mut world = world(limits, permit_names(&[LISTED]));
    for port in 1..=300 {
        let acknowledged = connect(&mut world, port).unwrap();
        let behind_a_gap = segment(port, 102, Some(acknowledged), &[0; 40_000]);
        attack(&mut world, &behind_a_gap);
        assert!(
            held(&world.gateway).0 <= half + 20_000,
            "half of it and of one segment"
        );
    }
    assert!(world.gateway.counters().dropped(DropReason::BufferLimit) > 0);
    assert_others_pass_at_once(&mut world);
    world.now += Duration::from_secs(11);
    let now = world.now();
    world.gateway.handle_timeout(now);
    while let Some(record) = world.gateway.poll_record() {
        world.records.push(record);
    }
    let denied = world
        .records
        .iter()
        .filter(|record| record.flow().source == ATTACKER);
    assert_eq!(denied.count(), 300, "each of them is recorded in the end");
}

#[test]
fn denied_datagrams() {
    let limits = Limits::default();
    let (flows, budget) = (limits.flows, limits.denial_records);
    let mut world = world(limits, permit_names(&[LISTED]));
    for number in 0..70_000u32 {
        let ports = ((number % 60_000) as u16 + 1, (number / 60_000) as u16 + 1);
        attack(&mut world, &datagram(ports.0, ports.1));
    }
    let counters = world.gateway.counters();
    assert_eq!(counters.flows as usize, flows / 2, "the oldest make room");
    assert_eq!(counters.denials, 70_000);
    assert_eq!(counters.unlogged_denials as usize, 70_000 - budget);
    assert_eq!(world.records.len(), budget);
    assert_others_pass_at_once(&mut world);
}

/// The proportion is that of 72,000 hellos to the table's default bound; all flows are over and none is forgotten yet.
#[test]
fn denied_hellos() {
    let limits = Limits {
        flows: 2_048,
        ..Limits::default()
    };
    let mut world = world(limits, permit_names(&[LISTED]));
    let bytes = hello::Hello::named(UNLISTED).bytes();
    for port in 1..=2_250 {
        let acknowledged = connect(&mut world, port).expect("the oldest make room");
        attack(&mut world, &segment(port, 101, Some(acknowledged), &bytes));
    }
    assert_eq!(world.gateway.counters().flows, 1_024);
    assert_eq!(world.records.len(), 2_250, "each denial is recorded");
    assert_others_pass_at_once(&mut world);
}

#[test]
fn outside_ports() {
    let mut rules = permit_names(&[LISTED]);
    rules.insert(0, rule(Action::Permit, Some(Protocol::Udp), None, &[]));
    let mut world = world(Limits::default(), rules);
    // Every port that others would like to keep, so that they need the next free one.
    let mut passed = 0;
    for port in 1_024..40_000 {
        passed += attack(&mut world, &datagram(port, 53)).len();
    }
    let ports = usize::from(u16::MAX) - 1_023;
    assert_eq!(passed, ports / 2);
    assert!(world.gateway.counters().dropped(DropReason::PortLimit) > 0);
    assert_eq!(refusals(&world).len(), 1);

    let other = SocketAddrV4::new(*CLIENT.ip(), 2_000);
    let mut query = Vec::new();
    PacketBuilder::ipv4(other.ip().octets(), SERVER.ip().octets(), 64)
        .udp(other.port(), 53)
        .write(&mut query, b"x")
        .unwrap();
    let sent = attack(&mut world, &query);
    assert_eq!(sent.len(), 1, "another source gets a port");
    assert_ne!(sent[0][20..22], 2_000u16.to_be_bytes());
    assert_others_pass_at_once(&mut world);
}

#[test]
fn permitted_flows_that_live_are_not_evicted() {
    let limits = Limits {
        flows: 8,
        ..Limits::default()
    };
    let rules = vec![rule(Action::Permit, Some(Protocol::Udp), None, &[])];
    let mut world = world(limits, rules);
    for port in 1..=4 {
        assert_eq!(attack(&mut world, &datagram(port, 53)).len(), 1);
    }
    assert_eq!(attack(&mut world, &datagram(5, 53)).len(), 0);
    assert_eq!(world.gateway.counters().dropped(DropReason::FlowLimit), 1);
    assert_eq!(refusals(&world).len(), 1);
    for port in 1..=4 {
        assert_eq!(
            attack(&mut world, &datagram(port, 53)).len(),
            1,
            "it goes on"
        );
    }
}
