//! Packets from the internet: answers to flows that were opened, and errors about them. The rest is unsolicited.

use std::net::{IpAddr, SocketAddr};

use super::{
    DropReason, Gateway, Side,
    flow::State,
    packet::{Packet, Quoted, Transport},
    rewrite,
};
use crate::{policy::Protocol, time::Now};

impl Gateway {
    pub(super) fn outside(&mut self, now: Now, packet: &Packet<'_>) {
        let (protocol, source_port, port) = match packet.transport {
            Transport::Tcp(segment) => {
                (Protocol::Tcp, segment.source_port, segment.destination_port)
            }
            Transport::Udp {
                source_port,
                destination_port,
            } => (Protocol::Udp, source_port, destination_port),
            Transport::EchoReply { identifier } => (Protocol::Icmp, 0, identifier),
            Transport::IcmpError { kind, about } => {
                return self.icmp_error(now, packet, kind, about);
            }
            Transport::EchoRequest { .. } | Transport::OtherIcmp | Transport::Other(_) => {
                return self.core.counters.drop(DropReason::Unsolicited);
            }
        };
        let is_ours = packet.destination == IpAddr::V4(self.core.config.outside_address);
        let id = match packet.destination {
            IpAddr::V4(_) => self.flows.find_outside(protocol, port).filter(|_| is_ours),
            IpAddr::V6(_) => packet.answered().and_then(|key| self.flows.find(&key)),
        };
        let known = id.and_then(|id| self.flows.get(id)).is_some_and(|flow| {
            // Without an outside end the flow was never opened, and nobody out there can know of it.
            flow.head.outside.is_some()
                && packet.source == flow.head.destination.ip()
                && source_port == flow.head.destination.port()
        });
        match id {
            Some(id) if known => self.pass(now, id, Side::Outside, packet),
            _ => self.core.counters.drop(DropReason::Unsolicited),
        }
    }

    /// An ICMP error from outside about a packet of a flow that was opened.
    fn icmp_error(&mut self, now: Now, packet: &Packet<'_>, kind: u8, about: Quoted) {
        const DESTINATION_UNREACHABLE: u8 = 3;
        let outside = SocketAddr::new(about.source.into(), about.source_port);
        let destination = SocketAddr::new(about.destination.into(), about.destination_port);
        let id = self.flows.find_outside(about.protocol, about.source_port);
        let is_ours = packet.destination == IpAddr::V4(self.core.config.outside_address);
        let Some(flow) = id
            .filter(|_| is_ours)
            .and_then(|id| self.flows.get_mut(id))
            .filter(|flow| {
                flow.head.outside == Some(outside) && flow.head.destination == destination
            })
        else {
            return self.core.counters.drop(DropReason::Unsolicited);
        };
        let ended = match &mut flow.state {
            State::Proxy(proxy) if kind == DESTINATION_UNREACHABLE => {
                proxy.unreachable(&mut self.core, now, &mut flow.head)
            }
            State::Proxy(_) | State::Forward(_) => false,
            State::Denied => return self.core.counters.drop(DropReason::Denied),
        };
        if !ended && let SocketAddr::V4(client) = flow.head.client {
            let translated = rewrite::icmp_error_inward(packet, about, client);
            self.core.forward(Side::Inside, translated);
        }
        if let Some(id) = id {
            self.flows.arm(id, &self.core);
        }
    }
}
