//! Tries of one scenario become one scenario of the report.

use crate::evidence::Measurement;
use crate::outcome::Outcome;
use crate::report::model::{Scenario, Try};

/// One scenario with its figures, and which retry it is.
pub(super) type Built = (Scenario, Vec<Measurement>, u32);

/// Puts each retry in the place of the try before it. The last try speaks for the scenario, but for its outcome: settled
/// after an unsettled one is flaky; never settled is the gravest of all.
pub(super) fn merge(built: Vec<Built>) -> Vec<(Scenario, Vec<Measurement>)> {
    let mut merged: Vec<Built> = Vec::new();
    let mut ordered = built;
    ordered.sort_by_key(|(_, _, retry)| *retry);
    for (mut scenario, figures, retry) in ordered {
        let same = |known: &&mut Built| {
            known.0.location == scenario.location && known.0.name == scenario.name
        };
        match merged.iter_mut().find(same) {
            Some(known) if retry > 0 => {
                let before = std::mem::replace(&mut known.0, scenario);
                known.0.earlier = [before.earlier.clone(), vec![one_try(&before)]].concat();
                known.1 = figures;
            }
            _ => {
                scenario.earlier = Vec::new();
                merged.push((scenario, figures, retry));
            }
        }
    }
    merged.sort_by(|a, b| first_folder(&a.0).cmp(first_folder(&b.0)));
    for (scenario, _, _) in &mut merged {
        judge(scenario);
    }
    merged
        .into_iter()
        .map(|(scenario, figures, _)| (scenario, figures))
        .collect()
}

fn first_folder(scenario: &Scenario) -> &str {
    scenario
        .earlier
        .first()
        .map_or(&scenario.evidence, |first| &first.evidence)
}

fn one_try(scenario: &Scenario) -> Try {
    let check = scenario
        .checks
        .iter()
        .find(|check| check.outcome == scenario.outcome);
    let by_check = || check.map(|check| format!("{}: {}", check.check, check.reasons.join("; ")));
    Try {
        outcome: scenario.outcome,
        reason: scenario
            .reason
            .clone()
            .or_else(by_check)
            .unwrap_or_else(|| "no reason given".to_owned()),
        evidence: scenario.evidence.clone(),
        evidence_sha256: scenario.evidence_sha256.clone(),
    }
}

fn judge(scenario: &mut Scenario) {
    let Some(first) = scenario.earlier.first() else {
        return;
    };
    if scenario.outcome.is_settled() {
        scenario.reason = Some(format!(
            "retry {} is {}, and the first try was {}: {}",
            scenario.earlier.len(),
            scenario.outcome,
            first.outcome,
            first.reason
        ));
        scenario.outcome = Outcome::Flaky;
    } else {
        let all = scenario.earlier.iter().map(|earlier| earlier.outcome);
        scenario.outcome = Outcome::gravest(all.chain([scenario.outcome]));
    }
}
