#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::gateway::tests::hello::{self, Hello};

fn named(name: &str) -> Parse {
    Parse::ClientHello(ClientHello {
        sni: Some(name.to_owned()),
    })
}

const NAMELESS: Parse = Parse::ClientHello(ClientHello { sni: None });

#[test]
fn reads_what_rustls_sends() {
    assert_eq!(
        parse(&hello::rustls(Some("ehr.example.org"))),
        named("ehr.example.org")
    );
    assert_eq!(parse(&hello::rustls(None)), NAMELESS);
}

#[test]
fn every_prefix_is_incomplete() {
    let bytes = hello::rustls(Some("ehr.example.org"));
    for length in 0..bytes.len() {
        assert_eq!(
            parse(&bytes[..length]),
            Parse::Incomplete,
            "first {length} bytes"
        );
    }
}

#[rstest]
fn reads_a_hello_spread_over_records(#[values(1, 2, 3, 5, 100, 16_384)] fragment: usize) {
    let message = Hello::named("ehr.example.org").message();
    assert_eq!(
        parse(&hello::records(&message, fragment)),
        named("ehr.example.org")
    );
}

fn host_names(names: &[(u8, &[u8])]) -> Hello {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(*name);
    }
    Hello::with_extension(0, &hello::vector16(&list))
}

#[rstest]
#[case::no_extensions(Hello::bare(), NAMELESS)]
#[case::grease(Hello::named("a.example").extension(0x0a0a, b"").extension(0xfafa, b"x"), named("a.example"))]
#[case::after_others(Hello::with_extension(43, b"\x02\x03\x04").extension(0, b"\x00\x04\x00\x00\x01a"), named("a"))]
#[case::post_quantum_key_share(Hello::with_extension(51, &[7; 1300]).extension(0, b"\x00\x04\x00\x00\x01a"), named("a"))]
#[case::case_is_kept(Hello::named("API.Example.COM."), named("API.Example.COM."))]
#[case::address_literal(Hello::named("192.0.2.7"), named("192.0.2.7"))]
#[case::other_name_type(host_names(&[(1, b"x")]), NAMELESS)]
#[case::other_name_type_first(host_names(&[(7, b"x"), (0, b"a.example")]), named("a.example"))]
#[case::two_host_names(host_names(&[(0, b"a.example"), (0, b"b.example")]), Parse::Malformed)]
#[case::empty_host_name(host_names(&[(0, b"")]), Parse::Malformed)]
#[case::long_host_name(host_names(&[(0, &[b'a'; 256])]), named(&format!("{}...", "a".repeat(255))))]
#[case::utf8_host_name(host_names(&[(0, "bücher.example".as_bytes())]), named(r"b\xc3\xbccher.example"))]
#[case::nul_in_host_name(host_names(&[(0, b"good.example\0.evil.example")]), named(r"good.example\x00.evil.example"))]
#[case::control_sequence(host_names(&[(0, b"a\x9b2J.example")]), named(r"a\x9b2J.example"))]
#[case::empty_list(host_names(&[]), Parse::Malformed)]
#[case::empty_extension(Hello::with_extension(0, b""), Parse::Malformed)]
#[case::trailing_byte_in_extension(
    Hello::with_extension(0, b"\x00\x04\x00\x00\x01ax"),
    Parse::Malformed
)]
#[case::two_extensions(Hello::named("a.example").extension(0, b"\x00\x04\x00\x00\x01b"), Parse::Malformed)]
#[case::trailing_byte_in_hello(Hello::named("a.example").trailing(b"x"), Parse::Malformed)]
fn reads_the_server_name(#[case] hello: Hello, #[case] expected: Parse) {
    let message = hello.message();
    for fragment in [7, 16_384] {
        assert_eq!(parse(&hello::records(&message, fragment)), expected);
    }
}

#[rstest]
#[case::not_a_handshake(b"\x17\x03\x03\x00\x01\x00", Parse::Malformed)]
#[case::empty_record(b"\x16\x03\x01\x00\x00", Parse::Malformed)]
#[case::long_record(b"\x16\x03\x01\x40\x01", Parse::Malformed)]
#[case::server_hello(b"\x16\x03\x01\x00\x05\x02", Parse::Malformed)]
#[case::long_message(b"\x16\x03\x01\x00\x05\x01\x00\x80\x01", Parse::Malformed)]
#[case::empty_message(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", Parse::Malformed)]
#[case::alert_in_between(
    b"\x16\x03\x01\x00\x01\x01\x15\x03\x01\x00\x02\x01\x00",
    Parse::Malformed
)]
#[case::sslv2(b"\x80\x2e\x01\x00\x02", Parse::Malformed)]
fn refuses(#[case] bytes: &[u8], #[case] expected: Parse) {
    assert_eq!(parse(bytes), expected);
}

#[test]
fn ignores_what_follows_and_the_record_version() {
    let mut bytes = hello::rustls(Some("a.example"));
    bytes.extend(b"\x17\x03\x03early data");
    bytes[1..3].copy_from_slice(&[0x09, 0x09]);
    assert_eq!(parse(&bytes), named("a.example"));
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        parse(&bytes);
    }

    #[test]
    fn never_panics_on_mutated_hellos(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        fragment in 1usize..400,
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = hello::records(&Hello::named("ehr.example.org").message(), fragment);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // Once there is an answer, more bytes do not change it.
        let whole = parse(&bytes);
        let prefix = parse(&bytes[..cut.index(bytes.len())]);
        prop_assert!(prefix == Parse::Incomplete || prefix == whole);
    }
}
