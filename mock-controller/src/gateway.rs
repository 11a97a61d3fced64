//! The inline gateway engine: packets in, packets and log records out.
//!
//! It does no IO and has no clock: callers pass [`Now`] in and poll results out, so that the same engine runs in a fabric
//! thread and behind a TUN device. After [`Gateway::handle_inside`], [`Gateway::handle_outside`],
//! [`Gateway::handle_timeout`] or [`Gateway::set_policy`], poll [`Gateway::poll_transmit`] and [`Gateway::poll_record`]
//! until they are empty, and call [`Gateway::handle_timeout`] at [`Gateway::poll_timeout`]. It is deterministic: the
//! same seed and inputs give the same outputs.
//!
//! # Map
//! `packet` checks headers, `flow` and `nat` find the flow, `admission` decides on its first packet, `shares` bounds what
//! its source may hold, `forward` passes on what the packet filter permits, `proxy` and below it `first_bytes`,
//! [`client_hello`] and `reassembly` handle what waits for a name, `outside` takes what comes back, `rewrite` and `emit`
//! write packets, `session` and `refusals` write records.
//!
//! # Records of denials
//! Each denied flow from inside is logged when it is denied, again when it goes on for longer than [`Timeouts::linger`],
//! and again after a policy change. A packet that no flow can have (fragment, IPv4 options, IPv6 extension header, segment
//! without SYN, ICMP or IP protocol that is not translated, transport header that cannot be read) is logged as a denial
//! of the packet filter once per five-tuple and linger period; a flow that its source's share has no room for, once per
//! source and period. Only counted ([`Counters`]): packets whose IP header cannot be trusted, packets of the internet,
//! what an existing flow cannot accept (its own record stands for it), and denials past [`Limits::denial_records`]. What
//! the node drops (spoofed sources, NetworkPolicy) never reaches the gateway: the node's drop counters are its evidence.
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

mod admission;
pub mod client_hello;
mod config;
mod core;
mod counters;
mod emit;
mod first_bytes;
mod flow;
mod forward;
mod nat;
mod outside;
mod packet;
mod proxy;
mod reassembly;
mod refusals;
mod rewrite;
mod seeded;
mod session;
mod shares;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

pub use config::{Config, L7Close, Limits, Timeouts};
pub use counters::{Counters, DropReason};
pub use refusals::NO_RULE;

use self::{
    core::Core,
    flow::{Flow, FlowId, FlowTable, State},
    packet::{Packet, Quoted, Transport},
    proxy::{Next, Proxy},
    shares::Resource,
};
use crate::{
    fault::Faults,
    policy::{Action, Application, FiveTuple, Snapshot},
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
    pub fn set_policy(&mut self, now: Now, policy: Arc<Snapshot>) {
        self.core.set_policy(now, policy);
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
        self.core.catch_up(now);
        if self.core.forgets(packet) {
            return self.core.transmit(Side::Outside, packet.to_vec());
        }
        match packet::parse(packet) {
            Ok(packet) => self.inside(now, &packet),
            Err(unreadable) => {
                self.core.refuse_unreadable(now, &unreadable);
                self.core.leak_unreadable(packet, &unreadable);
            }
        }
    }

    /// An IP packet from the internet.
    pub fn handle_outside(&mut self, now: Now, packet: &[u8]) {
        if self.core.forgets(packet) {
            return self.core.transmit(Side::Inside, packet.to_vec());
        }
        match packet::parse(packet) {
            Ok(packet) => self.outside(now, &packet),
            Err(unreadable) => self.core.counters.drop(unreadable.reason),
        }
    }

    /// Does what is due; to be called at [`poll_timeout`](Self::poll_timeout) or later.
    pub fn handle_timeout(&mut self, now: Now) {
        self.core.catch_up(now);
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
        let timers = [self.flows.next_timer(), self.core.next_catch_up()];
        timers.into_iter().flatten().min()
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
            return self.core.refuse(now, packet, DropReason::Untranslatable);
        }
        if let Transport::IcmpError { about, .. } = packet.transport
            && self.flows.find(&answered_by(about)).is_some()
        {
            // A client that complains about an answer is no attempt of its own; the destination need not know.
            return self.core.counters.drop(DropReason::OutOfState);
        }
        let Some(id) = self.flows.find(&packet.key()) else {
            return self.admit(now, packet);
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let stale = flow.head.epoch != self.core.epoch;
        let anew = matches!(packet.transport, Transport::Tcp(segment)
            if segment.is_first() && flow.head.client_isn != Some(segment.sequence));
        if anew || (stale && matches!(flow.state, State::Denied)) {
            self.supersede(now, id);
            return self.admit(now, packet);
        }
        self.pass(now, id, Side::Inside, packet);
    }

    /// Hands a packet to the flow that it belongs to.
    fn pass(&mut self, now: Now, id: FlowId, from: Side, packet: &Packet<'_>) {
        if self.core.config.live_session_reeval && self.revoked(now, id, from, packet) {
            return;
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        // What is over does not live on by what still arrives: a denied flow that goes on is a new denial in the end.
        let is_over = flow.is_over();
        let core = &mut self.core;
        let head = &mut flow.head;
        if !is_over {
            head.last_seen = now.monotonic;
        }
        let next = match (&mut flow.state, packet.transport, from) {
            (State::Denied, ..) => {
                core.counters.drop(DropReason::Denied);
                core.mirror(now, packet.payload());
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
                let translated = self.translate(now, id);
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
                            proxy.give_up(core, now, head, SessionEnd::TcpReset);
                        }
                    });
                }
            }
        }
        self.flows.arm(id, &self.core);
    }

    fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.flows.remove(id) else {
            return;
        };
        let source = flow.head.client.ip();
        let shares = &mut self.core.shares;
        shares.give_back(source, Resource::Flows, 1);
        if let Some(port) = flow.head.port_resource()
            && flow.head.outside.is_some()
        {
            shares.give_back(source, port, 1);
        }
        if let State::Proxy(mut proxy) = flow.state {
            if proxy.is_inspecting() {
                shares.give_back(source, Resource::Inspections, 1);
            }
            proxy.release(&mut self.core);
        }
        self.core.counters.flows = self.core.shares.total(Resource::Flows) as u64;
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
}

/// Keeps count of inspections while `step` may end one.
fn watch<T>(
    core: &mut Core,
    proxy: &mut Proxy,
    step: impl FnOnce(&mut Core, &mut Proxy) -> T,
) -> T {
    let before = proxy.is_inspecting();
    let result = step(core, proxy);
    if before && !proxy.is_inspecting() {
        core.shares
            .give_back(proxy.source(), Resource::Inspections, 1);
    }
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
