//! What the policy is asked about (a flow, and what it turned out to speak) and what it answers (a verdict).

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rule::Logging;

/// The identity of a flow as the gateway sees it: before source NAT, so `source` is the pod's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FiveTuple {
    pub protocol: Protocol,
    pub source: IpAddr,
    /// 0 for protocols without ports, ICMP among them.
    pub source_port: u16,
    pub destination: IpAddr,
    /// 0 for protocols without ports, ICMP among them.
    pub destination_port: u16,
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            source,
            source_port,
            destination,
            destination_port,
        } = self;
        write!(
            f,
            "{protocol} {source}:{source_port} -> {destination}:{destination_port}"
        )
    }
}

/// The transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    /// Any other IP protocol number.
    Other(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp => f.write_str("UDP"),
            Self::Icmp => f.write_str("ICMP"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

/// What the first bytes of an inspected TCP flow turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Application {
    /// A ClientHello, with the server name it carries, as sent; bytes that are not printable ASCII are escaped. What is
    /// no host name matches no WebGroup.
    Tls { sni: Option<String> },
    /// A plain HTTP request, with its Host header in the same form (a port after the name is ignored).
    Http { host: Option<String> },
    /// Neither TLS nor HTTP, or nothing readable: no WebGroup matches.
    Other,
}

/// The answer to a flow's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    Decided(Verdict),
    /// A rule that depends on the application matches, and no earlier rule decided: answer the TCP handshake, wait for
    /// the name, then ask [`Snapshot::decide`](super::Snapshot::decide).
    Inspect,
}

/// A decision on a flow. As the outcome of an evaluation it binds the gateway; among
/// [`Evaluation::watched`](super::Evaluation::watched) it is only to be logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub action: Action,
    /// The uuid of the deciding rule, or of the default action.
    pub decided_by: Uuid,
    /// The name of that rule, for people. Log records carry the uuid alone.
    pub rule: String,
    /// Which log records the deciding rule asks for.
    pub logging: Logging,
    /// False for a watch (monitor) rule: it reports what it would have done.
    pub enforced: bool,
}

/// What is done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    Permit,
    Deny,
}

impl Action {
    /// The vendor's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Permit => "PERMIT",
            Self::Deny => "DENY",
        }
    }
}
