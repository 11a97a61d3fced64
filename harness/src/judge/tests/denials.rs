use rstest::rstest;

use super::*;
use crate::outcome::Outcome;

type Change = fn(&mut DenialClaim, &mut Observations);

fn judge_with(change: Change) -> CheckResult {
    let (mut claim, mut observations) = (denial_claim(), scene());
    change(&mut claim, &mut observations);
    judge_denial(&claim, &observations)
}

#[test]
fn a_whole_denial_passes_and_says_what_proves_it() {
    let result = judge_with(|_, _| {});
    insta::assert_snapshot!(result, @r"
    attacker-blocked [passed]: exfiltration during the call to attacker's collector collect.pkg-telemetry.test is blocked by the rule deny-all-external of ehr-sync
      - exfiltration during the call: sent, 2 packets 10.244.0.12:40112 -> collect.pkg-telemetry.test (192.0.2.66:443) [pod-side.pcapng:1]
      - positive control (the EHR request): reached fhir.stolaf-hospital.test [receipts.jsonl:2]
      - attacker's collector collect.pkg-telemetry.test: 0 connections, 0 bytes [receipts.jsonl]
      - packets of that flow outside the gateway: 0 [outside.pcapng]
      - the client's own result: connection closed without an answer [events.jsonl]
      - gateway log: DENY 10.244.0.12:40112 -> 192.0.2.66:443 sni=collect.pkg-telemetry.test rule=deny-all-external (server ehr-sync) [gateway.log:2]
    ");
    assert_eq!(result.kind, "blocked");
    assert_eq!(result.measured[0].micros, 12_000);
}

/// Each clause, with just that one missing.
#[rstest]
#[case::never_announced(|claim: &mut DenialClaim, _: &mut Observations| claim.attempt.sent = None, "nothing says that it was ever sent")]
#[case::no_packet_from_the_pod(|_: &mut DenialClaim, seen: &mut Observations| capture_of(&mut seen.pod_side).packets.clear(), "no packet")]
#[case::pod_side_unreadable(|_: &mut DenialClaim, seen: &mut Observations| seen.pod_side = Seen::Unreadable("cut".into()), "cannot be read: cut")]
#[case::outside_unreadable(|_: &mut DenialClaim, seen: &mut Observations| seen.outside = Seen::Unreadable("cut".into()), "cannot be read: cut")]
#[case::outside_undecodable(|_: &mut DenialClaim, seen: &mut Observations| capture_of(&mut seen.outside).undecodable = 1, "cannot be decoded")]
#[case::no_record(|_: &mut DenialClaim, seen: &mut Observations| { log_of(seen).records.pop(); }, "holds no record")]
#[case::log_unreadable(|_: &mut DenialClaim, seen: &mut Observations| seen.log = Seen::Unreadable("gone".into()), "cannot be read: gone")]
#[case::log_not_visible(|_: &mut DenialClaim, seen: &mut Observations| seen.log = Seen::NotVisible, "no access to the gateway's log")]
#[case::record_of_another_port(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].source.set_port(40113), "holds no record")]
#[case::record_of_another_pod(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].source.set_ip([10, 244, 0, 13].into()), "holds no record")]
#[case::record_of_another_destination(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].destination.set_port(8443), "holds no record")]
#[case::record_of_another_protocol(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].protocol = Protocol::Udp, "holds no record")]
#[case::record_from_before(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].at = at(999), "holds no record")]
#[case::monitor_only(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].enforced = false, "monitor only, not enforced")]
#[case::record_without_the_name(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].sni = None, "it names no server")]
#[case::record_of_another_name(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].sni = Some("x.test".into()), "it names the server x.test")]
#[case::another_rule(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].decided_by = Some(DEFAULT_RULE), "decided by the default action, expected the rule deny-all-external of ehr-sync")]
#[case::rule_of_another_server(|_: &mut DenialClaim, seen: &mut Observations| { seen.rules.get_mut(&DENY_RULE).unwrap().server = Some("weather".into()); }, "deny-all-external of weather, expected")]
#[case::rule_nobody_knows(|_: &mut DenialClaim, seen: &mut Observations| { seen.rules.remove(&DENY_RULE); }, "which no export of the controller knows")]
#[case::no_rule(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].decided_by = None, "it names no rule")]
#[case::not_watched_for_long_enough(|_: &mut DenialClaim, seen: &mut Observations| seen.until = at(1030), "observed for 10 ms")]
fn a_missing_clause_leaves_it_open(#[case] change: Change, #[case] reason: &str) {
    let result = judge_with(change);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    assert!(
        result.reasons.iter().any(|found| found.contains(reason)),
        "{result}"
    );
    assert!(!result.control_broken, "{result}");
}

/// The positive control, broken in each way.
#[rstest]
#[case::none(|claim: &mut DenialClaim, _: &mut Observations| claim.control = None, "no positive control")]
#[case::not_sent(|claim: &mut DenialClaim, _: &mut Observations| claim.control.as_mut().unwrap().attempt.sent = None, "nothing says that it was sent")]
#[case::no_result(|claim: &mut DenialClaim, _: &mut Observations| claim.control.as_mut().unwrap().attempt.result = None, "not answered (no result)")]
#[case::failed(|claim: &mut DenialClaim, _: &mut Observations| {
    let result = claim.control.as_mut().unwrap().attempt.result.as_mut().unwrap();
    (result.outcome, result.status) = (ClientOutcome::TimedOut, None);
}, "not answered (timed out)")]
#[case::no_receipt(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.clear(), "has no receipt of it")]
#[case::another_far_end(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts[1].endpoint = "other.test".into(), "has no receipt of it")]
#[case::not_in_the_capture(|_: &mut DenialClaim, seen: &mut Observations| capture_of(&mut seen.outside).packets.clear(), "its silence says nothing")]
fn a_broken_control_leaves_it_open(#[case] change: Change, #[case] reason: &str) {
    let result = judge_with(change);
    assert_eq!(result.outcome, Outcome::Inconclusive, "{result}");
    assert!(
        result.reasons.iter().any(|found| found.contains(reason)),
        "{result}"
    );
    assert!(result.control_broken, "{result}");
    // Its silence is not shown as if it were proof.
    let silence = |line: &EvidenceLine| line.found.ends_with("outside the gateway: 0");
    assert!(!result.evidence.iter().any(silence), "{result}");
}

