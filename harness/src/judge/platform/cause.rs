//! Which prerequisite of the platform is not met, so that the policy is not blamed for it.
//!
//! Without one of them the firewall does something else than its policies say, and what a scenario then sees proves
//! nothing about them (reference: aviatrix-dcf.md section 3). Each is diagnosed from what the controller and the API
//! server state, or from what was observed; a cause is named only where it was seen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::canary::TYPES;
use super::path::{Bypass, bypass};
use super::settings::RECORDS_ARRIVE;
use super::{ANSWERS, Stated, entries, list, permits};
use crate::evidence::{Action, folder};
use crate::facts::Aspect;
use crate::judge::finding::Finding;
use crate::judge::masquerade::{self, Masquerade};
use crate::judge::{Bearing, Check, CheckResult, EvidenceLine, Observations, Seen, correlate};
use crate::outcome::Outcome;

/// The features without which policy objects mean nothing: the firewall itself, and its eye for Kubernetes.
pub const NEEDED: [&str; 3] = ["microseg", "k8s", "k8s_dcf_policies"];

/// What a scenario set up, and so expects to find.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Addresses of the gateway towards the internet.
    pub gateway: BTreeSet<IpAddr>,
    /// Names of the permits that were set on Tier 1, to be enforced.
    pub permits: Vec<String>,
    /// As what the cluster was registered, where that is known: any other is somebody else's.
    pub cluster: Option<String>,
    /// The default action was set to deny.
    pub default_denies: bool,
}

/// A prerequisite that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The gateway sees nodes in the place of Pods.
    Masquerade(Masquerade),
    /// The cluster lacks types of the firewall.
    TypesMissing(Vec<String>),
    /// Switches without which policy objects are ignored.
    FeaturesOff(Vec<String>),
    /// The controller does not know the cluster.
    NotRegistered,
    /// The controller knows a cluster and does nothing with it.
    NotOnboarded {
        /// A policy object without a status.
        object: String,
    },
    /// What no policy selects passes.
    DefaultActionPermits {
        /// How that is known.
        seen: String,
    },
    /// Permits that were set are not in the Tier 1 policy list, or decide on nothing there.
    PermitsLost(Vec<String>),
    /// Traffic goes around the gateway.
    GatewayBypassed {
        /// Who saw it.
        bypass: Bypass,
        /// The gateway's addresses.
        gateway: BTreeSet<IpAddr>,
    },
}

/// The prerequisites that are not met.
#[must_use]
pub fn causes(stated: &Stated, known: &Known, observations: &Observations) -> Vec<Cause> {
    let masquerade = masquerade::masquerade(observations).map(Cause::Masquerade);
    let bypassed = bypass(&known.gateway, observations).map(|bypass| Cause::GatewayBypassed {
        bypass,
        gateway: known.gateway.clone(),
    });
    let lost = permits::lost(&known.permits, stated);
    let lost = (!lost.is_empty()).then_some(Cause::PermitsLost(lost));
    masquerade
        .into_iter()
        .chain(bypassed)
        .chain(kubernetes(stated, known, observations))
        .chain(default_action(stated, known, observations))
        .chain(lost)
        .collect()
}

/// Why the controller ignores policy objects. One explains all that comes after it.
fn kubernetes(stated: &Stated, known: &Known, observations: &Observations) -> Option<Cause> {
    if let Seen::Read(types) = &stated.types {
        let missing: Vec<String> = TYPES
            .into_iter()
            .filter(|&name| types.iter().all(|known| known != name))
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            return Some(Cause::TypesMissing(missing));
        }
    }
    if let Seen::Read(features) = &stated.features {
        let off: Vec<String> = NEEDED
            .into_iter()
            .filter(|&name| features.get(name) == Some(&false))
            .map(str::to_owned)
            .collect();
        if !off.is_empty() {
            return Some(Cause::FeaturesOff(off));
        }
    }
    if let Seen::Read(clusters) = &stated.clusters
        && let Some(clusters) = entries(clusters, "clusters")
    {
        let is_own = |cluster: &Value| {
            let own = known.cluster.as_ref();
            own.is_none_or(|own| cluster["cluster_id"] == **own)
        };
        if !clusters.iter().any(is_own) {
            return Some(Cause::NotRegistered);
        }
    }
    not_onboarded(stated.policies.read()?, observations)
}

