//! A Pod's first packet and a gateway's restart, each with one thing changed.

use rstest::rstest;

use super::*;
use crate::outcome::Outcome;

type GovernedChange = fn(&mut GovernedClaim, &mut Observations);
type RestartChange = fn(&mut RestartClaim, &mut Observations);

/// The policy came at 100 ms, the address at 200 ms, the Pod's first packet at 1001 ms.
fn governed(change: GovernedChange) -> CheckResult {
    let mut claim = GovernedClaim {
        check: Check::new("blocked", "governed"),
        pod: pod(),
        not_before: at(0),
        policy_at: Some(at(100)),
        address_at: Some(at(200)),
    };
    let mut observations = scene();
    change(&mut claim, &mut observations);
    judge_governed(&claim, &observations)
}

#[rstest]
#[case::in_order(|_: &mut GovernedClaim, _: &mut Observations| {}, Outcome::Passed, "")]
#[case::policy_after_the_packet(|claim: &mut GovernedClaim, _: &mut Observations| claim.policy_at = Some(at(1005)), Outcome::Finding, "for 4 ms from its first packet on")]
#[case::never_a_policy(|claim: &mut GovernedClaim, _: &mut Observations| claim.policy_at = None, Outcome::Failed, "never enforced a policy")]
#[case::address_after_the_packet(|claim: &mut GovernedClaim, _: &mut Observations| claim.address_at = Some(at(1011)), Outcome::Finding, "for 10 ms from its first packet on")]
#[case::never_an_address(|claim: &mut GovernedClaim, _: &mut Observations| claim.address_at = None, Outcome::Inconclusive, "ever resolved against")]
#[case::nothing_sent(|_: &mut GovernedClaim, seen: &mut Observations| capture_of(&mut seen.pod_side).packets.clear(), Outcome::Inconclusive, "sent nothing of its own")]
#[case::packets_of_a_former_holder(|claim: &mut GovernedClaim, _: &mut Observations| claim.not_before = at(1002), Outcome::Inconclusive, "sent nothing of its own")]
#[case::an_answer_is_no_egress(|_: &mut GovernedClaim, seen: &mut Observations| {
    let packets = &mut capture_of(&mut seen.pod_side).packets;
    packets.insert(0, packet(at(20), end("10.244.0.12:8080"), end("10.0.0.10:41000"), None, 0));
    packets.insert(0, packet(at(10), end("10.0.0.10:41000"), end("10.244.0.12:8080"), Some(7), 0));
}, Outcome::Passed, "")]
#[case::unreadable(|_: &mut GovernedClaim, seen: &mut Observations| seen.pod_side = Seen::Unreadable("cut".into()), Outcome::Inconclusive, "cannot be read: cut")]
fn what_came_first(
    #[case] change: GovernedChange,
    #[case] expected: Outcome,
    #[case] reason: &str,
) {
    let result = governed(change);
    assert_eq!(result.outcome, expected, "{result}");
    let said = result.reasons.iter().any(|found| found.contains(reason));
    assert!(said || reason.is_empty(), "{result}");
}

fn attempt(label: &str, millis: i64, port: u16, canary: &str) -> Attempt {
    let mut one = attack();
    one.label = label.to_owned();
    one.canary = canary.to_owned();
    if let Some(sent) = &mut one.sent {
        sent.at = at(millis);
        sent.source.set_port(port);
    }
    one.result = None;
    one
}

