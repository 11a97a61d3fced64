//! Whether everything that left is explained: by a judged attempt, a control, or declared background traffic.
//!
//! A flow beyond the gateway carries the gateway's address, so it is tied to what left a Pod: same protocol and
//! destination, not before the Pod's first packet, one flow for one, no more bytes than the Pod sent. What left a Pod
//! explains it only if a step judged that attempt and neither judged it blocked nor the gateway denied it, or a row of
//! background traffic names the Pod and the destination and no canary is in it. An announcement alone explains nothing.
//!
//! Not covered: data in the timing, order or number of explained flows and queries, bytes that an explained flow carries
//! to its own destination in place of others, the case and the type of a query for an explained name, packets without
//! payload of flows that were begun from outside, and whatever comes after the closing window (`Deadlines`).

mod origins;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use fixtures::receipt::{Receipt, ReceiptEvent};

use super::finding::{Finding, count};
use super::{Check, CheckResult, Judged, Observations, Protocol, Seen, correlate};
use crate::evidence::capture::Flow;
use crate::evidence::receipts::{self, Connection};
use crate::evidence::{Action, folder};
use crate::scenario_data::background::Background;
use origins::Origins;

/// The kind of its check.
pub const KIND: &str = "explained";

/// Strangers that are told one by one.
const MAX_TOLD: usize = 20;

/// The claim that nothing left unexplained.
#[derive(Clone, Debug, Default)]
pub struct ClosedWorldClaim {
    /// Which check this is.
    pub check: Check,
    /// Attempts that steps judged.
    pub judged: Vec<Judged>,
    /// Declared background traffic.
    pub background: Vec<Background>,
    /// Names of the far ends, by address.
    pub far_ends: BTreeMap<IpAddr, String>,
    /// Canaries of requests that the harness made to far ends from beyond the gateway.
    pub visits: BTreeSet<String>,
    /// The datagram from beyond that the harness sent to the gateway at the very end: source and destination.
    pub mark: Option<(SocketAddr, SocketAddr)>,
}

/// Judges that nothing left unexplained.
#[must_use]
pub fn judge_closed_world(claim: &ClosedWorldClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let mut world = World {
        claim,
        observations,
        ends: Ends::of(observations),
        origins: Origins::gather(claim, observations),
        strangers: Vec::new(),
    };
    world.unsent(&mut finding);
    world.capture(&mut finding);
    world.far_ends();
    world.permits(&mut finding);
    world.names();
    for (file, text) in world.strangers.iter().take(MAX_TOLD) {
        finding.contradicts(*file, format!("unexplained: {text}"));
    }
    if let Some(more @ 1..) = world.strangers.len().checked_sub(MAX_TOLD) {
        finding.contradicts(folder::EVENTS, format!("unexplained: {more} more"));
    }
    if world.strangers.is_empty() {
        finding.supports(folder::EVENTS, world.origins.summary());
    }
    finding.conclude(
        &claim.check,
        "nothing left but judged attempts, controls and declared background traffic",
    )
}

struct World<'a> {
    claim: &'a ClosedWorldClaim,
    observations: &'a Observations,
    ends: Ends<'a>,
    origins: Origins<'a>,
    strangers: Vec<(&'static str, String)>,
}

impl<'a> World<'a> {
    /// Attempts that were judged to pass, and of which no packet left a Pod.
    fn unsent(&self, finding: &mut Finding) {
        for label in self.origins.without_packets() {
            finding.missing(
                folder::POD_SIDE,
                format!("{label}: announced, but no packet of it left the pod"),
            );
        }
    }

