use fixtures::receipt::ReceiptEvent;
use rstest::rstest;

use super::*;
use crate::evidence::capture::Packet;
use crate::evidence::gateway_log::Layer;
use crate::evidence::{Capture, GatewayRecord};
use crate::judge::PodFact;
use crate::judge::tests::{
    CONTROL_CANARY, EHR, PERMIT_RULE, SINK, at, attack, end, packet, permitted, receipt, request,
    sink_end,
};
use crate::outcome::Outcome;
use crate::scenario_data::background::Sender;

const EHR_END: &str = "198.51.100.10:443";
const POD: &str = "10.244.0.12:40111";
const NAT: &str = "203.0.113.9:50000";

fn numbered(mut packets: Vec<Packet>) -> Seen<Capture> {
    for (index, packet) in packets.iter_mut().enumerate() {
        packet.number = index as u64 + 1;
        packet.outbound.get_or_insert(true);
    }
    Seen::Read(Capture {
        packets,
        undecodable: 0,
    })
}

/// A stream of `bytes`, from its SYN on.
fn stream(millis: i64, source: &str, destination: &str, bytes: usize) -> Vec<Packet> {
    let (source, destination) = (end(source), end(destination));
    let open = packet(at(millis), source, destination, Some(100), 0);
    let data = Packet {
        next: Some(101 + bytes as u32),
        ..packet(at(millis + 1), source, destination, None, bytes)
    };
    vec![
        Packet {
            next: Some(100),
            ..open
        },
        data,
    ]
}

fn answer(millis: i64, source: &str, destination: &str) -> Packet {
    Packet {
        outbound: Some(false),
        ..packet(at(millis), end(source), end(destination), None, 10)
    }
}

fn datagram(millis: i64, source: &str, destination: &str) -> Packet {
    Packet {
        protocol: Protocol::Udp,
        ..packet(at(millis), end(source), end(destination), None, 40)
    }
}

fn permit() -> GatewayRecord {
    GatewayRecord {
        line: 7,
        seen_at: None,
        at: at(510),
        exact: true,
        layer: Layer::L7,
        action: Action::Permit,
        enforced: true,
        protocol: Protocol::Tcp,
        source: end(POD),
        destination: end(EHR_END),
        sni: Some(EHR.to_owned()),
        decided_by: Some(PERMIT_RULE),
        reason: None,
    }
}

/// One permitted request, seen everywhere, and one attempt that was blocked.
fn scene() -> (ClosedWorldClaim, Observations) {
    let claim = ClosedWorldClaim {
        check: Check::new(KIND, "explained"),
        judged: vec![
            Judged {
                attempt: permitted(),
                blocked: false,
            },
            Judged {
                attempt: attack(),
                blocked: true,
            },
        ],
        far_ends: BTreeMap::from([
            (end(EHR_END).ip(), EHR.to_owned()),
            (sink_end().ip(), SINK.to_owned()),
        ]),
        ..ClosedWorldClaim::default()
    };
    let mut outside = stream(510, NAT, EHR_END, 300);
    outside.push(answer(520, EHR_END, NAT));
    let told = |millis, event, canaries: &[&str]| {
        receipt(at(millis), EHR, end(EHR_END), end(NAT), event, canaries)
    };
    let observations = Observations {
        until: at(2000),
        receipts: vec![
            told(511, ReceiptEvent::Connected, &[]),
            told(530, request(20), &[CONTROL_CANARY]),
        ],
        log: Seen::Read(crate::evidence::GatewayLog {
            records: vec![permit()],
            ..crate::evidence::GatewayLog::default()
        }),
        pod_side: numbered(stream(500, POD, EHR_END, 300)),
        outside: numbered(outside),
        ..Observations::default()
    };
    (claim, observations)
}

fn outside(observations: &mut Observations) -> &mut Vec<Packet> {
    match &mut observations.outside {
        Seen::Read(capture) => &mut capture.packets,
        _ => unreachable!("the scene has packets"),
    }
}

#[test]
fn what_is_judged_explains_itself() {
    let (claim, observations) = scene();
    let result = judge_closed_world(&claim, &observations);
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
    assert!(
        result.to_string().contains("1 flows of judged attempts"),
        "{result}"
    );
}

type Change = fn(&mut ClosedWorldClaim, &mut Observations);

