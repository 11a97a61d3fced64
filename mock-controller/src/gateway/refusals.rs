//! Packets that no flow takes: dropped, and logged as denials of the packet filter.
//!
//! A packet whose headers the gateway does not process, or that no flow can have, is logged once per five-tuple and
//! [`Timeouts::linger`](super::Timeouts::linger); one that a source's share has no room for, once per source and the
//! same period. The record names the rule that denies what was readable of the packet. Where the policy would have let
//! it pass, no rule decided: the record is of the gateway itself and carries [`NO_RULE`].
//!
//! Refusals are kept apart from flows: a fragment does not end the flow that it claims to be of.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use uuid::Uuid;

use super::{
    DropReason,
    core::Core,
    packet::{Packet, Unreadable},
};
use crate::{
    policy::{Action, FirstPacket, FiveTuple, Logging, Verdict},
    record::{L4Record, LogRecord},
    time::Now,
};

/// `POLICY` of a record that no rule decided. The vendor's value is not published.
pub const NO_RULE: Uuid = Uuid::nil();

/// What is logged once per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Refusal {
    Packet(FiveTuple),
    Share(IpAddr),
}

/// The refusals of the current period.
#[derive(Default)]
pub(super) struct Refusals {
    /// Looked up, never iterated: its order must not reach behaviour.
    known: HashSet<Refusal>,
    /// When each is due again, earliest first.
    expiry: VecDeque<(Duration, Refusal)>,
}

impl Refusals {
    fn is_known(&mut self, now: Duration, refusal: &Refusal) -> bool {
        while let Some(&(until, over)) = self.expiry.front()
            && until <= now
        {
            self.expiry.pop_front();
            self.known.remove(&over);
        }
        self.known.contains(refusal)
    }

    fn remember(&mut self, until: Duration, refusal: Refusal) {
        self.known.insert(refusal);
        self.expiry.push_back((until, refusal));
    }
}

impl Core {
    /// Drops a packet from inside whose headers the gateway does not process.
    pub(super) fn refuse_unreadable(&mut self, now: Now, packet: &Unreadable) {
        self.counters.drop(packet.reason);
        if let Some(flow) = packet.flow {
            self.refused(now, Refusal::Packet(flow), flow, packet.size);
        }
    }

    /// Drops a packet that no flow can have.
    pub(super) fn refuse(&mut self, now: Now, packet: &Packet<'_>, reason: DropReason) {
        self.counters.drop(reason);
        let flow = packet.five_tuple();
        self.refused(now, Refusal::Packet(flow), flow, packet.size());
    }

    /// Drops the first packet of a flow that its source has no share left for.
    pub(super) fn refuse_share(
        &mut self,
        now: Now,
        flow: FiveTuple,
        size: u16,
        reason: DropReason,
    ) {
        self.counters.drop(reason);
        self.refused(now, Refusal::Share(flow.source), flow, size);
    }

    fn refused(&mut self, now: Now, refusal: Refusal, flow: FiveTuple, size: u16) {
        if self.refusals.is_known(now.monotonic, &refusal) {
            return;
        }
        if self.refusals.known.len() >= self.config.limits.flows || !self.has_room_for_records() {
            self.counters.unlogged_denials += 1;
            return;
        }
        let until = now.monotonic + self.config.timeouts.linger;
        self.refusals.remember(until, refusal);
        self.counters.denials += 1;
        let outcome = match refusal {
            Refusal::Packet(_) => self.without_name(&flow),
            Refusal::Share(_) => self.first_packet(&flow).outcome,
        };
        let verdict = own_unless_denied(outcome);
        if verdict.logging.is_on() {
            let id = self.random_u64();
            let record = L4Record::start(now, flow, &verdict, size, id);
            self.record(now, LogRecord::L4(record));
        }
    }
}

/// The verdict of the rule that denies the flow; if none does, the gateway's own denial.
fn own_unless_denied(outcome: FirstPacket) -> Verdict {
    match outcome {
        FirstPacket::Decided(verdict) if verdict.action == Action::Deny => verdict,
        FirstPacket::Decided(_) | FirstPacket::Inspect => Verdict {
            action: Action::Deny,
            decided_by: NO_RULE,
            rule: "refused by the gateway".to_owned(),
            logging: Logging::Start,
            enforced: true,
        },
    }
}
