//! After the replay: segments pass through, translated in place.

use super::{Phase, Proxy, before, opening::room};
use crate::{
    gateway::{
        DropReason, Side,
        core::Core,
        flow::{Head, Progress},
        packet::{Packet, Segment},
        rewrite::Rewrite,
    },
    time::Now,
};

impl Proxy {
    pub(super) fn splice_outward(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) {
        let (Phase::Replaying { server, .. } | Phase::Spliced { server, .. }, Some(outside)) =
            (&self.phase, head.outside)
        else {
            return;
        };
        // A SYN here would open a connection that nobody has inspected.
        if segment.syn {
            core.counters.drop(DropReason::OutOfState);
            return;
        }
        let shift = server.shift;
        let translated = Rewrite::forward(packet).map(|mut rewrite| {
            rewrite.source(outside);
            if segment.ack {
                rewrite.tcp_acknowledgment(segment.acknowledgment.wrapping_sub(shift));
            }
            rewrite.finish()
        });
        if segment.ack {
            self.client.acknowledged = segment.acknowledgment;
        }
        self.client.window = segment.window;
        self.client.sequence = segment.end();
        head.session.carried(packet);
        head.session.requested(segment.payload.len());
        core.forward(Side::Outside, translated);
        self.observe(core, now, head, Side::Inside, segment);
    }

    pub(super) fn splice_inward(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) {
        let (Phase::Replaying { server, .. } | Phase::Spliced { server, .. }) = &self.phase else {
            return;
        };
        if segment.syn {
            core.counters.drop(DropReason::OutOfState);
            return;
        }
        let replaying = matches!(self.phase, Phase::Replaying { .. });
        let taken = self.input.next();
        let translated = Rewrite::forward(packet).map(|mut rewrite| {
            rewrite.destination(head.client);
            rewrite.tcp_sequence(segment.sequence.wrapping_add(server.shift));
            // The gateway has acknowledged more than the destination has yet: the client must not see that go back.
            if replaying && segment.ack && before(segment.acknowledgment, taken) {
                rewrite.tcp_acknowledgment(taken);
                rewrite.tcp_window(room(server, taken));
            }
            rewrite.finish()
        });
        head.session.carried(packet);
        head.session.responded(segment.payload.len());
        core.forward(Side::Inside, translated);
        self.observe(core, now, head, Side::Outside, segment);
    }

    pub(super) fn observe(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        side: Side,
        segment: &Segment<'_>,
    ) {
        let Some(reason) = self
            .progress()
            .and_then(|progress| progress.observe(side, segment))
        else {
            return;
        };
        head.session.end(core, now, reason);
        if segment.rst {
            self.close(core);
        }
    }

    fn progress(&mut self) -> Option<&mut Progress> {
        match &mut self.phase {
            Phase::Replaying { progress, .. } | Phase::Spliced { progress, .. } => Some(progress),
            Phase::Inspecting { .. }
            | Phase::Opening { .. }
            | Phase::Refusing { .. }
            | Phase::Closed => None,
        }
    }
}
