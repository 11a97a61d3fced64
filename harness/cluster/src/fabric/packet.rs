//! IP packets as the fabric needs them: which flow, and rewriting its addresses in place.
//!
//! Owns: bounds-checked parsing of headers (no input panics), checksums updated incrementally (RFC 1624),
//! and the ICMP errors that a node answers with. Knows nothing of flows, policies or ports of the fabric.
//!
//! IPv6 packets are told apart and never rewritten: no Service and no masquerade has an address of that family here. Behind
//! an extension header lies no transport that a policy could name ports of: such a packet is a flow by its addresses and
//! the header's number.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};

/// Transport protocol, by the IANA number it has in the IP header. ICMPv6 counts as ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Other(u8),
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        match number {
            1 | 58 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            other => Self::Other(other),
        }
    }
}

/// What identifies a flow in one direction. An ICMP echo request has its identifier in `source_port`, its
/// reply in `destination_port`, so that reversing a tuple works for every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Tuple {
    pub protocol: Protocol,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
}

impl Tuple {
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = SocketAddr::new(self.source, self.source_port);
        let to = SocketAddr::new(self.destination, self.destination_port);
        write!(f, "{:?} {from} > {to}", self.protocol)
    }
}

/// What the transport header tells about the flow's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp(TcpFlags),
    Udp,
    /// Echo request or reply.
    Echo,
    /// An ICMP error, with the tuple of the packet that caused it, as far as it got.
    IcmpError {
        cause: Tuple,
    },
    /// Any other protocol or ICMP message: a flow by its addresses alone.
    Other,
    /// A fragment but the first: it has no ports. `Tuple` holds zeroes for them.
    LaterFragment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
}

/// A parsed packet: offsets and values, no borrow, so that the buffer stays free to be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    pub tuple: Tuple,
    pub kind: Kind,
    pub header: usize,
    /// Set for every fragment, the first included: the same for all fragments of one packet.
    pub fragment: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("not an IP packet")]
    NotIp,
    #[error("a header is cut short or contradicts itself")]
    Header,
}

impl Parsed {
    pub fn new(packet: &[u8]) -> Result<Self, Malformed> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::ipv4(packet),
            Some(6) => Self::ipv6(packet),
            _ => Err(Malformed::NotIp),
        }
    }

    fn ipv4(packet: &[u8]) -> Result<Self, Malformed> {
        let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Malformed::Header)?;
        let (header, total) = (ip.slice().len(), usize::from(ip.total_len()));
        let payload = packet.get(header..total).ok_or(Malformed::Header)?;
        let protocol = Protocol::from(ip.protocol().0);
        let addresses = Tuple {
            protocol,
            source: ip.source_addr().into(),
            source_port: 0,
            destination: ip.destination_addr().into(),
            destination_port: 0,
        };
        let fragment = ip.is_fragmenting_payload().then(|| ip.identification());
        if ip.fragments_offset().value() != 0 {
            return Ok(Self {
                tuple: addresses,
                kind: Kind::LaterFragment,
                header,
                fragment,
            });
        }
        let (tuple, kind) = transport(addresses, payload).ok_or(Malformed::Header)?;
        Ok(Self {
            tuple,
            kind,
            header,
            fragment,
        })
    }

    fn ipv6(packet: &[u8]) -> Result<Self, Malformed> {
        let ip = Ipv6HeaderSlice::from_slice(packet).map_err(|_| Malformed::Header)?;
        let header = ip.slice().len();
        let total = header + usize::from(ip.payload_length());
        let payload = packet.get(header..total).ok_or(Malformed::Header)?;
        let number = ip.next_header();
        let addresses = Tuple {
            protocol: Protocol::from(number.0),
            source: ip.source_addr().into(),
            source_port: 0,
            destination: ip.destination_addr().into(),
            destination_port: 0,
        };
        let (tuple, kind) = match number {
            IpNumber::IPV6_ICMP => icmpv6(addresses, payload),
            // ICMP of the other family: it means nothing here.
            IpNumber::ICMP => None,
            _ => transport(addresses, payload),
        }
        .ok_or(Malformed::Header)?;
        Ok(Self {
            tuple,
            kind,
            header,
            fragment: None,
        })
    }
}