    fn capture(&mut self, finding: &mut Finding) {
        let capture = match &self.observations.outside {
            Seen::Read(capture) => capture,
            Seen::Unreadable(why) => {
                let text = format!("the packets outside the gateway cannot be read: {why}");
                return finding.missing(folder::OUTSIDE, text);
            }
            Seen::NotVisible => return,
        };
        if capture.undecodable > 0 {
            let text = format!("{} cannot be decoded", count(capture.undecodable, "packet"));
            self.strangers.push((folder::OUTSIDE, text));
        }
        if let Some((source, destination)) = self.claim.mark {
            let seen = capture.packets_between(Protocol::Udp, source, destination);
            if seen.count() == 0 {
                finding.contradicts(
                    folder::OUTSIDE,
                    format!(
                        "the capture lacks the datagram {source} -> {destination} that was sent at its end: it \
                         stopped before, so that its silence says nothing"
                    ),
                );
            }
        }
        let leaving =
            |(_, flow): &(usize, &Flow)| flow.outbound != Some(false) || flow.returned_bytes > 0;
        let ends = std::mem::take(&mut self.ends);
        let flows = ends.flows.iter().enumerate().filter(leaving);
        // Flows that a canary ties to an attempt come first: what is left can't take their place.
        let (marked, unmarked): (Vec<_>, Vec<_>) =
            flows.partition(|(index, _)| ends.canaries_of(*index).next().is_some());
        for (index, flow) in marked.into_iter().chain(unmarked) {
            self.flow(flow, &ends, index);
        }
        self.ends = ends;
    }

    fn flow(&mut self, flow: &Flow, ends: &Ends<'_>, index: usize) {
        let canaries: BTreeSet<&str> = ends.canaries_of(index).collect();
        let answered = flow.returned_bytes > 0 && flow.protocol != Protocol::Icmp;
        let known = self.claim.far_ends.get(&flow.destination.ip());
        if let Some(name) = known.filter(|_| answered)
            && !ends.received(index)
        {
            let text = format!(
                "{} was answered, and {name} has no receipt of it",
                self.describe(flow)
            );
            self.strangers.push((folder::RECEIPTS, text));
        }
        if let Err(why) = self.origins.explain(flow, &canaries) {
            let text = format!("{}{why}", self.describe(flow));
            self.strangers.push((folder::OUTSIDE, text));
        }
    }

    fn describe(&self, flow: &Flow) -> String {
        let name = self.claim.far_ends.get(&flow.destination.ip());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        let numbers: Vec<String> = flow.numbers.iter().map(|n| format!("#{n}")).collect();
        format!(
            "{} {} -> {}{name}, {} ({} {})",
            flow.protocol,
            flow.source,
            flow.destination,
            count(flow.sent, "packet"),
            folder::OUTSIDE,
            numbers.join(", ")
        )
    }

    /// What far ends received without a packet that shows it.
    fn far_ends(&mut self) {
        let visible = self.observations.outside.read().is_some();
        let gateways_own = |ip: IpAddr| !self.claim.far_ends.contains_key(&ip);
        for (connection, flow) in &self.ends.connections {
            let beyond = self.claim.far_ends.contains_key(&connection.local.ip());
            let shown = flow.is_some();
            let visit = !gateways_own(connection.peer.ip())
                && connection.canaries().next().is_some()
                && connection
                    .canaries()
                    .all(|one| self.claim.visits.contains(one));
            let by_canary = !visible && self.origins.has_canary_of(connection);
            if !beyond || shown || visit || by_canary {
                continue;
            }
            let text = format!(
                "{} {} -> {} ({}), {} bytes, which no packet in {} shows",
                connection.protocol,
                connection.peer,
                connection.local,
                connection.endpoint,
                connection.received(),
                folder::OUTSIDE
            );
            self.strangers.push((folder::RECEIPTS, text));
        }
    }

    fn permits(&mut self, finding: &mut Finding) {
        let log = match &self.observations.log {
            Seen::Read(log) => log,
            Seen::Unreadable(why) => {
                let text = format!("the gateway's log cannot be read: {why}");
                return finding.missing(folder::GATEWAY_LOG, text);
            }
            Seen::NotVisible => return,
        };
        let permits = log
            .records
            .iter()
            .filter(|one| one.action == Action::Permit);
        for record in permits.filter(|record| record.enforced) {
            if !self.origins.permits(record) {
                let text = correlate::describe_record(record, self.observations);
                let text = format!("{text} (line {})", record.line);
                self.strangers.push((folder::GATEWAY_LOG, text));
            }
        }
    }