/// Policy objects of which none has a status. Where a rule of one has decided on a flow, the controller has seen them,
/// and it is the status alone that is missing.
fn not_onboarded(policies: &[Value], observations: &Observations) -> Option<Cause> {
    let untouched = |object: &&Value| object["status"]["lastReconciledGeneration"].is_null();
    if !policies.iter().all(|object| untouched(&object)) {
        return None;
    }
    let names: Vec<String> = policies.iter().map(name).collect();
    let decided = observations.log.read().is_some_and(|log| {
        log.records.iter().any(|record| {
            correlate::rule(record, observations)
                .and_then(|rule| rule.part_of.as_ref())
                .is_some_and(|object| names.contains(object))
        })
    });
    let object = names.into_iter().next()?;
    (!decided).then_some(Cause::NotOnboarded { object })
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Where the scenario set it to deny: a scenario may well be about the vendor's own default.
fn default_action(stated: &Stated, known: &Known, observations: &Observations) -> Option<Cause> {
    if !known.default_denies {
        return None;
    }
    let action = stated.default_action.read();
    let action = action.and_then(|answer| answer["action"].as_str());
    if let Some(action) = action.filter(|action| !action.eq_ignore_ascii_case("DENY")) {
        let seen = format!("the firewall's controller states {action}");
        return Some(Cause::DefaultActionPermits { seen });
    }
    let records = observations.log.read()?.records.iter();
    let mut permitted = records.filter(|record| {
        record.action == Action::Permit
            && record.enforced
            && correlate::rule(record, observations).is_some_and(|rule| rule.default_action)
    });
    let record = permitted.next()?;
    let seen = correlate::describe_record(record, observations);
    Some(Cause::DefaultActionPermits { seen })
}

/// Kinds of checks that judge a prerequisite by itself: no other prerequisite explains them away.
const PREREQUISITES: [&str; 14] = [
    "pod-addresses",
    "types-installed",
    "cluster-registered",
    "canary-reconciled",
    "canary-gone",
    "groups",
    "tier-one-permits",
    "default-action-set",
    "remote-syslog",
    "copilot-known",
    "copilot-record",
    "features-on",
    "feature-named",
    "gateway-in-path",
];

impl Cause {
    /// The prerequisite that is not met, as claims call it.
    #[must_use]
    pub fn prerequisite(&self) -> &'static str {
        match self {
            Self::Masquerade(_) => "pod-addresses",
            Self::TypesMissing(_) => "types",
            Self::NotRegistered | Self::NotOnboarded { .. } => "onboarding",
            Self::PermitsLost(_) => "tier-one-permits",
            Self::GatewayBypassed { .. } => "gateway-in-path",
            Self::FeaturesOff(_) => "features",
            Self::DefaultActionPermits { .. } => "default-action",
        }
    }

    /// The cause as a sentence, with its remedy.
    #[must_use]
    pub fn in_words(&self) -> String {
        const NOTHING: &str = "this says nothing about the policy";
        match self {
            Self::Masquerade(masquerade) => masquerade.in_words(),
            Self::TypesMissing(_) => format!(
                "{}, so that no policy object can exist; {NOTHING}. Install the chart k8s-firewall; files below its \
                 crds/ are not upgraded with it",
                self.brief()
            ),
            Self::FeaturesOff(_) => format!(
                "{}, so that it ignores policy objects; {NOTHING}. Switch on again what is off \
                 (enable_controller_feature): a reboot of the controller resets it",
                self.brief()
            ),
            Self::NotRegistered => format!(
                "{}, so that it ignores policy objects; {NOTHING}. Register it (aviatrix_kubernetes_cluster)",
                self.brief()
            ),
            Self::NotOnboarded { object } => format!(
                "{} (the status of {object} is empty); {NOTHING}. Check the registered kubeconfig, which must not run \
                 a program, and the rights of the group avx-controller",
                self.brief()
            ),
            Self::DefaultActionPermits { seen } => format!(
                "{}: {seen}; what no policy selects passes. Set the default action rule to DENY with logging",
                self.brief()
            ),
            Self::PermitsLost(_) => format!(
                "{}: the list is one for the whole controller, and whoever sets it replaces it. Set it again, and from \
                 one place alone",
                self.brief()
            ),
            Self::GatewayBypassed { .. } => format!(
                "{}, so that nothing is enforced; {NOTHING}. Route what leaves the Pods' subnets to the gateway",
                self.brief()
            ),
        }
    }

    /// The cause alone.
    fn brief(&self) -> String {
        match self {
            Self::Masquerade(masquerade) => format!(
                "masquerade is on: the gateway sees {} in the place of {}",
                masquerade.node, masquerade.pod
            ),
            Self::TypesMissing(types) => {
                format!(
                    "the firewall's types are not installed in the cluster: {}",
                    list(types)
                )
            }
            Self::FeaturesOff(features) => format!(
                "{} {} off on the firewall's controller",
                list(features),
                if features.len() == 1 { "is" } else { "are" }
            ),
            Self::NotRegistered => {
                "the cluster is not onboarded: the firewall's controller does not know it"
                    .to_owned()
            }
            Self::NotOnboarded { .. } => {
                "the cluster is not onboarded: it is registered, and the firewall's \
                                          controller reconciles nothing in it"
                    .to_owned()
            }
            Self::DefaultActionPermits { .. } => "the default action permits".to_owned(),
            Self::PermitsLost(permits) => {
                format!("the Tier 1 policy list has lost {}", list(permits))
            }
            Self::GatewayBypassed { bypass, gateway } => {
                let gateway: Vec<String> = gateway.iter().map(ToString::to_string).collect();
                format!(
                    "the gateway is not in the path: {} was reached from {}, which is not the gateway's address {}",
                    bypass.far_end,
                    bypass.peer,
                    list(&gateway)
                )
            }
        }
    }

    /// Name of the check that the prerequisite itself gets, and what it expects.
    fn expected(&self) -> (&'static str, &'static str) {
        match self {
            Self::Masquerade(_) => (
                "Pod addresses reach the gateway",
                "the gateway sees the Pods' own addresses",
            ),
            Self::TypesMissing(_) => (
                "types of the firewall",
                "the firewall's types are installed in the cluster",
            ),
            Self::FeaturesOff(_) => (
                "Kubernetes features",
                "the features that policy objects need are on",
            ),
            Self::NotRegistered | Self::NotOnboarded { .. } => (
                "cluster onboarded",
                "the firewall's controller reconciles policy objects of the cluster",
            ),
            Self::DefaultActionPermits { .. } => {
                ("default action", "what no policy permits is denied")
            }
            Self::PermitsLost(_) => (
                "Tier 1 permits",
                "the Tier 1 policy list holds what was set",
            ),
            Self::GatewayBypassed { .. } => ("gateway in the path", "far ends see the gateway"),
        }
    }

    fn file(&self) -> &'static str {
        match self {
            Self::Masquerade(_) => folder::GATEWAY_LOG,
            Self::GatewayBypassed { .. } => folder::RECEIPTS,
            _ => ANSWERS,
        }
    }

    /// The prerequisite's own result.
    #[must_use]
    pub fn result(&self) -> CheckResult {
        let (check, expected) = self.expected();
        let found = match self {
            Self::Masquerade(masquerade) => format!("{} ({})", self.in_words(), masquerade.record),
            _ => self.in_words(),
        };
        let check =
            Check::new("prerequisite", check).with(Aspect::Prerequisite, self.prerequisite());
        CheckResult::stated(check, Outcome::Failed, expected, found)
    }
}

