//! Which Pod stands where another stood: replaced, at another address, or at an address that another had.

use super::{Check, CheckResult, PodFact};
use crate::outcome::Outcome;

/// Judges that the Pod in the place of another has an address of its own.
#[must_use]
pub fn judge_other_address(
    check: &Check,
    server: &str,
    before: &PodFact,
    after: &PodFact,
) -> CheckResult {
    let outcome = if before.address == after.address {
        Outcome::Inconclusive
    } else {
        Outcome::Passed
    };
    let found = format!(
        "{} ({}) took the place of {} ({})",
        after.name, after.address, before.name, before.address
    );
    let expected = format!("the new Pod of {server} has an address of its own");
    check.stated(outcome, expected, found)
}

/// Judges that a Pod has the address that another had before: without that, nothing is shown about reuse.
#[must_use]
pub fn judge_address_reused(
    check: &Check,
    who: &str,
    former: &str,
    pod: &PodFact,
    before: &PodFact,
) -> CheckResult {
    let outcome = if pod.address == before.address {
        Outcome::Passed
    } else {
        Outcome::Inconclusive
    };
    let found = format!(
        "{} ({}), where {} had {}",
        pod.name, pod.address, before.name, before.address
    );
    let expected = format!("the Pod of {who} has an address that a Pod of {former} had before");
    check.stated(outcome, expected, found)
}

/// Judges that a server still runs in the Pod that it ran in, whose containers were never restarted.
#[must_use]
pub fn judge_same_pod(
    check: &Check,
    server: &str,
    before: &str,
    now: &str,
    restarts: i32,
) -> CheckResult {
    let outcome = if now == before && restarts == 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let found = format!("Pod {now}, {restarts} restarts; before the first change it was {before}");
    let expected = format!("the Pod of {server} is the same as before, with no restart");
    check.stated(outcome, expected, found)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    fn pod(name: &str, last: u8) -> PodFact {
        PodFact {
            namespace: "obot-mcp".to_owned(),
            name: name.to_owned(),
            address: [10, 244, 0, last].into(),
            server: None,
            since: Timestamp::UNIX_EPOCH,
            until: None,
        }
    }

    #[rstest]
    #[case::the_same(7, Outcome::Inconclusive, Outcome::Passed)]
    #[case::another(8, Outcome::Passed, Outcome::Inconclusive)]
    fn an_address_is_reused_or_another(
        #[case] address: u8,
        #[case] other: Outcome,
        #[case] reused: Outcome,
    ) {
        let check = Check::new("kind", "c");
        let (before, after) = (pod("a", 7), pod("b", address));
        let result = judge_other_address(&check, "weather", &before, &after);
        assert_eq!(result.outcome, other, "{result}");
        let result = judge_address_reused(&check, "weather", "portal", &after, &before);
        assert_eq!(result.outcome, reused, "{result}");
    }

    #[rstest]
    #[case::same("a", 0, Outcome::Passed)]
    #[case::restarted("a", 1, Outcome::Failed)]
    #[case::replaced("b", 0, Outcome::Failed)]
    fn a_restart_is_another_pod_or_a_count(
        #[case] now: &str,
        #[case] restarts: i32,
        #[case] expected: Outcome,
    ) {
        let result = judge_same_pod(&Check::new("kind", "c"), "weather", "a", now, restarts);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