fn transport(addresses: Tuple, payload: &[u8]) -> Option<(Tuple, Kind)> {
    let ports = || {
        Some(Tuple {
            source_port: word(payload, 0)?,
            destination_port: word(payload, 2)?,
            ..addresses
        })
    };
    Some(match addresses.protocol {
        Protocol::Tcp => {
            let flags = *payload.get(13)?;
            payload.get(..20)?;
            let bit = |mask: u8| flags & mask != 0;
            let flags = TcpFlags {
                fin: bit(0x01),
                syn: bit(0x02),
                rst: bit(0x04),
                ack: bit(0x10),
            };
            (ports()?, Kind::Tcp(flags))
        }
        Protocol::Udp => {
            payload.get(..8)?;
            (ports()?, Kind::Udp)
        }
        Protocol::Icmp => icmp(addresses, payload)?,
        Protocol::Other(_) => (addresses, Kind::Other),
    })
}

fn icmp(addresses: Tuple, payload: &[u8]) -> Option<(Tuple, Kind)> {
    let identifier = word(payload, 4)?;
    Some(match *payload.first()? {
        8 => (
            Tuple {
                source_port: identifier,
                ..addresses
            },
            Kind::Echo,
        ),
        0 => (
            Tuple {
                destination_port: identifier,
                ..addresses
            },
            Kind::Echo,
        ),
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        3 | 11 | 12 => {
            let cause = quoted(payload.get(8..)?)?;
            (addresses, Kind::IcmpError { cause })
        }
        _ => (addresses, Kind::Other),
    })
}

/// As [`icmp`], with the numbers of RFC 4443.
fn icmpv6(addresses: Tuple, payload: &[u8]) -> Option<(Tuple, Kind)> {
    let identifier = word(payload, 4)?;
    let (mut tuple, mut kind) = (addresses, Kind::Other);
    match *payload.first()? {
        128 => (tuple.source_port, kind) = (identifier, Kind::Echo),
        129 => (tuple.destination_port, kind) = (identifier, Kind::Echo),
        1..=4 => {
            let cause = quoted_ipv6(payload.get(8..)?)?;
            kind = Kind::IcmpError { cause };
        }
        _ => {}
    }
    Some((tuple, kind))
}

fn quoted_ipv6(packet: &[u8]) -> Option<Tuple> {
    let ip = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let payload = packet.get(ip.slice().len()..)?;
    let protocol = Protocol::from(ip.next_header().0);
    let (source_port, destination_port) = match protocol {
        Protocol::Tcp | Protocol::Udp => (word(payload, 0)?, word(payload, 2)?),
        Protocol::Icmp if *payload.first()? == 128 => (word(payload, 4)?, 0),
        Protocol::Icmp if *payload.first()? == 129 => (0, word(payload, 4)?),
        Protocol::Icmp | Protocol::Other(_) => (0, 0),
    };
    Some(Tuple {
        protocol,
        source: ip.source_addr().into(),
        source_port,
        destination: ip.destination_addr().into(),
        destination_port,
    })
}