/// Results that were judged under these causes: what was not proven because of them says so. Data that arrived where
/// it must not stays a failure. One result more for each cause names the prerequisite itself.
#[must_use]
pub fn named(causes: &[Cause], results: Vec<CheckResult>) -> Vec<CheckResult> {
    if causes.is_empty() {
        return results;
    }
    let blamed = results.into_iter().map(|mut result| {
        // A prerequisite that a scenario judges by itself stays what it is.
        if result.outcome.is_settled()
            || (is_about_a_prerequisite(&result) && !lacks_its_record(&result, causes))
        {
            if !result.outcome.is_settled() {
                explain(&mut result, causes);
            }
            return result;
        }
        if !arrived(&result) {
            result.outcome = Outcome::Inconclusive;
        }
        result.control_broken = false;
        explain(&mut result, causes);
        result
    });
    causes.iter().map(Cause::result).chain(blamed).collect()
}

/// Judges that a switch which is off is named as a cause, and that policies are ignored as long as it is: `passed` is a
/// request that one of them let through.
#[must_use]
pub fn judge_named(
    check: &Check,
    feature: &str,
    causes: &[Cause],
    passed: Option<&str>,
) -> CheckResult {
    let mut finding = Finding::default();
    let lets_pass = |cause: &&Cause| {
        matches!(
            cause,
            Cause::DefaultActionPermits { .. } | Cause::GatewayBypassed { .. }
        )
    };
    match (passed, causes.iter().find(lets_pass)) {
        (Some(request), None) => finding.contradicts(
            folder::EVENTS,
            format!("{request} passes by a policy that the controller should ignore"),
        ),
        (Some(request), Some(cause)) => finding.missing(
            folder::EVENTS,
            format!("{request} passes, which needs no policy: {}", cause.brief()),
        ),
        (None, _) => {}
    }
    let off = Cause::FeaturesOff(vec![feature.to_owned()]);
    if causes.contains(&off) {
        finding.supports(ANSWERS, format!("named: {}", off.in_words()));
    } else {
        let others: Vec<String> = causes.iter().map(Cause::brief).collect();
        finding.contradicts(ANSWERS, format!("it is not named; {} is", list(&others)));
    }
    finding.conclude(
        check,
        format!("with {feature} off the permit does not apply, and that is named as the cause"),
    )
}

