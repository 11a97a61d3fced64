//! After a permit: the flow is opened to the destination, and what the client said is said again.

use super::{Next, Phase, Proxy, Retry, Server, before, largest_segment, min_seq};
use crate::{
    gateway::{
        DropReason, Side,
        core::Core,
        emit::{Emit, Kind},
        flow::{Head, Progress},
        packet::{Packet, Segment},
        shares::Resource,
    },
    record::SessionEnd,
    time::Now,
};

/// Most segments in flight while replaying, as in the initial window of RFC 6928.
const SEGMENTS_IN_FLIGHT: u32 = 10;
/// Below this a destination's maximum segment size is taken for nonsense (RFC 791: 68 bytes pass everywhere).
const LEAST_SEGMENT_SIZE: u16 = 48;

impl Proxy {
    /// Opens the flow to the destination, whose outside endpoint has been allocated.
    pub(in crate::gateway) fn open(&mut self, core: &mut Core, now: Now, head: &mut Head) {
        self.acknowledge(core, head);
        self.send_syn(core, head);
        self.phase = Phase::Opening {
            retry: Retry::first(now, &core.config.timeouts),
        };
    }

    /// Gives a permitted flow up that can't be opened.
    pub(in crate::gateway) fn give_up(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        reason: SessionEnd,
    ) {
        self.reset_client(core, head);
        head.session.end(core, now, reason);
        self.close(core);
    }

    /// The network says that the destination can't be reached: before the handshake that ends the attempt (RFC 9293
    /// section 3.9.2.2 lets it), later it does not. True when it did.
    pub(in crate::gateway) fn unreachable(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
    ) -> bool {
        let opening = matches!(self.phase, Phase::Opening { .. });
        if opening {
            self.give_up(core, now, head, SessionEnd::Timeout);
        }
        opening
    }

    pub(super) fn client_while_opening(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        segment: &Segment<'_>,
    ) {
        if segment.rst {
            if self.is_in_window(segment) {
                Self::reset_server(core, head, self.replay_start(head));
                head.session.end(core, now, SessionEnd::ResetFromClient);
                self.close(core);
            }
            return;
        }
        if segment.syn || !segment.ack || segment.acknowledgment != self.own_sequence() {
            core.counters.drop(DropReason::OutOfState);
            return;
        }
        self.client.window = segment.window;
        self.take(core, segment);
        // A FIN stays unacknowledged: the client repeats it, and then it can pass through.
        if !segment.payload.is_empty() {
            self.acknowledge(core, head);
        }
    }

    pub(super) fn server_while_opening(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        segment: &Segment<'_>,
    ) {
        let start = self.replay_start(head);
        let retry = Retry::first(now, &core.config.timeouts);
        // RFC 9293 section 3.10.7.3.
        if segment.ack && segment.acknowledgment != start {
            if !segment.rst {
                Self::reset_server(core, head, segment.acknowledgment);
            }
            return;
        }
        match (segment.rst, segment.syn && segment.ack) {
            (true, _) if segment.ack => self.give_up(core, now, head, SessionEnd::ResetFromServer),
            (false, true) => {
                let held = self.input.buffered();
                self.input.freeze();
                let freed = held - self.input.buffered();
                core.shares.give_back(self.source, Resource::Buffer, freed);
                let server = Server {
                    shift: self.client.gateway_isn.wrapping_sub(segment.sequence),
                    maximum_segment_size: segment
                        .maximum_segment_size()
                        .clamp(LEAST_SEGMENT_SIZE, largest_segment(head)),
                    window: segment.window,
                    acknowledged: start,
                    sent: start,
                };
                head.session.requested(self.input.contiguous().len());
                self.replay(core, head, server, Progress::answered(), retry);
            }
            _ => core.counters.drop(DropReason::OutOfState),
        }
    }

    pub(super) fn client_while_replaying(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) {
        let Phase::Replaying { server, .. } = self.phase else {
            return;
        };
        let end = self.input.next();
        // How much of the segment the gateway has already taken, and may not let the client say differently.
        let old = end.wrapping_sub(segment.sequence);
        if segment.syn || !(segment.ack || segment.rst) {
            core.counters.drop(DropReason::OutOfState);
            return;
        }
        if segment.rst || old.cast_signed() <= 0 {
            return self.splice_outward(core, now, head, packet, segment);
        }
        self.client.window = segment.window;
        self.client.acknowledged = segment.acknowledgment;
        let new = segment.payload.get(old as usize..).unwrap_or_default();
        let fin_is_new = segment.fin && !before(segment.end(), end.wrapping_add(1));
        if new.is_empty() && !fin_is_new {
            // A repetition of what is being replayed, or a probe: the client missed an acknowledgment.
            self.to_client(
                core,
                head,
                segment.acknowledgment,
                Kind::Data,
                room(&server, end),
            );
            return;
        }
        head.session.requested(new.len());
        let kind = if fin_is_new { Kind::Fin } else { Kind::Data };
        self.to_server(core, head, &server, end, kind, new);
        self.observe(core, now, head, Side::Inside, segment);
    }

