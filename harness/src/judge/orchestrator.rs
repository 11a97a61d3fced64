//! What the orchestrator has: a policy before anything runs, and after a restart everything it knew.

use super::policy_object::PolicyState;
use super::{Check, CheckResult};
use crate::outcome::Outcome;

/// Judges that the orchestrator had a policy for a server before it was launched. `names` are its policies then.
#[must_use]
pub fn judge_policy_before_launch(check: &Check, server: &str, names: &[String]) -> CheckResult {
    let expected = format!("an MCPNetworkPolicy of {server} exists before it is launched");
    match names {
        [] => check.stated(
            Outcome::Failed,
            expected,
            "within the stated bound there is none",
        ),
        names => check.stated(Outcome::Passed, expected, names.join(", ")),
    }
}

/// Judges that the orchestrator lists a server after its restart.
#[must_use]
pub fn judge_remembered(check: &Check, server: &str, id: &str, listed: &[String]) -> CheckResult {
    let outcome = if listed.iter().any(|known| known == id) {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let expected = format!("the orchestrator knows {server} ({id}) after its restart");
    check.stated(outcome, expected, format!("it lists {}", listed.join(", ")))
}

/// Judges that a policy object was never deleted: another one of the same name has another uid.
#[must_use]
pub fn judge_policy_kept(
    check: &Check,
    before: &PolicyState,
    now: Option<&PolicyState>,
) -> CheckResult {
    let outcome = if now.is_some_and(|now| now.uid == before.uid) {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let found = now.map_or_else(
        || "it is gone".to_owned(),
        |now| format!("{} (uid {})", now.name, now.uid),
    );
    let expected = format!(
        "the FirewallPolicy {} with uid {} was never deleted",
        before.name, before.uid
    );
    check.stated(outcome, expected, found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn policy(uid: &str) -> PolicyState {
        PolicyState {
            name: "ms1".to_owned(),
            uid: uid.to_owned(),
            generation: 1,
            spec: Value::Null,
            enforced: true,
        }
    }

    #[rstest]
    #[case::kept(Some(policy("a")), Outcome::Passed)]
    #[case::made_again(Some(policy("b")), Outcome::Failed)]
    #[case::gone(None, Outcome::Failed)]
    fn a_policy_is_kept_by_its_uid(#[case] now: Option<PolicyState>, #[case] expected: Outcome) {
        let result = judge_policy_kept(&Check::new("kind", "c"), &policy("a"), now.as_ref());
        assert_eq!(result.outcome, expected, "{result}");
    }

    #[rstest]
    #[case::known(&["ms1"], Outcome::Passed)]
    #[case::others(&["ms2"], Outcome::Failed)]
    #[case::none(&[], Outcome::Failed)]
    fn a_server_is_known_by_its_id(#[case] listed: &[&str], #[case] expected: Outcome) {
        let listed: Vec<String> = listed.iter().map(|&id| id.to_owned()).collect();
        let check = Check::new("kind", "c");
        let result = judge_remembered(&check, "weather", "ms1", &listed);
        assert_eq!(result.outcome, expected, "{result}");
        let before_launch = judge_policy_before_launch(&check, "weather", &listed);
        assert_eq!(before_launch.passed(), !listed.is_empty());
    }
}
