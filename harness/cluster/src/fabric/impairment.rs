//! Injected loss, delay and partition.
//!
//! Pure and seeded: the same seed and packets give the same losses. The first rule that matches a packet
//! decides. Packets held back are bounded; past the bound they are lost, as in a real queue.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::Origin;
use super::packet::{Protocol, Tuple};
use crate::node_stage::policy::Cidr;

/// Packets held back at a time.
pub const HELD: usize = 4096;

/// Impairs packets from `source` to `destination`. A partition is a loss of probability 1 either way.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    pub source: Option<Cidr>,
    pub destination: Option<Cidr>,
    pub protocol: Option<Protocol>,
    pub destination_port: Option<u16>,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    Drop { probability: f64 },
    Delay(Duration),
}

#[derive(Debug)]
pub struct Impairments {
    rules: Vec<Impairment>,
    held: BTreeMap<(Duration, u64), (Origin, Vec<u8>)>,
    sequence: u64,
    random: Xoshiro256PlusPlus,
}

impl Impairments {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            held: BTreeMap::new(),
            sequence: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    pub fn set(&mut self, rules: Vec<Impairment>) {
        self.rules = rules;
    }

    /// What happens to this packet, if anything.
    pub fn effect(&mut self, flow: &Tuple) -> Option<Effect> {
        let rule = self.rules.iter().find(|rule| rule.matches(flow))?;
        match rule.effect {
            Effect::Drop { probability } => self
                .random
                .random_bool(probability.clamp(0.0, 1.0))
                .then_some(rule.effect),
            Effect::Delay(_) => Some(rule.effect),
        }
    }

    /// Keeps a packet until `until`; false when too many are kept already.
    pub fn hold(&mut self, until: Duration, from: Origin, packet: &[u8]) -> bool {
        if self.held.len() >= HELD {
            return false;
        }
        self.sequence += 1;
        self.held
            .insert((until, self.sequence), (from, packet.to_vec()));
        true
    }

    pub fn poll(&mut self, now: Duration) -> Option<(Origin, Vec<u8>)> {
        let entry = self
            .held
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.held.first_key_value().map(|((until, _), _)| *until)
    }
}

impl Impairment {
    fn matches(&self, flow: &Tuple) -> bool {
        self.source.is_none_or(|cidr| cidr.contains(flow.source))
            && self
                .destination
                .is_none_or(|cidr| cidr.contains(flow.destination))
            && self
                .protocol
                .is_none_or(|protocol| protocol == flow.protocol)
            && self
                .destination_port
                .is_none_or(|port| port == flow.destination_port)
    }
}