    pub(super) fn server_while_replaying(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) {
        let Phase::Replaying {
            mut server,
            mut retry,
            progress,
        } = self.phase
        else {
            return;
        };
        if segment.rst {
            return self.splice_inward(core, now, head, packet, segment);
        }
        if segment.syn || !segment.ack {
            core.counters.drop(DropReason::OutOfState);
            return;
        }
        let end = self.input.next();
        server.window = segment.window;
        if before(server.acknowledged, segment.acknowledgment) {
            server.acknowledged = segment.acknowledgment;
            server.sent = if before(server.sent, server.acknowledged) {
                server.acknowledged
            } else {
                server.sent
            };
            retry = Retry::first(now, &core.config.timeouts);
        }
        if !before(server.acknowledged, end) {
            self.release(core);
            self.phase = Phase::Spliced { server, progress };
            return self.splice_inward(core, now, head, packet, segment);
        }
        self.replay(core, head, server, progress, retry);
        if !segment.payload.is_empty() || segment.fin {
            self.splice_inward(core, now, head, packet, segment);
        }
    }

    pub(super) fn retry_open(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        retry: Retry,
    ) -> Next {
        match retry.next(now, &core.config.timeouts) {
            Some(retry) => {
                self.send_syn(core, head);
                self.phase = Phase::Opening { retry };
            }
            None => self.give_up(core, now, head, SessionEnd::Timeout),
        }
        Next::Stay
    }

    pub(super) fn retry_replay(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        mut server: Server,
        retry: Retry,
    ) -> Next {
        let Phase::Replaying { progress, .. } = self.phase else {
            return Next::Stay;
        };
        match retry.next(now, &core.config.timeouts) {
            Some(retry) => {
                server.sent = server.acknowledged;
                // A closed window is probed with one byte (RFC 9293 section 3.8.6.1).
                let advertised = server.window;
                server.window = advertised.max(1);
                self.replay(core, head, server, progress, retry);
                if let Phase::Replaying { server, .. } = &mut self.phase {
                    server.window = advertised;
                }
            }
            None => {
                Self::reset_server(core, head, server.acknowledged);
                self.give_up(core, now, head, SessionEnd::Timeout);
            }
        }
        Next::Stay
    }

    /// Sends as much of the buffered bytes as the destination has room for.
    fn replay(
        &mut self,
        core: &mut Core,
        head: &Head,
        mut server: Server,
        progress: Progress,
        retry: Retry,
    ) {
        let bytes = self.input.contiguous();
        let start = self.replay_start(head);
        let size = u32::from(server.maximum_segment_size);
        let room = u32::from(server.window).min(size * SEGMENTS_IN_FLIGHT);
        let limit = min_seq(self.input.next(), server.acknowledged.wrapping_add(room));
        while before(server.sent, limit) {
            let length = limit.wrapping_sub(server.sent).min(size);
            let from = server.sent.wrapping_sub(start) as usize;
            let chunk = bytes.get(from..from + length as usize).unwrap_or_default();
            self.to_server(core, head, &server, server.sent, Kind::Data, chunk);
            server.sent = server.sent.wrapping_add(length);
        }
        self.phase = Phase::Replaying {
            server,
            retry,
            progress,
        };
    }

    /// Sequence number of the client's first byte.
    fn replay_start(&self, head: &Head) -> u32 {
        head.client_isn.unwrap_or_default().wrapping_add(1)
    }

    fn send_syn(&self, core: &mut Core, head: &Head) {
        let Some(outside) = head.outside else { return };
        let emit = Emit {
            source: outside,
            destination: head.destination,
            sequence: head.client_isn.unwrap_or_default(),
            acknowledgment: None,
            window: self.client.window,
            kind: Kind::Syn {
                maximum_segment_size: self.client.maximum_segment_size,
            },
            payload: &[],
        };
        core.transmit(Side::Outside, emit.packet());
    }

    fn to_server(
        &self,
        core: &mut Core,
        head: &Head,
        server: &Server,
        sequence: u32,
        kind: Kind,
        payload: &[u8],
    ) {
        let Some(outside) = head.outside else { return };
        let emit = Emit {
            source: outside,
            destination: head.destination,
            sequence,
            acknowledgment: Some(self.client.acknowledged.wrapping_sub(server.shift)),
            window: self.client.window,
            kind,
            payload,
        };
        core.transmit(Side::Outside, emit.packet());
    }
}

/// The destination's window as seen from `acknowledged` on, which is past what it has acknowledged itself.
pub(super) fn room(server: &Server, acknowledged: u32) -> u16 {
    let edge = server.acknowledged.wrapping_add(u32::from(server.window));
    if before(edge, acknowledged) {
        0
    } else {
        u16::try_from(edge.wrapping_sub(acknowledged)).unwrap_or(u16::MAX)
    }
}
