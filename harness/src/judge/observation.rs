//! Everything that was observed in one scenario, as values.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use fixtures::receipt::Receipt;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Attempt, ListFact, PodFact, RuleRef, StoppedOnNode};
use crate::evidence::{Capture, GatewayLog};

/// Everything that was observed in one scenario.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Until when it was observed. Silence after that is no silence.
    pub until: Timestamp,
    /// What far ends saw, in order.
    pub receipts: Vec<Receipt>,
    /// The gateway's log.
    pub log: Seen<GatewayLog>,
    /// What of it came to CoPilot by remote syslog.
    pub copilot: Seen<GatewayLog>,
    /// Packets between the pods and the node, before any address translation.
    pub pod_side: Seen<Capture>,
    /// Packets between the gateway and the internet. They carry the gateway's address.
    pub outside: Seen<Capture>,
    /// Names of the rules that the log's uuids stand for.
    pub rules: BTreeMap<Uuid, RuleRef>,
    /// Flows that NetworkPolicies stopped on the nodes, as far as the tier sees and a step asked.
    pub stopped_on_nodes: Vec<StoppedOnNode>,
    /// Which pod held which address, and when.
    pub pods: Vec<PodFact>,
    /// `seq` of the event with which a client announced an attempt, by label.
    pub announced: BTreeMap<String, u64>,
    /// `seq` of the event with which a client reported how an attempt ended, by label.
    pub reported: BTreeMap<String, u64>,
    /// Lists of servers, and when each was accepted.
    pub lists: Vec<ListFact>,
    /// Addresses of the cluster's nodes.
    pub nodes: Vec<IpAddr>,
    /// What the gateway sees as the destination of flows to a Service whose endpoint lies beyond it, by the ClusterIP
    /// and port that Pods ask for.
    pub endpoints: BTreeMap<SocketAddr, SocketAddr>,
    /// Every attempt of the scenario. Traffic that carries the canary of another attempt is not
    /// held against this one.
    pub attempts: Vec<Attempt>,
}

impl Observations {
    /// The line of one of these receipts in `receipts.jsonl`, from 1.
    #[must_use]
    pub fn line_of(&self, receipt: &Receipt) -> Option<u64> {
        let mut receipts = self.receipts.iter();
        let index = receipts.position(|own| std::ptr::eq(own, receipt))?;
        Some(index as u64 + 1)
    }

    /// The destination as the gateway sees it: a Service's endpoint in the place of its ClusterIP.
    #[must_use]
    pub fn beyond_the_node(&self, destination: SocketAddr) -> SocketAddr {
        *self.endpoints.get(&destination).unwrap_or(&destination)
    }
}

/// Something that a tier may not be able to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seen<T> {
    /// This tier has no means to see it; nothing is expected of it.
    #[default]
    NotVisible,
    /// This tier sees it, and it could not be read.
    Unreadable(String),
    /// It was read.
    Read(T),
}

impl<T> Seen<T> {
    /// What was read, if it was.
    #[must_use]
    pub fn read(&self) -> Option<&T> {
        match self {
            Self::Read(value) => Some(value),
            Self::NotVisible | Self::Unreadable(_) => None,
        }
    }
}