/// The tuple of the packet that an ICMP error quotes: its IP header and at least eight bytes (RFC 792).
fn quoted(packet: &[u8]) -> Option<Tuple> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let payload = packet.get(ip.slice().len()..)?;
    let protocol = Protocol::from(ip.protocol().0);
    let (source_port, destination_port) = match protocol {
        Protocol::Tcp | Protocol::Udp => (word(payload, 0)?, word(payload, 2)?),
        Protocol::Icmp if *payload.first()? == 8 => (word(payload, 4)?, 0),
        Protocol::Icmp if *payload.first()? == 0 => (0, word(payload, 4)?),
        Protocol::Icmp | Protocol::Other(_) => (0, 0),
    };
    Some(Tuple {
        protocol,
        source: ip.source_addr().into(),
        source_port,
        destination: ip.destination_addr().into(),
        destination_port,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Rewrites addresses and ports of an IPv4 packet in place. `parsed` must describe `packet`.
pub fn rewrite(packet: &mut [u8], parsed: &Parsed, to: &Tuple) {
    let from = &parsed.tuple;
    if from == to || !from.source.is_ipv4() {
        return;
    }
    rewrite_addresses(packet, 0, from, to);
    let Some(payload) = packet.get_mut(parsed.header..) else {
        return;
    };
    match parsed.kind {
        Kind::LaterFragment | Kind::Other | Kind::IcmpError { .. } => {}
        Kind::Tcp(_) => rewrite_transport(payload, 16, from, to),
        // A zero checksum means that the sender made none (RFC 768): leave it so.
        Kind::Udp if payload.get(6..8) == Some(&[0, 0]) => set_ports(payload, to),
        Kind::Udp => {
            rewrite_transport(payload, 6, from, to);
            if payload.get(6..8) == Some(&[0, 0]) {
                put(payload, 6, 0xffff);
            }
        }
        Kind::Echo => {
            // The identifier is the only thing that changes: ICMP's checksum covers no addresses.
            let (old, new) = (
                from.source_port | from.destination_port,
                to.source_port | to.destination_port,
            );
            update(payload, 2, &old.to_be_bytes(), &new.to_be_bytes());
            put(payload, 4, new);
        }
    }
}

/// Rewrites an ICMP error on its way back: the outer destination, and the packet it quotes, become what
/// the sender of that packet knows. `cause` is the quoted tuple as the sender sent it. Of IPv6 nothing was translated.
pub fn rewrite_error(packet: &mut [u8], parsed: &Parsed, source: IpAddr, cause: &Tuple) {
    let Kind::IcmpError { cause: seen } = parsed.kind else {
        return;
    };
    if !source.is_ipv4() {
        return;
    }
    let outer = Tuple {
        source,
        destination: cause.source,
        ..parsed.tuple
    };
    rewrite_addresses(packet, 0, &parsed.tuple, &outer);
    let inner = parsed.header + 8;
    rewrite_addresses(packet, inner, &seen, cause);
    let inner_header = packet
        .get(inner)
        .map_or(20, |byte| usize::from(byte & 0x0f) * 4);
    if let Some(transport) = packet.get_mut(inner + inner_header..) {
        match cause.protocol {
            Protocol::Tcp | Protocol::Udp => set_ports(transport, cause),
            Protocol::Icmp => put(transport, 4, cause.source_port | cause.destination_port),
            Protocol::Other(_) => {}
        }
    }
    let total = word(packet, 2)
        .map_or(packet.len(), usize::from)
        .min(packet.len());
    if let Some(icmp) = packet.get_mut(parsed.header..total) {
        put(icmp, 2, 0);
        let sum = checksum(icmp);
        put(icmp, 2, sum);
    }
}

fn rewrite_addresses(packet: &mut [u8], at: usize, from: &Tuple, to: &Tuple) {
    let Some(header) = packet.get_mut(at..).filter(|header| header.len() >= 20) else {
        return;
    };
    for (offset, old, new) in [
        (12, from.source, to.source),
        (16, from.destination, to.destination),
    ] {
        if old != new {
            let (old, new) = (ipv4(old).octets(), ipv4(new).octets());
            update(header, 10, &old, &new);
            header[offset..offset + 4].copy_from_slice(&new);
        }
    }
}

fn rewrite_transport(payload: &mut [u8], sum: usize, from: &Tuple, to: &Tuple) {
    for (old, new) in [(from.source, to.source), (from.destination, to.destination)] {
        update(payload, sum, &ipv4(old).octets(), &ipv4(new).octets());
    }
    update(
        payload,
        sum,
        &from.source_port.to_be_bytes(),
        &to.source_port.to_be_bytes(),
    );
    update(
        payload,
        sum,
        &from.destination_port.to_be_bytes(),
        &to.destination_port.to_be_bytes(),
    );
    set_ports(payload, to);
}

/// Only IPv4 packets are ever rewritten, and only to addresses of their family.
fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn set_ports(payload: &mut [u8], to: &Tuple) {
    put(payload, 0, to.source_port);
    put(payload, 2, to.destination_port);
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(slot) = bytes.get_mut(at..at + 2) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// Updates the checksum at `at` for a field that changes from `old` to `new` (RFC 1624, equation 3).
fn update(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let Some(current) = word(bytes, at).filter(|_| old != new) else {
        return;
    };
    let removed: u32 = words(old).map(|word| u32::from(!word)).sum();
    let added: u32 = words(new).map(u32::from).sum();
    put(bytes, at, !fold(u32::from(!current) + removed + added));
}

/// The Internet checksum (RFC 1071) of bytes whose checksum field is zero.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(words(bytes).map(u32::from).sum())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The "port unreachable" with which a node rejects a packet, from the address that was asked (RFC 792;
/// quotes the IP header and eight bytes). None for what must not be answered: fragments but the first,
/// and ICMP errors (RFC 1122 section 3.2.2). No Service has an IPv6 address, so none is rejected there.
#[must_use]
pub fn port_unreachable(packet: &[u8], parsed: &Parsed) -> Option<Vec<u8>> {
    if matches!(parsed.kind, Kind::LaterFragment | Kind::IcmpError { .. }) {
        return None;
    }
    let (IpAddr::V4(source), IpAddr::V4(destination)) =
        (parsed.tuple.source, parsed.tuple.destination)
    else {
        return None;
    };
    let quote = packet.get(..(parsed.header + 8).min(packet.len()))?;
    let builder = etherparse::PacketBuilder::ipv4(destination.octets(), source.octets(), 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Port,
        ));
    let mut answer = Vec::with_capacity(builder.size(quote.len()));
    builder.write(&mut answer, quote).ok()?;
    Some(answer)
}
