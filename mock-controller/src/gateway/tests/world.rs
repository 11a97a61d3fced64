//! A client, the gateway and a server on a virtual clock, with a wire on either side that can lose packets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use etherparse::{SlicedPacket, TransportSlice};
use uuid::Uuid;

use super::peer::Peer;
use crate::{
    fault::Faults,
    gateway::{Config, Gateway, Side, shares::Resource},
    policy::{
        ANYWHERE, Action, AttachmentPoint, DefaultAction, FlowAppRequirement, Inventory, Logging,
        Policy, PolicyList, PortRange, Protocol, Rule, Snapshot, Switches, WebGroup,
    },
    record::LogRecord,
    time::Now,
};

pub(super) const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, 11), 40_500);
pub(super) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 20), 443);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// One stretch of wire in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hop {
    FromClient,
    ToServer,
    FromServer,
    ToClient,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) gateway: Gateway,
    pub(super) client: Peer,
    /// Absent: nothing answers at the destination.
    pub(super) server: Option<Peer>,
    pub(super) lost: BTreeSet<(Hop, usize)>,
    pub(super) corrupted: BTreeSet<(Hop, usize)>,
    pub(super) records: Vec<LogRecord>,
    /// Every packet that left, per hop.
    pub(super) sent: BTreeMap<Hop, Vec<Vec<u8>>>,
}

impl World {
    pub(super) fn new(gateway: Gateway, client: Peer, server: Option<Peer>) -> Self {
        Self::reaching(gateway, client, server, SERVER.into())
    }

    /// The client connects to `destination`.
    pub(super) fn reaching(
        gateway: Gateway,
        client: Peer,
        server: Option<Peer>,
        destination: SocketAddr,
    ) -> Self {
        let mut world = Self {
            now: Duration::from_secs(1),
            gateway,
            client,
            server,
            lost: BTreeSet::new(),
            corrupted: BTreeSet::new(),
            records: Vec::new(),
            sent: BTreeMap::new(),
        };
        world.client.connect(world.now, destination);
        world
    }

    pub(super) fn now(&self) -> Now {
        at(self.now)
    }

    pub(super) fn sent(&self, hop: Hop) -> &[Vec<u8>] {
        self.sent.get(&hop).map_or(&[], Vec::as_slice)
    }

    /// Runs until nothing happens any more, or until `for_long` has passed.
    pub(super) fn run(&mut self, for_long: Duration) -> &mut Self {
        let end = self.now + for_long;
        loop {
            while self.step() {}
            let next = [
                self.gateway.poll_timeout(),
                self.client.poll_timeout(),
                self.server.as_ref().and_then(Peer::poll_timeout),
            ];
            match next.into_iter().flatten().min() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => return self,
            }
            let now = self.now;
            self.gateway.handle_timeout(self.now());
            for peer in [Some(&mut self.client), self.server.as_mut()]
                .into_iter()
                .flatten()
            {
                if peer.poll_timeout().is_some_and(|at| at <= now) {
                    peer.handle_timeout(now);
                }
            }
        }
    }

    fn step(&mut self) -> bool {
        let now = self.now();
        let mut moved = false;
        while let Some(mut packet) = self.client.poll_transmit() {
            moved = true;
            if self.carries(Hop::FromClient, &mut packet) {
                self.gateway.handle_inside(now, &packet);
            }
        }
        while let Some(mut packet) = self.server.as_mut().and_then(Peer::poll_transmit) {
            moved = true;
            if self.carries(Hop::FromServer, &mut packet) {
                self.gateway.handle_outside(now, &packet);
            }
        }
        while let Some(mut transmit) = self.gateway.poll_transmit() {
            moved = true;
            let hop = match transmit.side {
                Side::Inside => Hop::ToClient,
                Side::Outside => Hop::ToServer,
            };
            check(&transmit.packet);
            if !self.carries(hop, &mut transmit.packet) {
                continue;
            }
            match (hop, &mut self.server) {
                (Hop::ToClient, _) => self.client.handle(self.now, &transmit.packet),
                (_, Some(server)) => server.handle(self.now, &transmit.packet),
                (_, None) => {}
            }
        }
        while let Some(record) = self.gateway.poll_record() {
            self.records.push(record);
        }
        moved
    }

    fn carries(&mut self, hop: Hop, packet: &mut [u8]) -> bool {
        let sent = self.sent.entry(hop).or_default();
        sent.push(packet.to_vec());
        let index = sent.len() - 1;
        if self.corrupted.contains(&(hop, index))
            && let Some(last) = packet.last_mut()
        {
            *last ^= 1;
        }
        !self.lost.contains(&(hop, index))
    }
}

pub(super) fn at(monotonic: Duration) -> Now {
    Now {
        monotonic,
        wall: jiff::Timestamp::from_second(1_780_395_300).unwrap() + monotonic,
    }
}

