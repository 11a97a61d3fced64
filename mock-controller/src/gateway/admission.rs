//! The first packet of a flow: what the policy says of it, and whether its source has room for it.

use std::net::{IpAddr, SocketAddr};

use super::{
    DropReason, Gateway, Side,
    flow::{Flow, FlowId, Progress, State},
    packet::{Packet, Segment, Transport},
    proxy::Proxy,
    rewrite::Rewrite,
    session::Session,
    shares::Resource,
};
use crate::{
    fault::Fault,
    policy::{Action, Application, FirstPacket, Verdict},
    time::Now,
};

impl Gateway {
    /// The first packet of a flow.
    pub(super) fn admit(&mut self, now: Now, packet: &Packet<'_>) {
        if !self.core.has_room_for_records() {
            return self.core.counters.drop(DropReason::RecordLimit);
        }
        let tuple = packet.five_tuple();
        let evaluation = self.core.first_packet(&tuple);
        match (evaluation.outcome, packet.transport) {
            (FirstPacket::Inspect, Transport::Tcp(segment)) => self.inspect(now, packet, &segment),
            (FirstPacket::Inspect, _) => {
                // Only TCP can show a name.
                let (verdict, watched) = self.core.decide(&tuple, &Application::Other);
                self.apply(now, packet, &verdict, &watched);
            }
            (FirstPacket::Decided(verdict), _) => {
                self.apply(now, packet, &verdict, &evaluation.watched)
            }
        }
    }

    fn apply(&mut self, now: Now, packet: &Packet<'_>, verdict: &Verdict, watched: &[Verdict]) {
        let is_reset = matches!(packet.transport, Transport::Tcp(segment) if segment.rst);
        match verdict.action {
            // The end of something that was forgotten starts no flow.
            _ if is_reset => self.core.refuse(now, packet, DropReason::OutOfState),
            Action::Deny => {
                if !self.take(now, packet, Resource::Flows) {
                    return;
                }
                let mut session = Session::new(&mut self.core, now, packet);
                session.decided_l4(&mut self.core, now, verdict, watched);
                self.core.counters.drop(DropReason::Denied);
                self.core.mirror(now, packet.payload());
                self.insert(now, packet, session, State::Denied);
                self.leak(Fault::FirstPacketPasses, packet);
                if matches!(packet.transport, Transport::Tcp(segment) if segment.carries_early_data())
                {
                    self.leak(Fault::SynDataPasses, packet);
                }
            }
            Action::Permit => self.permit(now, packet, verdict, watched),
        }
    }

    fn permit(&mut self, now: Now, packet: &Packet<'_>, verdict: &Verdict, watched: &[Verdict]) {
        match packet.transport {
            Transport::Tcp(segment) if segment.is_first() => {}
            Transport::Tcp(_) => return self.core.refuse(now, packet, DropReason::OutOfState),
            Transport::Udp { .. } | Transport::EchoRequest { .. } => {}
            Transport::EchoReply { .. }
            | Transport::IcmpError { .. }
            | Transport::OtherIcmp
            | Transport::Other(_) => {
                return self.core.refuse(now, packet, DropReason::Untranslatable);
            }
        }
        if !self.take(now, packet, Resource::Flows) {
            return;
        }
        let session = Session::new(&mut self.core, now, packet);
        let id = self.insert(now, packet, session, State::Forward(Progress::default()));
        if !self.translate(now, id) {
            return self.remove(id);
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.head
                .session
                .decided_l4(&mut self.core, now, verdict, watched);
        }
        self.pass(now, id, Side::Inside, packet);
    }

    fn inspect(&mut self, now: Now, packet: &Packet<'_>, segment: &Segment<'_>) {
        if !segment.is_first() {
            return self.core.refuse(now, packet, DropReason::OutOfState);
        }
        if !packet.transport_checksum_is_right() {
            return self.core.refuse(now, packet, DropReason::Malformed);
        }
        if !self.take(now, packet, Resource::Flows) {
            return;
        }
        if !self.take(now, packet, Resource::Inspections) {
            let source = packet.source;
            return self.core.shares.give_back(source, Resource::Flows, 1);
        }
        let session = Session::new(&mut self.core, now, packet);
        let mut flow = Flow::new(
            packet,
            session,
            State::Denied,
            self.core.epoch,
            now.monotonic,
        );
        let proxy = Proxy::accept(&mut self.core, now, &flow.head, segment);
        self.leak(Fault::HandshakeBeforeVerdict, packet);
        if segment.carries_early_data() {
            self.leak(Fault::SynDataPasses, packet);
        }
        flow.state = State::Proxy(Box::new(proxy));
        let id = self.flows.insert(flow);
        self.core.counters.flows = self.core.shares.total(Resource::Flows) as u64;
        self.flows.arm(id, &self.core);
    }

    /// With the seeded fault, passes on a packet that nothing permits.
    fn leak(&mut self, fault: Fault, packet: &Packet<'_>) {
        if !self.core.has(fault) {
            return;
        }
        let address = match packet.source {
            IpAddr::V4(_) => self.core.config.outside_address.into(),
            IpAddr::V6(own) => own.into(),
        };
        let outside = SocketAddr::new(address, packet.five_tuple().source_port);
        let translated = Rewrite::forward(packet).map(|mut rewrite| {
            rewrite.source(outside);
            rewrite.finish()
        });
        self.core.forward(Side::Outside, translated);
    }

    fn insert(&mut self, now: Now, packet: &Packet<'_>, session: Session, state: State) -> FlowId {
        let flow = Flow::new(packet, session, state, self.core.epoch, now.monotonic);
        let id = self.flows.insert(flow);
        self.core.counters.flows = self.core.shares.total(Resource::Flows) as u64;
        self.flows.arm(id, &self.core);
        id
    }

    /// Takes one of the source's share of a resource, or refuses and logs the packet.
    fn take(&mut self, now: Now, packet: &Packet<'_>, resource: Resource) -> bool {
        let reason = match resource {
            Resource::Inspections => DropReason::InspectionLimit,
            _ => DropReason::FlowLimit,
        };
        let taken = self.take_or_evict(packet.source, resource);
        if !taken {
            let flow = packet.five_tuple();
            self.core.refuse_share(now, flow, packet.size(), reason);
        }
        taken
    }

    /// Takes one of the source's share of a resource. Flows of the same source that are over make room, oldest first.
    fn take_or_evict(&mut self, source: IpAddr, resource: Resource) -> bool {
        while !self.core.shares.take(source, resource, 1) {
            // An inspection is never over.
            let evictable = (resource != Resource::Inspections)
                .then(|| self.flows.oldest_ended(source))
                .flatten();
            let Some(oldest) = evictable else {
                return false;
            };
            self.remove(oldest);
        }
        true
    }

    /// Gives a flow its outside port, of its source's share; false, logged and counted, when there is none.
    pub(super) fn translate(&mut self, now: Now, id: FlowId) -> bool {
        let Some(flow) = self.flows.get(id) else {
            return false;
        };
        let (source, port) = (flow.head.client.ip(), flow.head.port_resource());
        let (tuple, size) = (*flow.head.session.flow(), flow.head.session.first_size());
        if port.is_none_or(|port| self.take_or_evict(source, port)) {
            if self.flows.translate(id, self.core.config.outside_address) {
                return true;
            }
            if let Some(port) = port {
                self.core.shares.give_back(source, port, 1);
            }
        }
        self.core
            .refuse_share(now, tuple, size, DropReason::PortLimit);
        false
    }
}
