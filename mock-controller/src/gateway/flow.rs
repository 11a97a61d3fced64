//! The flow table: flows by five-tuple, by outside port and by deadline.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    Config, Side,
    core::Core,
    nat::Ports,
    packet::{Packet, Segment, Transport},
    proxy::Proxy,
    session::Session,
    shares::Resource,
};
use crate::{
    policy::{FiveTuple, Protocol},
    record::SessionEnd,
};

/// Names a flow while it is in the table.
pub(super) type FlowId = u32;

/// One flow that the gateway has seen from inside.
pub(super) struct Flow {
    pub(super) head: Head,
    pub(super) state: State,
    /// The entry in the table's timers, which may be earlier than the deadline: it is moved only when it fires.
    armed: Option<Duration>,
    /// Its place among the ended flows of its source.
    ended: Option<u64>,
}

/// What every flow has, whatever its state.
pub(super) struct Head {
    /// How the table tells it from others; see [`Packet::key`].
    key: FiveTuple,
    pub(super) session: Session,
    /// The client, the destination, and the source the destination sees; absent until the flow is opened.
    pub(super) client: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) outside: Option<SocketAddr>,
    /// The client's initial sequence number: a SYN with another one is a new attempt.
    pub(super) client_isn: Option<u32>,
    /// The policy that it was decided under.
    pub(super) epoch: u64,
    pub(super) last_seen: Duration,
}

pub(super) enum State {
    /// Remembered so that retransmissions are not logged again.
    Denied,
    /// Permitted on the first packet.
    Forward(Progress),
    /// In the hands of the proxy.
    Proxy(Box<Proxy>),
}

/// How far the life of a permitted flow has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) answered: bool,
    fin_inside: bool,
    fin_outside: bool,
    reset: bool,
}

impl Progress {
    /// Of a flow whose destination has answered.
    pub(super) fn answered() -> Self {
        Self {
            answered: true,
            ..Self::default()
        }
    }

    /// Follows the life of a TCP flow; the answer is why it ended, if this segment ended it.
    pub(super) fn observe(&mut self, side: Side, segment: &Segment<'_>) -> Option<SessionEnd> {
        match side {
            Side::Inside => self.fin_inside |= segment.fin,
            Side::Outside => self.fin_outside |= segment.fin,
        }
        self.reset |= segment.rst;
        match side {
            Side::Inside if segment.rst => Some(SessionEnd::ResetFromClient),
            Side::Outside if segment.rst => Some(SessionEnd::ResetFromServer),
            _ if self.fin_inside && self.fin_outside => Some(SessionEnd::TcpFin),
            _ => None,
        }
    }

    /// Both ends have closed, or one has reset.
    pub(super) fn is_over(&self) -> bool {
        self.reset || (self.fin_inside && self.fin_outside)
    }

    pub(super) fn idle_timeout(&self, protocol: Protocol, config: &Config) -> Duration {
        let timeouts = &config.timeouts;
        match protocol {
            Protocol::Tcp if self.is_over() => timeouts.linger,
            Protocol::Tcp if !self.answered => timeouts.tcp_opening,
            Protocol::Tcp => timeouts.tcp_idle,
            Protocol::Udp | Protocol::Icmp | Protocol::Other(_) => timeouts.datagram_idle,
        }
    }
}

impl Head {
    /// What of its source's share the flow's outside port is; `None` for IPv6, where nothing is translated.
    pub(super) fn port_resource(&self) -> Option<Resource> {
        match (self.key.source, self.key.protocol) {
            (IpAddr::V6(_), _) => None,
            (_, Protocol::Tcp) => Some(Resource::TcpPorts),
            (_, Protocol::Udp) => Some(Resource::UdpPorts),
            (_, Protocol::Icmp | Protocol::Other(_)) => Some(Resource::IcmpPorts),
        }
    }
}

impl Flow {
    pub(super) fn new(
        packet: &Packet<'_>,
        session: Session,
        state: State,
        epoch: u64,
        now: Duration,
    ) -> Self {
        let key = packet.key();
        let client_isn = match packet.transport {
            Transport::Tcp(segment) if segment.is_first() => Some(segment.sequence),
            _ => None,
        };
        Self {
            head: Head {
                key,
                session,
                client: SocketAddr::new(key.source, key.source_port),
                destination: SocketAddr::new(key.destination, key.destination_port),
                outside: None,
                client_isn,
                epoch,
                last_seen: now,
            },
            state,
            armed: None,
            ended: None,
        }
    }

