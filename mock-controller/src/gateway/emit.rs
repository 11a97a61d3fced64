//! TCP segments of the gateway's own making.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{PacketBuilder, TcpOptionElement};

const TTL: u8 = 64;

/// A segment to send. Options other than the maximum segment size are never used: what the gateway does not offer, no
/// peer can rely on once sequence numbers are translated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emit<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgment: Option<u32>,
    pub(super) window: u16,
    pub(super) kind: Kind,
    pub(super) payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn { maximum_segment_size: u16 },
    Data,
    Fin,
    Rst,
}

impl Emit<'_> {
    /// The segment as a packet of its ends' family.
    pub(super) fn packet(&self) -> Vec<u8> {
        let ip = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.octets(), destination.octets(), TTL)
            }
            // The ends of a flow are of one family, as they come out of one header.
            (source, destination) => {
                PacketBuilder::ipv6(ipv6(source).octets(), ipv6(destination).octets(), TTL)
            }
        };
        let mut builder = ip.tcp(
            self.source.port(),
            self.destination.port(),
            self.sequence,
            self.window,
        );
        if let Some(acknowledgment) = self.acknowledgment {
            builder = builder.ack(acknowledgment);
        }
        builder = match self.kind {
            Kind::Syn {
                maximum_segment_size,
            } => builder
                .syn()
                .options(&[TcpOptionElement::MaximumSegmentSize(maximum_segment_size)])
                .expect("invariant: one option of four bytes fits"),
            Kind::Data if self.payload.is_empty() => builder,
            Kind::Data => builder.psh(),
            Kind::Fin => builder.fin(),
            Kind::Rst => builder.rst(),
        };
        let mut packet = Vec::with_capacity(builder.size(self.payload.len()));
        builder
            .write(&mut packet, self.payload)
            .expect("invariant: payloads are at most one segment long, and a Vec takes all writes");
        packet
    }
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
