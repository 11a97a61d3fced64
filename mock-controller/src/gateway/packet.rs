//! A checked view of one IP packet.
//!
//! Owns what makes a packet acceptable at all: whole headers, honest lengths, right header checksum, no fragments, no
//! options. Past [`parse`], offsets are safe to use. Knows no flows and no policy.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, TcpOptionElement,
    checksum::Sum16BitWords,
};

use super::counters::DropReason;
use crate::policy::{FiveTuple, Protocol};

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
/// What a sender without the option accepts (RFC 9293 section 3.7.1).
const DEFAULT_MSS: u16 = 536;

/// A packet whose headers were checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The packet alone, without what a link may have padded it with.
    pub(super) bytes: &'a [u8],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) transport: Transport<'a>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport<'a> {
    Tcp(Segment<'a>),
    Udp {
        source_port: u16,
        destination_port: u16,
    },
    EchoRequest {
        identifier: u16,
    },
    EchoReply {
        identifier: u16,
    },
    /// An ICMP message about a packet of some flow.
    IcmpError {
        kind: u8,
        about: Quoted,
    },
    OtherIcmp,
    Other(u8),
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) window: u16,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: &'a [u8],
    options: &'a [u8],
}

/// The packet that an ICMP error quotes: enough to find its flow (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted {
    pub(super) protocol: Protocol,
    pub(super) source: Ipv4Addr,
    pub(super) source_port: u16,
    pub(super) destination: Ipv4Addr,
    pub(super) destination_port: u16,
}

impl Segment<'_> {
    /// Opens a connection.
    pub(super) fn is_first(&self) -> bool {
        self.syn && !self.ack && !self.rst && !self.fin
    }

    /// Opens a connection and carries data at once (RFC 7413).
    pub(super) fn carries_early_data(&self) -> bool {
        self.is_first() && !self.payload.is_empty()
    }

    /// Sequence number after this segment.
    pub(super) fn end(&self) -> u32 {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        self.sequence
            .wrapping_add(length)
            .wrapping_add(self.syn.into())
            .wrapping_add(self.fin.into())
    }

    pub(super) fn maximum_segment_size(&self) -> u16 {
        etherparse::TcpOptionsIterator::from_slice(self.options)
            .map_while(Result::ok)
            .find_map(|option| match option {
                TcpOptionElement::MaximumSegmentSize(size) => Some(size),
                _ => None,
            })
            .unwrap_or(DEFAULT_MSS)
    }
}

impl Packet<'_> {
    /// The flow that a packet from inside belongs to, as the policy names it.
    pub(super) fn five_tuple(&self) -> FiveTuple {
        let (protocol, source_port, destination_port) = match self.transport {
            Transport::Tcp(segment) => {
                (Protocol::Tcp, segment.source_port, segment.destination_port)
            }
            Transport::Udp {
                source_port,
                destination_port,
            } => (Protocol::Udp, source_port, destination_port),
            Transport::EchoRequest { .. }
            | Transport::EchoReply { .. }
            | Transport::IcmpError { .. }
            | Transport::OtherIcmp => (Protocol::Icmp, 0, 0),
            Transport::Other(number) => (Protocol::Other(number), 0, 0),
        };
        FiveTuple {
            protocol,
            source: self.source,
            source_port,
            destination: self.destination,
            destination_port,
        }
    }

    /// The same flow as the gateway tells it from others: echo requests differ by identifier.
    pub(super) fn key(&self) -> FiveTuple {
        let mut key = self.five_tuple();
        if let Transport::EchoRequest { identifier } = self.transport {
            key.source_port = identifier;
        }
        key
    }

    /// The flow that this packet from outside answers, as [`key`](Self::key) names it; for IPv6, where no outside port
    /// stands for it. `None` for what answers nothing.
    pub(super) fn answered(&self) -> Option<FiveTuple> {
        let tuple = self.five_tuple();
        let source_port = match self.transport {
            Transport::Tcp(_) | Transport::Udp { .. } => tuple.destination_port,
            Transport::EchoReply { identifier } => identifier,
            Transport::EchoRequest { .. }
            | Transport::IcmpError { .. }
            | Transport::OtherIcmp
            | Transport::Other(_) => return None,
        };
        Some(FiveTuple {
            protocol: tuple.protocol,
            source: self.destination,
            source_port,
            destination: self.source,
            destination_port: tuple.source_port,
        })
    }

    /// Length of the IP header: neither options nor extension headers get past [`parse`].
    pub(super) fn header(&self) -> usize {
        if self.source.is_ipv4() {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        }
    }

    /// What the packet carries behind its transport header; of other protocols, behind the IP header.
    pub(super) fn payload(&self) -> &[u8] {
        let behind = |header| self.bytes.get(self.header() + header..).unwrap_or_default();
        match self.transport {
            Transport::Tcp(segment) => segment.payload,
            Transport::Udp { .. } => behind(UDP_HEADER),
            Transport::EchoRequest { .. }
            | Transport::EchoReply { .. }
            | Transport::IcmpError { .. }
            | Transport::OtherIcmp => behind(ICMP_HEADER),
            Transport::Other(_) => behind(0),
        }
    }

    pub(super) fn size(&self) -> u16 {
        u16::try_from(self.bytes.len()).unwrap_or(u16::MAX)
    }

    /// Whether the transport checksum is right. A forwarded packet keeps a wrong one and its receiver drops it; the
    /// gateway asks only about segments that it consumes itself.
    pub(super) fn transport_checksum_is_right(&self) -> bool {
        let Some(transport) = self.bytes.get(self.header()..) else {
            return false;
        };
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Sum16BitWords::new()
                .add_4bytes(source.octets())
                .add_4bytes(destination.octets())
                .add_2bytes([0, self.bytes[9]]),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Sum16BitWords::new()
                .add_16bytes(source.octets())
                .add_16bytes(destination.octets())
                .add_2bytes([0, self.bytes[6]]),
            _ => return false,
        };
        // IP lengths are 16 bits wide, so the upper half of IPv6's pseudo header is always zero.
        let [high, low] = u16::try_from(transport.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        addresses
            .add_2bytes([high, low])
            .add_slice(transport)
            .ones_complement()
            == 0
    }
}

