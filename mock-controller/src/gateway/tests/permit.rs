//! Proxied flows that the policy permits, from the handshake to the last FIN.

use std::time::Duration;

use etherparse::{Ipv4HeaderSlice, TcpSlice};
use proptest::prelude::*;
use rstest::rstest;

use super::{hello, peer::Peer, world::*};
use crate::{
    policy::{Action, Protocol},
    record::{LogRecord, SessionStage},
};

const NAME: &str = "ehr.example.org";
const MINUTE: Duration = Duration::from_secs(60);

/// A client that says hello and then its request; a server that answers both.
fn exchange(request: usize, response: usize) -> (Peer, Peer, Vec<u8>, Vec<u8>) {
    exchange_with(0xffff_ff00, 0xffff_fff0, request, response)
}

fn exchange_with(
    client_isn: u32,
    server_isn: u32,
    request: usize,
    response: usize,
) -> (Peer, Peer, Vec<u8>, Vec<u8>) {
    let request = [hello::rustls(Some(NAME)), pattern(request)].concat();
    let response = pattern(response);
    let mut client = Peer::new(CLIENT, client_isn, request.clone());
    client.closes_after = Some(response.len());
    let mut server = Peer::new(SERVER, server_isn, response.clone());
    server.speaks_after = request.len();
    (client, server, request, response)
}

fn tcp(packet: &[u8]) -> TcpSlice<'_> {
    TcpSlice::from_slice(&packet[20..]).unwrap()
}

#[rstest]
#[case::small(0, 1)]
#[case::one_segment_each_way(700, 1400)]
#[case::beyond_every_buffer(200_000, 300_000)]
fn data_passes_both_ways(#[case] request: usize, #[case] response: usize) {
    let (client, server, request, response) = exchange(request, response);
    let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
    world.run(MINUTE);
    let server = world.server.as_ref().unwrap();
    assert_eq!(server.received(), request);
    assert_eq!(world.client.received(), response);
    assert!(world.client.has_finished() && server.has_finished());

    let [LogRecord::L7(start), LogRecord::L7(end)] = world.records.as_slice() else {
        panic!("expected a start and an end, got {:?}", world.records);
    };
    assert_eq!(
        (start.action, start.decided_by),
        (Action::Permit, Some(rule_uuid(0)))
    );
    assert_eq!(start.sni_hostname.as_deref(), Some(NAME));
    assert_eq!(
        (start.session_stage, end.session_stage),
        (SessionStage::Start, SessionStage::End)
    );
    assert_eq!(start.session_id, end.session_id);
    let ending = end.ended.unwrap();
    assert_eq!(
        (ending.request_bytes, ending.response_bytes),
        (request.len() as u64, response.len() as u64)
    );
}

#[test]
fn the_destination_sees_the_client_s_sequence_numbers_from_the_gateway_s_address() {
    let (client, server, ..) = exchange(10, 10);
    let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
    world.run(MINUTE);
    let syn = &world.sent(Hop::ToServer)[0];
    assert_eq!(
        Ipv4HeaderSlice::from_slice(syn).unwrap().source_addr(),
        OUTSIDE
    );
    assert_eq!(tcp(syn).sequence_number(), 0xffff_ff00);
    assert!(tcp(syn).syn() && !tcp(syn).ack() && tcp(syn).payload().is_empty());
    for syn in [syn, &world.sent(Hop::ToClient)[0]] {
        assert_eq!(
            tcp(syn).options(),
            [2, 4, 5, 180],
            "a maximum segment size, and nothing else"
        );
    }
    for packet in world.sent(Hop::ToServer) {
        assert_eq!(
            Ipv4HeaderSlice::from_slice(packet).unwrap().source_addr(),
            OUTSIDE
        );
    }
    for packet in world.sent(Hop::ToClient) {
        assert_eq!(
            Ipv4HeaderSlice::from_slice(packet).unwrap().source_addr(),
            *SERVER.ip()
        );
    }
}

#[test]
fn nothing_leaves_before_the_hello_is_complete() {
    let hello = hello::rustls(Some(NAME));
    let cut = hello.len() - 1;
    let client = Peer::new(CLIENT, 1, hello[..cut].to_vec());
    let mut world = World::new(
        gateway(permit_names(&[NAME])),
        client,
        Some(Peer::new(SERVER, 2, vec![])),
    );
    world.run(Duration::from_secs(5));
    assert!(world.client.is_established());
    assert_eq!(world.sent(Hop::ToServer).len(), 0);
    let now = world.now;
    world.client.say(now, &hello[cut..]);
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), hello);
}

