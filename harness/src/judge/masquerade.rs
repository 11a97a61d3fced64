//! Masquerade, a prerequisite of the platform that shows in the gateway's log alone; how it and the others are named is
//! in [`platform::cause`](super::platform::cause).
//!
//! With masquerade the node puts its own address in the place of a Pod's before the gateway sees the packet. Rules that
//! select Pods by label then match nothing, every flow looks like the node's, and neither a permit nor a denial says
//! anything about a policy (reference: aviatrix-dcf.md section 3).

use std::net::IpAddr;

use super::correlate;
use super::finding::Finding;
use super::{Attempt, Check, CheckResult, Observations, Sent};
use crate::evidence::folder;

const REMEDY: &str = "EKS: set AWS_VPC_K8S_CNI_EXTERNALSNAT=true on the DaemonSet aws-node; AKS: nonMasqueradeCIDRs \
                      0.0.0.0/0 in the ConfigMap azure-ip-masq-agent-config";

/// A Pod that the gateway saw under a node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// The Pod's own address.
    pub pod: IpAddr,
    /// The node's address, which the gateway's log names in its place.
    pub node: IpAddr,
    /// The record that names it, for a reader.
    pub record: String,
}

/// Whether the gateway sees a node where a Pod sent: no record of the Pod's flow under its own address, and one of the
/// same flow under a node's.
#[must_use]
pub fn masquerade(observations: &Observations) -> Option<Masquerade> {
    observations.attempts.iter().find_map(|attempt| {
        let sent = attempt.sent.as_ref()?;
        let is_pods = observations
            .pods
            .iter()
            .any(|pod| pod.address == sent.source.ip());
        if !is_pods || !correlate::records(sent, observations).is_empty() {
            return None;
        }
        observations.nodes.iter().find_map(|&node| {
            let record = behind(node, sent, observations)?;
            Some(Masquerade {
                pod: sent.source.ip(),
                node,
                record,
            })
        })
    })
}

/// The record of a Pod's flow under a node's address. A masquerade keeps the port while it is free; some choose another,
/// and then the server name tells the flow. A record that is another attempt's own is not this one's.
fn behind(node: IpAddr, sent: &Sent, observations: &Observations) -> Option<String> {
    let destination = observations.beyond_the_node(sent.destination);
    let log = observations.log.read()?;
    let record = log.records.iter().find(|record| {
        let same_flow = record.source.port() == sent.source.port()
            || (record.sni.is_some() && record.sni == sent.sni);
        let is_anothers = observations.attempts.iter().any(|other| {
            other
                .sent
                .as_ref()
                .is_some_and(|other| other.source == record.source)
        });
        record.source.ip() == node
            && record.protocol == sent.protocol
            && record.destination == destination
            && record.not_before(sent.at)
            && same_flow
            && !is_anothers
    })?;
    Some(correlate::describe_record(record, observations))
}

impl Masquerade {
    /// The condition as a sentence, with its remedy.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!(
            "masquerade is on: the gateway sees the node {} in the place of the Pod {}, so that no rule can select the \
             Pod by its labels; this says nothing about the policy. {REMEDY}",
            self.node, self.pod
        )
    }
}

/// Judges that the gateway sees the Pods' own addresses, by the records of these attempts.
#[must_use]
pub fn judge_own_addresses(
    check: &Check,
    attempts: &[Attempt],
    observations: &Observations,
) -> CheckResult {
    let mut finding = Finding::default();
    if let Some(masquerade) = masquerade(observations) {
        finding.contradicts(folder::GATEWAY_LOG, masquerade.in_words());
        finding.neutral(folder::GATEWAY_LOG, masquerade.record);
    }
    for attempt in attempts {
        let Some(sent) = &attempt.sent else { continue };
        match correlate::records(sent, observations).first() {
            Some(record) => finding.supports(
                (folder::GATEWAY_LOG, record.line),
                correlate::describe_record(record, observations),
            ),
            None => finding.missing(
                folder::GATEWAY_LOG,
                format!("no record of {} under its own address", attempt.label),
            ),
        }
    }
    finding.conclude(
        check,
        "the gateway's log names the Pods by their own addresses",
    )
}

/// Judges, on a cluster that masquerades, that the condition is detected, and that label-based enforcement does not
/// apply: what decided on these attempts is the default action and no server's policy.
#[must_use]
pub fn judge_masquerade_named(
    check: &Check,
    attempts: &[Attempt],
    observations: &Observations,
) -> CheckResult {
    let mut finding = Finding::default();
    match masquerade(observations) {
        Some(masquerade) => {
            finding.supports(folder::GATEWAY_LOG, masquerade.record.clone());
            finding.supports(folder::EVENTS, format!("named: {}", masquerade.in_words()));
        }
        None => finding.contradicts(
            folder::GATEWAY_LOG,
            "nothing in the gateway's log shows that Pods are hidden behind their node",
        ),
    }
    let log = observations.log.read();
    let decided: Vec<_> = log
        .into_iter()
        .flat_map(|log| &log.records)
        .filter(|record| observations.nodes.contains(&record.source.ip()))
        .filter_map(|record| Some((record, correlate::rule(record, observations)?)))
        .collect();
    for (record, rule) in &decided {
        let said = correlate::describe_record(record, observations);
        match &rule.server {
            Some(_) => finding.contradicts(folder::GATEWAY_LOG, said),
            None => finding.supports(folder::GATEWAY_LOG, said),
        }
    }
    if attempts.is_empty() || decided.is_empty() {
        finding.missing(folder::GATEWAY_LOG, "no decision on a masqueraded flow");
    }
    let expected = "masquerade is detected and named, and no server's policy decides";
    finding.conclude(check, expected)
}
