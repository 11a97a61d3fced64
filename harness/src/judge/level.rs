//! What a result means, by the level of the requirements it speaks for.
//!
//! | level | a contradiction is |
//! |---|---|
//! | core, extended | a failure |
//! | question | the system's answer: it can never fail a run |
//! | evasion | a finding: a residual risk that somebody has to know |
//!
//! A result for requirements of several levels is told apart, so that an open question is never counted as broken
//! because something beside it is.

use super::CheckResult;
use crate::outcome::Outcome;
use crate::requirement::Level;

/// What a finding says when the scenario states no compensating control.
const NOT_STATED: &str = "compensating control: the scenario states none";

/// The result as the levels of its requirements make it; an unknown id counts as core.
#[must_use]
pub fn by_level(result: CheckResult, level_of: impl Fn(&str) -> Option<Level>) -> Vec<CheckResult> {
    if !matches!(result.outcome, Outcome::Passed | Outcome::Failed) {
        return vec![result];
    }
    let of = |level: Option<Level>| -> Vec<String> {
        let ids = result.requirements.iter();
        ids.filter(|id| match level_of(id) {
            Some(found @ (Level::Question | Level::Evasion)) => Some(found) == level,
            _ => level.is_none(),
        })
        .cloned()
        .collect()
    };
    let (core, probe, evasion) = (
        of(None),
        of(Some(Level::Question)),
        of(Some(Level::Evasion)),
    );
    let mut results = Vec::new();
    if !core.is_empty() || result.requirements.is_empty() {
        results.push(CheckResult {
            requirements: core,
            ..result.clone()
        });
    }
    if !probe.is_empty() {
        results.push(answer(&result, probe));
    }
    if !evasion.is_empty() {
        results.push(attack(result, evasion));
    }
    results
}

fn answer(result: &CheckResult, requirements: Vec<String>) -> CheckResult {
    let (outcome, said) = match result.outcome {
        Outcome::Passed => (Outcome::Answered, "yes".to_owned()),
        _ => (
            Outcome::Answered,
            format!("no: {}", result.reasons.join("; ")),
        ),
    };
    CheckResult {
        requirements,
        outcome,
        reasons: vec![said],
        ..result.clone()
    }
}

fn attack(result: CheckResult, requirements: Vec<String>) -> CheckResult {
    if result.passed() {
        return CheckResult {
            requirements,
            ..result
        };
    }
    let mut reasons = result.reasons.clone();
    reasons.push(NOT_STATED.to_owned());
    CheckResult {
        requirements,
        outcome: Outcome::Finding,
        reasons,
        ..result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Check;
    use rstest::rstest;

    fn level_of(id: &str) -> Option<Level> {
        match id {
            "EGR-01" => Some(Level::Core),
            "EGR-09" => Some(Level::Question),
            "EGR-24" => Some(Level::Evasion),
            _ => None,
        }
    }

    fn levelled(ids: &[&str], outcome: Outcome) -> Vec<(Vec<String>, Outcome)> {
        let result = CheckResult::stated(
            Check::new("blocked", "c"),
            outcome,
            "x passes",
            "it was seen",
        )
        .showing(ids);
        by_level(result, level_of)
            .into_iter()
            .map(|result| (result.requirements, result.outcome))
            .collect()
    }

    #[rstest]
    #[case::core(&["EGR-01"], Outcome::Failed, &[("EGR-01", Outcome::Failed)])]
    #[case::unknown(&["EGR-99"], Outcome::Failed, &[("EGR-99", Outcome::Failed)])]
    #[case::none(&[], Outcome::Failed, &[("", Outcome::Failed)])]
    #[case::probe_never_fails(&["EGR-09"], Outcome::Failed, &[("EGR-09", Outcome::Answered)])]
    #[case::probe_yes(&["EGR-09"], Outcome::Passed, &[("EGR-09", Outcome::Answered)])]
    #[case::probe_unproven(&["EGR-09"], Outcome::Inconclusive, &[("EGR-09", Outcome::Inconclusive)])]
    #[case::evasion(&["EGR-24"], Outcome::Failed, &[("EGR-24", Outcome::Finding)])]
    #[case::evasion_stopped(&["EGR-24"], Outcome::Passed, &[("EGR-24", Outcome::Passed)])]
    #[case::mixed(&["EGR-01", "EGR-09"], Outcome::Failed, &[("EGR-01", Outcome::Failed), ("EGR-09", Outcome::Answered)])]
    fn levels_decide(
        #[case] ids: &[&str],
        #[case] outcome: Outcome,
        #[case] expected: &[(&str, Outcome)],
    ) {
        let expected: Vec<(Vec<String>, Outcome)> = expected
            .iter()
            .map(|(id, outcome)| {
                let ids = (!id.is_empty()).then(|| (*id).to_owned());
                (ids.into_iter().collect(), *outcome)
            })
            .collect();
        assert_eq!(levelled(ids, outcome), expected);
    }
}
