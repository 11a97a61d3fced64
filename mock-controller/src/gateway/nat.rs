//! Source NAT: which outside port stands for which flow.
//!
//! A port stands for one flow per protocol, so that an answer finds its flow by port alone. The client's own port is
//! kept when it is free, which makes captures of both sides easy to read; else the next free one after a cursor is
//! taken, so that a port rests as long as possible before it is used again.

use std::{collections::HashMap, ops::RangeInclusive};

use super::flow::FlowId;
use crate::policy::Protocol;

const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;
/// Outside ports per protocol.
pub(super) const PORT_COUNT: usize = PORTS.end().abs_diff(*PORTS.start()) as usize + 1;
const WORD: usize = u64::BITS as usize;

pub(super) struct Ports {
    /// Looked up, never iterated: its order must not reach behaviour.
    taken: HashMap<(Protocol, u16), FlowId>,
    /// One bit per port that is taken, so that the next free one is found in a crowded range too.
    crowded: HashMap<Protocol, Vec<u64>>,
    cursor: u16,
}

impl Ports {
    pub(super) fn new(seed: u32) -> Self {
        let offset = u16::try_from(seed % PORTS.len() as u32).unwrap_or_default();
        Self {
            taken: HashMap::new(),
            crowded: HashMap::new(),
            cursor: PORTS.start() + offset,
        }
    }

    /// A port for `flow`; `None` when none is free.
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
            let port = self.next_free(protocol)?;
            self.cursor = port.checked_add(1).unwrap_or(*PORTS.start());
            port
        };
        self.taken.insert((protocol, port), flow);
        self.words(protocol)[usize::from(port) / WORD] |= bit(port);
        Some(port)
    }

    /// The first free port from the cursor on, around the range once.
    fn next_free(&mut self, protocol: Protocol) -> Option<u16> {
        let cursor = self.cursor;
        let words = self.words(protocol);
        let free = |from: u16, to: u16| {
            (usize::from(from) / WORD..=usize::from(to) / WORD).find_map(|word| {
                let first = word * WORD;
                let before = usize::from(from).saturating_sub(first);
                let free = !words[word] & (u64::MAX << before);
                let port = first + free.trailing_zeros() as usize;
                u16::try_from(port)
                    .ok()
                    .filter(|port| free != 0 && *port <= to)
            })
        };
        free(cursor, *PORTS.end()).or_else(|| free(*PORTS.start(), cursor))
    }

    fn words(&mut self, protocol: Protocol) -> &mut Vec<u64> {
        let words = usize::from(u16::MAX) / WORD + 1;
        self.crowded
            .entry(protocol)
            .or_insert_with(|| vec![0; words])
    }

    pub(super) fn flow(&self, protocol: Protocol, port: u16) -> Option<FlowId> {
        self.taken.get(&(protocol, port)).copied()
    }

    pub(super) fn release(&mut self, protocol: Protocol, port: u16) {
        if self.taken.remove(&(protocol, port)).is_some() {
            self.words(protocol)[usize::from(port) / WORD] &= !bit(port);
        }
    }
}

fn bit(port: u16) -> u64 {
    1 << (usize::from(port) % WORD)
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
        assert_eq!(ports.allocate(Protocol::Tcp, 80, 3), Some(2000));
        assert_eq!(ports.flow(Protocol::Tcp, 2000), Some(3));
    }
}
