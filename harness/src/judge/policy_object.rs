//! What becomes of policy objects that are written, edited and deleted by hand, past the orchestrator.

use serde_json::Value;

use super::{Check, CheckResult};
use crate::outcome::Outcome;

/// What compensates for a second policy that widens the first.
const COMPENSATION: &str =
    "RBAC: the policy controller alone may write FirewallPolicies in the servers' namespace";

/// A policy object as the API server holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyState {
    /// Its name.
    pub name: String,
    /// Its uid: an object that was deleted and made again has another one.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its `spec`.
    pub spec: Value,
    /// Whether its status says that the firewall took this generation.
    pub enforced: bool,
}

impl PolicyState {
    /// Whether this is what `before` was, made again after a change and enforced.
    #[must_use]
    pub fn puts_back(&self, before: &Self) -> bool {
        let changed = self.uid != before.uid || self.generation > before.generation;
        changed && self.spec == before.spec && self.enforced
    }

    /// Whether a rule of it has a field that is true.
    #[must_use]
    pub fn has_field(&self, rule: &str, field: &str) -> bool {
        let rules = self.spec["rules"].as_array().into_iter().flatten();
        rules
            .filter(|one| one["name"] == *rule)
            .any(|one| one[field] == true)
    }
}

/// A policy object that was changed by hand, and what it is afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct PutBackClaim {
    /// Name and requirements of the check.
    pub check: Check,
    /// The server whose policy it is.
    pub server: String,
    /// The object before the change.
    pub before: PolicyState,
    /// The object that [puts it back](PolicyState::puts_back); none within the stated bound.
    pub back: Option<PolicyState>,
    /// The object once the bound had passed, where it was not put back before.
    pub after_the_bound: Option<PolicyState>,
}

/// Judges that the object is put back as it was, and enforced, within the stated bound.
#[must_use]
pub fn judge_put_back(claim: &PutBackClaim) -> CheckResult {
    let before = &claim.before;
    let (outcome, found) = match (&claim.back, &claim.after_the_bound) {
        (Some(now), _) if now.puts_back(before) => (
            Outcome::Passed,
            format!(
                "generation {} (uid {}) is as generation {} (uid {}) was",
                now.generation, now.uid, before.generation, before.uid
            ),
        ),
        (Some(now), _) => (Outcome::Failed, format!("its spec is {}", now.spec)),
        (None, None) => (
            Outcome::Failed,
            "within the stated bound it did not come back".to_owned(),
        ),
        (None, Some(now)) if now.spec == before.spec => (
            Outcome::Failed,
            "it came back, and the firewall did not take it within the stated bound".to_owned(),
        ),
        (None, Some(now)) => (
            Outcome::Failed,
            format!("after the stated bound its spec is {}", now.spec),
        ),
    };
    let expected = format!(
        "the FirewallPolicy {} of {} is put back and enforced",
        before.name, claim.server
    );
    claim.check.stated(outcome, expected, found)
}

/// The answer to an open question: the policy controller reads objects into a type that lacks the field, so that it may
/// not see it. `put_back` is the object once another edit, made together with the field, was undone.
#[must_use]
pub fn answer_added_field(
    check: &Check,
    server: &str,
    rule: &str,
    field: &str,
    put_back: Option<&PolicyState>,
) -> CheckResult {
    let answer = match put_back {
        None => "nothing of the edit is undone within the stated bound".to_owned(),
        Some(now) if now.has_field(rule, field) => {
            format!("no: the edit beside it was undone, and {field}: true stays on {rule}")
        }
        Some(_) => format!("yes: {field} is gone from {rule}"),
    };
    let question =
        format!("is {field}: true on the rule {rule} of {server}, set by hand, taken away?");
    check.stated(Outcome::Answered, question, answer)
}

/// Whether a host was reached while two policies selected the Pod, in both orders of their creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTrial {
    /// Name of the second policy, which permits the host.
    pub second: String,
    /// With the second as the younger of the two.
    pub passes_as_younger: bool,
    /// With the second as the older.
    pub passes_as_older: bool,
}

