//! The inline gateway engine: packets in, packets and log records out.
//!
//! It does no IO and has no clock: callers pass [`Now`] in and poll results out, so that the same engine runs in a fabric
//! thread and behind a TUN device. After [`Gateway::handle_inside`], [`Gateway::handle_outside`],
//! [`Gateway::handle_timeout`] or [`Gateway::set_policy`], poll [`Gateway::poll_transmit`] and [`Gateway::poll_record`]
//! until they are empty, and call [`Gateway::handle_timeout`] at [`Gateway::poll_timeout`]. It is deterministic: the
//! same seed and inputs give the same outputs.
//!
//! # Map
//! `packet` checks headers, `flow` and `nat` find the flow, `forward` passes on what the packet filter permits, `proxy`
//! and below it `first_bytes`, [`client_hello`] and `reassembly` handle what waits for a name, `rewrite` and `emit` write
//! packets, `session` writes records.
//!
//! # Faithful (`reference/aviatrix-dcf.md` sections 2 and 4)
//! Rules without WebGroups decide on the first packet, and a denial is silent. For rules with WebGroups the gateway
//! completes the TCP handshake itself and waits for the ClientHello or request head; a denied client is cut off without
//! a TLS alert; a client that says nothing ends as `CONNECTION_SYN_ONLY_TIMEOUT`. The destination of a flow that is not
//! permitted sees no packet of it. Policies see the pod's address, the outside sees the gateway's.
//!
//! What the vendor's gateway does between its restart and the controller's next push is documented nowhere; this one
//! fails closed ([`Gateway::restart`]).
//!
//! # Not faithful
//! No decryption. Of a plain HTTP connection only the first request is looked at. A client's fragments, IP options and
//! IPv6 extension headers are dropped, not processed. What the vendor's gateway does with IPv6 is not published; this one
//! judges and logs it as it does IPv4, in both engines, but passes it on under the client's own address (no source NAT
//! for that family), and passes no ICMPv6 but echo. A client that starts a ClientHello and stalls ends as
//! `CONNECTION_SYN_ONLY_TIMEOUT` too, for want of a known reason. Packets of the gateway's own carry no ICMP errors: an
//! expired TTL is silent.

pub mod client_hello;
mod config;
mod core;
mod counters;
mod emit;
mod first_bytes;
mod flow;
mod forward;
mod nat;
mod packet;
mod proxy;
mod reassembly;
mod rewrite;
mod seeded;
mod session;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

pub use config::{Config, L7Close, Limits, Timeouts};
pub use counters::{Counters, DropReason};

use self::{
    core::Core,
    flow::{Flow, FlowId, FlowTable, Progress, State},
    packet::{Packet, Quoted, Segment, Transport},
    proxy::{Next, Proxy},
    session::Session,
};
use crate::{
    fault::{Fault, Faults},
    policy::{Action, Application, FirstPacket, FiveTuple, Protocol, Snapshot, Verdict},
    record::{LogRecord, SessionEnd},
    time::Now,
};

/// Which side of the gateway a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The cluster.
    Inside,
    /// The internet.
    Outside,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub side: Side,
    /// A whole IP packet.
    pub packet: Vec<u8>,
}

/// An inline gateway.
pub struct Gateway {
    core: Core,
    flows: FlowTable,
}

impl Gateway {
    /// A gateway that enforces `policy`. Whatever it chooses (sequence numbers, ports, session ids) follows from `seed`.
    pub fn new(config: Config, faults: Faults, seed: u64, policy: Arc<Snapshot>) -> Self {
        let mut core = Core::new(config, faults, seed, policy);
        let flows = FlowTable::new(core.random_u32());
        Self { core, flows }
    }

    /// Enforces another policy from now on. Permitted flows go on, unless [`Config::live_session_reeval`] is set.
    pub fn set_policy(&mut self, _now: Now, policy: Arc<Snapshot>) {
        self.core.set_policy(policy);
    }

