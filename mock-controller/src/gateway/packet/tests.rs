#![allow(clippy::unwrap_used)]

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

/// A segment as a library builds it, with what it was built from.
fn segment() -> impl Strategy<Value = (Vec<u8>, FiveTuple, u32, Vec<u8>)> {
    let ends = (
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        any::<u16>(),
        any::<u16>(),
    );
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (ends, any::<u32>(), any::<bool>(), payload).prop_map(
        |((source, destination, source_port, destination_port), sequence, options, payload)| {
            let mut builder = PacketBuilder::ipv4(source, destination, 64)
                .tcp(source_port, destination_port, sequence, 1000)
                .ack(7)
                .psh();
            if options {
                builder = builder
                    .options(&[TcpOptionElement::MaximumSegmentSize(1400)])
                    .unwrap();
            }
            let mut packet = Vec::new();
            builder.write(&mut packet, &payload).unwrap();
            let flow = FiveTuple {
                protocol: Protocol::Tcp,
                source: source.into(),
                source_port,
                destination: destination.into(),
                destination_port,
            };
            (packet, flow, sequence, payload)
        },
    )
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(packet) = parse(&bytes) {
            prop_assert!(packet.bytes.len() <= bytes.len());
            packet.key();
            packet.transport_checksum_is_right();
        }
    }

    /// Nearly all random bytes stop at the header checksum; these do not.
    #[test]
    fn never_panics_behind_a_right_header(
        protocol in prop_oneof![Just(1u8), Just(6), Just(17), any::<u8>()],
        payload in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let length = payload.len() as u16;
        let mut header = etherparse::Ipv4Header::new(length, 64, IpNumber(protocol), [10, 0, 0, 1], [192, 0, 2, 1]).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let bytes = [header.to_bytes().as_slice(), &payload].concat();
        if let Ok(packet) = parse(&bytes) {
            packet.transport_checksum_is_right();
            if let Transport::Tcp(segment) = packet.transport {
                segment.maximum_segment_size();
                segment.end();
            }
        }
    }

    #[test]
    fn reads_what_a_library_builds((bytes, flow, sequence, payload) in segment(), padding in 0usize..20) {
        let padded = [bytes.as_slice(), &vec![0xaa; padding]].concat();
        let packet = parse(&padded).unwrap();
        prop_assert_eq!(packet.bytes, &bytes);
        prop_assert_eq!(packet.five_tuple(), flow);
        prop_assert!(packet.transport_checksum_is_right());
        let Transport::Tcp(segment) = packet.transport else {
            return Err(TestCaseError::fail("not TCP"));
        };
        prop_assert_eq!((segment.sequence, segment.acknowledgment, segment.ack), (sequence, 7, true));
        prop_assert_eq!(segment.payload, &payload);
    }

    /// Cut short or with a bit changed, a packet is refused, or its transport checksum says so.
    /// One bit is left alone: it makes version 4 a version 6, whose header has no checksum
    /// (RFC 8200 section 8.1), so that the rest may read as a packet of a protocol not known here.
    #[test]
    fn damage_is_noticed(
        (bytes, ..) in segment(),
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let at = at.index(bytes.len());
        prop_assert_eq!(parse(&bytes[..at]).map(drop).map_err(|unreadable| unreadable.reason), Err(DropReason::Malformed));
        prop_assume!((at, bit) != (0, 5));
        let mut changed = bytes;
        changed[at] ^= 1 << bit;
        match parse(&changed) {
            Err(_) => {}
            Ok(packet) => {
                prop_assert!(at >= IPV4_HEADER, "the header checksum covers byte {at}");
                prop_assert!(!packet.transport_checksum_is_right());
            }
        }
    }
}