/// Judges that the order of creation decides nothing. A second policy that is wider than the orchestrator's own is a
/// finding.
#[must_use]
pub fn judge_two_policies(
    check: &Check,
    server: &str,
    host: &str,
    trials: &[OrderTrial],
) -> CheckResult {
    let words = |passes: bool| if passes { "passes" } else { "is blocked" };
    let found = trials.iter().map(|trial| {
        format!(
            "{host} {} with {} as the younger of the two, and {} with it as the older",
            words(trial.passes_as_younger),
            trial.second,
            words(trial.passes_as_older)
        )
    });
    let found = found.collect::<Vec<_>>().join("; ");
    let expected = format!(
        "which of two policies for the Pods of {server} decides does not depend on which was created first, and the \
         second permits nothing that the first denies"
    );
    let differs = |trial: &OrderTrial| trial.passes_as_younger != trial.passes_as_older;
    if trials.is_empty() {
        let found = "no order of creation was tried";
        check.stated(Outcome::Inconclusive, expected, found)
    } else if trials.iter().any(differs) {
        check.stated(Outcome::Failed, expected, found)
    } else if trials.iter().any(|trial| trial.passes_as_younger) {
        let found = format!("a second policy can widen the first: {found}");
        check.finding(expected, found, COMPENSATION)
    } else {
        check.stated(Outcome::Passed, expected, found)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn state(uid: &str, generation: i64, domain: &str, enforced: bool) -> PolicyState {
        PolicyState {
            name: "ms1".to_owned(),
            uid: uid.to_owned(),
            generation,
            spec: json!({"webGroups": [domain], "rules": [{"name": "deny", "watch": domain == "watched"}]}),
            enforced,
        }
    }

    #[rstest]
    #[case::edited_and_put_back(Some(state("a", 3, "x", true)), None, Outcome::Passed)]
    #[case::deleted_and_made_again(Some(state("b", 1, "x", true)), None, Outcome::Passed)]
    #[case::never_changed(Some(state("a", 1, "x", true)), None, Outcome::Failed)]
    #[case::gone(None, None, Outcome::Failed)]
    #[case::not_enforced(None, Some(state("b", 1, "x", false)), Outcome::Failed)]
    #[case::too_late(None, Some(state("b", 1, "x", true)), Outcome::Failed)]
    #[case::still_edited(None, Some(state("a", 2, "y", true)), Outcome::Failed)]
    fn put_back_is_another_object_or_generation_with_the_same_spec(
        #[case] back: Option<PolicyState>,
        #[case] after_the_bound: Option<PolicyState>,
        #[case] expected: Outcome,
    ) {
        let claim = PutBackClaim {
            check: Check::new("kind", "c"),
            server: "weather".to_owned(),
            before: state("a", 1, "x", true),
            back,
            after_the_bound,
        };
        let result = judge_put_back(&claim);
        assert_eq!(result.outcome, expected, "{result}");
    }

    #[rstest]
    #[case::kept(Some(state("a", 3, "watched", true)), "no:")]
    #[case::gone(Some(state("a", 3, "x", true)), "yes:")]
    #[case::nothing_undone(None, "nothing of the edit")]
    fn the_question_is_answered_either_way(
        #[case] put_back: Option<PolicyState>,
        #[case] answer: &str,
    ) {
        let check = Check::new("kind", "c");
        let result = answer_added_field(&check, "weather", "deny", "watch", put_back.as_ref());
        assert_eq!(result.outcome, Outcome::Answered);
        assert!(result.reasons[0].starts_with(answer), "{result}");
    }

    #[rstest]
    #[case::neither(&[(false, false), (false, false)], Outcome::Passed)]
    #[case::both(&[(true, true)], Outcome::Finding)]
    #[case::the_younger_wins(&[(false, false), (true, false)], Outcome::Failed)]
    #[case::not_tried(&[], Outcome::Inconclusive)]
    fn the_order_must_not_decide(#[case] trials: &[(bool, bool)], #[case] expected: Outcome) {
        let trials: Vec<OrderTrial> = trials
            .iter()
            .map(|&(passes_as_younger, passes_as_older)| OrderTrial {
                second: "a".to_owned(),
                passes_as_younger,
                passes_as_older,
            })
            .collect();
        let check = Check::new("kind", "c");
        let result = judge_two_policies(&check, "weather", "h.test", &trials);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
