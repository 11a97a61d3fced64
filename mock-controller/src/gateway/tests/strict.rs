//! What a forged or stray packet could open: each case was found as a defect that no other test noticed.

use std::time::Duration;

use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};
use rstest::rstest;

use super::{hello, world::*};
use crate::{
    gateway::{DropReason, Gateway, Side},
    policy::{Action, Rule},
};

const START: Duration = Duration::from_secs(1);
const LISTED: &str = "ehr.example.org";

fn permit_all() -> Vec<Rule> {
    vec![rule(Action::Permit, None, None, &[])]
}

fn segment(port: u16, change: impl FnOnce(&mut TcpHeader), payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(port, SERVER.port(), 100, 60_000);
    change(&mut header);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CLIENT.ip().octets(), SERVER.ip().octets(), 64)
        .tcp_header(header)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn syn(port: u16) -> Vec<u8> {
    segment(port, |tcp| tcp.syn = true, b"")
}

/// Hands in a packet of the client; what the gateway sends to a side because of it.
fn sends(gateway: &mut Gateway, side: Side, packet: &[u8]) -> Vec<Vec<u8>> {
    gateway.handle_inside(at(START), packet);
    while gateway.poll_record().is_some() {}
    std::iter::from_fn(|| gateway.poll_transmit())
        .filter(|transmit| transmit.side == side)
        .map(|transmit| transmit.packet)
        .collect()
}

/// A client that has completed its handshake, and the number that it has to acknowledge.
fn connected() -> (Gateway, u32) {
    let mut gateway = gateway(permit_names(&[LISTED]));
    let answers = sends(&mut gateway, Side::Inside, &syn(9));
    let sliced = SlicedPacket::from_ip(&answers[0]).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("a SYN is answered with TCP");
    };
    let acknowledged = tcp.sequence_number().wrapping_add(1);
    (gateway, acknowledged)
}

fn hello(sequence: u32, acknowledged: u32) -> Vec<u8> {
    let change = |tcp: &mut TcpHeader| {
        (tcp.sequence_number, tcp.ack) = (sequence, true);
        tcp.acknowledgment_number = acknowledged;
    };
    segment(9, change, &hello::rustls(Some(LISTED)))
}

#[rstest]
#[case::outside_the_window(1_000_000, 1)]
#[case::inside_the_window(101, 0)]
fn a_reset_counts_inside_the_window_alone(#[case] sequence: u32, #[case] opened: usize) {
    let (mut gateway, acknowledged) = connected();
    let reset = segment(
        9,
        |tcp| (tcp.rst, tcp.sequence_number) = (true, sequence),
        b"",
    );
    sends(&mut gateway, Side::Outside, &reset);
    let sent = sends(&mut gateway, Side::Outside, &hello(101, acknowledged));
    assert_eq!(sent.len(), opened);
}

#[rstest]
#[case::what_the_gateway_sent(0, 1)]
#[case::what_it_never_sent(1, 0)]
fn a_hello_counts_if_it_acknowledges_the_gateway(#[case] off_by: u32, #[case] opened: usize) {
    let (mut gateway, acknowledged) = connected();
    let sent = sends(
        &mut gateway,
        Side::Outside,
        &hello(101, acknowledged + off_by),
    );
    assert_eq!(sent.len(), opened);
}

#[test]
fn a_damaged_syn_is_not_answered_and_does_not_stop_the_next() {
    let mut gateway = gateway(permit_names(&[LISTED]));
    let mut damaged = syn(9);
    *damaged.last_mut().unwrap() ^= 1;
    assert!(sends(&mut gateway, Side::Inside, &damaged).is_empty());
    assert_eq!(gateway.counters().dropped(DropReason::Malformed), 1);
    assert_eq!(sends(&mut gateway, Side::Inside, &syn(9)).len(), 1);
}

#[rstest]
#[case::syn_and_ack(true, 1)]
#[case::syn_alone(false, 0)]
fn the_destination_opens_no_connection_of_its_own(#[case] ack: bool, #[case] passed: usize) {
    let mut gateway = gateway(permit_all());
    sends(&mut gateway, Side::Outside, &syn(2_000));
    let mut header = TcpHeader::new(SERVER.port(), 2_000, 5, 1_000);
    (header.syn, header.ack) = (true, ack);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(SERVER.ip().octets(), OUTSIDE.octets(), 64)
        .tcp_header(header)
        .write(&mut packet, b"")
        .unwrap();
    gateway.handle_outside(at(START), &packet);
    assert_eq!(
        std::iter::from_fn(|| gateway.poll_transmit()).count(),
        passed
    );
}

#[rstest]
#[case::of_the_flow(SERVER.ip().octets(), 1)]
#[case::of_another_destination([198, 51, 100, 66], 0)]
fn an_icmp_error_has_to_quote_the_flow(#[case] destination: [u8; 4], #[case] passed: usize) {
    let mut gateway = gateway(permit_all());
    sends(&mut gateway, Side::Outside, &syn(2_000));
    let mut quoted = Vec::new();
    PacketBuilder::ipv4(OUTSIDE.octets(), destination, 64)
        .tcp(2_000, SERVER.port(), 100, 60_000)
        .write(&mut quoted, b"")
        .unwrap();
    let kind = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    let mut packet = Vec::new();
    PacketBuilder::ipv4(SERVER.ip().octets(), OUTSIDE.octets(), 64)
        .icmpv4(kind)
        .write(&mut packet, &quoted)
        .unwrap();
    gateway.handle_outside(at(START), &packet);
    assert_eq!(
        std::iter::from_fn(|| gateway.poll_transmit()).count(),
        passed
    );
}

/// A source has half of the ports at most; those of its connections that are over serve its next ones.
#[test]
fn connections_that_are_over_give_their_ports_to_new_ones() {
    let mut gateway = gateway(permit_all());
    for port in 1_024..34_000 {
        assert_eq!(
            sends(&mut gateway, Side::Outside, &syn(port)).len(),
            1,
            "{port}"
        );
        let reset = segment(
            port,
            |tcp| (tcp.rst, tcp.sequence_number) = (true, 101),
            b"",
        );
        sends(&mut gateway, Side::Outside, &reset);
    }
    assert_eq!(gateway.counters().dropped(DropReason::PortLimit), 0);
}
