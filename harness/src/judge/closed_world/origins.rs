//! What left Pods with an explanation, and what was taken for it beyond the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::ClosedWorldClaim;
use crate::evidence::capture::{Flow, same_end};
use crate::evidence::receipts::Connection;
use crate::evidence::{Action, GatewayRecord};
use crate::judge::{Attempt, Exchange, Judged, Observations, Protocol, Sent, correlate};
use crate::scenario_data::background::Background;

/// One flow of a Pod that may leave.
struct Origin<'a> {
    protocol: Protocol,
    source: SocketAddr,
    /// As the gateway sees it.
    destination: SocketAddr,
    at: Timestamp,
    /// Bytes that the Pod sent. Absent: no capture shows them.
    stream: Option<u64>,
    /// The attempt. Absent: background traffic.
    attempt: Option<&'a Judged>,
    taken: bool,
}

/// All of them.
pub(super) struct Origins<'a> {
    claim: &'a ClosedWorldClaim,
    observations: &'a Observations,
    all: Vec<Origin<'a>>,
    without_packets: Vec<&'a str>,
    /// Interfaces of the capture at the Pods by which an address sent.
    interfaces: BTreeMap<IpAddr, BTreeSet<u32>>,
}

impl<'a> Origins<'a> {
    pub(super) fn gather(claim: &'a ClosedWorldClaim, observations: &'a Observations) -> Self {
        let mut origins = Self {
            claim,
            observations,
            all: Vec::new(),
            without_packets: Vec::new(),
            interfaces: BTreeMap::new(),
        };
        let packets = observations.pod_side.read().map(|capture| &capture.packets);
        for packet in packets.into_iter().flatten() {
            if packet.outbound == Some(true) {
                let address = packet.source.ip();
                let interfaces = origins.interfaces.entry(address).or_default();
                interfaces.insert(packet.interface);
            }
        }
        let flows = observations.pod_side.read().map(|capture| capture.flows());
        let mut explained = vec![false; flows.as_ref().map_or(0, Vec::len)];
        let passing = claim
            .judged
            .iter()
            .filter(|judged| !judged.blocked && !is_denied(&judged.attempt, observations));
        for judged in passing {
            let Some(sent) = &judged.attempt.sent else {
                continue;
            };
            let own = flows.as_ref().and_then(|flows| {
                let of_attempt = |flow: &Flow| is_flow_of(sent, flow);
                flows
                    .iter()
                    .position(of_attempt)
                    .map(|index| (index, &flows[index]))
            });
            if let Some((index, _)) = own {
                // Echo requests of several attempts share one flow.
                if std::mem::replace(&mut explained[index], true) {
                    continue;
                }
            }
            let of_node = observations.nodes.contains(&sent.source.ip());
            if own.is_none() && flows.is_some() && !of_node {
                origins.without_packets.push(&judged.attempt.label);
                continue;
            }
            origins.all.push(Origin {
                protocol: sent.protocol,
                source: sent.source,
                destination: observations.beyond_the_node(sent.destination),
                at: own.map_or(sent.at, |(_, flow)| flow.first_at.min(sent.at)),
                stream: own.map(|(_, flow)| flow.stream),
                attempt: Some(judged),
                taken: false,
            });
        }
        for (flow, explained) in flows.iter().flatten().zip(explained) {
            let destination = observations.beyond_the_node(flow.destination);
            if !explained
                && origins.is_background(flow.protocol, flow.source, destination, flow.first_at)
            {
                origins.all.push(Origin {
                    protocol: flow.protocol,
                    source: flow.source,
                    destination,
                    at: flow.first_at,
                    stream: Some(flow.stream),
                    attempt: None,
                    taken: false,
                });
            }
        }
        origins.all.sort_by_key(|origin| origin.at);
        origins
    }

    /// Labels of attempts that passed, as it was judged, without a packet at a Pod.
    pub(super) fn without_packets(&self) -> &[&'a str] {
        &self.without_packets
    }

