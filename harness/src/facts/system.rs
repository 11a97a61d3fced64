//! Parts of the system as they were seen: Pods, lists, rules, what nodes stopped.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::attempt::{Protocol, Sent};

/// A pod that held an address for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFact {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Display name of the MCP server it runs. Absent: it runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// From when it held the address.
    pub since: Timestamp,
    /// Until when. Absent: it still holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What a server's list said from some time on, as the orchestrator accepted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListFact {
    /// Display name of the server.
    pub server: String,
    /// From when.
    pub at: Timestamp,
    /// The list as written.
    pub domains: Vec<String>,
    /// Whether all egress is denied. Absent: the manifest says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_all: Option<bool>,
}

/// The rule that a uuid in the gateway's log stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// Name of the rule.
    pub name: String,
    /// The policy object or list it is part of, `namespace/name` for an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// Display name of the MCP server whose policy it is part of. Absent: of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether it is the default action rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_action: bool,
}

/// A flow that NetworkPolicies stopped, as the node's network says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedOnNode {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom it was for.
    pub destination: SocketAddr,
    /// The policies that isolate the Pod, as `namespace/name`.
    pub policies: Vec<String>,
}

impl StoppedOnNode {
    /// Whether this is the attempt's own flow.
    #[must_use]
    pub fn is_of(&self, sent: &Sent) -> bool {
        let ends = (self.source, self.destination);
        self.protocol == sent.protocol && ends == (sent.source, sent.destination)
    }
}
