//! The inline gateway engine: packets in, packets and log records out.
//!
//! Does no IO and has no clock: callers pass [`Now`] in and poll results out, so the same engine runs in a fabric thread
//! and behind a TUN device. After every `handle_*` or [`Gateway::set_policy`], poll [`Gateway::poll_transmit`] and
//! [`Gateway::poll_record`] until empty, then arm a timer for [`Gateway::poll_timeout`].
pub mod client_hello;
mod config;
mod counters;
mod reassembly;

use std::{sync::Arc, time::Duration};

pub use config::{Config, L7Close, Limits, Timeouts};
pub use counters::{Counters, DropReason};

use crate::{fault::Faults, policy::Snapshot, record::LogRecord, time::Now};

/// Which side of the gateway a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The cluster.
    Inside,
    /// The internet.
    Outside,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub side: Side,
    /// A whole IP packet.
    pub packet: Vec<u8>,
}

/// An inline gateway.
pub struct Gateway {
    counters: Counters,
}

impl Gateway {
    /// A gateway that enforces `policy`. Everything it chooses (sequence numbers, ports, session ids) follows from `seed`.
    pub fn new(_config: Config, _faults: Faults, _seed: u64, _policy: Arc<Snapshot>) -> Self {
        Self { counters: Counters::default() }
    }
    pub fn set_policy(&mut self, _now: Now, _policy: Arc<Snapshot>) {}
    pub fn handle_inside(&mut self, _now: Now, _packet: &[u8]) {}
    pub fn handle_outside(&mut self, _now: Now, _packet: &[u8]) {}
    pub fn handle_timeout(&mut self, _now: Now) {}
    pub fn poll_timeout(&self) -> Option<Duration> { None }
    pub fn poll_transmit(&mut self) -> Option<Transmit> { None }
    pub fn poll_record(&mut self) -> Option<LogRecord> { None }
    pub fn counters(&self) -> &Counters { &self.counters }
}
