//! Packets on their way through: one copy, changed in place, checksums updated from what changed (RFC 1624).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use etherparse::{IpNumber, checksum::Sum16BitWords};

use super::packet::{IPV4_HEADER, Packet, Quoted, Transport};
use crate::policy::Protocol;

const TTL: usize = 8;
const IP_CHECKSUM: usize = 10;
const IP_SOURCE: usize = 12;
const IP_DESTINATION: usize = 16;
const IPV6_HOP_LIMIT: usize = 7;
const IPV6_SOURCE: usize = 8;
const IPV6_DESTINATION: usize = 24;
const ICMP_HEADER: usize = 8;

/// A packet being translated.
pub(super) struct Rewrite {
    bytes: Vec<u8>,
    /// Where source port, destination port and checksum are; a field that the transport lacks is `None`.
    layout: Layout,
    ip: Change,
    transport: Change,
}

#[derive(Clone, Copy)]
struct Layout {
    /// Where the transport header starts.
    transport: usize,
    /// IPv6 has no header checksum.
    is_ipv4: bool,
    source_port: Option<usize>,
    destination_port: Option<usize>,
    checksum: usize,
    /// Addresses count into the checksum of TCP, UDP and ICMPv6, not into that of ICMP.
    pseudo_header: bool,
    /// For UDP over IPv4 a checksum of zero means that there is none (RFC 768).
    zero_means_none: bool,
}

impl Rewrite {
    /// Starts to forward a packet: a copy with its TTL one lower. `None` when the TTL runs out here, or the packet can't
    /// be translated.
    pub(super) fn forward(packet: &Packet<'_>) -> Option<Self> {
        let layout = layout(packet)?;
        let ttl_at = if layout.is_ipv4 { TTL } else { IPV6_HOP_LIMIT };
        if packet.bytes[ttl_at] <= 1 {
            return None;
        }
        let mut rewrite = Self {
            bytes: packet.bytes.to_vec(),
            layout,
            ip: Change::default(),
            transport: Change::default(),
        };
        // The TTL shares its checksum word with the protocol number.
        let [ttl, protocol] = [rewrite.bytes[ttl_at], rewrite.bytes[ttl_at + 1]];
        rewrite.ip.word([ttl, protocol], [ttl - 1, protocol]);
        rewrite.bytes[ttl_at] = ttl - 1;
        Some(rewrite)
    }

    pub(super) fn source(&mut self, endpoint: SocketAddr) {
        self.address([IP_SOURCE, IPV6_SOURCE], endpoint.ip());
        if let Some(at) = self.layout.source_port {
            self.word(at, endpoint.port());
        }
    }

    pub(super) fn destination(&mut self, endpoint: SocketAddr) {
        self.address([IP_DESTINATION, IPV6_DESTINATION], endpoint.ip());
        if let Some(at) = self.layout.destination_port {
            self.word(at, endpoint.port());
        }
    }

    pub(super) fn tcp_sequence(&mut self, sequence: u32) {
        self.long(self.layout.transport + 4, sequence);
    }

    pub(super) fn tcp_acknowledgment(&mut self, acknowledgment: u32) {
        self.long(self.layout.transport + 8, acknowledgment);
    }

    pub(super) fn tcp_window(&mut self, window: u16) {
        self.word(self.layout.transport + 14, window);
    }

    /// The translated packet.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.layout.is_ipv4 {
            self.ip.apply(&mut self.bytes, IP_CHECKSUM);
        }
        let at = self.layout.checksum;
        if !(self.layout.zero_means_none && self.bytes[at..at + 2] == [0, 0]) {
            self.transport.apply(&mut self.bytes, at);
            if self.layout.zero_means_none && self.bytes[at..at + 2] == [0, 0] {
                self.bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]);
            }
        }
        self.bytes
    }

    /// Writes an address to its place in the header of its family.
    fn address(&mut self, [ipv4_at, ipv6_at]: [usize; 2], address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.octets(ipv4_at, &address.octets()),
            IpAddr::V6(address) => self.octets(ipv6_at, &address.octets()),
        }
    }

    fn octets(&mut self, at: usize, octets: &[u8]) {
        for (index, new) in octets.chunks_exact(2).enumerate() {
            let at = at + index * 2;
            let (old, new) = ([self.bytes[at], self.bytes[at + 1]], [new[0], new[1]]);
            self.ip.word(old, new);
            if self.layout.pseudo_header {
                self.transport.word(old, new);
            }
            self.bytes[at..at + 2].copy_from_slice(&new);
        }
    }

    fn word(&mut self, at: usize, value: u16) {
        let (old, new) = ([self.bytes[at], self.bytes[at + 1]], value.to_be_bytes());
        self.transport.word(old, new);
        self.bytes[at..at + 2].copy_from_slice(&new);
    }

    fn long(&mut self, at: usize, value: u32) {
        let [high, low] = [(value >> 16) as u16, value as u16];
        self.word(at, high);
        self.word(at + 2, low);
    }
}

