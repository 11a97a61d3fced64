//! A source port is used again: two attempts between the same ends, one after the other.

use super::*;
use crate::outcome::Outcome;

const LATER_CANARY: &str = "cnry-00000000000000cc";

/// Another attempt with the five-tuple of `first`, sent at `millis`.
fn again(first: &Attempt, millis: i64) -> Attempt {
    let mut later = Attempt {
        label: "the same ends again".to_owned(),
        canary: LATER_CANARY.to_owned(),
        result: None,
        ..first.clone()
    };
    later.sent.as_mut().unwrap().at = at(millis);
    later
}

/// The later attempt passes: what the far end, the wire and the log hold of it.
fn add_passed(seen: &mut Observations, later: Attempt, outside: SocketAddr, endpoint: &str) {
    let sent = later.sent.clone().unwrap();
    let after = |millis| sent.at + SignedDuration::from_millis(millis);
    seen.receipts.extend([
        receipt(
            after(20),
            endpoint,
            sent.destination,
            outside,
            ReceiptEvent::Connected,
            &[],
        ),
        receipt(
            after(30),
            endpoint,
            sent.destination,
            outside,
            request(10),
            &[LATER_CANARY],
        ),
    ]);
    let syn = packet(after(15), outside, sent.destination, Some(9), 0);
    capture_of(&mut seen.outside).packets.push(syn);
    log_of(seen).records.push(GatewayRecord {
        line: 3,
        at: after(10),
        seen_at: Some(after(12)),
        source: sent.source,
        destination: sent.destination,
        ..permit_record()
    });
    seen.attempts.push(later);
}

#[test]
fn a_control_whose_port_is_used_again_stays_a_control() {
    let mut seen = scene();
    let outside = end("203.0.113.9:50000");
    add_passed(&mut seen, again(&permitted(), 700), outside, EHR);
    assert_eq!(
        judge_denial(&denial_claim(), &seen).outcome,
        Outcome::Passed
    );
    let own = |attempt: &Attempt| {
        let sent = attempt.sent.as_ref().unwrap();
        let flows = correlate::outside_flows(attempt, sent, &seen);
        flows.iter().map(|flow| flow.first_at).collect::<Vec<_>>()
    };
    assert_eq!(own(&permitted()), [at(515)]);
    assert_eq!(own(&again(&permitted(), 700)), [at(715)]);
}

#[test]
fn a_denial_whose_port_is_permitted_later_stays_a_denial() {
    let mut seen = scene();
    add_passed(&mut seen, again(&attack(), 1050), nat_end(), SINK);
    let result = judge_denial(&denial_claim(), &seen);
    assert_eq!(result.outcome, Outcome::Passed, "{result}");
}

/// What comes in the attempt's own turn is held against it as ever.
#[test]
fn a_denial_that_arrives_before_its_port_is_used_again_fails() {
    let mut seen = scene();
    add_passed(&mut seen, again(&attack(), 1050), nat_end(), SINK);
    let early = packet(at(1015), nat_end(), sink_end(), Some(5), 0);
    capture_of(&mut seen.outside).packets.insert(1, early);
    let result = judge_denial(&denial_claim(), &seen);
    assert_eq!(result.outcome, Outcome::Failed, "{result}");
}