/// A packet that goes no further, with what can be read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) reason: DropReason,
    /// Ends and protocol as the headers show them, ports 0 where they do not; `None` when the IP header lies.
    pub(super) flow: Option<FiveTuple>,
    pub(super) size: u16,
}

impl From<DropReason> for Unreadable {
    fn from(reason: DropReason) -> Self {
        Self {
            reason,
            flow: None,
            size: 0,
        }
    }
}

/// Reads the headers of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Packet<'_>, Unreadable> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => ipv4(bytes),
        Some(6) => ipv6(bytes),
        _ => Err(DropReason::Malformed.into()),
    }
}

/// What a packet shows of its flow when its transport is not processed. `payload` is empty behind the first fragment.
fn shown(source: IpAddr, destination: IpAddr, number: IpNumber, payload: &[u8]) -> FiveTuple {
    let protocol = match number {
        IpNumber::TCP => Protocol::Tcp,
        IpNumber::UDP => Protocol::Udp,
        IpNumber::ICMP | IpNumber::IPV6_ICMP => Protocol::Icmp,
        other => Protocol::Other(other.0),
    };
    let (source_port, destination_port) = match (protocol, payload) {
        (Protocol::Tcp | Protocol::Udp, &[a, b, c, d, ..]) => {
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        _ => (0, 0),
    };
    FiveTuple {
        protocol,
        source,
        source_port,
        destination,
        destination_port,
    }
}

fn ipv4(bytes: &[u8]) -> Result<Packet<'_>, Unreadable> {
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| DropReason::Malformed)?;
    let sum = Sum16BitWords::new().add_slice(header.slice());
    if sum.ones_complement() != 0 || usize::from(header.total_len()) < header.slice().len() {
        return Err(DropReason::Malformed.into());
    }
    let bytes = bytes
        .get(..header.total_len().into())
        .ok_or(DropReason::Malformed)?;
    let source = IpAddr::from(header.source_addr());
    let destination = IpAddr::from(header.destination_addr());
    let payload = &bytes[header.slice().len()..];
    let unreadable = |reason| {
        let is_later = header.fragments_offset().value() > 0;
        let ports = if is_later { &[] } else { payload };
        Unreadable {
            reason,
            flow: Some(shown(source, destination, header.protocol(), ports)),
            size: header.total_len(),
        }
    };
    if header.slice().len() != IPV4_HEADER {
        return Err(unreadable(DropReason::HeaderOptions));
    }
    if header.is_fragmenting_payload() {
        return Err(unreadable(DropReason::Fragment));
    }
    let transport = match header.protocol() {
        IpNumber::ICMP => icmp(payload),
        protocol => transport(protocol, payload),
    };
    Ok(Packet {
        bytes,
        source,
        destination,
        transport: transport.map_err(unreadable)?,
    })
}

