//! Whether a server could use the orchestrator for what its own list forbids.

use super::authoring::ServerState;
use super::finding::Finding;
use super::{Check, CheckResult, Observations, correlate};
use crate::evidence::folder;
use crate::facts::{ApiCall, Outcome};

/// The claim that an API refused every call for want of a login or of a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedClaim {
    /// Which check this is.
    pub check: Check,
    /// The calls.
    pub calls: Vec<ApiCall>,
    /// A call from the same Pod to the same API that needs no login: it proves that the API is within reach.
    pub control: Option<ApiCall>,
}

/// Judges that each call was answered with 401 or 403. No answer at all is no refusal.
#[must_use]
pub fn judge_refused(claim: &RefusedClaim) -> CheckResult {
    let mut finding = Finding::default();
    match &claim.control {
        Some(control) if control.accepted() => {
            finding.neutral(folder::EVENTS, format!("control: {}", control.in_words()));
        }
        Some(control) => finding.control_broken(folder::EVENTS, control.in_words()),
        None => finding.control_broken(
            folder::EVENTS,
            "no call showed that the API is within reach",
        ),
    }
    for call in &claim.calls {
        match call.status {
            Some(401 | 403) => finding.supports(folder::EVENTS, call.in_words()),
            Some(_) => finding.contradicts(folder::EVENTS, call.in_words()),
            None => finding.missing(folder::EVENTS, call.in_words()),
        }
    }
    finding.conclude(&claim.check, "each call is answered with 401 or 403")
}

/// The claim that calls changed nothing about a server.
#[derive(Clone, Debug, PartialEq)]
pub struct UntouchedClaim {
    /// Which check this is.
    pub check: Check,
    /// Name of the server.
    pub server: String,
    /// The server before the calls.
    pub before: ServerState,
    /// The server after them.
    pub after: ServerState,
}

/// Judges that manifest, policy, policy object and Pod of a server are what they were.
#[must_use]
pub fn judge_untouched(claim: &UntouchedClaim) -> CheckResult {
    let mut finding = Finding::default();
    claim.before.compare(&claim.after, &mut finding);
    let server = &claim.server;
    finding.conclude(
        &claim.check,
        format!("manifest, policy, policy object and Pod of {server} stay as they were"),
    )
}

/// The claim that a call through another server carried nothing out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayClaim {
    /// Which check this is.
    pub check: Check,
    /// The calls of the server that wants to use the other one.
    pub calls: Vec<ApiCall>,
    /// The token in what it wants to send.
    pub canary: String,
    /// A token that an agent sent through the same server by the same way, and where to.
    pub control: Option<(String, String)>,
}

/// Judges that each call was refused and its canary reached no far end, where an agent's call by the same way did.
#[must_use]
pub fn judge_no_relay(claim: &RelayClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    for call in &claim.calls {
        match call.status {
            Some(401 | 403) => finding.supports(folder::EVENTS, call.in_words()),
            Some(_) => finding.contradicts(folder::EVENTS, call.in_words()),
            None => finding.missing(folder::EVENTS, call.in_words()),
        }
    }
    let arrived = correlate::with_canary(&claim.canary, observations);
    for receipt in arrived {
        let what = correlate::describe_receipt(receipt);
        let text = format!("{} received {what}", receipt.endpoint);
        finding.contradicts(folder::RECEIPTS, text);
    }
    let passed = claim.control.as_ref().is_some_and(|(canary, far_end)| {
        let receipts = correlate::with_canary(canary, observations);
        let mut arrived = receipts.iter();
        arrived.any(|receipt| receipt.endpoint == *far_end)
    });
    match &claim.control {
        Some((_, far_end)) if passed => finding.neutral(
            folder::RECEIPTS,
            format!("control: an agent's call of the same tool reached {far_end}"),
        ),
        _ => finding.control_broken(
            folder::RECEIPTS,
            "no agent's call of the same tool reached its far end",
        ),
    }
    finding.conclude(
        &claim.check,
        "each call through the other server is refused, and no far end sees what it carries",
    )
}

/// What a server reached by way of an orchestrator that asks for no login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenClaim {
    /// Which check this is.
    pub check: Check,
    /// What the server may do then, as a sentence.
    pub risk: String,
    /// The setting that prevents it.
    pub setting: String,
    /// The calls.
    pub calls: Vec<ApiCall>,
    /// Where the data went to.
    pub far_end: String,
    /// The token in the data.
    pub canary: String,
}

