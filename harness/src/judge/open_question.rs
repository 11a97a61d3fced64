//! What the system's answer to an open question is. An answer rests on the same evidence as a verdict: what neither
//! passed nor was blocked by that measure answers nothing.

use jiff::Timestamp;

use super::finding::{in_words, micros_between};
use super::{Attempt, Check, CheckResult, Observations};
use crate::evidence::folder;
use crate::judge::{Bearing, EvidenceLine};
use crate::outcome::Outcome;

/// The answer to a question about what the orchestrator writes.
#[must_use]
pub fn answer(check: &Check, question: &str, answer: &str) -> CheckResult {
    check.stated(Outcome::Answered, question, answer)
}

/// The answer to "does it pass?", out of what was judged of the attempt both ways.
#[must_use]
pub fn answer_whether_it_passes(
    check: &Check,
    question: &str,
    permit: &CheckResult,
    denial: &CheckResult,
) -> CheckResult {
    let decided = |result: &CheckResult| {
        let lines = result.evidence.iter();
        let mut of_log = lines.filter(|line| line.found.starts_with("gateway log:"));
        of_log
            .next()
            .map(|line| format!(" ({})", line.found))
            .unwrap_or_default()
    };
    let (outcome, said, basis) = if permit.passed() {
        (
            Outcome::Answered,
            format!("it passes{}", decided(permit)),
            permit,
        )
    } else if denial.passed() {
        (
            Outcome::Answered,
            format!("it is blocked{}", decided(denial)),
            denial,
        )
    } else {
        let why = [&permit.reasons[..], &denial.reasons[..]]
            .concat()
            .join("; ");
        (
            Outcome::Inconclusive,
            format!("neither was shown: {why}"),
            denial,
        )
    };
    CheckResult {
        check: check.name.clone(),
        kind: check.kind.clone(),
        step: None,
        attempt: check.attempt.clone(),
        about: check.about.clone(),
        requirements: Vec::new(),
        outcome,
        expected: question.to_owned(),
        evidence: basis.evidence.clone(),
        reasons: vec![said],
        control_broken: outcome == Outcome::Inconclusive && denial.control_broken,
        measured: basis.measured.clone(),
    }
}

/// What became of a connection that was open when its domain was removed: `denied_at` is when the gateway was first
/// seen to deny a new connection.
#[must_use]
pub fn answer_whether_it_was_cut(
    check: &Check,
    session: &Attempt,
    denied_at: Timestamp,
    observations: &Observations,
) -> CheckResult {
    let arrived: Vec<Timestamp> = observations
        .receipts
        .iter()
        .filter(|receipt| receipt.canaries.contains(&session.canary))
        .map(|receipt| receipt.at)
        .collect();
    let before = arrived.iter().filter(|at| **at < denied_at).count();
    let after: Vec<Timestamp> = arrived
        .iter()
        .copied()
        .filter(|at| *at >= denied_at)
        .collect();
    let watched = in_words(micros_between(denied_at, observations.until));
    let ended = session.result.as_ref().map(|result| {
        let since = if result.at >= denied_at {
            format!("{} after", in_words(micros_between(denied_at, result.at)))
        } else {
            format!("{} before", in_words(micros_between(result.at, denied_at)))
        };
        (result.outcome, since)
    });
    let (outcome, said) = match (&ended, after.last()) {
        _ if before == 0 => (
            Outcome::Inconclusive,
            "nothing of it arrived while its domain was listed".to_owned(),
        ),
        (Some((how, since)), _) => (
            Outcome::Answered,
            format!("cut: {how}, {since} the gateway denied a new connection"),
        ),
        (None, None) => (
            Outcome::Answered,
            format!("stalled: it stays open, and in {watched} no request of it arrived any more"),
        ),
        (None, Some(last)) => (
            Outcome::Answered,
            format!(
                "not cut: {} requests arrived after the gateway denied a new connection, the last {} later; watched \
                 for {watched}",
                after.len(),
                in_words(micros_between(denied_at, *last))
            ),
        ),
    };
    let mut result = CheckResult::stated(
        check.clone(),
        outcome,
        "is a connection cut that was open when its domain was removed, and how soon?",
        said,
    );
    result.evidence.push(EvidenceLine {
        found: format!(
            "requests on the open connection: {before} arrived before the first denial, {} after it",
            after.len()
        ),
        file: Some(folder::RECEIPTS.to_owned()),
        position: None,
        bearing: Bearing::Supports,
    });
    result
}
