//! Servers that were made from a catalog entry.

use serde_json::Value;

use super::super::finding::Finding;
use super::super::{Check, CheckResult};
use crate::evidence::folder;

/// The claim that the orchestrator reports a server of a changed entry as outdated, or after its update as not.
#[derive(Clone, Debug, PartialEq)]
pub struct OutdatedClaim {
    /// Which check this is.
    pub check: Check,
    /// Whether the server is expected to be outdated.
    pub expected: bool,
    /// The server that was made from the entry, as the orchestrator shows it.
    pub server: Value,
    /// A multi-user server, which follows no entry.
    pub multi_user: Value,
}

/// Judges what the orchestrator says about both servers.
#[must_use]
pub fn judge_outdated(claim: &OutdatedClaim) -> CheckResult {
    let mut finding = Finding::default();
    for (words, server, expected) in [
        ("the server of the entry", &claim.server, claim.expected),
        ("the multi-user server", &claim.multi_user, false),
    ] {
        let outdated = server["needsUpdate"] == true;
        let text = format!("{words} {}: needsUpdate {outdated}", server["id"]);
        match server["id"].is_string() {
            false => finding.missing(folder::EVENTS, format!("{words} is not shown")),
            true if outdated == expected => finding.supports(folder::EVENTS, text),
            true => finding.contradicts(folder::EVENTS, text),
        }
    }
    let expected = match claim.expected {
        true => {
            "a server of a changed entry is reported to be outdated, a multi-user server is not"
        }
        false => "a server that was updated from its entry is not outdated",
    };
    finding.conclude(&claim.check, expected)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::facts::Outcome;

    #[rstest]
    #[case::outdated(json!({"id": "a", "needsUpdate": true}), json!({"id": "b"}), true, Outcome::Passed)]
    #[case::silent(json!({"id": "a"}), json!({"id": "b"}), true, Outcome::Failed)]
    #[case::still(json!({"id": "a", "needsUpdate": true}), json!({"id": "b"}), false, Outcome::Failed)]
    #[case::multi_user_too(json!({"id": "a"}), json!({"id": "b", "needsUpdate": true}), false, Outcome::Failed)]
    #[case::gone(json!({}), json!({"id": "b"}), false, Outcome::Inconclusive)]
    fn outdated(
        #[case] server: Value,
        #[case] multi_user: Value,
        #[case] expected: bool,
        #[case] outcome: Outcome,
    ) {
        let claim = OutdatedClaim {
            check: Check::new("entry-update", "outdated"),
            expected,
            server,
            multi_user,
        };
        assert_eq!(judge_outdated(&claim).outcome, outcome);
    }
}
