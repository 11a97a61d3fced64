//! What far ends saw, grouped by connection, as values to ask questions of.

use std::net::SocketAddr;

use fixtures::receipt::{Receipt, ReceiptEvent};
use jiff::Timestamp;

use crate::judge::Protocol;

/// Name under which cluster DNS writes its receipts.
pub const CLUSTER_DNS: &str = "cluster DNS";
/// Name under which the resolver that cluster DNS forwards to writes its receipts.
pub const VPC_RESOLVER: &str = "resolver of the VPC";
/// How the names of the name servers beyond the cluster begin; the name of a host of their zone follows.
pub const NAME_SERVER: &str = "name server of ";

/// Whether a receipt is of a name server beyond the cluster, which a resolver asked on behalf of a Pod.
#[must_use]
pub fn resolved_beyond(receipt: &Receipt) -> bool {
    matches!(receipt.event, ReceiptEvent::DnsQuery { .. })
        && receipt.endpoint.starts_with(NAME_SERVER)
}

/// Whether an endpoint is reached by way of resolvers: its peer is a resolver, and never the gateway.
#[must_use]
pub fn is_asked_by_resolvers(endpoint: &str) -> bool {
    endpoint == CLUSTER_DNS || endpoint == VPC_RESOLVER || endpoint.starts_with(NAME_SERVER)
}

/// What one far end saw of one peer: a TCP connection, or the datagrams between two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Name of the far end.
    pub endpoint: &'a str,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The far end's address and port.
    pub local: SocketAddr,
    /// Who came, as the far end saw it: behind the gateway's source NAT.
    pub peer: SocketAddr,
    /// When it was opened. Absent: its opening was not reported.
    pub opened_at: Option<Timestamp>,
    /// Its receipts, in order.
    pub receipts: Vec<&'a Receipt>,
}

impl Connection<'_> {
    /// Application bytes that arrived, as far as they were reported.
    #[must_use]
    pub fn received(&self) -> u64 {
        let mut on_the_wire = 0;
        let mut datagrams = 0;
        let mut bodies = 0;
        for receipt in &self.receipts {
            match &receipt.event {
                // Both are totals so far.
                ReceiptEvent::Bytes { received } | ReceiptEvent::Closed { received, .. } => {
                    on_the_wire = on_the_wire.max(*received);
                }
                ReceiptEvent::Datagram { bytes } => datagrams += bytes,
                ReceiptEvent::Request { body_bytes, .. } => bodies += body_bytes,
                _ => {}
            }
        }
        on_the_wire.max(bodies) + datagrams
    }

    /// Whether anything above the transport arrived: bytes, a handshake, a request, a query.
    #[must_use]
    pub fn carried_data(&self) -> bool {
        self.received() > 0
            || self.receipts.iter().any(|receipt| {
                matches!(
                    receipt.event,
                    ReceiptEvent::TlsEstablished { .. }
                        | ReceiptEvent::Request { .. }
                        | ReceiptEvent::Datagram { .. }
                        | ReceiptEvent::DnsQuery { .. }
                )
            })
    }

    /// Whether the canary was found in it.
    #[must_use]
    pub fn carried(&self, canary: &str) -> bool {
        self.receipts.iter().any(|receipt| carries(receipt, canary))
    }

    /// Canaries found in it.
    pub fn canaries(&self) -> impl Iterator<Item = &str> {
        self.receipts
            .iter()
            .flat_map(|receipt| receipt.canaries.iter().map(String::as_str))
    }
}

/// Whether a canary was found in what the receipt reports.
#[must_use]
pub fn carries(receipt: &Receipt, canary: &str) -> bool {
    receipt
        .canaries
        .iter()
        .any(|found| found.eq_ignore_ascii_case(canary))
}

/// Receipts grouped by connection, in the order of their first receipts. A further `connected`
/// between the same ends begins a new connection.
#[must_use]
pub fn connections(receipts: &[Receipt]) -> Vec<Connection<'_>> {
    let mut connections: Vec<Connection<'_>> = Vec::new();
    for receipt in receipts {
        let protocol = protocol(receipt);
        let opens = receipt.event == ReceiptEvent::Connected;
        let mut latest_first = connections.iter_mut().rev();
        let known = latest_first.find(|connection| {
            !opens
                && connection.protocol == protocol
                && connection.local == receipt.local
                && connection.peer == receipt.peer
        });
        match known {
            Some(connection) => connection.receipts.push(receipt),
            None => connections.push(Connection {
                endpoint: &receipt.endpoint,
                protocol,
                local: receipt.local,
                peer: receipt.peer,
                // A datagram opens nothing; its first sign is all the opening there is.
                opened_at: (opens || protocol == Protocol::Udp).then_some(receipt.at),
                receipts: vec![receipt],
            }),
        }
    }
    connections
}

fn protocol(receipt: &Receipt) -> Protocol {
    match &receipt.event {
        ReceiptEvent::Datagram { .. } => Protocol::Udp,
        ReceiptEvent::DnsQuery { transport, .. } if transport.eq_ignore_ascii_case("udp") => {
            Protocol::Udp
        }
        _ => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn receipt(second: i64, peer: &str, event: ReceiptEvent) -> Receipt {
        Receipt {
            at: Timestamp::from_second(second).unwrap(),
            endpoint: "sink.test".to_owned(),
            local: "192.0.2.66:443".parse().unwrap(),
            peer: peer.parse().unwrap(),
            event,
            canaries: Vec::new(),
            encodings: Default::default(),
        }
    }

    #[test]
    fn totals_are_not_added_up_and_reused_ports_are_told_apart() {
        let peer = "203.0.113.9:40000";
        let receipts = [
            receipt(1, peer, ReceiptEvent::Connected),
            receipt(2, peer, ReceiptEvent::Bytes { received: 100 }),
            receipt(3, peer, ReceiptEvent::Bytes { received: 400 }),
            receipt(
                4,
                peer,
                ReceiptEvent::Closed {
                    received: 500,
                    sent: 9,
                },
            ),
            receipt(5, "203.0.113.9:40001", ReceiptEvent::Datagram { bytes: 7 }),
            receipt(6, peer, ReceiptEvent::Connected),
        ];
        let found = connections(&receipts);
        let figures: Vec<_> = found
            .iter()
            .map(|c| (c.received(), c.carried_data(), c.receipts.len()))
            .collect();
        assert_eq!(figures, [(500, true, 4), (7, true, 1), (0, false, 1)]);
        assert_eq!(found[2].opened_at, Some(Timestamp::from_second(6).unwrap()));
    }

    #[test]
    fn a_handshake_alone_is_data() {
        let tls = receipt(
            1,
            "203.0.113.9:1",
            ReceiptEvent::TlsEstablished { sni: None },
        );
        assert!(connections(&[tls])[0].carried_data());
    }
}