#[rstest]
#[case::mirrored_datagram(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| outside(seen).push(Packet { number: 17, ..datagram(1400, "203.0.113.9:4242", "192.0.2.68:123") }),
    "unexplained: UDP 203.0.113.9:4242 -> 192.0.2.68:123, 1 packet (outside.pcapng #17)"
)]
#[case::second_flow_to_the_same_far_end(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| outside(seen).extend(stream(600, "203.0.113.9:50001", EHR_END, 300)),
    "unexplained: TCP 203.0.113.9:50001 -> 198.51.100.10:443"
)]
#[case::more_bytes_than_the_pod_sent(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| outside(seen)[1].next = Some(101 + 400),
    "400 bytes, and the Pod sent 300"
)]
#[case::before_the_pod_sent(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| outside(seen).iter_mut().for_each(|packet| packet.at = at(400)),
    "unexplained: TCP"
)]
#[case::judged_as_blocked(|claim: &mut ClosedWorldClaim, _: &mut Observations| claim.judged[0].blocked = true, "unexplained: TCP")]
#[case::denied_by_the_gateway(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| { let Seen::Read(log) = &mut seen.log else { return }; log.records[0].action = Action::Deny },
    "unexplained: TCP"
)]
#[case::announced_and_judged_by_no_step(|claim: &mut ClosedWorldClaim, _: &mut Observations| claim.judged.clear(), "unexplained: TCP")]
#[case::permit_of_another_source(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| { let Seen::Read(log) = &mut seen.log else { return }; log.records[0].source = end("10.244.0.12:1") },
    "unexplained: gateway log: PERMIT 10.244.0.12:1"
)]
#[case::past_the_capture(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1500), SINK, sink_end(), end("203.0.113.9:6"), ReceiptEvent::Datagram { bytes: 9 }, &[])),
    "unexplained: UDP 203.0.113.9:6 -> 192.0.2.66:443 (collect.pkg-telemetry.test), 9 bytes, which no packet"
)]
#[case::receipts_lost(|_: &mut ClosedWorldClaim, seen: &mut Observations| seen.receipts.clear(), "was answered, and fhir.stolaf-hospital.test has no receipt")]
#[case::capture_stopped(
    |claim: &mut ClosedWorldClaim, _: &mut Observations| claim.mark = Some((end(EHR_END), end("203.0.113.9:9"))),
    "its silence says nothing"
)]
#[case::data_in_labels(
    |_: &mut ClosedWorldClaim, seen: &mut Observations| {
        let event = ReceiptEvent::DnsQuery { name: "636e72792d.attacker-zone.test".to_owned(), record_type: "A".to_owned(), transport: "udp".to_owned() };
        seen.receipts.push(receipt(at(700), "cluster DNS", end("10.244.0.2:53"), end("10.244.0.12:5"), event, &[CONTROL_CANARY]));
    },
    "unexplained: the name 636e72792d.attacker-zone.test, asked for by 10.244.0.12 at cluster DNS, data in DNS labels"
)]
fn strangers_are_told(#[case] change: Change, #[case] says: &str) {
    let (mut claim, mut observations) = scene();
    change(&mut claim, &mut observations);
    let result = judge_closed_world(&claim, &observations);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    assert!(
        result.reasons.iter().any(|reason| reason.contains(says)),
        "{result}"
    );
}

#[rstest]
#[case::no_packet_at_the_pod(|_: &mut ClosedWorldClaim, seen: &mut Observations| { seen.pod_side = numbered(Vec::new()); seen.outside = numbered(Vec::new()); seen.receipts.clear(); seen.log = Seen::NotVisible })]
#[case::unreadable(|_: &mut ClosedWorldClaim, seen: &mut Observations| seen.outside = Seen::Unreadable("it reached its bound".to_owned()))]
fn what_cannot_be_seen_is_open(#[case] change: Change) {
    let (mut claim, mut observations) = scene();
    change(&mut claim, &mut observations);
    // Receipts without visible packets are tied to attempts by their canaries.
    let result = judge_closed_world(&claim, &observations);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
}

#[rstest]
#[case::asked_by_the_pod_of_an_attempt("10.244.0.12:5", SINK, true)]
#[case::asked_by_another_pod("10.244.0.13:5", SINK, false)]
#[case::a_name_of_the_cluster("10.244.0.13:5", "obot-mcp.svc.cluster.local", true)]
#[case::below_the_name("10.244.0.12:5", "x.collect.pkg-telemetry.test", false)]
fn names_belong_to_attempts(#[case] peer: &str, #[case] name: &str, #[case] explained: bool) {
    let (claim, mut observations) = scene();
    let event = ReceiptEvent::DnsQuery {
        name: name.to_owned(),
        record_type: "A".to_owned(),
        transport: "udp".to_owned(),
    };
    let asked = receipt(
        at(700),
        "cluster DNS",
        end("10.244.0.2:53"),
        end(peer),
        event,
        &[],
    );
    observations.receipts.push(asked);
    let result = judge_closed_world(&claim, &observations);
    assert_eq!(result.passed(), explained, "{result}");
}

#[test]
fn background_traffic_is_that_of_its_sender_alone() {
    let row = Background {
        who: Sender::Namespace("obot-system".to_owned()),
        to: SINK.to_owned(),
        protocol: Some(Protocol::Tcp),
        port: Some(443),
        why: String::new(),
        source: String::new(),
    };
    for (namespace, passes) in [("obot-system", true), ("obot-mcp", false)] {
        let (mut claim, mut observations) = scene();
        claim.background = vec![row.clone()];
        observations.pods.push(PodFact {
            namespace: namespace.to_owned(),
            name: "x".to_owned(),
            address: end("10.244.0.20:0").ip(),
            server: None,
            since: at(0),
            until: None,
        });
        let Seen::Read(pod_side) = &mut observations.pod_side else {
            unreachable!("the scene has packets")
        };
        pod_side
            .packets
            .extend(stream(600, "10.244.0.20:7", "192.0.2.66:443", 5));
        outside(&mut observations).extend(stream(600, "203.0.113.9:50001", "192.0.2.66:443", 5));
        let result = judge_closed_world(&claim, &observations);
        assert_eq!(result.passed(), passes, "{result}");
    }
}
