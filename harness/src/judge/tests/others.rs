use rstest::rstest;

use super::*;
use crate::outcome::Outcome;

fn log_claim() -> LogClaim {
    LogClaim {
        check: Check::new("blocked", "denial-logged"),
        attempt: attack(),
        action: Action::Deny,
        rule: denial_claim().rule,
        within: Duration::from_millis(50),
    }
}

#[rstest]
#[case::there(|_: &mut LogClaim, _: &mut Observations| {}, Outcome::Passed, "")]
#[case::absent_past_the_deadline(|_: &mut LogClaim, seen: &mut Observations| { log_of(seen).records.pop(); }, Outcome::Failed, "holds no record")]
#[case::absent_before_the_deadline(|claim: &mut LogClaim, seen: &mut Observations| { log_of(seen).records.pop(); claim.within = Duration::from_secs(1); }, Outcome::Inconclusive, "has not passed")]
#[case::late(|claim: &mut LogClaim, _: &mut Observations| claim.within = Duration::from_millis(11), Outcome::Failed, "past the deadline")]
#[case::without_the_name(|_: &mut LogClaim, seen: &mut Observations| log_of(seen).records[1].sni = None, Outcome::Failed, "names no server")]
#[case::another_rule(|_: &mut LogClaim, seen: &mut Observations| log_of(seen).records[1].decided_by = Some(DEFAULT_RULE), Outcome::Failed, "decided by the default action")]
#[case::no_rule(|_: &mut LogClaim, seen: &mut Observations| log_of(seen).records[1].decided_by = None, Outcome::Failed, "names no rule")]
#[case::another_time(|_: &mut LogClaim, seen: &mut Observations| log_of(seen).records[1].at = at(400), Outcome::Failed, "600 ms before the attempt was sent")]
#[case::monitor_only(|_: &mut LogClaim, seen: &mut Observations| log_of(seen).records[1].enforced = false, Outcome::Failed, "holds no record")]
#[case::never_sent(|claim: &mut LogClaim, _: &mut Observations| claim.attempt.sent = None, Outcome::Inconclusive, "ever sent")]
#[case::never_left_the_pod(|_: &mut LogClaim, seen: &mut Observations| capture_of(&mut seen.pod_side).packets.clear(), Outcome::Inconclusive, "left the pod")]
#[case::it_arrived(|_: &mut LogClaim, seen: &mut Observations| { log_of(seen).records.pop(); capture_of(&mut seen.outside).packets.push(packet(at(1015), nat_end(), sink_end(), Some(1), 0)); }, Outcome::Inconclusive, "was not denied")]
#[case::no_log(|_: &mut LogClaim, seen: &mut Observations| seen.log = Seen::NotVisible, Outcome::Inconclusive, "no access")]
fn a_denial_must_be_logged(
    #[case] change: fn(&mut LogClaim, &mut Observations),
    #[case] outcome: Outcome,
    #[case] reason: &str,
) {
    let (mut claim, mut observations) = (log_claim(), scene());
    change(&mut claim, &mut observations);
    let result = judge_logged(&claim, &observations);
    assert_eq!(result.outcome, outcome, "{result}");
    assert!(
        result.reasons.iter().any(|found| found.contains(reason)) || reason.is_empty(),
        "{result}"
    );
}

#[test]
fn a_permit_must_be_logged_too() {
    let claim = LogClaim {
        attempt: permitted(),
        action: Action::Permit,
        rule: RuleExpectation::Any,
        ..log_claim()
    };
    let mut observations = scene();
    observations.pod_side = Seen::NotVisible;
    assert_eq!(judge_logged(&claim, &observations).outcome, Outcome::Passed);
    log_of(&mut observations).records.remove(0);
    assert_eq!(judge_logged(&claim, &observations).outcome, Outcome::Failed);
}

