//! The two captures of the fabric: at the Pods, and beyond the gateway.

use std::path::Path;

use super::{CaptureStatus, Error};
use crate::capture::{self, Capture, Direction, Interface};

/// Packets after which the capture outside ends that a seeded fault stops.
const STOPS_AFTER: u64 = 4;

/// Both files, written packet by packet.
pub(super) struct Captures {
    pub(super) pod_side: Capture,
    outside: Capture,
    outside_interface: Interface,
    /// A seeded fault ends the outside capture after its first packets, and says nothing.
    stops: bool,
    seen_outside: u64,
}

impl Captures {
    pub(super) fn create(folder: &Path, limit: u64, stops: bool) -> Result<Self, Error> {
        let mut outside = Capture::create(&folder.join(capture::OUTSIDE), limit)?;
        Ok(Self {
            pod_side: Capture::create(&folder.join(capture::POD_SIDE), limit)?,
            outside_interface: outside.interface("gateway-outside"),
            outside,
            stops,
            seen_outside: 0,
        })
    }

    pub(super) fn outside(&mut self, at: jiff::Timestamp, direction: Direction, packet: &[u8]) {
        self.seen_outside += 1;
        if self.stops && self.seen_outside > STOPS_AFTER {
            return;
        }
        self.outside
            .packet(at, self.outside_interface, direction, packet);
    }

    pub(super) fn flush(&mut self) -> CaptureStatus {
        CaptureStatus {
            pod_side: self.pod_side.flush().clone(),
            outside: self.outside.flush().clone(),
        }
    }
}