/// Extension headers are refused whole: behind one, ports and the real destination can hide (RFC 7045 section 2.1), and no
/// rule could then say what it decided about.
fn ipv6(bytes: &[u8]) -> Result<Packet<'_>, Unreadable> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|_| DropReason::Malformed)?;
    let end = IPV6_HEADER + usize::from(header.payload_length());
    let bytes = bytes.get(..end).ok_or(DropReason::Malformed)?;
    let payload = &bytes[IPV6_HEADER..];
    let source = IpAddr::from(header.source_addr());
    let destination = IpAddr::from(header.destination_addr());
    let transport = match header.next_header() {
        IpNumber::IPV6_FRAGMENTATION_HEADER => Err(DropReason::Fragment),
        number if number.is_ipv6_ext_header_value() => Err(DropReason::HeaderOptions),
        IpNumber::IPV6_ICMP => icmpv6(payload),
        // ICMPv4 inside IPv6 is no protocol, but the rules would take it for one.
        IpNumber::ICMP => Err(DropReason::Malformed),
        protocol => transport(protocol, payload),
    };
    let unreadable = |reason| Unreadable {
        reason,
        flow: Some(shown(source, destination, header.next_header(), payload)),
        size: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
    };
    Ok(Packet {
        bytes,
        source,
        destination,
        transport: transport.map_err(unreadable)?,
    })
}

fn transport(protocol: IpNumber, payload: &[u8]) -> Result<Transport<'_>, DropReason> {
    match protocol {
        IpNumber::TCP => tcp(payload).map(Transport::Tcp),
        IpNumber::UDP => {
            let &[a, b, c, d, high, low, _, _] =
                payload.first_chunk().ok_or(DropReason::Malformed)?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length < UDP_HEADER || length > payload.len() {
                return Err(DropReason::Malformed);
            }
            Ok(Transport::Udp {
                source_port: u16::from_be_bytes([a, b]),
                destination_port: u16::from_be_bytes([c, d]),
            })
        }
        other => Ok(Transport::Other(other.0)),
    }
}

fn tcp(payload: &[u8]) -> Result<Segment<'_>, DropReason> {
    let header = TcpHeaderSlice::from_slice(payload).map_err(|_| DropReason::Malformed)?;
    let length = header.slice().len();
    Ok(Segment {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        sequence: header.sequence_number(),
        acknowledgment: header.acknowledgment_number(),
        window: header.window_size(),
        syn: header.syn(),
        ack: header.ack(),
        fin: header.fin(),
        rst: header.rst(),
        payload: &payload[length..],
        options: &payload[length.min(etherparse::TcpHeader::MIN_LEN)..length],
    })
}

fn icmp(payload: &[u8]) -> Result<Transport<'_>, DropReason> {
    let &[kind, _, _, _, high, low, _, _] = payload.first_chunk().ok_or(DropReason::Malformed)?;
    let identifier = u16::from_be_bytes([high, low]);
    Ok(match kind {
        0 => Transport::EchoReply { identifier },
        8 => Transport::EchoRequest { identifier },
        // Destination unreachable, time exceeded, parameter problem.
        3 | 11 | 12 => Transport::IcmpError {
            kind,
            about: quoted(&payload[ICMP_HEADER..]).ok_or(DropReason::Malformed)?,
        },
        _ => Transport::OtherIcmp,
    })
}

/// Errors are not followed to the flow they are about: they pass in neither direction.
fn icmpv6(payload: &[u8]) -> Result<Transport<'_>, DropReason> {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    let &[kind, _, _, _, high, low, _, _] = payload.first_chunk().ok_or(DropReason::Malformed)?;
    let identifier = u16::from_be_bytes([high, low]);
    Ok(match kind {
        ECHO_REQUEST => Transport::EchoRequest { identifier },
        ECHO_REPLY => Transport::EchoReply { identifier },
        _ => Transport::OtherIcmp,
    })
}

/// Errors quote the IP header and at least eight bytes after it (RFC 792), so the packet is cut short on purpose.
fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    if header.slice().len() != IPV4_HEADER || header.is_fragmenting_payload() {
        return None;
    }
    let &[a, b, c, d, e, f, _, _] = bytes.get(IPV4_HEADER..)?.first_chunk()?;
    let (protocol, source_port, destination_port) = match header.protocol() {
        IpNumber::TCP => (
            Protocol::Tcp,
            u16::from_be_bytes([a, b]),
            u16::from_be_bytes([c, d]),
        ),
        IpNumber::UDP => (
            Protocol::Udp,
            u16::from_be_bytes([a, b]),
            u16::from_be_bytes([c, d]),
        ),
        IpNumber::ICMP if a == 8 => (Protocol::Icmp, u16::from_be_bytes([e, f]), 0),
        _ => return None,
    };
    Some(Quoted {
        protocol,
        source: header.source_addr(),
        source_port,
        destination: header.destination_addr(),
        destination_port,
    })
}

#[cfg(test)]
mod tests;
