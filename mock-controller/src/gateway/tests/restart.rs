//! A gateway that restarts: what went on before does not go on, and nothing passes until it has a policy again.

use std::time::Duration;

use proptest::prelude::*;

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::{Fault, Faults},
    gateway::{Config, DropReason, Gateway, Side},
    policy::{Action, DEFAULT_ACTION, Protocol},
    record::LogRecord,
};

const NAME: &str = "ehr.example.org";
const SECOND: Duration = Duration::from_secs(1);

fn client(name: &str) -> Peer {
    let mut client = Peer::new(CLIENT, 0xffff_ff00, hello::rustls(Some(name)));
    client.closes_after = Some(usize::MAX);
    client
}

fn world(faults: Faults, name: &str) -> World {
    let gateway = gateway_with(permit_names(&[NAME]), Config::new(OUTSIDE), faults);
    let server = Peer::new(SERVER, 9, pattern(500));
    World::new(gateway, client(name), Some(server))
}

/// A client that connects from the same port once more.
fn connects_again(world: &mut World, name: &str) {
    let port = CLIENT.port() + 1;
    world.client = Peer::new(
        std::net::SocketAddrV4::new(*CLIENT.ip(), port),
        77,
        hello::rustls(Some(name)),
    );
    world.server = Some(Peer::new(SERVER, 9, pattern(500)));
    world.client.connect(world.now, SERVER);
}

#[test]
fn a_permitted_connection_does_not_go_on() {
    let mut world = world(Faults::default(), NAME);
    world.run(SECOND);
    assert!(!world.client.received().is_empty());
    let (before, logged) = (world.sent(Hop::ToServer).len(), world.records.len());

    world.gateway.restart(at(world.now));
    world.client.say(world.now, b"the patient record");
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToServer).len(), before);
    let [LogRecord::L4(denial)] = &world.records[logged..] else {
        panic!("expected one denial, got {:?}", &world.records[logged..]);
    };
    assert_eq!(
        (denial.action, denial.policy),
        (Action::Deny, DEFAULT_ACTION)
    );

    // With the policy that permitted it, it is still a connection that nobody has inspected.
    world
        .gateway
        .set_policy(at(world.now), snapshot(permit_names(&[NAME])));
    world.client.say(world.now, b"the patient record");
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToServer).len(), before);
    assert!(world.gateway.counters().dropped(DropReason::OutOfState) > 0);
}

#[test]
fn answers_to_forgotten_flows_are_unsolicited() {
    let mut world = world(Faults::default(), NAME);
    world.run(SECOND);
    let before = world.sent(Hop::ToClient).len();
    world.gateway.restart(at(world.now));
    let now = world.now;
    world.server.as_mut().unwrap().say(now, b"more");
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToClient).len(), before);
    assert!(world.gateway.counters().dropped(DropReason::Unsolicited) > 0);
}

#[test]
fn an_inspection_under_way_does_not_end_in_a_permit() {
    let mut world = world(Faults::default(), NAME);
    let whole = hello::rustls(Some(NAME));
    world.client = Peer::new(CLIENT, 5, whole[..40].to_vec());
    world.client.connect(world.now, SERVER);
    world.run(SECOND);
    assert!(world.client.is_established());
    world.gateway.restart(at(world.now));
    world
        .gateway
        .set_policy(at(world.now), snapshot(permit_names(&[NAME])));
    world.client.say(world.now, &whole[40..]);
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
}

#[test]
fn with_a_policy_it_works_as_before() {
    let mut world = world(Faults::default(), NAME);
    world.run(SECOND);
    world.gateway.restart(at(world.now));
    connects_again(&mut world, NAME);
    // The SYN that fell into the gap is repeated, and then it is a first packet like any other.
    world.run(SECOND / 10);
    assert!(!world.client.is_established());
    world
        .gateway
        .set_policy(at(world.now), snapshot(permit_names(&[NAME])));
    world.run(SECOND);
    assert_eq!(world.client.received(), pattern(500));
    assert_eq!(world.records.last().unwrap().action(), Action::Permit);
}

#[test]
fn the_fault_opens_the_gap_and_closes_with_the_policy() {
    let mut world = world(Fault::OpenWhileRestarting.into(), "evil.example.com");
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToServer).len(), 0, "without a restart");
    world.gateway.restart(at(world.now));
    connects_again(&mut world, "evil.example.com");
    world.run(SECOND);
    assert!(!world.server.as_ref().unwrap().received().is_empty());

    let before = world.sent(Hop::ToServer).len();
    let port = CLIENT.port() + 2;
    world
        .gateway
        .set_policy(at(world.now), snapshot(permit_names(&[NAME])));
    world.client = Peer::new(
        std::net::SocketAddrV4::new(*CLIENT.ip(), port),
        78,
        hello::rustls(Some("evil.example.com")),
    );
    world.client.connect(world.now, SERVER);
    world.run(SECOND);
    assert_eq!(world.sent(Hop::ToServer).len(), before);
}

/// One thing that happens to a gateway in [`nothing_leaves_without_a_policy`].
#[derive(Clone, Debug)]
enum Event {
    FromInside(usize),
    FromOutside(usize),
    Restart,
    Policy,
    Pass(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<usize>().prop_map(Event::FromInside),
        4 => any::<usize>().prop_map(Event::FromOutside),
        1 => Just(Event::Restart),
        1 => Just(Event::Policy),
        2 => (0u64..2000).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
    ]
}

/// What a permitted exchange looks like on both hops: real packets of a real connection, and datagrams.
fn traffic() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut world = world(Faults::default(), NAME);
    world.run(SECOND);
    let mut inside = world.sent(Hop::FromClient).to_vec();
    for port in 0..3 {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
            .udp(5000 + port, 53)
            .write(&mut packet, b"query")
            .unwrap();
        inside.push(packet);
    }
    (inside, world.sent(Hop::FromServer).to_vec())
}

proptest! {
    #[test]
    fn nothing_leaves_without_a_policy(events in proptest::collection::vec(event(), 0..120)) {
        let (inside, outside) = traffic();
        let mut rules = permit_names(&[NAME]);
        rules.insert(0, rule(Action::Permit, Some(Protocol::Udp), None, &[]));
        let mut gateway: Gateway = gateway(rules.clone());
        let (mut now, mut has_policy) = (SECOND, true);
        for event in events {
            match event {
                Event::FromInside(index) => gateway.handle_inside(at(now), &inside[index % inside.len()]),
                Event::FromOutside(index) => gateway.handle_outside(at(now), &outside[index % outside.len()]),
                Event::Restart => {
                    gateway.restart(at(now));
                    has_policy = false;
                    prop_assert_eq!(held(&gateway), (0, 0));
                    prop_assert_eq!(gateway.poll_timeout(), None);
                }
                Event::Policy => {
                    gateway.set_policy(at(now), snapshot(rules.clone()));
                    has_policy = true;
                }
                Event::Pass(time) => {
                    now += time;
                    gateway.handle_timeout(at(now));
                }
            }
            while let Some(transmit) = gateway.poll_transmit() {
                prop_assert!(has_policy || transmit.side == Side::Inside, "a packet left without a policy");
            }
            while let Some(record) = gateway.poll_record() {
                prop_assert!(has_policy || record.action() == Action::Deny, "a permit without a policy");
            }
        }
    }
}
