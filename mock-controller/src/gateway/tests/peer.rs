//! A small TCP endpoint of its own making, so that the engine is not tested against its own idea of TCP.
//!
//! Strict as a receiver (a reset counts only at the exact sequence number), simple as a sender (a plan of segments, then
//! one segment per timeout).

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

pub(super) const TIMEOUT: Duration = Duration::from_millis(200);
const WINDOW: u16 = 60_000;
const SEGMENT: usize = 1460;

pub(super) struct Peer {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    isn: u32,
    peer_isn: Option<u32>,
    established: bool,
    /// What to send, and in which segments and order to send it first.
    stream: Vec<u8>,
    plan: VecDeque<Range<usize>>,
    acknowledged: usize,
    window: usize,
    /// Start to send once so much has arrived.
    pub(super) speaks_after: usize,
    /// Close once so much has arrived and all was sent; `None` closes when the peer has closed.
    pub(super) closes_after: Option<usize>,
    fin_sent: bool,
    fin_acknowledged: bool,
    arrived: Vec<Option<u8>>,
    /// How many of them are in order.
    read: usize,
    peer_fin: Option<usize>,
    pub(super) saw_end: bool,
    pub(super) saw_reset: bool,
    timer: Option<Duration>,
    out: VecDeque<Vec<u8>>,
}

impl Peer {
    pub(super) fn new(local: impl Into<SocketAddr>, isn: u32, stream: Vec<u8>) -> Self {
        let whole = 0..stream.len();
        let plan = whole
            .step_by(SEGMENT)
            .map(|at| at..(at + SEGMENT).min(stream.len()))
            .collect();
        Self {
            local: local.into(),
            remote: None,
            isn,
            peer_isn: None,
            established: false,
            stream,
            plan,
            acknowledged: 0,
            window: 1,
            speaks_after: 0,
            closes_after: None,
            fin_sent: false,
            fin_acknowledged: false,
            arrived: Vec::new(),
            read: 0,
            peer_fin: None,
            saw_end: false,
            saw_reset: false,
            timer: None,
            out: VecDeque::new(),
        }
    }

    pub(super) fn with_plan(mut self, plan: impl IntoIterator<Item = Range<usize>>) -> Self {
        self.plan = plan.into_iter().collect();
        self
    }

    pub(super) fn connect(&mut self, now: Duration, remote: impl Into<SocketAddr>) {
        self.remote = Some(remote.into());
        self.send_syn();
        self.timer = Some(now + TIMEOUT);
    }

    /// More to say, on a connection that may already be established.
    pub(super) fn say(&mut self, now: Duration, bytes: &[u8]) {
        let start = self.stream.len();
        self.stream.extend(bytes);
        self.plan.push_back(start..self.stream.len());
        self.speak(now);
    }

    pub(super) fn received(&self) -> Vec<u8> {
        self.arrived[..self.read]
            .iter()
            .flatten()
            .copied()
            .collect()
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    pub(super) fn has_finished(&self) -> bool {
        self.acknowledged == self.stream.len() && self.saw_end && self.fin_acknowledged
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.timer.filter(|_| !self.saw_reset)
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.timer = None;
        if !self.established {
            if self.remote.is_some() {
                self.send_syn();
                self.timer = Some(now + TIMEOUT);
            }
            return;
        }
        let end = (self.acknowledged + SEGMENT).min(self.sent_end());
        if self.acknowledged < end {
            let probe = self.acknowledged..end.min(self.acknowledged + self.window.max(1));
            self.send(probe);
            self.timer = Some(now + TIMEOUT);
        } else if self.fin_sent && !self.fin_acknowledged {
            self.send_fin();
            self.timer = Some(now + TIMEOUT);
        }
    }

    pub(super) fn handle(&mut self, now: Duration, packet: &[u8]) {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            return;
        };
        if self.saw_reset {
            return;
        }
        if tcp.rst() {
            // RFC 5961 section 3.2: exactly, or not at all.
            let expected = match self.peer_isn {
                Some(_) => tcp.sequence_number() == self.next(),
                None => tcp.ack() && tcp.acknowledgment_number() == self.isn.wrapping_add(1),
            };
            match expected {
                true => self.saw_reset = true,
                false => self.acknowledge(),
            }
            return;
        }
        if tcp.syn() {
            if self.peer_isn.is_none_or(|isn| isn != tcp.sequence_number()) && self.established {
                return self.acknowledge();
            }
            self.peer_isn = Some(tcp.sequence_number());
            if self.remote.is_none() {
                self.remote = Some(SocketAddr::new(source_of(packet), tcp.source_port()));
            }
            if !tcp.ack() {
                return self.send_syn();
            }
        }
        if self.peer_isn.is_none() || !tcp.ack() {
            return;
        }
        self.window = tcp.window_size().into();
        let acknowledged = tcp
            .acknowledgment_number()
            .wrapping_sub(self.isn.wrapping_add(1)) as usize;
        let limit = self.stream.len() + usize::from(self.fin_sent);
        assert!(
            acknowledged <= limit || !self.established,
            "acknowledges what was never sent"
        );
        self.established = true;
        if (self.acknowledged..=limit).contains(&acknowledged) {
            self.acknowledged = acknowledged.min(self.stream.len());
            self.fin_acknowledged |= self.fin_sent && acknowledged > self.stream.len();
        }
        match tcp.syn() {
            true => self.acknowledge(),
            false => self.take(tcp.sequence_number(), tcp.payload(), tcp.fin()),
        }
        self.speak(now);
    }