    /// Starts anew, as after a crash: flows, translations and the policy are forgotten, and what was not sent yet is
    /// lost. Until [`set_policy`](Self::set_policy) is called, nothing is permitted: each flow is denied by the default
    /// action, and logged. A connection from before the restart cannot go on, under no policy: its segments are out of
    /// state, and its client has to connect anew. Records that were written stay; records of how those flows ended are
    /// never written.
    pub fn restart(&mut self, _now: Now) {
        self.core.restart();
        self.flows = FlowTable::new(self.core.random_u32());
    }

    /// An IP packet from the cluster that leaves it.
    pub fn handle_inside(&mut self, now: Now, packet: &[u8]) {
        if self.core.forgets(packet) {
            return self.core.transmit(Side::Outside, packet.to_vec());
        }
        match packet::parse(packet) {
            Ok(packet) => self.inside(now, &packet),
            Err(reason) => self.core.counters.drop(reason),
        }
    }

    /// An IP packet from the internet.
    pub fn handle_outside(&mut self, now: Now, packet: &[u8]) {
        if self.core.forgets(packet) {
            return self.core.transmit(Side::Inside, packet.to_vec());
        }
        match packet::parse(packet) {
            Ok(packet) => self.outside(now, &packet),
            Err(reason) => self.core.counters.drop(reason),
        }
    }

