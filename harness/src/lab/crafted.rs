//! Attempts that no process in a Pod can make, and attempts of the node itself.
//!
//! A Pod without CAP_NET_RAW sends TCP, UDP and ICMP echo and nothing else. That the network stops the rest as well is
//! shown with a packet that is put on the Pod's wire from outside; the evidence says so.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder};
use fixtures::probe::{Command, Pace, ProbeReport, Reporter, Target, TlsArgs};
use jiff::Timestamp;

use super::reports::Reports;
use super::{Error, Lab};
use crate::evidence::Event;
use crate::judge::{Exchange, Protocol, Sent};

const TIME_TO_LIVE: u8 = 64;
/// Lowest client port of crafted TCP and UDP; no process of a Pod holds it or the next two. Each kind of packet has a
/// port of its own: the gateway logs a denied five-tuple once per linger period.
const SOURCE_PORT: u16 = 40_777;
/// Ports on which the sinks of `scenarios/internet.yaml` listen.
const DATAGRAM_PORT: u16 = 123;
const STREAM_PORT: u16 = 9_001;
/// Bytes of the first of two fragments behind the IP header: a multiple of 8 (RFC 791 section 3.1).
const FIRST_FRAGMENT: usize = 16;

/// A packet that no process in a Pod can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crafted {
    /// A packet of an IP protocol.
    Protocol(u8),
    /// A datagram in two fragments.
    Fragments,
    /// A datagram with a loose source route (RFC 791 section 3.1).
    SourceRoute,
    /// A SYN that carries data (RFC 7413).
    SynWithData,
}

impl Crafted {
    /// Protocol and ports as captures and the gateway's log show them: fragments show no ports.
    fn shown(self) -> (Protocol, u16, u16) {
        match self {
            Self::Protocol(_) => (Protocol::Other, 0, 0),
            Self::Fragments => (Protocol::Udp, 0, 0),
            Self::SourceRoute => (Protocol::Udp, self.source_port(), DATAGRAM_PORT),
            Self::SynWithData => (Protocol::Tcp, self.source_port(), STREAM_PORT),
        }
    }

    fn source_port(self) -> u16 {
        match self {
            Self::Protocol(_) => 0,
            Self::Fragments => SOURCE_PORT,
            Self::SourceRoute => SOURCE_PORT + 1,
            Self::SynWithData => SOURCE_PORT + 2,
        }
    }

    fn packets(
        self,
        from: Ipv4Addr,
        to: Ipv4Addr,
        payload: &[u8],
    ) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
        let ip = || PacketBuilder::ipv4(from.octets(), to.octets(), TIME_TO_LIVE);
        let mut packet = Vec::new();
        match self {
            Self::Protocol(number) => {
                let length = u16::try_from(payload.len())?;
                let header = Ipv4Header::new(
                    length,
                    TIME_TO_LIVE,
                    IpNumber(number),
                    from.octets(),
                    to.octets(),
                )?;
                header.write(&mut packet)?;
                packet.extend_from_slice(payload);
                return Ok(vec![packet]);
            }
            Self::SynWithData => {
                let syn = ip().tcp(self.source_port(), STREAM_PORT, 1, 64_000).syn();
                syn.write(&mut packet, payload)?;
                return Ok(vec![packet]);
            }
            Self::Fragments | Self::SourceRoute => {
                let datagram = ip().udp(self.source_port(), DATAGRAM_PORT);
                datagram.write(&mut packet, payload)?;
            }
        }
        let (mut header, datagram) = Ipv4Header::from_slice(&packet)?;
        let with = |mut header: Ipv4Header, data: &[u8]| {
            header.set_payload_len(data.len())?;
            let mut packet = Vec::new();
            header.write(&mut packet)?;
            packet.extend_from_slice(data);
            Ok::<_, Box<dyn std::error::Error>>(packet)
        };
        header.dont_fragment = false;
        if self == Self::SourceRoute {
            let [a, b, c, d] = to.octets();
            header.options = Ipv4Options::from([131, 7, 4, a, b, c, d, 0]);
            return Ok(vec![with(header, datagram)?]);
        }
        let (first, later) = datagram.split_at(FIRST_FRAGMENT.min(datagram.len()));
        header.identification = SOURCE_PORT;
        let mut behind = header.clone();
        header.more_fragments = true;
        behind.fragment_offset = IpFragOffset::try_new(u16::try_from(FIRST_FRAGMENT / 8)?)?;
        Ok(vec![with(header, first)?, with(behind, later)?])
    }
}

