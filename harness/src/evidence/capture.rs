//! Packets out of pcapng files, as values to ask questions of.
//!
//! A file that is still being written is read up to its last whole block. Only raw IP captures
//! are understood, which is what the fabric writes; a packet that cannot be decoded is counted,
//! because "no packet" must not mean "none that we could read".

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use jiff::Timestamp;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, PcapError};

use super::Error;
use crate::judge::Protocol;

/// Largest capture that is read into memory.
const CAPTURE_BOUND: u64 = 256 * 1024 * 1024;
/// More than any block that holds one packet. What is left over at the end of a file and is longer
/// is no unfinished packet but a damaged file, whose silence would prove nothing.
const BLOCK_BOUND: usize = 128 * 1024;
/// How every pcapng file begins, in either byte order.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it was captured.
    pub at: Timestamp,
    /// Number of the interface within the file.
    pub interface: u32,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source; port 0 where the protocol has none, and for fragments.
    pub source: SocketAddr,
    /// Destination; port 0 where the protocol has none, and for fragments.
    pub destination: SocketAddr,
    /// Bytes after the transport header.
    pub payload: usize,
    /// For TCP, the sequence number of a packet that opens a connection (SYN without ACK).
    pub opens: Option<u32>,
    /// For TCP, the sequence number after its last byte.
    pub next: Option<u32>,
    /// Number within the file, from 1, as packet analysers count.
    pub number: u64,
    /// Whether it went out by the interface rather than in. Absent: the file does not say.
    pub outbound: Option<bool>,
}

/// The packets of one capture point, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// Packets that were decoded.
    pub packets: Vec<Packet>,
    /// Packets that are not IP or are cut.
    pub undecodable: usize,
}

/// The packets of one five-tuple in both directions, seen from the side that sent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who sent first.
    pub source: SocketAddr,
    /// Whom it sent to.
    pub destination: SocketAddr,
    /// First packet.
    pub first_at: Timestamp,
    /// Last packet.
    pub last_at: Timestamp,
    /// Packets from source to destination.
    pub sent: usize,
    /// Payload bytes from source to destination.
    pub sent_bytes: usize,
    /// Packets from destination to source.
    pub returned: usize,
    /// Payload bytes from destination to source.
    pub returned_bytes: usize,
    /// Bytes of the stream from source to destination, repeated ones once.
    pub stream: u64,
    /// Numbers of the first packets from source to destination.
    pub numbers: Vec<u64>,
    /// Whether the first packet went out by the interface. Absent: the file does not say.
    pub outbound: Option<bool>,
    opened_with: Option<u32>,
}

/// Packets of a flow whose numbers are kept.
const NUMBERS: usize = 8;

impl Capture {
    /// Reads a file, up to its last whole block.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(io)?.len();
        if size > CAPTURE_BOUND {
            return Err(Error::Full {
                path: path.to_owned(),
                bound: CAPTURE_BOUND,
            });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::parse(&bytes).map_err(|message| Error::Capture {
            path: path.to_owned(),
            message,
        })
    }

