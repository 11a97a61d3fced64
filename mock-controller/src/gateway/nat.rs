//! Source NAT: which outside port stands for which flow.
//!
//! A port stands for one flow per protocol, so that an answer finds its flow by port alone. The client's own port is
//! kept when it is free, which makes captures of both sides easy to read; else the next free one after a cursor is
//! taken, so that a port rests as long as possible before it is used again.

use std::{collections::HashMap, ops::RangeInclusive};

use super::flow::FlowId;
use crate::policy::Protocol;

const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;
/// Ports looked at per allocation, so that a crowded range costs a client its flow, not the gateway its time. The next
/// allocation looks further on.
const PROBES: usize = 4096;

pub(super) struct Ports {
    /// Looked up, never iterated: its order must not reach behaviour.
    taken: HashMap<(Protocol, u16), FlowId>,
    cursor: u16,
}

impl Ports {
    pub(super) fn new(seed: u32) -> Self {
        let offset = u16::try_from(seed % PORTS.len() as u32).unwrap_or_default();
        Self {
            taken: HashMap::new(),
            cursor: PORTS.start() + offset,
        }
    }

    /// A port for `flow`; `None` when none is found free.
    pub(super) fn allocate(
        &mut self,
        protocol: Protocol,
        preferred: u16,
        flow: FlowId,
    ) -> Option<u16> {
        let port = if PORTS.contains(&preferred) && !self.taken.contains_key(&(protocol, preferred))
        {
            preferred
        } else {
            self.next_free(protocol)?
        };
        self.taken.insert((protocol, port), flow);
        Some(port)
    }

    fn next_free(&mut self, protocol: Protocol) -> Option<u16> {
        for _ in 0..PROBES {
            let port = self.cursor;
            self.cursor = port.checked_add(1).unwrap_or(*PORTS.start());
            if !self.taken.contains_key(&(protocol, port)) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn flow(&self, protocol: Protocol, port: u16) -> Option<FlowId> {
        self.taken.get(&(protocol, port)).copied()
    }

    pub(super) fn release(&mut self, protocol: Protocol, port: u16) {
        self.taken.remove(&(protocol, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_unique_and_run_out() {
        let mut ports = Ports::new(7);
        let mut seen = std::collections::BTreeSet::new();
        assert_eq!(ports.allocate(Protocol::Tcp, 40_000, 0), Some(40_000));
        assert_eq!(ports.allocate(Protocol::Udp, 40_000, 1), Some(40_000));
        seen.insert(40_000);
        for flow in 1..PORTS.len() {
            let port = ports.allocate(Protocol::Tcp, 40_000, flow as FlowId);
            assert!(
                seen.insert(port.expect("a port is free")),
                "port given twice"
            );
        }
        assert_eq!(ports.allocate(Protocol::Tcp, 40_000, 0), None);
        ports.release(Protocol::Tcp, 2000);
        let tries = PORTS.len() / PROBES + 1;
        let found = (0..tries).find_map(|_| ports.allocate(Protocol::Tcp, 80, 3));
        assert_eq!(found, Some(2000));
        assert_eq!(ports.flow(Protocol::Tcp, 2000), Some(3));
    }
}