/// Judges whether the risk is real: calls were accepted and the far end got the data. Then it is a finding that names the
/// setting. Refused calls are no risk; accepted ones without data at the far end show nothing.
#[must_use]
pub fn judge_open(claim: &OpenClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let accepted = claim.calls.iter().any(ApiCall::accepted);
    for call in &claim.calls {
        match call.status {
            Some(_) => finding.supports(folder::EVENTS, call.in_words()),
            None => finding.missing(folder::EVENTS, call.in_words()),
        }
    }
    let receipts = correlate::with_canary(&claim.canary, observations);
    let arrived = receipts
        .iter()
        .any(|receipt| receipt.endpoint == claim.far_end);
    let far_end = &claim.far_end;
    match (accepted, arrived) {
        (_, true) => finding.supports(folder::RECEIPTS, format!("{far_end} received the canary")),
        (true, false) => finding.missing(
            folder::RECEIPTS,
            format!("calls were accepted, and {far_end} received nothing"),
        ),
        (false, false) => {}
    }
    let mut result = finding.conclude(&claim.check, format!("whether {}", claim.risk));
    if arrived && result.passed() {
        result.outcome = Outcome::Finding;
        result.reasons = vec![
            claim.risk.clone(),
            format!("compensating control: {}", claim.setting),
        ];
    }
    result
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn call(status: Option<u16>) -> ApiCall {
        ApiCall {
            pod: "weather".to_owned(),
            login: "without a login".to_owned(),
            method: "PUT".to_owned(),
            target: "obot/api/mcp-servers/ms1abcde".to_owned(),
            status,
            detail: String::new(),
        }
    }

    #[rstest]
    #[case::refused(&[Some(401), Some(403)], Some(Some(200)), Outcome::Passed)]
    #[case::accepted(&[Some(401), Some(200)], Some(Some(200)), Outcome::Failed)]
    #[case::another_error(&[Some(500)], Some(Some(200)), Outcome::Failed)]
    #[case::no_answer(&[Some(401), None], Some(Some(200)), Outcome::Inconclusive)]
    #[case::out_of_reach(&[Some(401)], Some(None), Outcome::Inconclusive)]
    #[case::no_control(&[Some(401)], None, Outcome::Inconclusive)]
    #[case::no_call(&[], Some(Some(200)), Outcome::Inconclusive)]
    fn refusals(
        #[case] statuses: &[Option<u16>],
        #[case] control: Option<Option<u16>>,
        #[case] expected: Outcome,
    ) {
        let result = judge_refused(&RefusedClaim {
            check: Check::new("refused", "refused"),
            calls: statuses.iter().map(|&status| call(status)).collect(),
            control: control.map(call),
        });
        assert_eq!(result.outcome, expected, "{result}");
    }

    #[rstest]
    #[case::refused_without_a_control(Some(401), Outcome::Inconclusive)]
    #[case::accepted(Some(200), Outcome::Failed)]
    fn relays(#[case] status: Option<u16>, #[case] expected: Outcome) {
        let claim = RelayClaim {
            check: Check::new("relay", "relay"),
            calls: vec![call(status)],
            canary: "cnry-0123456789abcdef".to_owned(),
            control: None,
        };
        let result = judge_no_relay(&claim, &Observations::default());
        assert_eq!(result.outcome, expected, "{result}");
    }

    #[rstest]
    #[case::refused(Some(401), Outcome::Passed)]
    #[case::accepted_and_nothing_arrived(Some(200), Outcome::Inconclusive)]
    #[case::no_answer(None, Outcome::Inconclusive)]
    fn an_open_door_is_a_finding_only_when_data_left(
        #[case] status: Option<u16>,
        #[case] expected: Outcome,
    ) {
        let claim = OpenClaim {
            check: Check::new("open", "open"),
            risk: "a server widens its own list".to_owned(),
            setting: "OBOT_SERVER_ENABLE_AUTHENTICATION=true".to_owned(),
            calls: vec![call(status)],
            far_end: "collect.pkg-telemetry.test".to_owned(),
            canary: "cnry-0123456789abcdef".to_owned(),
        };
        let result = judge_open(&claim, &Observations::default());
        assert_eq!(result.outcome, expected, "{result}");
    }
}
