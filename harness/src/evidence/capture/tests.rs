#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use proptest::prelude::*;

use super::*;

const POD: [u8; 4] = [10, 244, 0, 12];
const SINK: [u8; 4] = [192, 0, 2, 66];

/// A capture in nanoseconds, one packet per millisecond from 1000 s on.
fn file(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    writer
        .write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(9)],
        })
        .unwrap();
    for (index, packet) in packets.iter().enumerate() {
        let at = Duration::from_secs(1000) + Duration::from_millis(index as u64);
        writer
            .write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: at,
                original_len: u32::try_from(packet.len()).unwrap(),
                data: Cow::Borrowed(packet),
                options: vec![],
            })
            .unwrap();
    }
    writer.into_inner()
}

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), syn: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, syn.unwrap_or(7), 1000);
    let builder = if syn.is_some() {
        builder.syn()
    } else {
        builder.ack(1)
    };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64)
        .udp(from.1, to.1)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn ping(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 64)
        .icmpv4_echo_request(9, 1)
        .write(&mut bytes, b"x")
        .unwrap();
    bytes
}

fn end(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

#[test]
fn packets_are_found_by_their_ends() {
    let capture = Capture::parse(&file(&[
        tcp((POD, 40_000), (SINK, 443), Some(1), b""),
        tcp((POD, 40_000), (SINK, 443), None, b"hello"),
        tcp((POD, 40_001), (SINK, 8443), Some(1), b""),
        udp((POD, 40_000), (SINK, 443), b"quic"),
        ping(POD, SINK),
    ]))
    .unwrap();
    assert_eq!(capture.undecodable, 0);
    let to = |protocol, port| capture.packets_to(protocol, end(SINK, port)).count();
    assert_eq!(to(Protocol::Tcp, 443), 2);
    assert_eq!(to(Protocol::Tcp, 8443), 1);
    assert_eq!(to(Protocol::Udp, 443), 1);
    assert_eq!(to(Protocol::Icmp, 0), 1);
    assert_eq!(to(Protocol::Tcp, 80), 0);
    let between = capture.packets_between(Protocol::Tcp, end(POD, 40_000), end(SINK, 443));
    assert_eq!(
        between.map(|packet| packet.payload).collect::<Vec<_>>(),
        [0, 5]
    );
    assert_eq!(
        capture.packets[1].at,
        "1970-01-01T00:16:40.001Z".parse().unwrap()
    );
}

#[test]
fn a_flow_has_two_directions_and_a_new_syn_opens_a_new_one() {
    let (client, server) = ((POD, 40_000), (SINK, 443));
    let flows = Capture::parse(&file(&[
        tcp(client, server, Some(1), b""),
        tcp(client, server, Some(1), b""),
        tcp(client, server, None, b"abc"),
        tcp(server, client, None, b"answer"),
        tcp(client, server, Some(99), b""),
        tcp(server, client, None, b""),
    ]))
    .unwrap()
    .flows();
    let figures: Vec<_> = flows
        .iter()
        .map(|flow| {
            (
                flow.sent,
                flow.sent_bytes,
                flow.returned,
                flow.returned_bytes,
            )
        })
        .collect();
    assert_eq!(figures, [(3, 3, 1, 6), (1, 0, 1, 0)]);
    assert!(flows.iter().all(|flow| flow.source == end(POD, 40_000)));
}

#[test]
fn a_file_that_is_still_written_is_read_up_to_its_last_whole_packet() {
    let packets = [
        tcp((POD, 1), (SINK, 443), Some(1), b""),
        tcp((POD, 2), (SINK, 443), Some(1), b"more bytes"),
    ];
    let whole = file(&packets);
    let one = file(&packets[..1]).len();
    for cut in 0..=whole.len() {
        let expected = usize::from(cut >= one) + usize::from(cut == whole.len());
        assert_eq!(
            Capture::parse(&whole[..cut]).unwrap().packets.len(),
            expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn what_cannot_be_decoded_is_counted() {
    let capture = Capture::parse(&file(&[vec![0x45, 0, 0], ping(POD, SINK), vec![]])).unwrap();
    assert_eq!((capture.packets.len(), capture.undecodable), (1, 2));
}

#[test]
fn other_files_are_refused() {
    let error = Capture::parse(b"this is no capture at all").unwrap_err();
    assert!(error.contains("not a pcapng file"), "{error}");
}

#[test]
fn a_damaged_length_does_not_hide_what_follows() {
    let mut packets = vec![vec![0x45; 60_000]; 4];
    packets.insert(0, tcp((POD, 1), (SINK, 443), Some(1), b""));
    let mut bytes = file(&packets);
    let damaged = file(&packets[..1]).len();
    bytes[damaged + 4..damaged + 8].copy_from_slice(&0x7fff_fffcu32.to_be_bytes());
    let error = Capture::parse(&bytes).unwrap_err();
    assert!(
        error.contains(&format!("block at byte {damaged}")),
        "{error}"
    );
}

/// A fragment has no ports: it may be part of any flow between the same addresses.
#[test]
fn a_fragment_counts_as_any_flow_between_its_ends() {
    let mut fragment = udp((POD, 40_000), (SINK, 53), &[0; 64]);
    // Offset 8 bytes (RFC 791 section 3.1), header checksum left as it was.
    fragment[6] = 0;
    fragment[7] = 1;
    let capture = Capture::parse(&file(&[fragment])).unwrap();
    assert_eq!(capture.packets_to(Protocol::Udp, end(SINK, 53)).count(), 1);
}

proptest! {
    #[test]
    fn never_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..400,
        byte in any::<u8>(),
    ) {
        let _ = Capture::parse(&noise);
        let mut bytes = file(&[tcp((POD, 1), (SINK, 443), Some(1), b"x"), noise]);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(capture) = Capture::parse(&bytes) {
            let _ = capture.flows();
        }
    }
}