#[rstest]
#[case::there(|_: &mut Observations| {}, Outcome::Passed, "10.244.0.12 -> pod obot-mcp/ms1abcde-7d9f -> ehr-sync")]
#[case::another_server(|seen: &mut Observations| seen.pods[0].server = Some("weather".into()), Outcome::Failed, "-> weather")]
#[case::no_server(|seen: &mut Observations| seen.pods[0].server = None, Outcome::Failed, "-> no server")]
#[case::no_pod(|seen: &mut Observations| seen.pods.clear(), Outcome::Failed, "was no pod's address")]
#[case::pod_of_later(|seen: &mut Observations| seen.pods[0].since = at(1050), Outcome::Failed, "was no pod's address")]
#[case::pod_of_before(|seen: &mut Observations| seen.pods[0].until = Some(at(900)), Outcome::Failed, "was no pod's address")]
#[case::two_pods(|seen: &mut Observations| seen.pods.push(pod()), Outcome::Failed, "leads to 2 pods")]
#[case::reused_address(|seen: &mut Observations| seen.pods.push(PodFact { server: None, until: Some(at(100)), ..pod() }), Outcome::Passed, "-> ehr-sync")]
#[case::no_denial(|seen: &mut Observations| { log_of(seen).records.pop(); }, Outcome::Inconclusive, "no denial")]
fn a_denial_leads_to_the_server(
    #[case] change: fn(&mut Observations),
    #[case] outcome: Outcome,
    #[case] found: &str,
) {
    let claim = TraceClaim {
        check: Check::new("blocked", "denial-traced"),
        attempt: attack(),
        server: "ehr-sync".to_owned(),
    };
    let mut observations = scene();
    change(&mut observations);
    let result = judge_traceable(&claim, &observations);
    assert_eq!(result.outcome, outcome, "{result}");
    assert!(
        result
            .evidence
            .iter()
            .any(|line| line.found.contains(found)),
        "{result}"
    );
}

#[rstest]
#[case::whole(|_: &mut PermitClaim, _: &mut Observations| {}, Outcome::Passed)]
#[case::never_sent(|claim: &mut PermitClaim, _: &mut Observations| claim.attempt.sent = None, Outcome::Inconclusive)]
#[case::no_result(|claim: &mut PermitClaim, _: &mut Observations| claim.attempt.result = None, Outcome::Inconclusive)]
#[case::no_receipt(|_: &mut PermitClaim, seen: &mut Observations| seen.receipts.clear(), Outcome::Inconclusive)]
#[case::receipt_elsewhere(|_: &mut PermitClaim, seen: &mut Observations| seen.receipts[1].endpoint = "look-alike.test".into(), Outcome::Inconclusive)]
#[case::not_in_the_capture(|_: &mut PermitClaim, seen: &mut Observations| capture_of(&mut seen.outside).packets.clear(), Outcome::Inconclusive)]
#[case::capture_unreadable(|_: &mut PermitClaim, seen: &mut Observations| seen.outside = Seen::Unreadable("cut".into()), Outcome::Inconclusive)]
#[case::no_permit(|_: &mut PermitClaim, seen: &mut Observations| { log_of(seen).records.remove(0); }, Outcome::Inconclusive)]
#[case::another_rule(|_: &mut PermitClaim, seen: &mut Observations| log_of(seen).records[0].decided_by = Some(DEFAULT_RULE), Outcome::Inconclusive)]
#[case::denied(|_: &mut PermitClaim, seen: &mut Observations| log_of(seen).records[0].action = Action::Deny, Outcome::Failed)]
#[case::far_end_is_silent(|claim: &mut PermitClaim, _: &mut Observations| silence(&mut claim.attempt), Outcome::Inconclusive)]
#[case::nothing_left_the_gateway(|claim: &mut PermitClaim, seen: &mut Observations| { silence(&mut claim.attempt); capture_of(&mut seen.outside).packets.clear(); }, Outcome::Failed)]
#[case::no_answer_and_no_packets_to_see(|claim: &mut PermitClaim, seen: &mut Observations| { silence(&mut claim.attempt); seen.outside = Seen::NotVisible; }, Outcome::Inconclusive)]
#[case::no_packets_to_see(|_: &mut PermitClaim, seen: &mut Observations| seen.outside = Seen::NotVisible, Outcome::Passed)]
fn a_request_passes(
    #[case] change: fn(&mut PermitClaim, &mut Observations),
    #[case] outcome: Outcome,
) {
    let mut claim = PermitClaim {
        check: Check::new("blocked", "ehr-passes"),
        attempt: permitted(),
        far_end: EHR.to_owned(),
        rule: RuleExpectation::Named {
            rule: "allow-approved-egress".to_owned(),
            of_server: Some("ehr-sync".to_owned()),
        },
    };
    let mut observations = scene();
    change(&mut claim, &mut observations);
    let result = judge_permit(&claim, &observations);
    assert_eq!(result.outcome, outcome, "{result}");
}

