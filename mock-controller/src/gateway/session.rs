//! One flow's account: when it started, what it carried, what the log says about it.

use uuid::Uuid;

use super::{core::Core, packet::Packet};
use crate::{
    policy::{Action, Application, FiveTuple, Verdict},
    record::{L4Record, L4Session, L7Record, LogRecord, SessionEnd, SessionEnding, SessionEvent},
    time::Now,
};

pub(super) struct Session {
    flow: FiveTuple,
    started: Now,
    id: Uuid,
    packets: u64,
    bytes: u64,
    request_bytes: u64,
    response_bytes: u64,
    /// Size of the packet that started the flow.
    first_size: u16,
    /// Permits whose end is still to be written.
    open_l4: Option<Verdict>,
    open_l7: Option<Box<L7Record>>,
}

impl Session {
    pub(super) fn new(core: &mut Core, now: Now, packet: &Packet<'_>) -> Self {
        Self {
            flow: packet.five_tuple(),
            started: now,
            id: core.random_uuid(),
            packets: 0,
            bytes: 0,
            request_bytes: 0,
            response_bytes: 0,
            first_size: packet.size(),
            open_l4: None,
            open_l7: None,
        }
    }

    pub(super) fn flow(&self) -> &FiveTuple {
        &self.flow
    }

    /// Size of the packet that started the flow, in bytes.
    pub(super) fn first_size(&self) -> u16 {
        self.first_size
    }

    /// Writes what the packet filter decided.
    pub(super) fn decided_l4(
        &mut self,
        core: &mut Core,
        now: Now,
        verdict: &Verdict,
        watched: &[Verdict],
    ) {
        for verdict in watched
            .iter()
            .chain([verdict])
            .filter(|verdict| leaves_decision(verdict))
        {
            let id = core.random_u64();
            let record = L4Record::start(now, self.flow, verdict, self.first_size, id);
            core.record(now, LogRecord::L4(record));
        }
        match verdict.action {
            Action::Permit => self.open_l4 = verdict.logging.at_end().then(|| verdict.clone()),
            Action::Deny => core.counters.denials += 1,
        }
    }

    /// Writes what the proxy decided.
    pub(super) fn decided_l7(
        &mut self,
        core: &mut Core,
        now: Now,
        application: &Application,
        verdict: &Verdict,
        watched: &[Verdict],
    ) {
        let record = |verdict| {
            L7Record::decision(
                now,
                self.flow,
                application,
                verdict,
                self.id,
                self.started.wall,
            )
        };
        let decisions = watched.iter().chain([verdict]);
        for verdict in decisions.filter(|verdict| leaves_decision(verdict)) {
            core.record(now, LogRecord::L7(record(verdict)));
        }
        if verdict.action == Action::Permit && verdict.logging.at_end() {
            self.open_l7 = Some(Box::new(record(verdict)));
        }
        if core.config.emit_l4_for_l7 {
            self.decided_l4(core, now, verdict, &[]);
        } else if verdict.action == Action::Deny {
            core.counters.denials += 1;
        }
    }

    /// Writes that the client showed no name.
    pub(super) fn showed_no_name(&mut self, core: &mut Core, now: Now) {
        let record = L7Record::syn_only_timeout(now, self.flow, self.id, self.started.wall);
        core.record(now, LogRecord::L7(record));
        core.counters.denials += 1;
    }

    pub(super) fn carried(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.bytes += u64::from(packet.size());
    }

    pub(super) fn requested(&mut self, bytes: usize) {
        self.request_bytes += bytes as u64;
    }

    pub(super) fn responded(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Writes the end of whatever was started; later calls write nothing.
    pub(super) fn end(&mut self, core: &mut Core, now: Now, reason: SessionEnd) {
        let duration = now.monotonic.saturating_sub(self.started.monotonic);
        if let Some(start) = self.open_l7.take() {
            let record = start.end(
                now,
                SessionEnding {
                    duration,
                    request_bytes: self.request_bytes,
                    response_bytes: self.response_bytes,
                },
            );
            core.record(now, LogRecord::L7(record));
        }
        if let Some(verdict) = self.open_l4.take() {
            let session = L4Session {
                id: core.random_u64(),
                event: SessionEvent::End {
                    reason,
                    packets: self.packets,
                    bytes: self.bytes,
                    duration,
                },
            };
            let record = L4Record::new(now, self.flow, &verdict, self.first_size, session);
            core.record(now, LogRecord::L4(record));
        }
    }
}

/// Whether a record is due at once. What is not enforced or is denied has no end that could be recorded instead.
fn leaves_decision(verdict: &Verdict) -> bool {
    let ends = verdict.enforced && verdict.action == Action::Permit;
    verdict.logging.at_start() || (verdict.logging.is_on() && !ends)
}
