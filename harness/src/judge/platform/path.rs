//! Whether the gateway is in the path: who far ends beyond it were reached by.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use super::list;
use crate::evidence::{folder, receipts};
use crate::judge::finding::Finding;
use crate::judge::{Attempt, Check, CheckResult, Observations, correlate};

/// A far end that saw somebody else than the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// Name of the far end.
    pub far_end: String,
    /// Whom it saw.
    pub peer: IpAddr,
}

/// Judges that the far ends of these attempts saw the gateway and nobody else.
#[must_use]
pub fn judge_in_path(
    check: &Check,
    attempts: &[Attempt],
    gateway: &BTreeSet<IpAddr>,
    observations: &Observations,
) -> CheckResult {
    let mut finding = Finding::default();
    for attempt in attempts {
        let peers = peers(attempt, observations);
        if peers.is_empty() {
            finding.missing(
                folder::RECEIPTS,
                format!("{}: no far end saw anything of it", attempt.label),
            );
        }
        for (far_end, peer) in peers {
            let said = format!("{far_end} was reached from {peer}");
            if gateway.contains(&peer) {
                finding.supports(folder::RECEIPTS, said);
            } else {
                finding.contradicts(folder::RECEIPTS, said);
            }
        }
    }
    let addresses: Vec<String> = gateway.iter().map(ToString::to_string).collect();
    let expected = format!(
        "far ends beyond the gateway see its address {}",
        list(&addresses)
    );
    finding.conclude(check, expected)
}

/// The first far end that saw somebody else where a Pod sent. Only addresses of families in which the gateway has one
/// are compared: without translation a Pod's own address is the right one.
#[must_use]
pub fn bypass(gateway: &BTreeSet<IpAddr>, observations: &Observations) -> Option<Bypass> {
    let pods: HashSet<IpAddr> = observations.pods.iter().map(|pod| pod.address).collect();
    let from_pods = observations.attempts.iter().filter(|attempt| {
        let sent = attempt.sent.as_ref();
        sent.is_some_and(|sent| pods.contains(&sent.source.ip()))
    });
    // A probe that repeats makes thousands of them.
    let canaries: HashSet<String> = from_pods
        .map(|attempt| attempt.canary.to_ascii_lowercase())
        .collect();
    receipts::connections(&observations.receipts)
        .into_iter()
        // A query that cluster DNS resolved left by the node's resolver: that says nothing about the gateway.
        .filter(|connection| !receipts::is_asked_by_resolvers(connection.endpoint))
        .filter(|connection| {
            let mut carried = connection.canaries();
            carried.any(|canary| canaries.contains(&canary.to_ascii_lowercase()))
        })
        .map(|connection| (connection.endpoint, connection.peer.ip()))
        .find(|(_, peer)| {
            let mut family = gateway.iter().filter(|own| own.is_ipv4() == peer.is_ipv4());
            family.next().is_some() && !gateway.contains(peer)
        })
        .map(|(far_end, peer)| Bypass {
            far_end: far_end.to_owned(),
            peer,
        })
}

/// Who reached the far end of an attempt, by the connections that carried its canary.
fn peers(attempt: &Attempt, observations: &Observations) -> BTreeSet<(String, IpAddr)> {
    let Some(sent) = &attempt.sent else {
        return BTreeSet::new();
    };
    correlate::connections(attempt, sent, observations)
        .into_iter()
        .filter(|connection| connection.carried(&attempt.canary))
        .map(|connection| (connection.endpoint.to_owned(), connection.peer.ip()))
        .collect()
}