    fn take(&mut self, sequence: u32, payload: &[u8], fin: bool) {
        let start = sequence.wrapping_sub(self.peer_isn.unwrap().wrapping_add(1));
        // Ahead of the window, or behind what was read: a repetition.
        if start.cast_signed() < 0 {
            return self.acknowledge();
        }
        for (index, byte) in payload.iter().enumerate() {
            let at = start as usize + index;
            if self.arrived.len() <= at {
                self.arrived.resize(at + 1, None);
            }
            assert!(
                self.arrived[at].is_none_or(|old| old == *byte),
                "a byte changed at {at}"
            );
            self.arrived[at] = Some(*byte);
        }
        self.read += self.arrived[self.read..]
            .iter()
            .take_while(|byte| byte.is_some())
            .count();
        if fin {
            self.peer_fin = Some(start as usize + payload.len());
        }
        self.saw_end |= self.peer_fin == Some(self.read);
        if fin || !payload.is_empty() {
            self.acknowledge();
        }
    }

    fn sent_end(&self) -> usize {
        self.plan
            .iter()
            .map(|range| range.start)
            .min()
            .unwrap_or(self.stream.len())
    }

    /// Sends what the plan and the peer's window allow.
    fn speak(&mut self, now: Duration) {
        if !self.established || self.read < self.speaks_after {
            return;
        }
        while let Some(range) = self.plan.pop_front() {
            let edge = self.acknowledged + self.window;
            if range.end > edge {
                // With nothing in flight, what fits is better than nothing.
                let cut = if range.start == self.acknowledged {
                    edge
                } else {
                    range.start
                };
                self.plan.push_front(cut..range.end);
                if cut > range.start {
                    self.send(range.start..cut);
                }
                break;
            }
            self.send(range);
        }
        let is_time = match self.closes_after {
            Some(bytes) => self.read >= bytes,
            None => self.saw_end,
        };
        if is_time && self.plan.is_empty() && !self.fin_sent {
            self.fin_sent = true;
            self.send_fin();
        }
        let waits =
            self.acknowledged < self.stream.len() || (self.fin_sent && !self.fin_acknowledged);
        self.timer = waits.then_some(now + TIMEOUT);
    }

    fn next(&self) -> u32 {
        let end = self.read as u32 + u32::from(self.saw_end);
        self.peer_isn
            .unwrap_or_default()
            .wrapping_add(1)
            .wrapping_add(end)
    }

    fn sequence(&self, offset: usize) -> u32 {
        self.isn.wrapping_add(1).wrapping_add(offset as u32)
    }

    fn send(&mut self, range: Range<usize>) {
        let packet = self
            .builder(self.sequence(range.start))
            .ack(self.next())
            .psh();
        let payload = self.stream[range].to_vec();
        self.push(packet, &payload);
    }

    fn send_fin(&mut self) {
        let packet = self
            .builder(self.sequence(self.stream.len()))
            .ack(self.next())
            .fin();
        self.push(packet, &[]);
    }

    fn acknowledge(&mut self) {
        let offset = self.acknowledged.max(self.sent_end()) + usize::from(self.fin_sent);
        let packet = self.builder(self.sequence(offset)).ack(self.next());
        self.push(packet, &[]);
    }

    fn send_syn(&mut self) {
        let mut packet = self.builder(self.isn).syn();
        if self.peer_isn.is_some() {
            packet = packet.ack(self.next());
        }
        // As Linux sends it: maximum segment size, SACK permitted, timestamp, window scale.
        let options = [
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        self.push(packet.options_raw(&options).unwrap(), &[]);
    }

    fn builder(&self, sequence: u32) -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        let remote = self.remote.unwrap();
        let ip = match (self.local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                PacketBuilder::ipv4(local.octets(), remote.octets(), 64)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                PacketBuilder::ipv6(local.octets(), remote.octets(), 64)
            }
            ends => panic!("the ends {ends:?} are of two families"),
        };
        ip.tcp(self.local.port(), remote.port(), sequence, WINDOW)
    }

    fn push(
        &mut self,
        builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>,
        payload: &[u8],
    ) {
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        self.out.push_back(packet);
    }
}

/// Who sent a packet of either family.
fn source_of(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        4 => IpAddr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap()),
    }
}