    /// Reads a file's bytes, up to the last whole block.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut capture = Self::default();
        if !bytes.starts_with(&SECTION_HEADER) && !SECTION_HEADER.starts_with(bytes) {
            return Err("not a pcapng file: it does not begin with a section header".to_owned());
        }
        let (mut rest, mut parser) = match PcapNgParser::new(bytes) {
            Ok(start) => start,
            // Nothing was flushed yet.
            Err(PcapError::IncompleteBuffer) => return Ok(capture),
            Err(error) => return Err(format!("not a pcapng file: {error}")),
        };
        loop {
            match parser.next_block(rest) {
                Ok((after, block)) => {
                    if let Block::EnhancedPacket(packet) = block {
                        let interface = parser.interfaces().get(packet.interface_id as usize);
                        let interface = interface.ok_or_else(|| {
                            format!("packet of unknown interface {}", packet.interface_id)
                        })?;
                        let units = packet.timestamp.as_nanos();
                        let at = timestamp(units, resolution(&interface.options))?;
                        let outbound = outbound(&packet.options);
                        let link = interface.linktype;
                        capture.push((at, packet.interface_id, outbound), link, &packet.data);
                    }
                    rest = after;
                }
                Err(PcapError::IncompleteBuffer) if rest.len() <= BLOCK_BOUND => {
                    return Ok(capture);
                }
                Err(PcapError::IncompleteBuffer) => {
                    let offset = bytes.len() - rest.len();
                    return Err(format!(
                        "block at byte {offset} claims to be longer than any packet"
                    ));
                }
                Err(error) => {
                    let offset = bytes.len() - rest.len();
                    return Err(format!("block at byte {offset}: {error}"));
                }
            }
        }
    }

    fn push(
        &mut self,
        (at, interface, outbound): (Timestamp, u32, Option<bool>),
        link: DataLink,
        bytes: &[u8],
    ) {
        let number = (self.packets.len() + self.undecodable + 1) as u64;
        let raw_ip = matches!(link, DataLink::RAW | DataLink::IPV4 | DataLink::IPV6);
        match decode(bytes).filter(|_| raw_ip) {
            Some(packet) => self.packets.push(Packet {
                number,
                at,
                interface,
                outbound,
                ..packet
            }),
            None => self.undecodable += 1,
        }
    }

    /// Packets to an address, and to a port unless the protocol has none.
    pub fn packets_to(
        &self,
        protocol: Protocol,
        destination: SocketAddr,
    ) -> impl Iterator<Item = &Packet> {
        self.packets.iter().filter(move |packet| {
            packet.protocol == protocol && same_end(protocol, packet.destination, destination)
        })
    }

    /// Packets from one end to another.
    pub fn packets_between(
        &self,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> impl Iterator<Item = &Packet> {
        self.packets_to(protocol, destination)
            .filter(move |packet| same_end(protocol, packet.source, source))
    }

    /// Flows, in the order of their first packets. A SYN with a new sequence number opens a new
    /// flow, also between ends that spoke before.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = Vec::new();
        let mut latest: BTreeMap<(Protocol, SocketAddr, SocketAddr), usize> = BTreeMap::new();
        for packet in &self.packets {
            let forward = (packet.protocol, packet.source, packet.destination);
            let backward = (packet.protocol, packet.destination, packet.source);
            let known = latest.get(&forward).map(|&index| (index, true));
            let known = known.or_else(|| latest.get(&backward).map(|&index| (index, false)));
            let reopened =
                |index: usize| packet.opens.is_some() && packet.opens != flows[index].opened_with;
            match known {
                Some((index, forward)) if !reopened(index) => flows[index].add(packet, forward),
                _ => {
                    latest.remove(&backward);
                    latest.insert(forward, flows.len());
                    flows.push(Flow::begin(packet));
                }
            }
        }
        flows
    }
}

impl Flow {
    fn begin(packet: &Packet) -> Self {
        let mut flow = Self {
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
            first_at: packet.at,
            last_at: packet.at,
            sent: 0,
            sent_bytes: 0,
            returned: 0,
            returned_bytes: 0,
            stream: 0,
            numbers: Vec::new(),
            outbound: packet.outbound,
            opened_with: packet.opens,
        };
        flow.add(packet, true);
        flow
    }

    fn add(&mut self, packet: &Packet, forward: bool) {
        self.last_at = packet.at;
        if forward {
            self.count_stream(packet);
        }
        let (packets, bytes) = if forward {
            (&mut self.sent, &mut self.sent_bytes)
        } else {
            (&mut self.returned, &mut self.returned_bytes)
        };
        *packets += 1;
        *bytes += packet.payload;
    }

    fn count_stream(&mut self, packet: &Packet) {
        if self.numbers.len() < NUMBERS {
            self.numbers.push(packet.number);
        }
        let Some((opened, next)) = self.opened_with.zip(packet.next) else {
            self.stream += packet.payload as u64;
            return;
        };
        // Modulo 2^32, the SYN counts one: a stream stays far below the half of it.
        let reached = u64::from(next.wrapping_sub(opened).wrapping_sub(1));
        if reached <= u64::from(u32::MAX / 2) && packet.payload > 0 {
            self.stream = self.stream.max(reached);
        }
    }
}