/// Down from 2000 to 3000 ms; one denied attempt before, one during, one after, and a request that passes after.
fn restart(change: RestartChange) -> CheckResult {
    let mut observations = scene();
    observations.until = at(5000);
    let denied = vec![
        attempt("before", 1000, 40112, CANARY),
        attempt("during", 2500, 40113, "cnry-00000000000000cc"),
        attempt("after", 3500, 40114, "cnry-00000000000000dd"),
    ];
    let mut after = permitted();
    after.label = "the second EHR request".to_owned();
    after.canary = "cnry-00000000000000ee".to_owned();
    if let Some(sent) = &mut after.sent {
        sent.at = at(4000);
        sent.source.set_port(40115);
    }
    let (nat, ehr) = (end("203.0.113.9:50002"), end("198.51.100.10:443"));
    let outside = &mut capture_of(&mut observations.outside).packets;
    outside.push(packet(at(4010), nat, ehr, Some(9), 0));
    observations.receipts.push(receipt(
        at(4020),
        EHR,
        ehr,
        nat,
        request(5),
        &[&after.canary],
    ));
    let pod_side = &mut capture_of(&mut observations.pod_side).packets;
    pod_side.push(packet(
        at(2501),
        end("10.244.0.12:40113"),
        sink_end(),
        Some(2),
        0,
    ));
    pod_side.push(packet(
        at(3501),
        end("10.244.0.12:40114"),
        sink_end(),
        Some(3),
        0,
    ));
    observations.attempts = denied.clone();
    observations.attempts.extend([permitted(), after.clone()]);
    let control = |attempt| {
        Some(Control {
            attempt,
            far_end: EHR.to_owned(),
        })
    };
    let mut claim = RestartClaim {
        check: Check::new("blocked", "closed"),
        down: at(2000),
        up: at(3000),
        denied,
        before: control(permitted()),
        after: control(after),
        quiet_window: Duration::from_millis(20),
    };
    change(&mut claim, &mut observations);
    judge_fail_closed(&claim, &observations)
}

#[rstest]
#[case::closed(|_: &mut RestartClaim, _: &mut Observations| {}, Outcome::Passed, "")]
#[case::a_packet_left_in_the_gap(|_: &mut RestartClaim, seen: &mut Observations| {
    capture_of(&mut seen.outside).packets.push(packet(at(2502), nat_end(), sink_end(), Some(5), 0));
}, Outcome::Failed, "1 packet outside the gateway")]
#[case::data_arrived(|_: &mut RestartClaim, seen: &mut Observations| {
    seen.receipts.push(receipt(at(2510), SINK, sink_end(), nat_end(), request(9), &["cnry-00000000000000cc"]));
}, Outcome::Failed, "received the request")]
#[case::no_load_in_the_gap(|_: &mut RestartClaim, seen: &mut Observations| {
    capture_of(&mut seen.pod_side).packets.retain(|packet| packet.at != at(2501));
}, Outcome::Inconclusive, "0 packets of denied flows left the Pods while the gateway had no policy")]
#[case::no_load_before(|_: &mut RestartClaim, seen: &mut Observations| {
    capture_of(&mut seen.pod_side).packets.retain(|packet| packet.at > at(2000));
}, Outcome::Inconclusive, "0 packets of denied flows left the Pods before it")]
#[case::nothing_passes_afterwards(|claim: &mut RestartClaim, _: &mut Observations| claim.after = None, Outcome::Inconclusive, "positive control after the restart")]
#[case::no_control_before(|claim: &mut RestartClaim, _: &mut Observations| claim.before = None, Outcome::Inconclusive, "positive control before the restart")]
#[case::a_blind_capture(|_: &mut RestartClaim, seen: &mut Observations| {
    capture_of(&mut seen.outside).packets.clear();
}, Outcome::Inconclusive, "not in the capture")]
#[case::outside_not_visible(|_: &mut RestartClaim, seen: &mut Observations| seen.outside = Seen::NotVisible, Outcome::Inconclusive, "an instant is too short")]
#[case::undecodable(|_: &mut RestartClaim, seen: &mut Observations| capture_of(&mut seen.outside).undecodable = 2, Outcome::Inconclusive, "cannot be decoded")]
#[case::not_watched_for_long_enough(|_: &mut RestartClaim, seen: &mut Observations| seen.until = at(3510), Outcome::Inconclusive, "not observed for long enough")]
#[case::nothing_tried(|claim: &mut RestartClaim, _: &mut Observations| claim.denied.clear(), Outcome::Inconclusive, "0 packets")]
fn a_restart_is_judged_by_packets(
    #[case] change: RestartChange,
    #[case] expected: Outcome,
    #[case] reason: &str,
) {
    let result = restart(change);
    assert_eq!(result.outcome, expected, "{result}");
    let said = result.reasons.iter().any(|found| found.contains(reason));
    assert!(said || reason.is_empty(), "{result}");
}
