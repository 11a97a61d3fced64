//! Seeded faults of the gateway that need a state of their own: what its log says, a policy that is open for a while after
//! each push, and payloads that are sent to another host.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use etherparse::PacketBuilder;
use uuid::Uuid;

use super::{DropReason, Side, core::Core, packet::Unreadable, rewrite};
use crate::{
    fault::{Fault, Faults},
    policy::{Action, Snapshot},
    record::LogRecord,
    time::Now,
};

/// How long everything is permitted after a push.
const GAP: Duration = Duration::from_millis(30);
/// Where mirrored payloads go (`drop.attacker-direct.test` of `scenarios/internet.yaml`), and from which port.
const MIRROR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 68), 123);
const MIRROR_PORT: u16 = 40_123;
const MIRRORED: usize = 64;
const LATE: Duration = Duration::from_millis(400);

/// What the seeded faults remember.
#[derive(Default)]
pub(super) struct Seeded {
    /// The policy that was pushed, and when it is enforced.
    gap: Option<(Duration, Arc<Snapshot>)>,
    /// Mirrored payloads and when they are sent.
    mirrors: VecDeque<(Duration, Vec<u8>)>,
    permits: u64,
}

impl Core {
    /// The policy to enforce at once when `policy` is pushed.
    pub(super) fn opens_for_a_gap(&mut self, now: Now, policy: Arc<Snapshot>) -> Arc<Snapshot> {
        if !self.has(Fault::PushGap) {
            return policy;
        }
        self.seeded.gap = Some((now.monotonic + GAP, policy));
        Arc::new(Snapshot::permit_all())
    }

    /// Does what the seeded faults have put off until now.
    pub(super) fn catch_up(&mut self, now: Now) {
        if let Some((_, policy)) = self.seeded.gap.take_if(|(at, _)| *at <= now.monotonic) {
            self.enforce(policy);
        }
        while let Some((at, _)) = self.seeded.mirrors.front()
            && *at <= now.monotonic
        {
            if let Some((_, packet)) = self.seeded.mirrors.pop_front() {
                self.transmit(Side::Outside, packet);
            }
        }
    }

    /// When [`catch_up`](Self::catch_up) has something to do.
    pub(super) fn next_catch_up(&self) -> Option<Duration> {
        let gap = self.seeded.gap.as_ref().map(|(at, _)| *at);
        let mirror = self.seeded.mirrors.front().map(|(at, _)| *at);
        gap.into_iter().chain(mirror).min()
    }

    /// Sends a part of a denied payload to another host.
    pub(super) fn mirror(&mut self, now: Now, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let hex = |payload: &[u8]| {
            let start = &payload[..payload.len().min(MIRRORED)];
            let digits = start.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>().into_bytes()
        };
        for (fault, wait, data) in [
            (Fault::MirrorHex, Duration::ZERO, hex(payload)),
            (Fault::MirrorByte, Duration::ZERO, payload[..1].to_vec()),
            (Fault::MirrorLate, LATE, hex(payload)),
        ] {
            if self.has(fault) {
                let source = self.config.outside_address.octets();
                let builder = PacketBuilder::ipv4(source, MIRROR.ip().octets(), 64)
                    .udp(MIRROR_PORT, MIRROR.port());
                let mut packet = Vec::new();
                builder
                    .write(&mut packet, &data)
                    .expect("invariant: the data is short, and a Vec takes all writes");
                self.seeded
                    .mirrors
                    .push_back((now.monotonic + wait, packet));
            }
        }
        self.catch_up(now);
    }

    /// Passes on a packet that was refused for its headers.
    pub(super) fn leak_unreadable(&mut self, packet: &[u8], unreadable: &Unreadable) {
        let fault = match unreadable.reason {
            DropReason::Fragment => Fault::FragmentsPass,
            DropReason::HeaderOptions => Fault::IpOptionsPass,
            _ => return,
        };
        if self.has(fault) {
            let translated = rewrite::header_alone(packet, self.config.outside_address);
            self.forward(Side::Outside, translated);
        }
    }
}

const BEHIND: Duration = Duration::from_secs(3600);

/// The record as a gateway with the active faults writes it; `None` when it writes nothing.
pub(super) fn distort(
    faults: &Faults,
    seeded: &mut Seeded,
    own: Ipv4Addr,
    mut record: LogRecord,
) -> Option<LogRecord> {
    let is_denial = record.action() == Action::Deny;
    for fault in faults.iter() {
        match fault {
            Fault::NoPermitLog if !is_denial => return None,
            Fault::PermitLogOneInTen if !is_denial => {
                seeded.permits += 1;
                if !seeded.permits.is_multiple_of(10) {
                    return None;
                }
            }
            // Permits stay right otherwise: they are the positive controls.
            _ if !is_denial => {}
            Fault::NoDenialLog => return None,
            Fault::LogWrongSource => match &mut record {
                LogRecord::L4(record) => record.flow.source = own.into(),
                LogRecord::L7(record) => record.flow.source = own.into(),
            },
            Fault::LogLacksRule => match &mut record {
                LogRecord::L4(record) => record.policy = Uuid::nil(),
                LogRecord::L7(record) => record.decided_by = None,
            },
            Fault::LogLacksName => {
                if let LogRecord::L7(record) = &mut record {
                    record.sni_hostname = None;
                }
            }
            Fault::LogClockBehind => match &mut record {
                LogRecord::L4(record) => record.at -= BEHIND,
                LogRecord::L7(record) => {
                    record.at -= BEHIND;
                    record.session_start -= BEHIND;
                }
            },
            // Realised elsewhere.
            _ => {}
        }
    }
    Some(record)
}