#[test]
fn a_hello_of_many_segments_passes() {
    let hello = hello::Hello::with_extension(51, &pattern(14_000))
        .extension(0, b"\x00\x12\x00\x00\x0fehr.example.org");
    let bytes = hello::records(&hello.message(), 9_000);
    let client = Peer::new(CLIENT, 1, bytes.clone());
    let mut world = World::new(
        gateway(permit_names(&[NAME])),
        client,
        Some(Peer::new(SERVER, 2, vec![])),
    );
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), bytes);
}

#[rstest]
#[case::syn_ack_to_client(Hop::ToClient, 0)]
#[case::ack_of_hello(Hop::ToClient, 1)]
#[case::hello(Hop::FromClient, 2)]
#[case::syn_to_server(Hop::ToServer, 0)]
#[case::syn_ack_from_server(Hop::FromServer, 0)]
#[case::replayed_segment(Hop::ToServer, 1)]
#[case::ack_of_replay(Hop::FromServer, 1)]
#[case::first_response(Hop::ToClient, 2)]
fn a_lost_packet_is_made_up_for(#[case] hop: Hop, #[case] index: usize) {
    let (client, server, request, response) = exchange(5000, 5000);
    let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
    world.lost.insert((hop, index));
    world.run(MINUTE);
    assert!(
        world.sent(hop).len() > index,
        "the packet to lose was never sent"
    );
    assert_eq!(world.server.as_ref().unwrap().received(), request);
    assert_eq!(world.client.received(), response);
    assert!(world.client.has_finished());
}

#[test]
fn a_client_can_not_say_something_else_while_its_words_are_replayed() {
    let hello = hello::rustls(Some(NAME));
    let client = Peer::new(CLIENT, 1000, hello.clone());
    let mut world = World::new(
        gateway(permit_names(&[NAME])),
        client,
        Some(Peer::new(SERVER, 2, vec![])),
    );
    // The replay is lost once, and meanwhile the client sends another hello over the same sequence numbers.
    world.lost.insert((Hop::ToServer, 1));
    world.run(Duration::from_millis(1));
    assert_eq!(world.server.as_ref().unwrap().received(), b"");
    let other = hello::rustls(Some("evil.example.com"));
    let mut forged = Vec::new();
    let ack = tcp(&world.sent(Hop::FromClient)[1]).acknowledgment_number();
    etherparse::PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
        .tcp(CLIENT.port(), SERVER.port(), 1001, 60_000)
        .ack(ack)
        .write(&mut forged, &other[..hello.len()])
        .unwrap();
    let now = world.now();
    world.gateway.handle_inside(now, &forged);
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), hello);
}

#[test]
fn a_syn_on_a_spliced_flow_is_inspected_anew() {
    let (client, server, ..) = exchange(0, 10);
    let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
    world.run(Duration::from_secs(1));
    let before = world.sent(Hop::ToServer).len();
    world.client = Peer::new(CLIENT, 77, hello::rustls(Some("evil.example.com")));
    let now = world.now;
    world.client.connect(now, SERVER);
    world.run(Duration::from_secs(1));
    assert!(world.client.saw_end);
    for packet in &world.sent(Hop::ToServer)[before..] {
        assert!(tcp(packet).rst(), "only the end of the old flow may leave");
    }
    assert!(
        matches!(world.records.last(), Some(LogRecord::L7(record)) if record.action == Action::Deny)
    );
}

#[test]
fn a_repeated_syn_never_reaches_the_destination() {
    let (client, server, ..) = exchange(0, 10);
    let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
    world.run(Duration::from_secs(1));
    assert!(world.client.has_finished());
    let before = world.sent(Hop::ToServer).len();
    let syn = world.sent(Hop::FromClient)[0].clone();
    let now = world.now();
    world.gateway.handle_inside(now, &syn);
    world.run(Duration::from_secs(1));
    assert_eq!(world.sent(Hop::ToServer).len(), before);
}

#[test]
fn a_refusing_server_resets_the_client() {
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(NAME)));
    let mut world = World::new(gateway(permit_names(&[NAME])), client, None);
    world.run(Duration::from_millis(1));
    let syn = world.sent(Hop::ToServer)[0].clone();
    let mut reset = Vec::new();
    etherparse::PacketBuilder::ipv4(SERVER.ip().octets(), OUTSIDE.octets(), 64)
        .tcp(SERVER.port(), tcp(&syn).source_port(), 0, 0)
        .ack(2)
        .rst()
        .write(&mut reset, &[])
        .unwrap();
    let now = world.now();
    world.gateway.handle_outside(now, &reset);
    world.run(Duration::from_millis(1));
    assert!(world.client.saw_reset);
}

