//! What all flows share: the policy in force, the settings, the source of randomness, and the queues that callers poll.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use uuid::Uuid;

use super::{
    Config, Counters, DropReason, Side, Transmit,
    nat::PORT_COUNT,
    refusals::Refusals,
    seeded::{self, Seeded},
    shares::Shares,
};
use crate::{
    fault::{Fault, Faults},
    policy::{Action, Application, Evaluation, FirstPacket, FiveTuple, Snapshot, Verdict},
    record::LogRecord,
    time::Now,
};

/// Most records that one packet can lead to without asking for room again.
const RECORDS_PER_PACKET: usize = 64;

/// Watch rules of which one decision leaves records; of further ones that match it leaves none.
const WATCHED_PER_DECISION: usize = RECORDS_PER_PACKET / 2;

pub(super) struct Core {
    pub(super) config: Config,
    pub(super) counters: Counters,
    /// What each source holds.
    pub(super) shares: Shares,
    pub(super) refusals: Refusals,
    pub(super) seeded: Seeded,
    /// Rises with each policy; tells flows that were decided under an older one.
    pub(super) epoch: u64,
    policy: Arc<Snapshot>,
    faults: Faults,
    /// Sources and destinations of flows that were permitted by name; only a seeded fault asks.
    reached: BTreeSet<(IpAddr, IpAddr)>,
    random: ChaCha12Rng,
    transmits: VecDeque<Transmit>,
    records: VecDeque<LogRecord>,
}

impl Core {
    pub(super) fn new(config: Config, faults: Faults, seed: u64, policy: Arc<Snapshot>) -> Self {
        Self {
            shares: Shares::new(&config.limits, PORT_COUNT)
                .ignored_if(faults.has(Fault::SharesIgnored)),
            refusals: Refusals::default(),
            seeded: Seeded::default(),
            config,
            counters: Counters::default(),
            epoch: 0,
            policy,
            faults,
            reached: BTreeSet::new(),
            random: ChaCha12Rng::seed_from_u64(seed),
            transmits: VecDeque::new(),
            records: VecDeque::new(),
        }
    }

    pub(super) fn set_policy(&mut self, now: Now, policy: Arc<Snapshot>) {
        let policy = self.opens_for_a_gap(now, policy);
        self.enforce(policy);
    }

    pub(super) fn enforce(&mut self, policy: Arc<Snapshot>) {
        self.policy = policy;
        self.epoch += 1;
    }

    /// Forgets all that a process holds in memory. The source of randomness goes on, so that no sequence number, port
    /// or session id comes again.
    pub(super) fn restart(&mut self) {
        self.counters = Counters::default();
        self.shares = Shares::new(&self.config.limits, PORT_COUNT)
            .ignored_if(self.faults.has(Fault::SharesIgnored));
        self.refusals = Refusals::default();
        self.seeded = Seeded::default();
        self.transmits.clear();
        let policy = if self.faults.has(Fault::OpenWhileRestarting) {
            Snapshot::permit_all()
        } else {
            Snapshot::deny_all()
        };
        self.enforce(Arc::new(policy));
    }

    pub(super) fn first_packet(&mut self, flow: &FiveTuple) -> Evaluation {
        let mut evaluation = self.policy.evaluate(flow, None);
        self.bound(&mut evaluation.watched);
        evaluation
    }

    /// What the policy says of a flow that will show no name.
    pub(super) fn without_name(&self, flow: &FiveTuple) -> FirstPacket {
        self.policy
            .evaluate(flow, Some(&Application::Other))
            .outcome
    }

    /// What the log has room for beside the verdict: that is never the record that is left out.
    fn bound(&mut self, watched: &mut Vec<Verdict>) {
        for _ in WATCHED_PER_DECISION..watched.len() {
            self.counters.drop(DropReason::RecordLimit);
        }
        watched.truncate(WATCHED_PER_DECISION);
    }

    /// The verdict on a flow whose application is known, and the watch rules that matched.
    pub(super) fn decide(
        &mut self,
        flow: &FiveTuple,
        application: &Application,
    ) -> (Verdict, Vec<Verdict>) {
        let mut evaluation = self.policy.evaluate(flow, Some(application));
        self.bound(&mut evaluation.watched);
        let mut verdict = match evaluation.outcome {
            FirstPacket::Decided(verdict) => verdict,
            FirstPacket::Inspect => self.policy.decide(flow, application),
        };
        if !self.faults.is_empty() && self.is_waved_through(flow, application, verdict.action) {
            verdict.action = Action::Permit;
        }
        (verdict, evaluation.watched)
    }

    /// The seeded faults of the decision on a name: they permit what the policy does not.
    fn is_waved_through(
        &mut self,
        flow: &FiveTuple,
        application: &Application,
        action: Action,
    ) -> bool {
        let ends = (flow.source, flow.destination);
        if action == Action::Permit && self.faults.has(Fault::PermitByAddress) {
            self.reached.insert(ends);
        }
        let fault = match application {
            Application::Tls { sni: None } => Fault::PermitMissingSni,
            Application::Other => Fault::NonTlsPasses,
            Application::Tls { .. } | Application::Http { .. } => Fault::PermitByAddress,
        };
        self.faults.has(fault) && (fault != Fault::PermitByAddress || self.reached.contains(&ends))
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }

    /// Whether a verdict that is given now can be logged.
    pub(super) fn has_room_for_records(&self) -> bool {
        self.records.len() + RECORDS_PER_PACKET <= self.config.limits.records
    }

    pub(super) fn record(&mut self, now: Now, record: LogRecord) {
        let (source, interval) = (record.flow().source, self.config.timeouts.linger);
        if record.action() == Action::Deny && !self.shares.may_log(now.monotonic, source, interval)
        {
            self.counters.unlogged_denials += 1;
            return;
        }
        let Some(record) = seeded::distort(
            &self.faults,
            &mut self.seeded,
            self.config.outside_address,
            record,
        ) else {
            self.counters.suppressed_records += 1;
            return;
        };
        if self.records.len() >= self.config.limits.records {
            self.counters.drop(DropReason::RecordLimit);
        } else {
            self.records.push_back(record);
        }
    }

    pub(super) fn transmit(&mut self, side: Side, packet: Vec<u8>) {
        if self.transmits.len() >= self.config.limits.transmits {
            self.counters.drop(DropReason::TransmitLimit);
            return;
        }
        match side {
            Side::Inside => self.counters.inbound += 1,
            Side::Outside => self.counters.outbound += 1,
        }
        self.transmits.push_back(Transmit { side, packet });
    }

    /// Passes a translated packet on; `None` stands for one whose TTL ran out.
    pub(super) fn forward(&mut self, side: Side, packet: Option<Vec<u8>>) {
        match packet {
            Some(packet) => self.transmit(side, packet),
            None => self.counters.drop(DropReason::Expired),
        }
    }

    /// Whether the gateway passes a packet on without a look at the policy (seeded fault `ipv6-forgotten`).
    pub(super) fn forgets(&self, packet: &[u8]) -> bool {
        let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        is_ipv6 && self.faults.has(Fault::Ipv6Forgotten)
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub(super) fn poll_record(&mut self) -> Option<LogRecord> {
        self.records.pop_front()
    }

    pub(super) fn random_u32(&mut self) -> u32 {
        self.random.next_u32()
    }

    pub(super) fn random_u64(&mut self) -> u64 {
        self.random.next_u64()
    }

    pub(super) fn random_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
