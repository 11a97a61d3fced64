//! What an operator can set on the gateway, and how each bound and duration got its value.

use std::{net::Ipv4Addr, time::Duration};

/// Settings of a gateway. Switches stand for behaviour that `reference/aviatrix-dcf.md` section 7 marks as unknown.
#[derive(Clone, Debug)]
pub struct Config {
    /// Source address of every flow beyond the gateway (source NAT).
    pub outside_address: Ipv4Addr,
    /// How the proxy ends the connection of a client it denies.
    pub l7_close: L7Close,
    /// Whether a flow that the proxy handled yields L4 records too.
    pub emit_l4_for_l7: bool,
    /// Whether flows that are already permitted are decided anew, on their next packet, after a policy change.
    pub live_session_reeval: bool,
    pub timeouts: Timeouts,
    pub limits: Limits,
}

impl Config {
    /// The documented defaults, with this address outside.
    pub fn new(outside_address: Ipv4Addr) -> Self {
        Self {
            outside_address,
            l7_close: L7Close::Fin,
            emit_l4_for_l7: false,
            live_session_reeval: false,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// How a denied client sees the end of its connection; never with a TLS alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L7Close {
    /// An orderly end: the client reads an unexpected end of file.
    Fin,
    /// The client reads a connection reset.
    Rst,
}

/// Every duration of the gateway.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From a client's SYN to its complete ClientHello or request head.
    pub inspection: Duration,
    /// First wait for an answer to a segment of the gateway's own; doubles with each retry.
    pub retransmission: Duration,
    /// Retries of one segment before the gateway gives the peer up.
    pub retries: u32,
    /// Silence after which a permitted TCP flow is forgotten. AWS's NAT gateway uses the same value.
    pub tcp_idle: Duration,
    /// The same for a TCP flow whose destination has not answered.
    pub tcp_opening: Duration,
    /// The same for UDP, and for ICMP echo. RFC 4787 REQ-5 allows shorter ones for well-known ports only.
    pub datagram_idle: Duration,
    /// How long an ended or denied flow is remembered, so that late segments are told from a new attempt. A denied flow
    /// that goes on is logged again after it, and so is a refused packet.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            inspection: Duration::from_secs(10),
            retransmission: Duration::from_millis(300),
            retries: 6,
            tcp_idle: Duration::from_secs(350),
            tcp_opening: Duration::from_secs(60),
            datagram_idle: Duration::from_secs(120),
            linger: Duration::from_secs(60),
        }
    }
}

/// Every bound on what traffic can make the gateway hold. Of flows, inspections, buffered bytes and outside ports a source
/// may hold as much as is free, so that one source gets half at most; past that the gateway fails closed for this source,
/// logs it once per [`Timeouts::linger`] and counts. The queues of packets and records are the caller's to empty after
/// each packet; past their bound the gateway fails closed for all.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Flows in the table, denied and ended ones included. Of a source without room, the flow that has been over for
    /// longest makes place for a new one. Also the bound on sources that are told apart.
    pub flows: usize,
    /// Flows whose application is not known yet.
    pub inspections: usize,
    /// Bytes of one client that wait for a decision or for the destination.
    pub buffered_per_flow: usize,
    /// The same over all flows.
    pub buffered: usize,
    /// Packets not yet taken by `poll_transmit`.
    pub transmits: usize,
    /// Records not yet taken by `poll_record`. While there is no room, no flow is admitted: a verdict that can't be
    /// logged is not given.
    pub records: usize,
    /// Denial records per source and [`Timeouts::linger`]; further denials are enforced, counted and not logged.
    pub denial_records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 65_536,
            inspections: 4_096,
            buffered_per_flow: 40 * 1024,
            buffered: 16 * 1024 * 1024,
            transmits: 16_384,
            records: 65_536,
            denial_records: 8_192,
        }
    }
}
