//! Flows the node has let through, with the addresses they have on either side of it.
//!
//! Owns: lookup by either direction, expiry, the bound on their number. Decides nothing about admission.
//! Timeouts follow Linux's nf_conntrack defaults, shortened where a test cluster gains by it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::fabric::packet::{Kind, Protocol, TcpFlags, Tuple};

/// Flows that one node tracks. A flow costs about 300 bytes.
pub const CAPACITY: usize = 65_536;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const TCP_ESTABLISHED: Duration = Duration::from_secs(3600);
const TCP_OPENING: Duration = Duration::from_secs(60);
const TCP_CLOSING: Duration = Duration::from_secs(10);
const DATAGRAM: Duration = Duration::from_secs(30);
const DATAGRAM_ANSWERED: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Original,
    Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The first packet as its sender sent it.
    pub original: Tuple,
    /// The same packet as its receiver gets it.
    pub translated: Tuple,
    life: Life,
    seen: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Opening,
    Established,
    /// A FIN of one side.
    HalfClosed(Direction),
    Closing,
}

#[derive(Debug, Default)]
pub struct Conntrack {
    /// Both tuples by which packets of a flow arrive: the original, and the reverse of the translated.
    index: BTreeMap<Tuple, (u64, Direction)>,
    flows: BTreeMap<u64, Flow>,
    next: u64,
    swept: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Conntrack {
    /// Finds the flow of a packet, renews it, and says what the packet becomes on the other side.
    pub fn follow(&mut self, now: Duration, tuple: &Tuple, kind: &Kind) -> Option<Tuple> {
        let (id, direction) = *self.index.get(tuple)?;
        let flow = self.flows.get_mut(&id)?;
        let reopens = flow.life == Life::Closing
            && matches!(
                kind,
                Kind::Tcp(TcpFlags {
                    syn: true,
                    ack: false,
                    ..
                })
            );
        if reopens || flow.expired(now) {
            // A port in use again is a new flow, which policy has yet to judge.
            self.remove(id);
            return None;
        }
        flow.seen = now;
        flow.life = flow.life.after(direction, kind);
        Some(match direction {
            Direction::Original => flow.translated,
            Direction::Reply => flow.original.reversed(),
        })
    }

    /// The flow that a packet with this tuple belongs to, and its direction, without renewing it.
    #[must_use]
    pub fn find(&self, tuple: &Tuple) -> Option<(&Flow, Direction)> {
        let (id, direction) = self.index.get(tuple)?;
        Some((self.flows.get(id)?, *direction))
    }

    /// Whether a flow may be translated this way: its replies would not be taken for another flow's.
    #[must_use]
    pub fn is_free(&self, translated: &Tuple) -> bool {
        !self.index.contains_key(&translated.reversed())
    }

    pub fn insert(
        &mut self,
        now: Duration,
        original: Tuple,
        translated: Tuple,
    ) -> Result<(), Full> {
        if self.flows.len() >= CAPACITY {
            self.sweep(now);
        }
        if self.flows.len() >= CAPACITY {
            return Err(Full);
        }
        let id = self.next;
        self.next += 1;
        self.index.insert(original, (id, Direction::Original));
        self.index
            .insert(translated.reversed(), (id, Direction::Reply));
        self.flows.insert(
            id,
            Flow {
                original,
                translated,
                life: Life::Opening,
                seen: now,
            },
        );
        Ok(())
    }

    /// Forgets every flow for which `stale` holds, so that nothing inherits what it was allowed.
    pub fn forget(&mut self, stale: impl Fn(&Flow) -> bool) {
        let ids: Vec<u64> = self
            .flows
            .iter()
            .filter(|(_, flow)| stale(flow))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.remove(id);
        }
    }

    pub fn sweep(&mut self, now: Duration) {
        self.swept = now;
        self.forget(|flow| flow.expired(now));
    }

    #[must_use]
    pub fn next_sweep(&self) -> Option<Duration> {
        (!self.flows.is_empty()).then(|| self.swept + SWEEP_EVERY)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn remove(&mut self, id: u64) {
        if let Some(flow) = self.flows.remove(&id) {
            for tuple in [flow.original, flow.translated.reversed()] {
                if self
                    .index
                    .get(&tuple)
                    .is_some_and(|(owner, _)| *owner == id)
                {
                    self.index.remove(&tuple);
                }
            }
        }
    }
}

impl Flow {
    #[must_use]
    pub fn involves(&self, address: IpAddr) -> bool {
        [self.original, self.translated]
            .iter()
            .any(|tuple| tuple.source == address || tuple.destination == address)
    }

