//! Whether a server that is a package starts, with its registry in its list and without it.

use super::{Check, CheckResult};
use crate::outcome::Outcome;

/// Judges that a server does not start for want of its package. `said` is npm's own line about it. That the firewall
/// stopped npm is another check.
#[must_use]
pub fn judge_does_not_start(
    check: &Check,
    server: &str,
    ready: bool,
    said: Option<&str>,
) -> CheckResult {
    let expected = format!("the server {server} does not start without its package");
    let (outcome, found) = match said {
        _ if ready => (
            Outcome::Failed,
            "its Pod is ready: it started without access to the registry".to_owned(),
        ),
        Some(line) => (
            Outcome::Passed,
            format!("its Pod is not ready, and says: {line}"),
        ),
        None => (
            Outcome::Inconclusive,
            "its Pod is not ready, and npm did not say why in time".to_owned(),
        ),
    };
    check.stated(outcome, expected, found)
}

/// What was seen of a server that should start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSeen {
    /// Its Pod is ready.
    pub ready: bool,
    /// Archives that the registry handed out.
    pub packages: Vec<String>,
    /// The gateway's log holds a permit for the registry.
    pub logged: bool,
}

/// Judges that a server starts from packages that its registry handed out through the gateway.
#[must_use]
pub fn judge_starts(check: &Check, server: &str, registry: &str, seen: &StartSeen) -> CheckResult {
    let found = format!(
        "its Pod is {}; {registry} handed out {}; the gateway {} the permit",
        if seen.ready { "ready" } else { "not ready" },
        if seen.packages.is_empty() {
            "no package".to_owned()
        } else {
            seen.packages.join(" and ")
        },
        if seen.logged { "logged" } else { "did not log" },
    );
    let outcome = match (seen.ready, seen.packages.is_empty(), seen.logged) {
        (true, false, true) => Outcome::Passed,
        (false, ..) => Outcome::Failed,
        _ => Outcome::Inconclusive,
    };
    let expected = format!("the server {server} starts once {registry} is in its list");
    check.stated(outcome, expected, found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::said(false, Some("npm error code E403"), Outcome::Passed)]
    #[case::silent(false, None, Outcome::Inconclusive)]
    #[case::ready_all_the_same(true, Some("npm error"), Outcome::Failed)]
    fn not_ready_and_why(
        #[case] ready: bool,
        #[case] said: Option<&str>,
        #[case] expected: Outcome,
    ) {
        let result = judge_does_not_start(&Check::new("kind", "c"), "ehr-sync-npx", ready, said);
        assert_eq!(result.outcome, expected, "{result}");
    }

    #[rstest]
    #[case::all(true, &["a.tgz"], true, Outcome::Passed)]
    #[case::not_ready(false, &["a.tgz"], true, Outcome::Failed)]
    #[case::from_elsewhere(true, &[], true, Outcome::Inconclusive)]
    #[case::not_logged(true, &["a.tgz"], false, Outcome::Inconclusive)]
    fn ready_from_packages_that_passed_the_gateway(
        #[case] ready: bool,
        #[case] packages: &[&str],
        #[case] logged: bool,
        #[case] expected: Outcome,
    ) {
        let seen = StartSeen {
            ready,
            packages: packages.iter().map(|&name| name.to_owned()).collect(),
            logged,
        };
        let result = judge_starts(&Check::new("kind", "c"), "ehr-sync-npx", "npm.test", &seen);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
