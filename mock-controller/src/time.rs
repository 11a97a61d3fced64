//! The instant an input happens, as its driver saw it.
//!
//! Engines have no clock: every input carries a [`Now`]. Deadlines are monotonic, records are stamped with wall time.

use std::time::Duration;

/// One instant on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since an arbitrary fixed origin; never goes back. Deadlines are in this clock.
    pub monotonic: Duration,
    /// Time of day, for records that people and log collectors read.
    pub wall: jiff::Timestamp,
}
