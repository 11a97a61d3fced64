#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn zone() -> Zone {
    let mut zone = Zone::default();
    let kubernetes = zone.entry("kubernetes.default.svc");
    kubernetes.addresses.insert(Ipv4Addr::new(10, 96, 0, 1));
    let headless = zone.entry("db.team.svc");
    headless.addresses.insert(Ipv4Addr::new(10, 244, 0, 10));
    headless.addresses.insert(Ipv4Addr::new(10, 244, 0, 11));
    let port = zone.entry("_https._tcp.kubernetes.default.svc");
    port.services
        .insert((443, "kubernetes.default.svc.cluster.local.".into()));
    zone
}

fn query(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message.to_vec().unwrap()
}

/// Code, answers and authorities, as a line per record.
fn describe(answer: Answer) -> String {
    match answer {
        Answer::Reply(bytes) => {
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.metadata.id, 7);
            let data = |records: &[Record]| {
                records
                    .iter()
                    .map(|record| format!(" {}", record.data))
                    .collect::<String>()
            };
            format!(
                "{:?}{} |{}",
                message.metadata.response_code,
                data(&message.answers),
                if message.authorities.is_empty() {
                    ""
                } else {
                    " SOA"
                }
            )
        }
        other => format!("{other:?}"),
    }
}

#[rstest]
#[case::cluster_ip(
    "kubernetes.default.svc.cluster.local.",
    RecordType::A,
    "NoError 10.96.0.1 |"
)]
#[case::any_case(
    "Kubernetes.Default.svc.cluster.LOCAL.",
    RecordType::A,
    "NoError 10.96.0.1 |"
)]
#[case::headless(
    "db.team.svc.cluster.local.",
    RecordType::A,
    "NoError 10.244.0.10 10.244.0.11 |"
)]
#[case::no_ipv6(
    "kubernetes.default.svc.cluster.local.",
    RecordType::AAAA,
    "NoError | SOA"
)]
#[case::named_port(
    "_https._tcp.kubernetes.default.svc.cluster.local.",
    RecordType::SRV,
    "NoError 0 100 443 kubernetes.default.svc.cluster.local. |"
)]
#[case::namespace_exists("team.svc.cluster.local.", RecordType::A, "NoError | SOA")]
#[case::no_such_service("nope.team.svc.cluster.local.", RecordType::A, "NXDomain | SOA")]
#[case::search_list("ehr.example.team.svc.cluster.local.", RecordType::A, "NXDomain | SOA")]
#[case::external("ehr.example.", RecordType::A, "Forward")]
#[case::looks_alike("evilcluster.local.", RecordType::A, "Forward")]
fn queries_are_answered(
    #[case] name: &str,
    #[case] record_type: RecordType,
    #[case] expected: &str,
) {
    assert_eq!(describe(zone().answer(&query(name, record_type))), expected);
}

#[test]
fn broken_queries_get_format_errors_and_responses_get_nothing() {
    let mut broken = query("kubernetes.default.svc.cluster.local.", RecordType::A);
    broken.truncate(20);
    assert_eq!(describe(zone().answer(&broken)), "FormErr |");
    let mut response = query("kubernetes.default.svc.cluster.local.", RecordType::A);
    response[2] |= 0x80;
    assert_eq!(zone().answer(&response), Answer::Ignore);
    assert_eq!(zone().answer(&[0; 3]), Answer::Ignore);
}

#[test]
fn a_long_answer_is_cut_over_udp() {
    let mut zone = Zone::default();
    let entry = zone.entry("many.team.svc");
    entry
        .addresses
        .extend((0..100).map(|n| Ipv4Addr::new(10, 244, 1, n)));
    let query = query("many.team.svc.cluster.local.", RecordType::A);
    let Answer::Reply(whole) = zone.answer(&query) else {
        panic!("answered")
    };
    let cut = fit_datagram(&query, whole.clone());
    assert!(whole.len() > 512 && cut.len() <= 512);
    let message = Message::from_vec(&cut).unwrap();
    assert!(message.metadata.truncation && message.metadata.message_type == MessageType::Response);
    assert_eq!(message.metadata.id, 7);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = zone().answer(&bytes);
        let _ = question(&bytes);
        let _ = fit_datagram(&bytes, bytes.clone());
    }

    #[test]
    fn no_damaged_query_panics(at in 0usize..60, byte: u8, length in 0usize..80) {
        let mut bytes = query("_https._tcp.kubernetes.default.svc.cluster.local.", RecordType::SRV);
        if let Some(slot) = bytes.get_mut(at) {
            *slot = byte;
        }
        bytes.truncate(length);
        let _ = zone().answer(&bytes);
        let _ = fit_datagram(&bytes, vec![0; 600]);
    }
}