/// Asserts that every checksum of a packet is right, with the library's arithmetic over the whole packet.
pub(super) fn check(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).expect("the gateway emits whole packets");
    if packet[0] >> 4 == 6 {
        return check_ipv6(packet, &sliced);
    }
    let ip = etherparse::Ipv4HeaderSlice::from_slice(packet).unwrap();
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    assert_eq!(usize::from(ip.total_len()), packet.len());
    let (source, destination) = (ip.source(), ip.destination());
    match sliced
        .transport
        .expect("the gateway emits what it can read")
    {
        TransportSlice::Tcp(tcp) => {
            assert_eq!(
                Ok(tcp.checksum()),
                tcp.calc_checksum_ipv4(source, destination)
            );
        }
        TransportSlice::Udp(udp) => {
            let expected =
                udp.to_header()
                    .calc_checksum_ipv4_raw(source, destination, udp.payload());
            assert!(udp.checksum() == 0 || Ok(udp.checksum()) == expected);
        }
        TransportSlice::Icmpv4(icmp) => {
            let expected = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), expected);
        }
        other => panic!("unexpected transport {other:?}"),
    }
}

fn check_ipv6(packet: &[u8], sliced: &SlicedPacket<'_>) {
    let ip = etherparse::Ipv6HeaderSlice::from_slice(packet).unwrap();
    assert_eq!(usize::from(ip.payload_length()) + 40, packet.len());
    let (source, destination) = (ip.source(), ip.destination());
    match sliced.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => {
            assert_eq!(
                Ok(tcp.checksum()),
                tcp.calc_checksum_ipv6(source, destination)
            );
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let expected = header.calc_checksum_ipv6_raw(source, destination, udp.payload());
            assert_eq!(Ok(udp.checksum()), expected);
        }
        TransportSlice::Icmpv6(icmp) => {
            assert!(icmp.is_checksum_valid(source, destination));
        }
        other => panic!("unexpected transport {other:?}"),
    }
}

/// A rule from anywhere to anywhere.
pub(super) fn rule(
    action: Action,
    protocol: Option<Protocol>,
    port: Option<u16>,
    domains: &[&str],
) -> Rule {
    Rule {
        uuid: Uuid::nil(),
        name: String::new(),
        sources: vec![ANYWHERE],
        destinations: vec![ANYWHERE],
        web_groups: domains
            .iter()
            .map(|domain| web_group(domain).uuid)
            .collect(),
        protocol,
        ports: port
            .map(|port| PortRange {
                first: port,
                last: port,
            })
            .into_iter()
            .collect(),
        action,
        logging: Logging::StartAndEnd,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    }
}

/// `names` on tcp/443 are permitted, everything else is denied.
pub(super) fn permit_names(names: &[&str]) -> Vec<Rule> {
    vec![
        rule(Action::Permit, Some(Protocol::Tcp), Some(443), names),
        rule(Action::Deny, None, None, &[]),
    ]
}

/// The uuid of the n-th rule of [`snapshot`].
pub(super) fn rule_uuid(index: usize) -> Uuid {
    Uuid::from_u128(0x1000 + index as u128)
}

pub(super) fn snapshot(rules: Vec<Rule>) -> Arc<Snapshot> {
    let mut policy = Policy::new(DefaultAction {
        action: Action::Deny,
        logging: Logging::StartAndEnd,
    });
    for name in ["ehr.example.org", "*.example.org"] {
        policy.add_web_group(web_group(name));
    }
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(index, rule)| Rule {
            uuid: rule_uuid(index),
            ..rule
        })
        .collect();
    policy.add_list(PolicyList {
        uuid: Uuid::from_u128(1),
        name: "test".into(),
        attachment_point: AttachmentPoint::Kubernetes,
        object: None,
        rules,
    });
    Arc::new(Snapshot::compile(
        1,
        &policy,
        &Inventory::default(),
        &Switches::default(),
    ))
}

fn web_group(domain: &str) -> WebGroup {
    let uuid = Uuid::from_u128(0x2000 + domain.len() as u128);
    WebGroup::new(
        uuid,
        domain.into(),
        vec![domain.into()],
        &Switches::default(),
    )
    .unwrap()
}

pub(super) fn gateway(rules: Vec<Rule>) -> Gateway {
    gateway_with(rules, Config::new(OUTSIDE), Faults::default())
}

pub(super) fn gateway_with(rules: Vec<Rule>, config: Config, faults: Faults) -> Gateway {
    Gateway::new(config, faults, 7, snapshot(rules))
}

/// Bytes buffered and inspections under way, of all sources.
pub(super) fn held(gateway: &Gateway) -> (usize, usize) {
    let shares = &gateway.core.shares;
    (
        shares.total(Resource::Buffer),
        shares.total(Resource::Inspections),
    )
}

/// Recognisable bytes.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}
