//! Before the decision: the client talks to the gateway alone.

use super::{Next, Phase, Proxy};
use crate::{
    fault::Fault,
    gateway::{
        DropReason, client_hello, core::Core, first_bytes, flow::Head, packet::Segment,
        shares::Resource,
    },
    policy::{Action, Application},
    time::Now,
};

impl Proxy {
    pub(super) fn inspect(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        segment: &Segment<'_>,
    ) -> Next {
        if segment.rst {
            return self.reset_before_decision(core, now, head, segment);
        }
        if segment.syn {
            self.answer_syn(core, head);
            return Next::Stay;
        }
        if !segment.ack || segment.acknowledgment != self.own_sequence() {
            core.counters.drop(DropReason::OutOfState);
            return Next::Stay;
        }
        if let Phase::Inspecting { connected, .. } = &mut self.phase {
            *connected = true;
        }
        self.client.window = segment.window;
        let expected = self.input.next();
        self.take(core, segment);

        let bytes = self.input.contiguous();
        let closed = segment.fin && segment.end() == self.input.next().wrapping_add(1);
        match first_bytes::classify(bytes) {
            Some(application) => self.decide(core, now, head, application),
            None if closed && bytes.is_empty() => {
                head.session.showed_no_name(core, now);
                self.refuse(core, now, head);
                self.client_while_refusing(core, head, segment);
                Next::Stay
            }
            None if !bytes.is_empty() && core.has(Fault::SplitSegmentsPass) => Next::Open,
            // What is there will never become readable.
            None if closed || self.input.is_full() => {
                self.decide(core, now, head, Application::Other)
            }
            None => {
                if segment.end() != expected || segment.sequence != expected {
                    self.acknowledge(core, head);
                }
                Next::Stay
            }
        }
    }

    /// Buffers a segment's payload, within the bounds. What is refused is not acknowledged, and comes again.
    pub(super) fn take(&mut self, core: &mut Core, segment: &Segment<'_>) {
        let growth = self.input.growth(segment.sequence, segment.payload);
        if !core.shares.take(self.source, Resource::Buffer, growth) {
            core.counters.drop(DropReason::BufferLimit);
            return;
        }
        if !self.input.insert(segment.sequence, segment.payload) {
            core.shares.give_back(self.source, Resource::Buffer, growth);
            core.counters.drop(DropReason::BufferLimit);
        }
    }

    fn decide(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        application: Application,
    ) -> Next {
        if !core.has_room_for_records() {
            core.counters.drop(DropReason::RecordLimit);
            self.refuse(core, now, head);
            return Next::Stay;
        }
        let (mut verdict, watched) = core.decide(head.session.flow(), &application);
        if core.has(Fault::SplitRecordsPass) && client_hello::is_spread(self.input.contiguous()) {
            verdict.action = Action::Permit;
        }
        head.session
            .decided_l7(core, now, &application, &verdict, &watched);
        head.epoch = core.epoch;
        self.application = Some(application);
        match verdict.action {
            Action::Permit => Next::Open,
            Action::Deny => {
                core.mirror(now, self.input.contiguous());
                self.refuse(core, now, head);
                Next::Stay
            }
        }
    }

    fn reset_before_decision(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        segment: &Segment<'_>,
    ) -> Next {
        if !self.is_in_window(segment) {
            core.counters.drop(DropReason::OutOfState);
            return Next::Stay;
        }
        head.session.showed_no_name(core, now);
        self.close(core);
        Next::Stay
    }

    /// RFC 9293 section 3.10.7.4: only a reset inside the window is one.
    pub(super) fn is_in_window(&self, segment: &Segment<'_>) -> bool {
        segment.sequence.wrapping_sub(self.input.next()) <= u32::from(self.window())
    }
}