    /// Does what is due; to be called at [`poll_timeout`](Self::poll_timeout) or later.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(id) = self.flows.due(now.monotonic) {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            if flow.deadline(&self.core.config) > now.monotonic {
                self.flows.arm(id, &self.core);
                continue;
            }
            let next = match &mut flow.state {
                State::Denied => Next::Remove,
                State::Forward(_) => {
                    flow.head
                        .session
                        .end(&mut self.core, now, SessionEnd::Timeout);
                    Next::Remove
                }
                State::Proxy(proxy) => {
                    // Closing starts its own lingering.
                    let core = &mut self.core;
                    let next = watch(core, proxy, |core, proxy| {
                        proxy.handle_timeout(core, now, &mut flow.head)
                    });
                    flow.head.last_seen = now.monotonic;
                    next
                }
            };
            self.settle(now, id, next);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), on the monotonic clock; it may prove too early.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.flows.next_timer()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.core.poll_transmit()
    }

    /// The next record for the log.
    pub fn poll_record(&mut self) -> Option<LogRecord> {
        self.core.poll_record()
    }

    /// What happened so far to packets that left no record.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// The source that the destination of this flow sees, once the flow was opened. It ties captures of the two sides
    /// together.
    pub fn outside_source(&self, flow: &FiveTuple) -> Option<SocketAddr> {
        let id = self.flows.find(flow)?;
        self.flows.get(id)?.head.outside
    }

    fn inside(&mut self, now: Now, packet: &Packet<'_>) {
        if packet.destination == IpAddr::V4(self.core.config.outside_address) {
            return self.core.counters.drop(DropReason::Untranslatable);
        }
        if let Transport::IcmpError { about, .. } = packet.transport
            && self.flows.find(&answered_by(about)).is_some()
        {
            // A client that complains about an answer is no attempt of its own; the destination need not know.
            return self.core.counters.drop(DropReason::OutOfState);
        }
        let Some(id) = self.flows.find(&packet.key()) else {
            return self.admit(now, packet, true);
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let stale = flow.head.epoch != self.core.epoch;
        let anew = matches!(packet.transport, Transport::Tcp(segment)
            if segment.is_first() && flow.head.client_isn != Some(segment.sequence));
        match &flow.state {
            State::Denied if stale && !anew => {
                self.remove(id);
                return self.admit(now, packet, false);
            }
            _ if anew => {
                self.supersede(now, id);
                return self.admit(now, packet, true);
            }
            State::Denied | State::Forward(_) | State::Proxy(_) => {}
        }
        self.pass(now, id, Side::Inside, packet);
    }

    fn outside(&mut self, now: Now, packet: &Packet<'_>) {
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

    /// Hands a packet to the flow that it belongs to.
    fn pass(&mut self, now: Now, id: FlowId, from: Side, packet: &Packet<'_>) {
        if self.core.config.live_session_reeval && self.revoked(now, id, from, packet) {
            return;
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let core = &mut self.core;
        let head = &mut flow.head;
        head.last_seen = now.monotonic;
        let next = match (&mut flow.state, packet.transport, from) {
            (State::Denied, ..) => {
                core.counters.drop(DropReason::Denied);
                Next::Stay
            }
            (State::Forward(progress), _, Side::Inside) => {
                forward::outward(core, now, head, progress, packet);
                Next::Stay
            }
            (State::Forward(progress), _, Side::Outside) => {
                forward::inward(core, now, head, progress, packet);
                Next::Stay
            }
            (State::Proxy(proxy), Transport::Tcp(segment), Side::Inside) => {
                watch(core, proxy, |core, proxy| {
                    proxy.handle_client(core, now, head, packet, &segment)
                })
            }
            (State::Proxy(proxy), Transport::Tcp(segment), Side::Outside) => {
                proxy.handle_server(core, now, head, packet, &segment);
                Next::Stay
            }
            (State::Proxy(_), ..) => Next::Stay,
        };
        self.settle(now, id, next);
    }

    /// Does what a flow asked for, and sees to its next deadline.
    fn settle(&mut self, now: Now, id: FlowId, next: Next) {
        match next {
            Next::Stay => {}
            Next::Remove => return self.remove(id),
            Next::Open => {
                let translated = self.flows.translate(id, self.core.config.outside_address);
                if let Some(Flow {
                    head,
                    state: State::Proxy(proxy),
                    ..
                }) = self.flows.get_mut(id)
                {
                    let core = &mut self.core;
                    watch(core, proxy, |core, proxy| {
                        if translated {
                            proxy.open(core, now, head);
                        } else {
                            core.counters.drop(DropReason::PortLimit);
                            proxy.give_up(core, now, head, SessionEnd::TcpReset);
                        }
                    });
                }
            }
        }
        self.flows.arm(id, &self.core);
    }

    /// The first packet of a flow. `is_new` is false when the attempt is in the log already.
    fn admit(&mut self, now: Now, packet: &Packet<'_>, is_new: bool) {
        if self.flows.len() >= self.core.config.limits.flows {
            return self.core.counters.drop(DropReason::FlowLimit);
        }
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
                self.apply(now, packet, &verdict, &watched, is_new);
            }
            (FirstPacket::Decided(verdict), _) => {
                self.apply(now, packet, &verdict, &evaluation.watched, is_new)
            }
        }
    }

    fn apply(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        verdict: &Verdict,
        watched: &[Verdict],
        is_new: bool,
    ) {
        let is_reset = matches!(packet.transport, Transport::Tcp(segment) if segment.rst);
        match verdict.action {
            // The end of something that was forgotten is no attempt.
            _ if is_reset => self.core.counters.drop(DropReason::OutOfState),
            Action::Deny => {
                let mut session = Session::new(&mut self.core, now, packet);
                if is_new {
                    session.decided_l4(&mut self.core, now, verdict, watched);
                }
                self.core.counters.drop(DropReason::Denied);
                self.insert(now, packet, session, State::Denied);
                self.leak(Fault::FirstPacketPasses, packet);
            }
            Action::Permit => self.permit(now, packet, verdict, watched),
        }
    }

    fn permit(&mut self, now: Now, packet: &Packet<'_>, verdict: &Verdict, watched: &[Verdict]) {
        match packet.transport {
            Transport::Tcp(segment) if segment.is_first() => {}
            Transport::Tcp(_) => return self.core.counters.drop(DropReason::OutOfState),
            Transport::Udp { .. } | Transport::EchoRequest { .. } => {}
            Transport::EchoReply { .. }
            | Transport::IcmpError { .. }
            | Transport::OtherIcmp
            | Transport::Other(_) => {
                return self.core.counters.drop(DropReason::Untranslatable);
            }
        }
        let session = Session::new(&mut self.core, now, packet);
        let id = self.insert(now, packet, session, State::Forward(Progress::default()));
        if !self.flows.translate(id, self.core.config.outside_address) {
            self.core.counters.drop(DropReason::PortLimit);
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
            return self.core.counters.drop(DropReason::OutOfState);
        }
        if !packet.transport_checksum_is_right() {
            return self.core.counters.drop(DropReason::Malformed);
        }
        if self.core.inspections >= self.core.config.limits.inspections {
            return self.core.counters.drop(DropReason::InspectionLimit);
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
        flow.state = State::Proxy(Box::new(proxy));
        self.core.inspections += 1;
        let id = self.flows.insert(flow);
        self.core.counters.flows = self.flows.len() as u64;
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
        let translated = rewrite::Rewrite::forward(packet).map(|mut rewrite| {
            rewrite.source(outside);
            rewrite.finish()
        });
        self.core.forward(Side::Outside, translated);
    }

    fn insert(&mut self, now: Now, packet: &Packet<'_>, session: Session, state: State) -> FlowId {
        let flow = Flow::new(packet, session, state, self.core.epoch, now.monotonic);
        let id = self.flows.insert(flow);
        self.core.counters.flows = self.flows.len() as u64;
        self.flows.arm(id, &self.core);
        id
    }

    fn remove(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(id)
            && let State::Proxy(mut proxy) = flow.state
        {
            self.core.inspections -= usize::from(proxy.is_inspecting());
            proxy.release(&mut self.core);
        }
        self.core.counters.flows = self.flows.len() as u64;
    }

    /// The client starts a new connection from the same port: the old one is over.
    fn supersede(&mut self, now: Now, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id) {
            if let State::Proxy(proxy) = &flow.state {
                proxy.abort(&mut self.core, &flow.head);
            }
            flow.head
                .session
                .end(&mut self.core, now, SessionEnd::ResetFromClient);
        }
        self.remove(id);
    }

    /// Decides a permitted flow again if the policy has changed since. True when it is denied now, and ended.
    fn revoked(&mut self, now: Now, id: FlowId, from: Side, packet: &Packet<'_>) -> bool {
        let Some(flow) = self.flows.get_mut(id) else {
            return false;
        };
        if flow.head.epoch == self.core.epoch {
            return false;
        }
        let application = match &flow.state {
            State::Forward(_) => &Application::Other,
            State::Proxy(proxy) => match proxy.permitted() {
                Some(application) => application,
                None => return false,
            },
            State::Denied => return false,
        };
        let core = &mut self.core;
        flow.head.epoch = core.epoch;
        let (verdict, watched) = core.decide(flow.head.session.flow(), application);
        if verdict.action == Action::Permit {
            return false;
        }
        let head = &mut flow.head;
        head.last_seen = now.monotonic;
        match &mut flow.state {
            State::Proxy(proxy) => proxy.revoke(core, now, head, &verdict, &watched),
            State::Forward(_) | State::Denied => {
                head.session.end(core, now, SessionEnd::TcpReset);
                head.session.decided_l4(core, now, &verdict, &watched);
                if let Transport::Tcp(segment) = &packet.transport {
                    forward::reset_both(core, head, from, segment);
                }
                core.counters.drop(DropReason::Denied);
                flow.state = State::Denied;
            }
        }
        self.flows.arm(id, &self.core);
        true
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

/// Keeps count of inspections while `step` may end one.
fn watch<T>(
    core: &mut Core,
    proxy: &mut Proxy,
    step: impl FnOnce(&mut Core, &mut Proxy) -> T,
) -> T {
    let before = proxy.is_inspecting();
    let result = step(core, proxy);
    core.inspections -= usize::from(before && !proxy.is_inspecting());
    result
}

/// The flow that a packet from outside, quoted by an ICMP error from inside, is an answer of.
fn answered_by(about: Quoted) -> FiveTuple {
    FiveTuple {
        protocol: about.protocol,
        source: about.destination.into(),
        source_port: about.destination_port,
        destination: about.source.into(),
        destination_port: about.source_port,
    }
}

#[cfg(test)]
mod tests;