fn explain(result: &mut CheckResult, causes: &[Cause]) {
    for cause in causes.iter().rev() {
        result.reasons.insert(0, cause.in_words());
        let line = EvidenceLine {
            found: cause.brief(),
            file: Some(cause.file().to_owned()),
            position: None,
            bearing: Bearing::Missing,
        };
        result.evidence.insert(0, line);
    }
}

fn is_about_a_prerequisite(result: &CheckResult) -> bool {
    PREREQUISITES.contains(&result.kind.as_str())
}

/// Whether a result failed for want of a record that cannot exist: where the gateway sees a node in the place of a Pod,
/// or nothing at all, there is none under the Pod's own address that could come to CoPilot. One that came to another
/// server alone is a loss on the way, whatever else is wrong.
fn lacks_its_record(result: &CheckResult, causes: &[Cause]) -> bool {
    let none_exists = causes
        .iter()
        .any(|cause| matches!(cause, Cause::Masquerade(_) | Cause::GatewayBypassed { .. }));
    none_exists
        && result.expected == RECORDS_ARRIVE
        && !result.evidence.iter().any(|line| {
            line.bearing == Bearing::Contradicts
                && line.file.as_deref() == Some(folder::GATEWAY_LOG)
        })
}

/// Whether a result failed because data arrived, or packets left: that is no matter of addresses.
fn arrived(result: &CheckResult) -> bool {
    let proofs = [folder::RECEIPTS, folder::OUTSIDE];
    result.outcome == Outcome::Failed
        && result.evidence.iter().any(|line| {
            line.bearing == Bearing::Contradicts
                && line
                    .file
                    .as_deref()
                    .is_some_and(|file| proofs.contains(&file))
        })
}
