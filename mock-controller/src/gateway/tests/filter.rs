//! The packet filter: UDP, ICMP, TCP without inspection, and packets that no flow can have.

use std::{net::Ipv4Addr, time::Duration};

use etherparse::{IcmpEchoHeader, Icmpv4Type, PacketBuilder};
use proptest::prelude::*;
use rstest::rstest;

use super::{hello, peer::Peer, world::*};
use crate::{
    fault::Faults,
    gateway::{Config, DropReason, Gateway, Limits, Side, Transmit},
    policy::{Action, FiveTuple, Protocol, Rule},
    record::{LogRecord, SessionEnd, SessionEvent},
};

const START: Duration = Duration::from_secs(1);

fn permit_all() -> Vec<Rule> {
    vec![rule(Action::Permit, None, None, &[])]
}

fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64)
        .udp(source.1, destination.1)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn icmp(source: Ipv4Addr, destination: Ipv4Addr, kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .icmpv4(kind)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn echo(id: u16) -> IcmpEchoHeader {
    IcmpEchoHeader { id, seq: 1 }
}

fn transmit(gateway: &mut Gateway) -> Option<Transmit> {
    let transmit = gateway.poll_transmit()?;
    check(&transmit.packet);
    Some(transmit)
}

fn to_server() -> Vec<u8> {
    udp((*CLIENT.ip(), 5353), (*SERVER.ip(), 53), b"query")
}

#[test]
fn udp_is_translated_both_ways_and_ends_when_idle() {
    let mut gateway = gateway(permit_all());
    gateway.handle_inside(at(START), &to_server());
    let sent = transmit(&mut gateway).unwrap();
    let mut expected = udp((OUTSIDE, 5353), (*SERVER.ip(), 53), b"query");
    lower_ttl(&mut expected);
    assert_eq!((sent.side, sent.packet), (Side::Outside, expected));

    let answer = udp((*SERVER.ip(), 53), (OUTSIDE, 5353), b"answer");
    gateway.handle_outside(at(START), &answer);
    let received = transmit(&mut gateway).unwrap();
    let mut expected = udp((*SERVER.ip(), 53), (*CLIENT.ip(), 5353), b"answer");
    lower_ttl(&mut expected);
    assert_eq!((received.side, received.packet), (Side::Inside, expected));

    let idle = gateway.poll_timeout().unwrap();
    gateway.handle_timeout(at(idle));
    let records: Vec<_> = std::iter::from_fn(|| gateway.poll_record()).collect();
    let [LogRecord::L4(start), LogRecord::L4(end)] = records.as_slice() else {
        panic!("expected a start and an end, got {records:?}");
    };
    assert_eq!(start.session.as_ref().unwrap().event, SessionEvent::Start);
    let SessionEvent::End {
        reason, packets, ..
    } = end.session.as_ref().unwrap().event
    else {
        panic!("expected an end, got {end:?}");
    };
    assert_eq!((reason, packets), (SessionEnd::Timeout, 2));
    assert_eq!(
        (gateway.poll_timeout(), gateway.counters().flows),
        (None, 0)
    );

    // Its port is free again.
    gateway.handle_inside(
        at(idle),
        &udp(
            (Ipv4Addr::new(10, 244, 0, 12), 5353),
            (*SERVER.ip(), 53),
            b"q",
        ),
    );
    let sent = transmit(&mut gateway).unwrap();
    assert_eq!(sent.packet[20..22], 5353u16.to_be_bytes());
}

/// What a router does to a header, computed anew.
fn lower_ttl(packet: &mut [u8]) {
    let mut header = etherparse::Ipv4HeaderSlice::from_slice(packet)
        .unwrap()
        .to_header();
    header.time_to_live -= 1;
    header.header_checksum = header.calc_header_checksum();
    packet[..20].copy_from_slice(&header.to_bytes());
}

#[test]
fn two_pods_with_one_port_get_two() {
    let mut gateway = gateway(permit_all());
    for last in [11, 12] {
        gateway.handle_inside(
            at(START),
            &udp(
                (Ipv4Addr::new(10, 244, 0, last), 5353),
                (*SERVER.ip(), 53),
                b"q",
            ),
        );
    }
    let sources: Vec<_> = [11, 12]
        .map(|last| FiveTuple {
            protocol: Protocol::Udp,
            source: Ipv4Addr::new(10, 244, 0, last).into(),
            source_port: 5353,
            destination: (*SERVER.ip()).into(),
            destination_port: 53,
        })
        .iter()
        .map(|flow| gateway.outside_source(flow).unwrap())
        .collect();
    assert_ne!(sources[0], sources[1]);
    let packets: Vec<_> = std::iter::from_fn(|| transmit(&mut gateway)).collect();
    for (source, sent) in sources.iter().zip(packets) {
        assert_eq!(sent.packet[20..22], source.port().to_be_bytes());
        gateway.handle_outside(
            at(START),
            &udp((*SERVER.ip(), 53), (OUTSIDE, source.port()), b"a"),
        );
    }
    let answered: Vec<_> = std::iter::from_fn(|| transmit(&mut gateway))
        .map(|sent| sent.packet[19])
        .collect();
    assert_eq!(answered, [11, 12]);
}

#[rstest]
#[case::other_host(udp((Ipv4Addr::new(198, 51, 100, 66), 53), (OUTSIDE, 5353), b"x"))]
#[case::other_port(udp((*SERVER.ip(), 54), (OUTSIDE, 5353), b"x"))]
#[case::no_flow(udp((*SERVER.ip(), 53), (OUTSIDE, 9999), b"x"))]
#[case::not_ours(udp((*SERVER.ip(), 53), (*CLIENT.ip(), 5353), b"x"))]
#[case::echo_request(icmp(*SERVER.ip(), OUTSIDE, Icmpv4Type::EchoRequest(echo(5353)), b"x"))]
fn nobody_outside_reaches_in_unasked(#[case] packet: Vec<u8>) {
    let mut gateway = gateway(permit_all());
    gateway.handle_inside(at(START), &to_server());
    assert!(transmit(&mut gateway).is_some());
    gateway.handle_outside(at(START), &packet);
    assert_eq!(transmit(&mut gateway), None);
    assert_eq!(gateway.counters().dropped(DropReason::Unsolicited), 1);
}

#[test]
fn echo_is_translated_by_identifier() {
    let mut gateway = gateway(permit_all());
    for last in [11, 12] {
        let pod = Ipv4Addr::new(10, 244, 0, last);
        gateway.handle_inside(
            at(START),
            &icmp(pod, *SERVER.ip(), Icmpv4Type::EchoRequest(echo(7)), b"ping"),
        );
    }
    let requests: Vec<_> = std::iter::from_fn(|| transmit(&mut gateway)).collect();
    let identifiers: Vec<_> = requests
        .iter()
        .map(|sent| u16::from_be_bytes([sent.packet[24], sent.packet[25]]))
        .collect();
    assert_ne!(identifiers[0], identifiers[1]);
    for (identifier, last) in identifiers.into_iter().zip([11, 12]) {
        gateway.handle_outside(
            at(START),
            &icmp(
                *SERVER.ip(),
                OUTSIDE,
                Icmpv4Type::EchoReply(echo(identifier)),
                b"ping",
            ),
        );
        let mut expected = icmp(
            *SERVER.ip(),
            Ipv4Addr::new(10, 244, 0, last),
            Icmpv4Type::EchoReply(echo(7)),
            b"ping",
        );
        lower_ttl(&mut expected);
        assert_eq!(transmit(&mut gateway).unwrap().packet, expected);
    }
}

#[test]
fn an_icmp_error_finds_its_flow() {
    let mut gateway = gateway(permit_all());
    gateway.handle_inside(at(START), &to_server());
    let sent = transmit(&mut gateway).unwrap().packet;
    let unreachable =
        Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    gateway.handle_outside(
        at(START),
        &icmp(*SERVER.ip(), OUTSIDE, unreachable.clone(), &sent),
    );
    let received = transmit(&mut gateway).unwrap();
    assert_eq!(received.side, Side::Inside);
    let quoted = &received.packet[28..];
    assert_eq!(quoted[12..16], CLIENT.ip().octets());
    assert_eq!(quoted[20..22], 5353u16.to_be_bytes());
    let header = etherparse::Ipv4HeaderSlice::from_slice(quoted).unwrap();
    assert_eq!(
        header.header_checksum(),
        header.to_header().calc_header_checksum()
    );

    let other = udp((OUTSIDE, 6000), (*SERVER.ip(), 53), b"query");
    gateway.handle_outside(at(START), &icmp(*SERVER.ip(), OUTSIDE, unreachable, &other));
    assert_eq!(transmit(&mut gateway), None);
}

#[test]
fn tcp_without_inspection_passes_untouched_options_and_all() {
    let mut gateway = gateway(permit_all());
    let mut client = Peer::new(CLIENT, 1, vec![]);
    client.connect(START, SERVER);
    let mut syn = client.poll_transmit().unwrap();
    gateway.handle_inside(at(START), &syn);
    let sent = transmit(&mut gateway).unwrap().packet;
    lower_ttl(&mut syn);
    assert_eq!(
        sent[24..36],
        syn[24..36],
        "sequence number, flags and window"
    );
    assert_eq!(sent[40..], syn[40..], "options");
    let records: Vec<_> = std::iter::from_fn(|| gateway.poll_record()).collect();
    assert!(
        matches!(records.as_slice(), [LogRecord::L4(record)] if record.action == Action::Permit)
    );
}

#[rstest]
#[case::ttl(edit(to_server(), |packet| packet[8] = 1), DropReason::Expired)]
#[case::checksum(edit(to_server(), |packet| packet[10] ^= 1), DropReason::Malformed)]
#[case::cut_short(to_server()[..30].to_vec(), DropReason::Malformed)]
#[case::more_fragments(edit(to_server(), |packet| packet[6] = 0x20), DropReason::Fragment)]
#[case::later_fragment(edit(to_server(), |packet| packet[7] = 0x08), DropReason::Fragment)]
#[case::version(vec![0x55; 40], DropReason::Malformed)]
#[case::udp_length(edit(to_server(), |packet| packet[24] = 0xff), DropReason::Malformed)]
#[case::other_protocol(edit(to_server(), |packet| packet[9] = 132), DropReason::Untranslatable)]
#[case::redirect(icmp(*CLIENT.ip(), *SERVER.ip(), Icmpv4Type::Unknown { type_u8: 5, code_u8: 0, bytes5to8: [0; 4] }, b""), DropReason::Untranslatable)]
#[case::to_the_gateway(udp((*CLIENT.ip(), 1), (OUTSIDE, 53), b""), DropReason::Untranslatable)]
#[case::stray_segment(stray_segment(), DropReason::OutOfState)]
fn what_can_not_be_forwarded_is_dropped_and_counted(
    #[case] packet: Vec<u8>,
    #[case] reason: DropReason,
) {
    let mut gateway = gateway(permit_all());
    gateway.handle_inside(at(START), &packet);
    assert_eq!(transmit(&mut gateway), None);
    assert_eq!(
        gateway.counters().dropped(reason),
        1,
        "{:?}",
        gateway.counters()
    );
}

/// Changes a header and makes its checksum right again, unless it is the checksum that changed.
fn edit(mut packet: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let checksum = packet[10..12].to_vec();
    change(&mut packet);
    if packet[10..12] == checksum {
        let header = etherparse::Ipv4HeaderSlice::from_slice(&packet)
            .unwrap()
            .to_header();
        packet[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
    packet
}

fn stray_segment() -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
        .tcp(1, 2, 3, 4)
        .ack(5)
        .write(&mut packet, b"data")
        .unwrap();
    packet
}

#[test]
fn a_hello_that_finds_no_buffer_is_denied() {
    let config = Config {
        limits: Limits {
            buffered: 100,
            ..Limits::default()
        },
        ..Config::new(OUTSIDE)
    };
    let gateway = gateway_with(
        permit_names(&["ehr.example.org"]),
        config,
        Faults::default(),
    );
    let client = Peer::new(CLIENT, 1, hello::rustls(Some("ehr.example.org")));
    let mut world = World::new(gateway, client, Some(Peer::new(SERVER, 2, vec![])));
    world.run(Duration::from_secs(11));
    assert!(world.gateway.counters().dropped(DropReason::BufferLimit) > 0);
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
    assert_eq!(world.records.len(), 1, "when the inspection ends");
}

#[test]
fn a_verdict_that_can_not_be_logged_is_not_given() {
    let config = Config {
        limits: Limits {
            records: 64,
            ..Limits::default()
        },
        ..Config::new(OUTSIDE)
    };
    let mut gateway = gateway_with(permit_all(), config, Faults::default());
    for port in 1..100 {
        gateway.handle_inside(
            at(START),
            &udp((*CLIENT.ip(), port), (*SERVER.ip(), 53), b"q"),
        );
    }
    assert!(gateway.counters().dropped(DropReason::RecordLimit) > 0);
    let sent = std::iter::from_fn(|| gateway.poll_transmit()).count();
    let logged = std::iter::from_fn(|| gateway.poll_record()).count();
    assert_eq!(sent, logged);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let gateway = Gateway::new(
            Config::new(OUTSIDE),
            Faults::default(),
            seed,
            snapshot(permit_names(&["ehr.example.org"])),
        );
        let client = Peer::new(CLIENT, 1, hello::Hello::named("ehr.example.org").bytes());
        let mut world = World::new(gateway, client, Some(Peer::new(SERVER, 2, vec![])));
        world.run(Duration::from_secs(1));
        (world.sent, world.records)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Packets that are almost right: real ones with some bytes changed and the header checksum made right again.
fn almost_right() -> impl Strategy<Value = Vec<u8>> {
    let valid = prop_oneof![
        Just(to_server()),
        Just(stray_segment()),
        Just(udp((*SERVER.ip(), 53), (OUTSIDE, 5353), b"x")),
        Just(icmp(
            *CLIENT.ip(),
            *SERVER.ip(),
            Icmpv4Type::EchoRequest(echo(7)),
            b"ping"
        )),
        (
            any::<u32>(),
            any::<u32>(),
            any::<u8>(),
            any::<u16>(),
            any::<bool>()
        )
            .prop_map(|(sequence, acknowledgment, flags, window, inward)| {
                let (source, destination) = match inward {
                    true => ((SERVER.ip(), 443), (&OUTSIDE, CLIENT.port())),
                    false => ((CLIENT.ip(), CLIENT.port()), (SERVER.ip(), 443)),
                };
                let mut header =
                    etherparse::TcpHeader::new(source.1, destination.1, sequence % 2000, window);
                header.acknowledgment_number = acknowledgment;
                [header.syn, header.ack, header.fin, header.rst] =
                    [0, 1, 2, 3].map(|bit| flags & (1 << bit) != 0);
                let mut packet = Vec::new();
                PacketBuilder::ipv4(source.0.octets(), destination.0.octets(), 64)
                    .tcp_header(header)
                    .write(&mut packet, &pattern(usize::from(flags)))
                    .unwrap();
                packet
            }),
    ];
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
    (valid, changes).prop_map(|(mut packet, changes)| {
        for (at, value) in changes {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        if let Ok(header) = etherparse::Ipv4HeaderSlice::from_slice(&packet) {
            let checksum = header.to_header().calc_header_checksum();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    })
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic(
        packets in proptest::collection::vec(
            (prop_oneof![almost_right(), proptest::collection::vec(any::<u8>(), 0..120)], any::<bool>(), 0u64..20_000),
            0..40,
        ),
        live_session_reeval: bool,
    ) {
        let config = Config { live_session_reeval, ..Config::new(OUTSIDE) };
        let mut rules = permit_names(&["ehr.example.org"]);
        rules.insert(0, rule(Action::Permit, Some(Protocol::Udp), None, &[]));
        rules.insert(0, rule(Action::Permit, Some(Protocol::Icmp), None, &[]));
        let mut gateway = gateway_with(rules.clone(), config, Faults::default());
        let mut now = START;
        for (index, (packet, inside, wait)) in packets.iter().enumerate() {
            now += Duration::from_millis(*wait);
            gateway.handle_timeout(at(now));
            match inside {
                true => gateway.handle_inside(at(now), packet),
                false => gateway.handle_outside(at(now), packet),
            }
            if index == 20 {
                gateway.set_policy(at(now), snapshot(rules[..1].to_vec()));
            }
            while gateway.poll_record().is_some() {}
            while let Some(transmit) = gateway.poll_transmit() {
                etherparse::SlicedPacket::from_ip(&transmit.packet).expect("whole packets");
            }
        }
        for _ in 0..100 {
            let Some(next) = gateway.poll_timeout() else { break };
            gateway.handle_timeout(at(next));
            while gateway.poll_transmit().is_some() {}
        }
        prop_assert_eq!(gateway.counters().flows, 0, "every flow ends in the end");
        prop_assert_eq!(held(&gateway), (0, 0), "and gives back what it held");
    }
}
