//! Whether a policy controller that reports ready is blind.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::{Check, CheckResult};
use crate::evidence::folder;

/// The claim that the policy controller reports ready while it makes nothing of a server's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindClaim {
    /// Which check this is.
    pub check: Check,
    /// The policy controller's Pods, and whether each reports ready.
    pub pods: BTreeMap<String, bool>,
    /// The server that was made while it is blind.
    pub server: String,
    /// FirewallPolicies of that server.
    pub policies: Vec<String>,
}

/// Judges what the component says of itself against what it did. That the server is confined all the same is for the
/// attempts of its Pod to show: readiness is not enforcement.
#[must_use]
pub fn judge_blind_but_ready(claim: &BlindClaim) -> CheckResult {
    let mut finding = Finding::default();
    let server = &claim.server;
    if claim.pods.is_empty() {
        finding.missing(folder::EVENTS, "the policy controller has no Pod");
    }
    for (pod, ready) in &claim.pods {
        match ready {
            true => finding.supports(folder::EVENTS, format!("{pod} reports ready")),
            false => finding.contradicts(
                folder::EVENTS,
                format!("{pod} reports that it is not ready"),
            ),
        }
    }
    match claim.policies.as_slice() {
        [] => finding.supports(folder::POLICY, format!("{server} has no FirewallPolicy")),
        policies => finding.contradicts(
            folder::POLICY,
            format!("{server} has {}: the controller sees", policies.join(", ")),
        ),
    }
    finding.conclude(
        &claim.check,
        format!(
            "the policy controller reports ready and has made nothing of the policy of {server}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::facts::Outcome;

    #[rstest]
    #[case::blind(&[true], &[], Outcome::Passed)]
    #[case::says_so(&[false], &[], Outcome::Failed)]
    #[case::sees(&[true], &["obot-mnp1abcde-fw"], Outcome::Failed)]
    #[case::gone(&[], &[], Outcome::Inconclusive)]
    fn readiness(#[case] ready: &[bool], #[case] policies: &[&str], #[case] expected: Outcome) {
        let pods = ready.iter().enumerate();
        let claim = BlindClaim {
            check: Check::new("blind-but-ready", "blind"),
            pods: pods
                .map(|(index, ready)| (index.to_string(), *ready))
                .collect(),
            server: "ehr-sync".to_owned(),
            policies: policies.iter().map(|&name| name.to_owned()).collect(),
        };
        assert_eq!(judge_blind_but_ready(&claim).outcome, expected);
    }
}