    /// Takes an origin for a flow beyond the gateway; otherwise says why none is left.
    pub(super) fn explain(&mut self, flow: &Flow, canaries: &BTreeSet<&str>) -> Result<(), String> {
        let known: BTreeSet<&str> = self
            .claim
            .judged
            .iter()
            .map(|one| one.attempt.canary.as_str())
            .collect();
        let marks: BTreeSet<&str> = canaries.intersection(&known).copied().collect();
        let fits = |origin: &&mut Origin<'_>| {
            !origin.taken
                && origin.protocol == flow.protocol
                && same_end(flow.protocol, flow.destination, origin.destination)
                && origin.at <= flow.last_at
                && (flow.protocol != Protocol::Tcp || origin.at <= flow.first_at)
        };
        let holds_marks = |origin: &&mut Origin<'_>| match origin.attempt {
            Some(judged) => marks.iter().all(|one| *one == judged.attempt.canary),
            None => canaries.is_empty(),
        };
        // The smallest that is large enough: a larger one may be needed by a larger flow.
        let candidates = self.all.iter_mut().filter(fits).filter(holds_marks);
        let best = candidates.min_by_key(|origin| {
            let sent = origin.stream.unwrap_or(u64::MAX);
            (sent < flow.stream, sent.abs_diff(flow.stream))
        });
        let Some(origin) = best else {
            let marked = marks.iter().copied().collect::<Vec<_>>().join(", ");
            return Err(if marks.is_empty() {
                String::new()
            } else {
                format!(", with the canary {marked}")
            });
        };
        origin.taken = true;
        match origin.stream {
            Some(sent) if sent < flow.stream => {
                Err(format!(": {} bytes, and the Pod sent {sent}", flow.stream))
            }
            _ => Ok(()),
        }
    }

    /// Whether a connection carries the canary of an attempt to it, where no packets are visible.
    pub(super) fn has_canary_of(&self, connection: &Connection<'_>) -> bool {
        self.all.iter().any(|origin| {
            let judged = origin
                .attempt
                .filter(|one| connection.carried(&one.attempt.canary));
            judged.is_some() && same_end(origin.protocol, connection.local, origin.destination)
        })
    }

    /// Whether a permit is one of an explained flow. Behind a node that masquerades a source names nobody.
    pub(super) fn permits(&self, record: &GatewayRecord) -> bool {
        let masqueraded = self.observations.nodes.contains(&record.source.ip());
        self.all.iter().any(|origin| {
            origin.protocol == record.protocol
                && same_end(record.protocol, record.destination, origin.destination)
                && (masqueraded || same_end(record.protocol, record.source, origin.source))
        })
    }

    /// Whether a name that `peer` asked a resolver for is the destination of an attempt of the same Pod, blocked or
    /// not, or of background traffic.
    pub(super) fn resolves(&self, name: &str, peer: SocketAddr, at: Timestamp) -> bool {
        let is_name = |own: &Option<String>| {
            own.as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let of_attempt = self.claim.judged.iter().any(|judged| {
            let Some(sent) = &judged.attempt.sent else {
                return false;
            };
            let asked_for = is_name(&sent.host) && self.same_pod(sent.source.ip(), peer.ip());
            // The query itself was the attempt. Its resolver is known by a ClusterIP to the one and by its own address to
            // the other.
            let itself = !judged.blocked && sent.source == peer && sent.exchange == Exchange::Dns;
            asked_for || itself
        });
        let declared = || {
            let mut rows = self.claim.background.iter();
            rows.any(|row| row.to.eq_ignore_ascii_case(name) && self.sends(row, peer.ip(), at))
        };
        of_attempt || declared()
    }

    /// Whether two addresses are those of one Pod: its IPv4 and its IPv6 address send by the same interface.
    fn same_pod(&self, one: IpAddr, other: IpAddr) -> bool {
        let interfaces = |address| self.interfaces.get(&address);
        one == other
            || match (interfaces(one), interfaces(other)) {
                (Some(one), Some(other)) => !one.is_disjoint(other),
                _ => false,
            }
    }

    /// What was explained, in words.
    pub(super) fn summary(&self) -> String {
        let taken = |background: bool| {
            let of_kind = self
                .all
                .iter()
                .filter(|one| one.attempt.is_none() == background);
            of_kind.filter(|origin| origin.taken).count()
        };
        format!(
            "beyond the gateway: {} flows of judged attempts, {} of declared background traffic, no other",
            taken(false),
            taken(true)
        )
    }

    fn is_background(
        &self,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        at: Timestamp,
    ) -> bool {
        let name = self.claim.far_ends.get(&destination.ip());
        self.claim.background.iter().any(|row| {
            row.protocol == Some(protocol)
                && row.port.unwrap_or_default() == destination.port()
                && name.is_some_and(|name| *name == row.to)
                && self.sends(row, source.ip(), at)
        })
    }

    /// Whether the Pod that held the address at that time is one of the row's. A Pod's first packets can precede the
    /// report of its address.
    fn sends(&self, row: &Background, address: IpAddr, at: Timestamp) -> bool {
        let holders = || {
            let pods = self.observations.pods.iter();
            pods.filter(|pod| pod.address == address && pod.until.is_none_or(|until| at <= until))
        };
        let before = holders().filter(|pod| pod.since <= at);
        before
            .max_by_key(|pod| pod.since)
            .or_else(|| holders().min_by_key(|pod| pod.since))
            .is_some_and(|pod| row.who.is(pod))
    }
}

/// Whether the gateway denied the attempt's flow and permitted nothing of it. Such a flow left no gateway, whatever a step
/// made of the attempt, and so explains nothing that did.
fn is_denied(attempt: &Attempt, observations: &Observations) -> bool {
    let Some(sent) = &attempt.sent else {
        return false;
    };
    let records = correlate::records(sent, observations);
    let enforced = |action| {
        let mut records = records.iter();
        records.any(|record| record.enforced && record.action == action)
    };
    enforced(Action::Deny) && !enforced(Action::Permit)
}

/// Whether a flow at a Pod is the one that was announced. Datagrams have no beginning.
fn is_flow_of(sent: &Sent, flow: &Flow) -> bool {
    let moment = if sent.protocol == Protocol::Tcp {
        flow.first_at
    } else {
        flow.last_at
    };
    flow.protocol == sent.protocol
        && flow.source == sent.source
        && flow.destination == sent.destination
        && moment >= sent.at
}