impl Lab {
    /// Puts a packet on the wire of the Pod that holds `source`, with the canary as its payload; false where this tier
    /// can't.
    ///
    /// # Errors
    /// When the ends are not IPv4.
    pub async fn send_as_pod(
        &self,
        source: IpAddr,
        destination: IpAddr,
        crafted: Crafted,
        canary: &str,
        label: &str,
    ) -> Result<bool, Error> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else {
            return Err(Error::Data("a crafted packet is IPv4".to_owned()));
        };
        let packets = crafted
            .packets(from, to, canary.as_bytes())
            .map_err(|error| Error::Data(error.to_string()))?;
        self.recorder.record(Event::Note {
            text: format!(
                "{label}: put on the Pod's wire from outside, because a process without CAP_NET_RAW cannot send it"
            ),
        });
        let (protocol, source_port, port) = crafted.shown();
        self.recorder.record(Event::ProbeSent {
            attempt: label.to_owned(),
            canary: canary.to_owned(),
            sent: Sent {
                at: Timestamp::now(),
                protocol,
                exchange: Exchange::Raw,
                source: (source, source_port).into(),
                destination: (destination, port).into(),
                host: None,
                sni: None,
            },
        });
        for packet in packets {
            if !self.cluster.send_as_pod(packet).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a TLS request from the node itself, to a name of the simulated internet; false where this tier can't.
    ///
    /// # Errors
    /// When the name has no address or the request can't be made.
    pub async fn request_from_node(
        &self,
        host: &str,
        canary: &str,
        label: &str,
    ) -> Result<bool, Error> {
        let address = self
            .context
            .internet
            .host(host)
            .and_then(|host| host.addresses.first().copied())
            .ok_or_else(|| Error::Data(format!("scenarios/internet.yaml has no host {host:?}")))?;
        let timeout = self.context.deadlines.probe_result.as_millis();
        let probe = Command::Tls(TlsArgs {
            in_segments: false,
            in_records: false,
            target: Target {
                ipv6: false,
                host: Some(host.to_owned()),
                address: Some(address),
                port: 443,
                pace: Pace {
                    canary: Some(canary.to_owned()),
                    timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
                    count: 1,
                },
            },
            sni: None,
            no_sni: false,
            post: false,
            trust: None,
        });
        let reports = Mutex::new(Reports::new(self.recorder.clone(), label));
        let reporter: Reporter = Arc::new(move |report: ProbeReport| {
            if let Ok(line) = serde_json::to_string(&report) {
                let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                reports.line(&line);
            }
        });
        Ok(self.cluster.probe_from_node(probe, reporter).await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use etherparse::Ipv4HeaderSlice;

    use super::*;

    #[test]
    fn crafted_packets_have_whole_headers_and_the_payload() {
        let (from, to) = ([10, 244, 0, 7].into(), [192, 0, 2, 68].into());
        let payload = b"the canary of this attempt";
        for crafted in [
            Crafted::Protocol(47),
            Crafted::Fragments,
            Crafted::SourceRoute,
            Crafted::SynWithData,
        ] {
            let packets = crafted.packets(from, to, payload).unwrap();
            let mut carried = Vec::new();
            for packet in &packets {
                let header = Ipv4HeaderSlice::from_slice(packet).unwrap();
                assert_eq!(
                    header.header_checksum(),
                    header.to_header().calc_header_checksum()
                );
                assert_eq!(usize::from(header.total_len()), packet.len());
                assert_eq!(
                    header.is_fragmenting_payload(),
                    crafted == Crafted::Fragments
                );
                assert_eq!(
                    !header.options().is_empty(),
                    crafted == Crafted::SourceRoute
                );
                carried.extend_from_slice(&packet[header.slice().len()..]);
            }
            assert!(carried.ends_with(payload), "{crafted:?}");
        }
    }
}
