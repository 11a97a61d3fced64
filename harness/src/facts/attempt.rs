//! Attempts of clients: what they announced, and how they ended for them.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One attempt of a client to reach a far end: what it announced, and how it ended for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which attempt this is, in words; unique within the scenario.
    pub label: String,
    /// The token in its payload, which ties every observation to this attempt.
    pub canary: String,
    /// The announcement before the first packet. Absent: nothing says that it was ever sent.
    pub sent: Option<Sent>,
    /// The client's own result. Absent: the client has not reported one.
    pub result: Option<ClientResult>,
}

/// An attempt that a step judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The attempt. Its announcement may be the harness's own reading of a capture.
    pub attempt: Attempt,
    /// Whether it was judged to be blocked: then it explains nothing that left.
    pub blocked: bool,
}

/// What a client announced just before its first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When.
    pub at: Timestamp,
    /// Transport protocol.
    pub protocol: Protocol,
    /// What the client speaks on top of it.
    pub exchange: Exchange,
    /// Address and port it sends from; port 0 for ICMP.
    pub source: SocketAddr,
    /// Address and port it sends to; port 0 for ICMP.
    pub destination: SocketAddr,
    /// The name it was asked to reach. Absent: it was given an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Server name in its ClientHello. Absent: no TLS, or a ClientHello without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

/// Transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Any other IP protocol.
    Other,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Other => "other",
        })
    }
}

/// What a client speaks on top of the transport. It decides what "completed" proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exchange {
    /// A TLS handshake, with or without a request in it.
    Tls,
    /// A plain HTTP request.
    Http,
    /// A DNS query.
    Dns,
    /// Bytes or datagrams without a protocol that we know.
    Raw,
}

/// How an attempt ended for the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientResult {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: ClientOutcome,
    /// HTTP status, when there was a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The client's own words.
    #[serde(default)]
    pub detail: String,
}

/// How an attempt ended for the client. Never enough by itself to say "blocked".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientOutcome {
    /// It got what it wanted: a response, a handshake, a reply.
    Completed,
    /// Connection refused.
    Refused,
    /// Connection reset.
    Reset,
    /// Connection closed without an answer.
    Closed,
    /// The TLS handshake failed.
    TlsError,
    /// The name did not resolve.
    DnsError,
    /// Nothing came back in time.
    TimedOut,
    /// No route, or an ICMP message that says so.
    Unreachable,
    /// An answer that cannot be read.
    ProtocolError,
    /// This environment cannot send it; nothing was sent.
    NotTestable,
}

impl fmt::Display for ClientOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "connection closed without an answer",
            Self::TlsError => "TLS handshake failed",
            Self::DnsError => "name not resolved",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::ProtocolError => "an answer that cannot be read",
            Self::NotTestable => "cannot be sent from here",
        })
    }
}

impl Attempt {
    /// Whether the client's own result says that a far end answered it.
    ///
    /// A bare TCP connect says nothing: a gateway that waits for a server name answers the
    /// handshake itself (reference: aviatrix-dcf.md section 2.2).
    #[must_use]
    pub fn answered(&self) -> bool {
        let (Some(sent), Some(result)) = (&self.sent, &self.result) else {
            return false;
        };
        let says_something = sent.protocol != Protocol::Tcp || sent.exchange != Exchange::Raw;
        result.status.is_some() || (result.outcome == ClientOutcome::Completed && says_something)
    }

    /// The far end in words: the name where there was one, and the address.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.sent {
            Some(Sent {
                host: Some(host),
                destination,
                ..
            }) => format!("{host} ({destination})"),
            Some(Sent { destination, .. }) => destination.to_string(),
            None => "a far end that was never named".to_owned(),
        }
    }
}
