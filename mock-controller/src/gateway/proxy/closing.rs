//! The end of a client's connection that the gateway itself brings about: without a TLS alert, as the vendor's proxy
//! does (`reference/aviatrix-dcf.md` section 2.2).

use super::{Next, Phase, Proxy, Retry};
use crate::{
    gateway::{
        DropReason, L7Close, Side,
        core::Core,
        emit::{Emit, Kind},
        flow::Head,
        packet::Segment,
    },
    policy::Verdict,
    record::SessionEnd,
    time::Now,
};

impl Proxy {
    /// Ends the connection of a client that the destination never hears of.
    pub(super) fn refuse(&mut self, core: &mut Core, now: Now, head: &Head) {
        match core.config.l7_close {
            L7Close::Rst => {
                self.reset_client(core, head);
                self.close(core);
            }
            L7Close::Fin => {
                self.to_client(core, head, self.own_sequence(), Kind::Fin, self.window());
                self.release(core);
                self.phase = Phase::Refusing {
                    retry: Retry::first(now, &core.config.timeouts),
                    fin_acknowledged: false,
                };
            }
        }
    }

    /// Ends a permitted flow that a newer policy denies, on both sides.
    pub(in crate::gateway) fn revoke(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        verdict: &Verdict,
        watched: &[Verdict],
    ) {
        head.session.end(core, now, SessionEnd::TcpReset);
        if let Some(application) = self.application.take() {
            head.session
                .decided_l7(core, now, &application, verdict, watched);
        }
        self.abort(core, head);
        self.reset_client(core, head);
        self.close(core);
    }

    /// The client has started anew: the destination should not wait for the old connection.
    pub(in crate::gateway) fn abort(&self, core: &mut Core, head: &Head) {
        match &self.phase {
            Phase::Opening { .. } => Self::reset_server(core, head, self.client.sequence),
            Phase::Replaying { server, .. } => Self::reset_server(core, head, server.acknowledged),
            Phase::Spliced { .. } => Self::reset_server(core, head, self.client.sequence),
            Phase::Inspecting { .. } | Phase::Refusing { .. } | Phase::Closed => {}
        }
    }

    pub(super) fn client_while_refusing(
        &mut self,
        core: &mut Core,
        head: &Head,
        segment: &Segment<'_>,
    ) {
        let expected = self.input.next();
        let Phase::Refusing {
            fin_acknowledged, ..
        } = &mut self.phase
        else {
            return;
        };
        if segment.rst {
            return self.close(core);
        }
        let own_fin = self.client.gateway_isn.wrapping_add(2);
        *fin_acknowledged |= segment.ack && segment.acknowledgment == own_fin;
        let closes = segment.fin && segment.end() == expected.wrapping_add(1);
        if segment.end().wrapping_sub(expected).cast_signed() > i32::from(segment.fin) {
            // More data than was judged, for a connection that is over (RFC 9293 section 3.6.1).
            self.client.acknowledged = own_fin;
            self.reset_client(core, head);
            return self.close(core);
        }
        if closes {
            let emit = Emit {
                source: head.destination,
                destination: head.client,
                sequence: own_fin,
                acknowledgment: Some(expected.wrapping_add(1)),
                window: 0,
                kind: Kind::Data,
                payload: &[],
            };
            core.transmit(Side::Inside, emit.packet());
        }
    }

    pub(super) fn retry_refusal(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &Head,
        retry: Retry,
    ) -> Next {
        match retry.next(now, &core.config.timeouts) {
            Some(next) => {
                self.to_client(core, head, self.own_sequence(), Kind::Fin, 0);
                if let Phase::Refusing { retry, .. } = &mut self.phase {
                    *retry = next;
                }
                Next::Stay
            }
            None => {
                self.reset_client(core, head);
                Next::Remove
            }
        }
    }

    pub(super) fn close(&mut self, core: &mut Core) {
        self.release(core);
        self.phase = Phase::Closed;
    }

    /// RFC 9293 section 3.10.7.1: a reset at the number that the stray segment acknowledges.
    pub(super) fn refuse_stray(
        &self,
        core: &mut Core,
        head: &Head,
        from: Side,
        segment: &Segment<'_>,
    ) {
        core.counters.drop(DropReason::OutOfState);
        if segment.rst || !segment.ack {
            return;
        }
        let (source, destination) = match (from, head.outside) {
            (Side::Inside, _) => (head.destination, head.client),
            (Side::Outside, Some(outside)) => (outside, head.destination),
            (Side::Outside, None) => return,
        };
        let emit = Emit {
            source,
            destination,
            sequence: segment.acknowledgment,
            acknowledgment: None,
            window: 0,
            kind: Kind::Rst,
            payload: &[],
        };
        core.transmit(from, emit.packet());
    }
}