    fn expired(&self, now: Duration) -> bool {
        let timeout = match (self.original.protocol, self.life) {
            (Protocol::Tcp, Life::Opening) => TCP_OPENING,
            (Protocol::Tcp, Life::Established | Life::HalfClosed(_)) => TCP_ESTABLISHED,
            (Protocol::Tcp, Life::Closing) => TCP_CLOSING,
            (_, Life::Opening) => DATAGRAM,
            (_, _) => DATAGRAM_ANSWERED,
        };
        now.saturating_sub(self.seen) > timeout
    }
}

impl Life {
    fn after(self, direction: Direction, kind: &Kind) -> Self {
        match (self, kind) {
            (_, Kind::Tcp(flags)) if flags.rst => Self::Closing,
            (Self::HalfClosed(first), Kind::Tcp(flags)) if flags.fin && first != direction => {
                Self::Closing
            }
            (Self::Opening | Self::Established, Kind::Tcp(flags)) if flags.fin => {
                Self::HalfClosed(direction)
            }
            (Self::Opening, _) if direction == Direction::Reply => Self::Established,
            (life, _) => life,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    fn tuple(protocol: Protocol) -> Tuple {
        Tuple {
            protocol,
            source: Ipv4Addr::new(10, 244, 0, 10).into(),
            source_port: 40000,
            destination: Ipv4Addr::new(10, 96, 0, 10).into(),
            destination_port: 53,
        }
    }

    fn flags(text: &str) -> Kind {
        let has = |flag| text.contains(flag);
        Kind::Tcp(TcpFlags {
            syn: has('s'),
            ack: has('a'),
            fin: has('f'),
            rst: has('r'),
        })
    }

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn both_directions_are_translated() {
        let mut table = Conntrack::default();
        let original = tuple(Protocol::Udp);
        let translated = Tuple {
            destination: Ipv4Addr::new(10, 244, 0, 2).into(),
            ..original
        };
        table.insert(T0, original, translated).unwrap();
        assert_eq!(table.follow(T0, &original, &Kind::Udp), Some(translated));
        assert_eq!(
            table.follow(T0, &translated.reversed(), &Kind::Udp),
            Some(original.reversed())
        );
        assert!(!table.is_free(&translated));
    }

    #[rstest::rstest]
    #[case::unanswered(Protocol::Udp, &[], 31)]
    #[case::answered(Protocol::Udp, &[("reply", "")], 121)]
    #[case::syn_only(Protocol::Tcp, &[], 61)]
    #[case::established(Protocol::Tcp, &[("reply", "sa")], 3601)]
    #[case::one_fin(Protocol::Tcp, &[("reply", "sa"), ("original", "fa")], 3601)]
    #[case::two_fins(Protocol::Tcp, &[("reply", "sa"), ("original", "fa"), ("reply", "fa")], 11)]
    #[case::fin_again(Protocol::Tcp, &[("reply", "sa"), ("original", "fa"), ("original", "fa")], 3601)]
    #[case::reset(Protocol::Tcp, &[("reply", "ra")], 11)]
    fn a_flow_lives_as_long_as_its_state_allows(
        #[case] protocol: Protocol,
        #[case] packets: &[(&str, &str)],
        #[case] dead_after: u64,
    ) {
        let mut table = Conntrack::default();
        let original = tuple(protocol);
        table.insert(T0, original, original).unwrap();
        for (direction, text) in packets {
            let kind = match protocol {
                Protocol::Tcp => flags(text),
                _ => Kind::Udp,
            };
            let tuple = match *direction {
                "reply" => original.reversed(),
                _ => original,
            };
            assert!(table.follow(T0, &tuple, &kind).is_some());
        }
        table.sweep(T0 + Duration::from_secs(dead_after - 1));
        assert_eq!(table.len(), 1);
        table.sweep(T0 + Duration::from_secs(dead_after));
        assert!(table.is_empty() && table.index.is_empty());
    }

    #[test]
    fn a_new_syn_after_close_is_a_new_flow() {
        let mut table = Conntrack::default();
        let original = tuple(Protocol::Tcp);
        table.insert(T0, original, original).unwrap();
        assert!(
            table
                .follow(T0, &original.reversed(), &flags("r"))
                .is_some()
        );
        assert_eq!(table.follow(T0, &original, &flags("s")), None);
        assert!(table.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Conntrack::default();
        let nth = |n: usize| Tuple {
            source: Ipv4Addr::from(n as u32).into(),
            ..tuple(Protocol::Udp)
        };
        for n in 0..CAPACITY {
            table.insert(T0, nth(n), nth(n)).unwrap();
        }
        assert_eq!(table.insert(T0, nth(CAPACITY), nth(CAPACITY)), Err(Full));
        let later = T0 + DATAGRAM + Duration::from_secs(1);
        assert_eq!(table.insert(later, nth(CAPACITY), nth(CAPACITY)), Ok(()));
        assert_eq!(table.len(), 1);
    }
}
