//! Whatever else was observed, evidence that data arrived never makes a denial pass.

use proptest::prelude::*;

use super::*;
use crate::outcome::Outcome;

/// What can be true of the scene besides the arrival.
#[derive(Clone, Debug)]
struct Circumstances {
    control: bool,
    record: Option<(bool, bool)>,
    result: Option<ClientOutcome>,
    pod_packets: bool,
    packets_visible: bool,
    until: i64,
}

fn circumstances() -> impl Strategy<Value = Circumstances> {
    let outcome = prop_oneof![
        Just(ClientOutcome::Closed),
        Just(ClientOutcome::Reset),
        Just(ClientOutcome::TimedOut),
        Just(ClientOutcome::Completed),
    ];
    (
        any::<bool>(),
        proptest::option::of((any::<bool>(), any::<bool>())),
        proptest::option::of(outcome),
        any::<bool>(),
        any::<bool>(),
        1000i64..3000,
    )
        .prop_map(
            |(control, record, result, pod_packets, packets_visible, until)| Circumstances {
                control,
                record,
                result,
                pod_packets,
                packets_visible,
                until,
            },
        )
}

fn scene_in(circumstances: &Circumstances) -> (DenialClaim, Observations) {
    let (mut claim, mut seen) = (denial_claim(), scene());
    if !circumstances.control {
        claim.control = None;
    }
    let records = &mut log_of(&mut seen).records;
    match circumstances.record {
        None => {
            records.pop();
        }
        Some((deny, enforced)) => {
            records[1].action = if deny { Action::Deny } else { Action::Permit };
            records[1].enforced = enforced;
        }
    }
    claim.attempt.result = circumstances.result.map(|outcome| ClientResult {
        at: at(1020),
        outcome,
        status: None,
        detail: String::new(),
    });
    if !circumstances.pod_packets {
        capture_of(&mut seen.pod_side).packets.clear();
    }
    if !circumstances.packets_visible {
        seen.pod_side = Seen::NotVisible;
        seen.outside = Seen::NotVisible;
    }
    seen.until = at(circumstances.until);
    (claim, seen)
}

/// Something that shows an arrival of this attempt's data.
#[derive(Clone, Debug)]
enum Arrival {
    Canary { endpoint: String, when: i64 },
    Bytes { when: i64, bytes: u64 },
    Query { when: i64 },
    Packet { when: i64, port: u16 },
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        ("[a-z]{1,8}\\.test", 0i64..3000)
            .prop_map(|(endpoint, when)| Arrival::Canary { endpoint, when }),
        (1000i64..3000, 1u64..9999).prop_map(|(when, bytes)| Arrival::Bytes { when, bytes }),
        (0i64..3000).prop_map(|when| Arrival::Query { when }),
        (1000i64..3000, 1024u16..).prop_map(|(when, port)| Arrival::Packet { when, port }),
    ]
}

fn add(seen: &mut Observations, arrival: &Arrival) {
    let peer = nat_end();
    let found = match arrival {
        Arrival::Canary { endpoint, when } => receipt(
            at(*when),
            endpoint,
            end("192.0.2.77:443"),
            peer,
            request(1),
            &[CANARY],
        ),
        Arrival::Bytes { when, bytes } => {
            let event = ReceiptEvent::Bytes { received: *bytes };
            receipt(at(*when), SINK, sink_end(), peer, event, &[])
        }
        Arrival::Query { when } => {
            let event = ReceiptEvent::DnsQuery {
                name: format!("{CANARY}.evil.test"),
                record_type: "A".to_owned(),
                transport: "udp".to_owned(),
            };
            receipt(
                at(*when),
                "ns.evil.test",
                end("192.0.2.53:53"),
                peer,
                event,
                &[CANARY],
            )
        }
        Arrival::Packet { when, port } => {
            if let Seen::Read(capture) = &mut seen.outside {
                let from = SocketAddr::new(peer.ip(), *port);
                capture
                    .packets
                    .push(packet(at(*when), from, sink_end(), Some(77), 0));
            }
            return;
        }
    };
    seen.receipts.push(found);
}

/// Whether the tier can see that kind of arrival at all.
fn visible(arrival: &Arrival, circumstances: &Circumstances) -> bool {
    circumstances.packets_visible || !matches!(arrival, Arrival::Packet { .. })
}

proptest! {
    #[test]
    fn an_arrival_always_fails_a_denial(
        circumstances in circumstances(),
        arrivals in proptest::collection::vec(arrival(), 1..4),
    ) {
        let (claim, mut seen) = scene_in(&circumstances);
        prop_assume!(arrivals.iter().any(|arrival| visible(arrival, &circumstances)));
        for arrival in &arrivals {
            add(&mut seen, arrival);
        }
        let result = judge_denial(&claim, &seen);
        prop_assert_eq!(result.outcome, Outcome::Failed, "{}", result);
    }

    /// Without an arrival, the result is what the clauses say, written here a second time.
    #[test]
    fn a_denial_passes_only_as_a_whole(circumstances in circumstances()) {
        let (claim, seen) = scene_in(&circumstances);
        let c = &circumstances;
        let answered = c.result == Some(ClientOutcome::Completed);
        let permitted = c.record == Some((false, true));
        let over = if c.result.is_some() { 1020 } else { 1012 };
        let whole = c.control
            && c.record == Some((true, true))
            && (c.pod_packets || !c.packets_visible)
            && c.until >= over + 20;
        let expected = if answered || permitted {
            Outcome::Failed
        } else if whole {
            Outcome::Passed
        } else {
            Outcome::Inconclusive
        };
        let result = judge_denial(&claim, &seen);
        prop_assert_eq!(result.outcome, expected, "{}", result);
    }
}