    /// Names that were resolved beyond the cluster.
    fn names(&mut self) {
        let receipts = &self.observations.receipts;
        let beyond = receipts.iter().filter(|one| receipts::resolved_beyond(one));
        // Where no name server beyond is seen, every name that is not the cluster's own counts as resolved beyond.
        let beyond: BTreeSet<String> = beyond.filter_map(asked_name).collect();
        let mut told = BTreeSet::new();
        for receipt in receipts {
            let Some(lower) = asked_name(receipt) else {
                continue;
            };
            let far_end = self.claim.far_ends.contains_key(&receipt.local.ip());
            let own = lower == "cluster.local" || lower.ends_with(".cluster.local");
            let inside = if beyond.is_empty() {
                own
            } else {
                !beyond.contains(&lower)
            };
            // A query at a far end is a flow to it; one for the cluster's own names ends in the cluster.
            let by_resolver = receipts::resolved_beyond(receipt);
            if far_end
                || inside
                || by_resolver
                || self.origins.resolves(&lower, receipt.peer, receipt.at)
            {
                continue;
            }
            if told.insert((receipt.peer.ip(), lower.clone())) {
                let encoded = receipt.encodings.values().next();
                let data = match (receipt.canaries.is_empty(), encoded) {
                    (true, _) => String::new(),
                    (false, None) => ", data in DNS labels".to_owned(),
                    (false, Some(how)) => format!(", data in DNS labels ({how})"),
                };
                let text = format!(
                    "the name {lower}, asked for by {} at {}{data}",
                    receipt.peer.ip(),
                    receipt.endpoint
                );
                self.strangers.push((folder::RECEIPTS, text));
            }
        }
    }
}

/// The name that a DNS query asks for, in lower case.
fn asked_name(receipt: &Receipt) -> Option<String> {
    match &receipt.event {
        ReceiptEvent::DnsQuery { name, .. } => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

/// Flows outside the gateway and connections at far ends, and which flow carried which connection. A port is used
/// again: of the TCP flows between the same ends it is the last that had begun when the connection was accepted.
#[derive(Default)]
struct Ends<'a> {
    flows: Vec<Flow>,
    connections: Vec<(Connection<'a>, Option<usize>)>,
    by_flow: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Ends<'a> {
    fn of(observations: &'a Observations) -> Self {
        let flows = observations.outside.read().map(|capture| capture.flows());
        let flows = flows.unwrap_or_default();
        let mut between: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, flow) in flows.iter().enumerate() {
            let ends = (flow.protocol, flow.source, flow.destination);
            between.entry(ends).or_default().push(index);
        }
        let mut by_flow: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let connections = receipts::connections(&observations.receipts).into_iter();
        let connections = connections.enumerate().map(|(number, connection)| {
            let ends = (connection.protocol, connection.peer, connection.local);
            let candidates = between.get(&ends).map(Vec::as_slice).unwrap_or_default();
            let opened = connection
                .opened_at
                .filter(|_| connection.protocol == Protocol::Tcp);
            let begun = |index: &&usize| opened.is_none_or(|at| flows[**index].first_at <= at);
            let flow = candidates.iter().rfind(begun).copied();
            if let Some(flow) = flow {
                by_flow.entry(flow).or_default().push(number);
            }
            (connection, flow)
        });
        let connections = connections.collect();
        Self {
            flows,
            connections,
            by_flow,
        }
    }

    /// Whether a far end reported anything of a flow.
    fn received(&self, flow: usize) -> bool {
        self.by_flow.contains_key(&flow)
    }

    fn canaries_of(&self, flow: usize) -> impl Iterator<Item = &str> {
        let numbers = self.by_flow.get(&flow).into_iter().flatten();
        numbers.flat_map(|&number| self.connections[number].0.canaries())
    }
}

#[cfg(test)]
mod tests;