/// Translates an ICMP error about a packet that the gateway sent, for the client whose packet it was: the quoted source
/// becomes the client's again. The message is short, so its checksum is computed anew.
pub(super) fn icmp_error_inward(
    packet: &Packet<'_>,
    about: Quoted,
    client: SocketAddrV4,
) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite::forward(packet)?;
    rewrite.octets(IP_DESTINATION, &client.ip().octets());
    let quoted = IPV4_HEADER + ICMP_HEADER;
    let port_at = quoted
        + IPV4_HEADER
        + if about.protocol == Protocol::Icmp {
            4
        } else {
            0
        };
    let mut quoted_header = Change::default();
    for (at, new) in [
        (0, &client.ip().octets()[..2]),
        (2, &client.ip().octets()[2..]),
    ] {
        let at = quoted + IP_SOURCE + at;
        quoted_header.word([rewrite.bytes[at], rewrite.bytes[at + 1]], [new[0], new[1]]);
        rewrite.bytes[at..at + 2].copy_from_slice(new);
    }
    quoted_header.apply(&mut rewrite.bytes, quoted + IP_CHECKSUM);
    rewrite.bytes[port_at..port_at + 2].copy_from_slice(&client.port().to_be_bytes());

    let checksum = IPV4_HEADER + 2;
    rewrite.bytes[checksum..checksum + 2].fill(0);
    let sum = Sum16BitWords::new().add_slice(&rewrite.bytes[IPV4_HEADER..]);
    rewrite.bytes[checksum..checksum + 2].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    rewrite.transport = Change::default();
    Some(rewrite.finish())
}

/// A packet whose transport is not read, with its TTL one lower and, for IPv4, another source. The checksum of TCP or UDP
/// stays right: whole, it is in the first fragment. `None` when the TTL runs out. Only seeded faults pass such packets on.
pub(super) fn header_alone(packet: &[u8], source: Ipv4Addr) -> Option<Vec<u8>> {
    let is_ipv4 = packet.first()? >> 4 == 4;
    let ttl_at = if is_ipv4 { TTL } else { IPV6_HOP_LIMIT };
    let mut bytes = packet.to_vec();
    bytes[ttl_at] = bytes[ttl_at].checked_sub(1).filter(|ttl| *ttl > 0)?;
    if !is_ipv4 {
        return Some(bytes);
    }
    let header = usize::from(bytes[0] & 0x0f) * 4;
    let mut change = Change::default();
    for (index, new) in source.octets().chunks_exact(2).enumerate() {
        let at = IP_SOURCE + index * 2;
        change.word([bytes[at], bytes[at + 1]], [new[0], new[1]]);
        bytes[at..at + 2].copy_from_slice(new);
    }
    let is_first = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff == 0;
    let checksum = match IpNumber(bytes[9]) {
        IpNumber::TCP => Some(header + 16),
        IpNumber::UDP => Some(header + 6),
        _ => None,
    };
    if let Some(at) = checksum.filter(|at| is_first && at + 2 <= bytes.len()) {
        change.apply(&mut bytes, at);
    }
    bytes[IP_CHECKSUM..IP_CHECKSUM + 2].fill(0);
    let sum = Sum16BitWords::new().add_slice(&bytes[..header]);
    bytes[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    Some(bytes)
}

fn layout(packet: &Packet<'_>) -> Option<Layout> {
    let (at, is_ipv4) = (packet.header(), packet.source.is_ipv4());
    let tcp = Layout {
        transport: at,
        is_ipv4,
        source_port: Some(at),
        destination_port: Some(at + 2),
        checksum: at + 16,
        pseudo_header: true,
        zero_means_none: false,
    };
    let icmp = Layout {
        source_port: None,
        destination_port: None,
        checksum: at + 2,
        // RFC 4443 section 2.3.
        pseudo_header: !is_ipv4,
        ..tcp
    };
    let identifier = Some(at + 4);
    match packet.transport {
        Transport::Tcp(_) => Some(tcp),
        Transport::Udp { .. } => Some(Layout {
            checksum: at + 6,
            zero_means_none: is_ipv4,
            ..tcp
        }),
        Transport::EchoRequest { .. } => Some(Layout {
            source_port: identifier,
            ..icmp
        }),
        Transport::EchoReply { .. } => Some(Layout {
            destination_port: identifier,
            ..icmp
        }),
        Transport::IcmpError { .. } => Some(icmp),
        Transport::OtherIcmp | Transport::Other(_) => None,
    }
}

/// What the changed words add to a checksum: the sum of `~old + new` (RFC 1624 equation 3).
#[derive(Clone, Copy, Default)]
struct Change(u32);

impl Change {
    fn word(&mut self, old: [u8; 2], new: [u8; 2]) {
        self.0 += u32::from(!u16::from_be_bytes(old)) + u32::from(u16::from_be_bytes(new));
    }

    fn apply(self, bytes: &mut [u8], at: usize) {
        let mut sum = self.0 + u32::from(!u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        bytes[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}