fn silence(attempt: &mut Attempt) {
    let result = attempt.result.as_mut().unwrap();
    (result.outcome, result.status) = (ClientOutcome::TimedOut, None);
}

#[rstest]
#[case::confined(|_: &mut Observations| {}, Outcome::Passed, "fhir.stolaf-hospital.test holds the record (1 request, 512 bytes)")]
#[case::seen_nowhere(|seen: &mut Observations| seen.receipts.clear(), Outcome::Inconclusive, "has no receipt")]
#[case::seen_elsewhere(|seen: &mut Observations| seen.receipts.push(receipt(at(600), SINK, sink_end(), nat_end(), request(7), &[CONTROL_CANARY])), Outcome::Failed, "collect.pkg-telemetry.test received the request POST / with 7 bytes")]
#[case::not_watched(|seen: &mut Observations| seen.until = at(535), Outcome::Inconclusive, "long enough")]
fn a_canary_is_where_it_may_be(
    #[case] change: fn(&mut Observations),
    #[case] outcome: Outcome,
    #[case] found: &str,
) {
    let claim = SpreadClaim {
        check: Check::new("blocked", "record-confined"),
        canary: CONTROL_CANARY.to_owned(),
        only_at: BTreeSet::from([EHR.to_owned()]),
        quiet_window: Duration::from_millis(20),
    };
    let mut observations = scene();
    change(&mut observations);
    let result = judge_spread(&claim, &observations);
    assert_eq!(result.outcome, outcome, "{result}");
    assert!(
        result
            .evidence
            .iter()
            .any(|line| line.found.contains(found)),
        "{result}"
    );
}

fn update_claim() -> UpdateClaim {
    UpdateClaim {
        check: Check::new("blocked", "update-enforced"),
        change: "api.test was added to the list of weather".to_owned(),
        changed_at: at(0),
        effective_at: Some(at(730)),
        proof: CheckResult::stated(
            Check::new("blocked", "proof"),
            Outcome::Passed,
            "it passes",
            "it passed",
        ),
        bound: Duration::from_secs(10),
        pod_before: pod(),
        pod_after: pod(),
    }
}

#[rstest]
#[case::in_time(|_: &mut UpdateClaim| {}, Outcome::Passed)]
#[case::late(|claim: &mut UpdateClaim| claim.effective_at = Some(at(10_001)), Outcome::Failed)]
#[case::never(|claim: &mut UpdateClaim| claim.effective_at = None, Outcome::Failed)]
#[case::never_with_a_broken_control(|claim: &mut UpdateClaim| { claim.effective_at = None; claim.proof.outcome = Outcome::Inconclusive; claim.proof.control_broken = true; }, Outcome::Inconclusive)]
#[case::restarted(|claim: &mut UpdateClaim| claim.pod_after.name = "ms1abcde-other".into(), Outcome::Failed)]
#[case::restarted_under_its_name(|claim: &mut UpdateClaim| claim.pod_after.since = at(5), Outcome::Failed)]
#[case::proof_failed(|claim: &mut UpdateClaim| claim.proof = CheckResult::stated(Check::new("blocked", "proof"), Outcome::Failed, "x", "it did not"), Outcome::Failed)]
#[case::proof_open(|claim: &mut UpdateClaim| claim.proof = CheckResult::stated(Check::new("blocked", "proof"), Outcome::Inconclusive, "x", "unclear"), Outcome::Inconclusive)]
fn an_update_takes_effect(#[case] change: fn(&mut UpdateClaim), #[case] outcome: Outcome) {
    let mut claim = update_claim();
    change(&mut claim);
    let result = judge_update(&claim);
    assert_eq!(result.outcome, outcome, "{result}");
    let measured = claim.effective_at.is_some();
    assert_eq!(result.measured.len(), usize::from(measured));
}