#[test]
fn an_unreachable_server_resets_the_client() {
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(NAME)));
    let mut world = World::new(gateway(permit_names(&[NAME])), client, None);
    world.run(Duration::from_millis(1));
    let mut error = Vec::new();
    etherparse::PacketBuilder::ipv4([198, 51, 100, 1], OUTSIDE.octets(), 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::Host,
        ))
        .write(&mut error, &world.sent(Hop::ToServer)[0])
        .unwrap();
    let now = world.now();
    world.gateway.handle_outside(now, &error);
    world.run(Duration::from_millis(1));
    assert!(world.client.saw_reset);
}

#[test]
fn a_silent_server_resets_the_client_in_the_end() {
    let client = Peer::new(CLIENT, 1, hello::rustls(Some(NAME)));
    let mut world = World::new(gateway(permit_names(&[NAME])), client, None);
    world.run(Duration::from_secs(300));
    assert!(world.client.saw_reset);
    assert_eq!(
        world.sent(Hop::ToServer).len(),
        7,
        "a SYN and its repetitions"
    );
    assert!(
        world.gateway.poll_timeout().is_none(),
        "everything is cleaned up"
    );
    assert_eq!(world.gateway.counters().flows, 0);
}

#[test]
fn plain_http_is_judged_by_its_host() {
    let request =
        b"POST /v1 HTTP/1.1\r\nHost: ehr.example.org\r\nContent-Length: 2\r\n\r\nhi".to_vec();
    let client = Peer::new(CLIENT, 1, request.clone());
    let mut world = World::new(
        gateway(permit_names(&[NAME])),
        client,
        Some(Peer::new(SERVER, 2, vec![])),
    );
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), request);
}

#[test]
fn what_is_neither_tls_nor_http_goes_to_the_next_rule() {
    let mut rules = permit_names(&[NAME]);
    rules.insert(1, rule(Action::Permit, Some(Protocol::Tcp), Some(443), &[]));
    let client = Peer::new(CLIENT, 1, b"SSH-2.0-x\r\n".to_vec());
    let mut world = World::new(gateway(rules), client, Some(Peer::new(SERVER, 2, vec![])));
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.as_ref().unwrap().received(), b"SSH-2.0-x\r\n");
    assert_eq!(world.records[0].decided_by(), Some(rule_uuid(1)));
}

#[rstest]
fn an_established_flow_outlives_its_permit_unless_told_otherwise(
    #[values(false, true)] live_session_reeval: bool,
) {
    let (mut client, mut server, request, _) = exchange(0, 0);
    client.closes_after = Some(usize::MAX);
    server.closes_after = Some(usize::MAX);
    let mut config = crate::gateway::Config::new(OUTSIDE);
    config.live_session_reeval = live_session_reeval;
    let gateway = gateway_with(permit_names(&[NAME]), config, Default::default());
    let mut world = World::new(gateway, client, Some(server));
    world.run(Duration::from_secs(1));
    let now = world.now();
    world
        .gateway
        .set_policy(now, snapshot(vec![rule(Action::Deny, None, None, &[])]));
    world.client.say(now.monotonic, b"more");
    world.run(Duration::from_secs(1));
    let server = world.server.as_ref().unwrap();
    let more = if live_session_reeval {
        &b""[..]
    } else {
        b"more"
    };
    assert_eq!(server.received(), [&request, more].concat());
    assert_eq!(
        (world.client.saw_reset, server.saw_reset),
        (live_session_reeval, live_session_reeval)
    );
    let denied = world
        .records
        .iter()
        .any(|record| record.action() == Action::Deny);
    assert_eq!(denied, live_session_reeval);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, whatever the sequence numbers, the streams arrive whole.
    #[test]
    fn streams_survive_loss(
        client_isn: u32,
        server_isn: u32,
        request in 0usize..20_000,
        response in 1usize..20_000,
        server_speaks_first: bool,
        lost in proptest::collection::btree_set(
            (prop_oneof![Just(Hop::FromClient), Just(Hop::ToServer), Just(Hop::FromServer), Just(Hop::ToClient)], 0usize..20),
            0..12,
        ),
    ) {
        let (client, mut server, request, response) = exchange_with(client_isn, server_isn, request, response);
        if server_speaks_first {
            server.speaks_after = 0;
        }
        let mut world = World::new(gateway(permit_names(&[NAME])), client, Some(server));
        world.lost = lost;
        world.run(MINUTE);
        prop_assert_eq!(world.server.as_ref().unwrap().received(), request);
        prop_assert_eq!(world.client.received(), response);
        prop_assert_eq!(held(&world.gateway).0, 0, "what was passed on is not held");
        let acknowledged = world.sent(Hop::ToClient).iter().filter(|packet| tcp(packet).ack());
        let acknowledged: Vec<_> = acknowledged
            .map(|packet| tcp(packet).acknowledgment_number().wrapping_sub(client_isn))
            .collect();
        prop_assert!(acknowledged.is_sorted(), "what the client was told is never taken back");
    }
}