/// The direction in a packet's flags: `epb_flags`, bits 0 and 1.
fn outbound(options: &[EnhancedPacketOption<'_>]) -> Option<bool> {
    options.iter().find_map(|option| match option {
        EnhancedPacketOption::Flags(flags) if flags & 3 != 0 => Some(flags & 3 == 2),
        _ => None,
    })
}

/// Whether two ends are the same as far as the protocol tells them apart. A fragment has no port
/// and is taken for any.
pub(crate) fn same_end(protocol: Protocol, seen: SocketAddr, wanted: SocketAddr) -> bool {
    let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp);
    seen.ip() == wanted.ip() && (!has_ports || seen.port() == 0 || seen.port() == wanted.port())
}

/// `if_tsresol`: a power of ten, or of two when the high bit is set; microseconds by default.
fn resolution(options: &[InterfaceDescriptionOption<'_>]) -> u128 {
    let resolution = options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(value) => Some(*value),
        _ => None,
    });
    match resolution.unwrap_or(6) {
        value if value & 0x80 != 0 => 1u128
            .checked_shl(u32::from(value & 0x7f))
            .unwrap_or(u128::MAX),
        value => 10u128.checked_pow(u32::from(value)).unwrap_or(u128::MAX),
    }
}

fn timestamp(units: u128, per_second: u128) -> Result<Timestamp, String> {
    let nanoseconds = (units / per_second)
        .checked_mul(1_000_000_000)
        .and_then(|whole| {
            let part = (units % per_second).checked_mul(1_000_000_000)? / per_second;
            whole.checked_add(part)
        })
        .and_then(|value| i128::try_from(value).ok());
    nanoseconds
        .and_then(|value| Timestamp::from_nanosecond(value).ok())
        .ok_or_else(|| format!("packet with the impossible time {units}"))
}

/// Address, ports and payload of a raw IP packet.
fn decode(bytes: &[u8]) -> Option<Packet> {
    let sliced = SlicedPacket::from_ip(bytes).ok()?;
    let (source, destination) = match sliced.net.as_ref()? {
        NetSlice::Ipv4(ip) => (
            IpAddr::V4(ip.header().source_addr()),
            IpAddr::V4(ip.header().destination_addr()),
        ),
        NetSlice::Ipv6(ip) => (
            IpAddr::V6(ip.header().source_addr()),
            IpAddr::V6(ip.header().destination_addr()),
        ),
        NetSlice::Arp(_) => return None,
    };
    let ip_payload = sliced.ip_payload()?;
    let next = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let length = tcp.payload().len() as u32;
            Some(tcp.sequence_number().wrapping_add(length))
        }
        _ => None,
    };
    let (protocol, ports, payload, opens) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (
            Protocol::Tcp,
            (tcp.source_port(), tcp.destination_port()),
            tcp.payload().len(),
            (tcp.syn() && !tcp.ack()).then(|| tcp.sequence_number()),
        ),
        Some(TransportSlice::Udp(udp)) => (
            Protocol::Udp,
            (udp.source_port(), udp.destination_port()),
            udp.payload().len(),
            None,
        ),
        Some(TransportSlice::Icmpv4(icmp)) => (Protocol::Icmp, (0, 0), icmp.payload().len(), None),
        Some(TransportSlice::Icmpv6(icmp)) => (Protocol::Icmp, (0, 0), icmp.payload().len(), None),
        Some(TransportSlice::Igmp(_)) | None => (
            by_number(ip_payload.ip_number.0),
            (0, 0),
            ip_payload.payload.len(),
            None,
        ),
    };
    Some(Packet {
        at: Timestamp::UNIX_EPOCH,
        interface: 0,
        protocol,
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        payload,
        opens,
        next,
        number: 0,
        outbound: None,
    })
}

/// A fragment after the first still counts as its protocol.
fn by_number(number: u8) -> Protocol {
    match number {
        1 | 58 => Protocol::Icmp,
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Other,
    }
}

#[cfg(test)]
mod tests;