/// Evidence that something arrived, or was let through.
#[rstest]
#[case::canary_at_the_sink(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), request(512), &[CANARY])), "received the canary")]
#[case::canary_anywhere(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), "other.test", end("192.0.2.9:80"), nat_end(), request(1), &[CANARY])), "other.test received the canary")]
#[case::canary_in_other_case(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), request(1), &["CNRY-00000000000000AA"])), "received the canary")]
#[case::canary_in_a_dns_label(|_: &mut DenialClaim, seen: &mut Observations| {
    let query = ReceiptEvent::DnsQuery { name: format!("{CANARY}.evil.test"), record_type: "TXT".into(), transport: "udp".into() };
    seen.receipts.push(receipt(at(1015), "ns.evil.test", end("192.0.2.53:53"), end("10.0.0.2:5353"), query, &[CANARY]));
}, "the DNS query")]
#[case::canary_before_it_was_sent(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1), SINK, sink_end(), nat_end(), request(1), &[CANARY])), "received the canary")]
#[case::bytes_without_a_canary(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), ReceiptEvent::Bytes { received: 9 }, &[])), "1 connection, 9 bytes")]
#[case::a_handshake(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), ReceiptEvent::TlsEstablished { sni: None }, &[])), "1 connection, 0 bytes received")]
#[case::a_connection(|_: &mut DenialClaim, seen: &mut Observations| seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), ReceiptEvent::Connected, &[])), "reached it, without data")]
#[case::a_packet_outside(|_: &mut DenialClaim, seen: &mut Observations| capture_of(&mut seen.outside).packets.push(packet(at(1015), nat_end(), sink_end(), Some(1), 0)), "outside the gateway: 1")]
#[case::the_client_was_answered(|claim: &mut DenialClaim, _: &mut Observations| claim.attempt.result.as_mut().unwrap().status = Some(200), "somebody answered it")]
#[case::the_client_completed(|claim: &mut DenialClaim, _: &mut Observations| claim.attempt.result.as_mut().unwrap().outcome = ClientOutcome::Completed, "somebody answered it")]
#[case::a_permit_in_the_log(|_: &mut DenialClaim, seen: &mut Observations| log_of(seen).records[1].action = Action::Permit, "gateway log: PERMIT")]
fn an_arrival_fails_it(#[case] change: Change, #[case] reason: &str) {
    let result = judge_with(change);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
    assert!(
        result.reasons.iter().any(|found| found.contains(reason)),
        "{result}"
    );
}