    /// Whether nothing of the flow passes any more: it is remembered only to tell late packets from a new attempt.
    pub(super) fn is_over(&self) -> bool {
        match &self.state {
            State::Denied => true,
            State::Forward(progress) => progress.is_over(),
            State::Proxy(proxy) => proxy.is_over(),
        }
    }

    /// When the flow next needs attention.
    pub(super) fn deadline(&self, config: &Config) -> Duration {
        let last_seen = self.head.last_seen;
        match &self.state {
            State::Denied => last_seen + config.timeouts.linger,
            State::Forward(progress) => {
                last_seen + progress.idle_timeout(self.head.key.protocol, config)
            }
            State::Proxy(proxy) => proxy.deadline(last_seen, config),
        }
    }
}

/// Hash maps here are looked up, never iterated: their order must not reach behaviour.
pub(super) struct FlowTable {
    slots: Vec<Option<Flow>>,
    free: Vec<FlowId>,
    by_key: HashMap<FiveTuple, FlowId>,
    ports: Ports,
    timers: BTreeSet<(Duration, FlowId)>,
    /// Flows that are over by source, in the order in which they ended.
    ended: BTreeSet<(IpAddr, u64, FlowId)>,
    next_ended: u64,
}

impl FlowTable {
    pub(super) fn new(seed: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            ports: Ports::new(seed),
            timers: BTreeSet::new(),
            ended: BTreeSet::new(),
            next_ended: 0,
        }
    }

    /// The flow of this source that has been over for longest.
    pub(super) fn oldest_ended(&self, source: IpAddr) -> Option<FlowId> {
        let range = (source, 0, 0)..=(source, u64::MAX, FlowId::MAX);
        self.ended.range(range).next().map(|(_, _, id)| *id)
    }

    pub(super) fn find(&self, key: &FiveTuple) -> Option<FlowId> {
        self.by_key.get(key).copied()
    }

    /// The flow that an outside port stands for.
    pub(super) fn find_outside(&self, protocol: Protocol, port: u16) -> Option<FlowId> {
        self.ports.flow(protocol, port)
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn insert(&mut self, flow: Flow) -> FlowId {
        let key = flow.head.key;
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            FlowId::try_from(self.slots.len() - 1)
                .expect("invariant: the flow limit is far below 2^32")
        });
        self.slots[id as usize] = Some(flow);
        self.by_key.insert(key, id);
        id
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.slots.get_mut(id as usize)?.take()?;
        self.by_key.remove(&flow.head.key);
        if let Some(outside) = flow.head.outside
            && outside.is_ipv4()
        {
            self.ports.release(flow.head.key.protocol, outside.port());
        }
        if let Some(at) = flow.armed {
            self.timers.remove(&(at, id));
        }
        if let Some(nth) = flow.ended {
            self.ended.remove(&(flow.head.key.source, nth, id));
        }
        self.free.push(id);
        Some(flow)
    }

    /// Gives the flow its outside endpoint; false when no port is left. IPv6 keeps the client's own: nothing is
    /// translated, so the flow is found by its five-tuple on this side too.
    pub(super) fn translate(&mut self, id: FlowId, address: Ipv4Addr) -> bool {
        let Some(flow) = self.slots.get_mut(id as usize).and_then(Option::as_mut) else {
            return false;
        };
        let key = &flow.head.key;
        if matches!(key.source, IpAddr::V6(_)) {
            flow.head.outside = Some(flow.head.client);
            return true;
        }
        let port = self.ports.allocate(key.protocol, key.source_port, id);
        flow.head.outside = port.map(|port| SocketAddr::new(address.into(), port));
        port.is_some()
    }

    /// Sees to it that the flow's deadline will not be missed, and that its end is known.
    pub(super) fn arm(&mut self, id: FlowId, core: &Core) {
        let Some(flow) = self.slots.get_mut(id as usize).and_then(Option::as_mut) else {
            return;
        };
        if flow.ended.is_none() && flow.is_over() {
            flow.ended = Some(self.next_ended);
            self.ended
                .insert((flow.head.key.source, self.next_ended, id));
            self.next_ended += 1;
        }
        let deadline = flow.deadline(&core.config);
        if flow.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        if let Some(armed) = flow.armed.replace(deadline) {
            self.timers.remove(&(armed, id));
        }
        self.timers.insert((deadline, id));
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next flow whose timer has fired.
    pub(super) fn due(&mut self, now: Duration) -> Option<FlowId> {
        let &(at, id) = self.timers.first()?;
        if at > now {
            return None;
        }
        self.timers.pop_first();
        if let Some(flow) = self.get_mut(id) {
            flow.armed = None;
        }
        Some(id)
    }
}