/// Things that look like an arrival and are none.
#[rstest]
#[case::the_same_record_where_it_may_be(|claim: &mut DenialClaim, seen: &mut Observations| {
    claim.may_hold.insert(EHR.to_owned());
    seen.receipts.push(receipt(at(530), EHR, end("198.51.100.10:443"), nat_end(), request(512), &[CANARY]));
})]
#[case::an_earlier_connection_that_ends(|_: &mut DenialClaim, seen: &mut Observations| {
    seen.receipts.push(receipt(at(700), SINK, sink_end(), nat_end(), ReceiptEvent::Connected, &[]));
    seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), ReceiptEvent::Closed { received: 9, sent: 9 }, &[]));
    capture_of(&mut seen.outside).packets.push(packet(at(700), nat_end(), sink_end(), Some(5), 0));
    capture_of(&mut seen.outside).packets.push(packet(at(1015), nat_end(), sink_end(), None, 0));
})]
#[case::another_attempt_that_may(|_: &mut DenialClaim, seen: &mut Observations| {
    seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), request(9), &[CONTROL_CANARY]));
    capture_of(&mut seen.outside).packets.push(packet(at(1014), nat_end(), sink_end(), Some(5), 0));
})]
#[case::another_port_of_the_same_host(|_: &mut DenialClaim, seen: &mut Observations| {
    capture_of(&mut seen.outside).packets.push(packet(at(1015), nat_end(), end("192.0.2.66:80"), Some(5), 0));
})]
#[case::a_client_that_still_waits(|claim: &mut DenialClaim, _: &mut Observations| claim.attempt.result = None)]
#[case::denied_before_a_name_was_sent(|_: &mut DenialClaim, seen: &mut Observations| {
    capture_of(&mut seen.pod_side).packets.pop();
    log_of(seen).records[1].sni = None;
    log_of(seen).records[1].layer = Layer::L4;
})]
#[case::whole_seconds_in_the_log(|_: &mut DenialClaim, seen: &mut Observations| {
    log_of(seen).records[1].at = at(1000);
    log_of(seen).records[1].exact = false;
})]
#[case::a_tier_that_sees_no_packets(|_: &mut DenialClaim, seen: &mut Observations| {
    seen.pod_side = Seen::NotVisible;
    seen.outside = Seen::NotVisible;
})]
#[case::a_connection_that_a_proxy_opened_unseen(|_: &mut DenialClaim, seen: &mut Observations| {
    seen.pod_side = Seen::NotVisible;
    seen.outside = Seen::NotVisible;
    seen.receipts.push(receipt(at(1015), SINK, sink_end(), nat_end(), ReceiptEvent::Connected, &[]));
})]
#[case::a_second_record_of_another_engine(|_: &mut DenialClaim, seen: &mut Observations| {
    let l4 = GatewayRecord { layer: Layer::L4, sni: None, ..denial_record() };
    log_of(seen).records.insert(1, l4);
})]
fn it_still_passes(#[case] change: Change) {
    let result = judge_with(change);
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
}

/// A connect that the gateway itself answers is not an arrival.
#[test]
fn a_bare_tcp_connect_proves_nothing() {
    let result = judge_with(|claim, seen| {
        let sent = claim.attempt.sent.as_mut().unwrap();
        (sent.exchange, sent.sni) = (Exchange::Raw, None);
        claim.attempt.result.as_mut().unwrap().outcome = ClientOutcome::Completed;
        log_of(seen).records[1].sni = None;
    });
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
}

#[test]
fn icmp_is_told_apart_by_addresses_alone() {
    let change: Change = |claim, seen| {
        let (from, to) = (end("10.244.0.12:0"), end("192.0.2.66:0"));
        let sent = claim.attempt.sent.as_mut().unwrap();
        (sent.protocol, sent.exchange, sent.sni) = (Protocol::Icmp, Exchange::Raw, None);
        (sent.source, sent.destination) = (from, to);
        let echo = Packet {
            protocol: Protocol::Icmp,
            ..packet(at(1001), from, to, None, 8)
        };
        capture_of(&mut seen.pod_side).packets = vec![echo];
        log_of(seen).records[1] = GatewayRecord {
            protocol: Protocol::Icmp,
            source: from,
            destination: to,
            sni: None,
            ..denial_record()
        };
    };
    let result = judge_with(change);
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
    let (mut claim, mut observations) = (denial_claim(), scene());
    change(&mut claim, &mut observations);
    let leaked = Packet {
        protocol: Protocol::Icmp,
        ..packet(at(1002), end("203.0.113.9:0"), end("192.0.2.66:0"), None, 8)
    };
    capture_of(&mut observations.outside).packets.push(leaked);
    assert_eq!(judge_denial(&claim, &observations).outcome, Outcome::Failed);
}

#[test]
fn the_default_action_is_not_a_rule_of_that_name() {
    let (claim, mut observations) = (denial_claim(), scene());
    assert_eq!(
        judge_default_action(&claim, &observations).outcome,
        Outcome::Inconclusive
    );
    log_of(&mut observations).records[1].decided_by = Some(DEFAULT_RULE);
    let result = judge_default_action(&claim, &observations);
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
    assert!(
        result
            .expected
            .ends_with("is blocked by the default action")
    );
}
