//! Feature switches (`reference/aviatrix-controller-api.md` sections 4.1 and 8).
//!
//! Which ones a controller lists depends on its version. Apart from those, five are named by published blueprints as
//! what a controller restart resets; where such a one is not listed, it can be read and switched by its name alone. An
//! unknown name reads as disabled and cannot be switched. Of all of them only `microseg`, `k8s` and
//! `k8s_dcf_policies` change what this fake enforces; what each of the others does is unknown.

use super::Store;

/// The feature without which gateways enforce nothing at all.
pub const FEATURE_MICROSEG: &str = "microseg";
/// The feature without which Kubernetes identities resolve to nothing.
pub const FEATURE_K8S: &str = "k8s";
/// The feature without which policy objects in clusters are ignored.
pub const FEATURE_K8S_DCF_POLICIES: &str = "k8s_dcf_policies";

/// What a reboot of the vendor's controller was seen to reset (`reference/aviatrix-dcf.md` section 3).
pub const RESET_BY_A_REBOOT: [&str; 5] = [
    "k8s",
    "k8s_dcf_policies",
    "dcf_multi_policies",
    "k8s_discovery",
    "log_enrichment",
];

/// In every version.
const COMMON: [&str; 13] = [
    "microseg",
    "cost_iq",
    "ipv6",
    "dcf_on_s2c",
    "dcf_on_psf",
    "dcf_stats_obs_sink",
    "dcf_logs_obs_sink",
    "k8s",
    "sre_metrics_export",
    "k8s_dcf_policies",
    "dcf_on_firenet",
    "interface_mtu_based_clamping",
    "vrf",
];
/// From 8.2.20 to the 9.0 releases.
const GATEWAY_DELETION: [&str; 1] = ["primary_gateway_deletion"];
/// From 9.0 on.
const NETWORK_POLICY: [&str; 1] = ["k8s_network_policy"];
/// Newer than the 9.0 releases.
const NEWEST: [&str; 5] = [
    "conduit_tunnel_status_coalescing",
    "partitioned_event_dispatch",
    "replace_gw_make_before_break",
    "s2c_am4_0",
    "smart_gateway",
];

/// A feature that the controller's version does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown feature `{name}`; version {version} has {}", known(.version).join(", "))]
pub struct UnknownFeature {
    pub name: String,
    pub version: String,
}

/// The features that a controller of `version` (`8.2.20`, `9.0.10-1000.1`) lists. Versions between the documented ones
/// have what the one before them has.
pub fn listed(version: &str) -> Vec<&'static str> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    let more: [&[&str]; 3] = match version {
        older if older < (8, 2, 20) => [&[], &[], &[]],
        older if older < (9, 0, 0) => [&GATEWAY_DELETION, &[], &[]],
        (9, 0, _) => [&GATEWAY_DELETION, &NETWORK_POLICY, &[]],
        _ => [&[], &NETWORK_POLICY, &NEWEST],
    };
    COMMON
        .into_iter()
        .chain(more.into_iter().flatten().copied())
        .collect()
}

/// [`listed`], and those that can be switched without being listed.
fn known(version: &str) -> Vec<&'static str> {
    let mut known = listed(version);
    for name in RESET_BY_A_REBOOT {
        if !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

impl Store {
    /// Switches on what gateways need to enforce rules and policy objects at all.
    pub fn enable_firewall(&mut self) {
        for feature in [FEATURE_MICROSEG, FEATURE_K8S, FEATURE_K8S_DCF_POLICIES] {
            self.set_feature(feature, true);
        }
    }

    pub fn set_feature(&mut self, name: &str, enabled: bool) {
        self.features.insert(name.to_owned(), enabled);
    }

    /// An unknown feature reads as disabled.
    pub fn feature(&self, name: &str) -> bool {
        self.features.get(name).copied().unwrap_or(false)
    }

    /// The features that are on.
    pub fn features_on(&self) -> impl Iterator<Item = &str> {
        let features = self.features.iter();
        features
            .filter(|(_, on)| **on)
            .map(|(name, _)| name.as_str())
    }

    /// Switches a feature that a controller of `version` has.
    pub fn switch_feature(
        &mut self,
        version: &str,
        name: &str,
        enabled: bool,
    ) -> Result<(), UnknownFeature> {
        if !known(version).contains(&name) {
            return Err(UnknownFeature {
                name: name.to_owned(),
                version: version.to_owned(),
            });
        }
        self.set_feature(name, enabled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8.2.0", 13, &[], &["primary_gateway_deletion", "k8s_network_policy"])]
    #[case("8.2.0-1000.12", 13, &[], &["primary_gateway_deletion"])]
    #[case("8.2.20", 14, &["primary_gateway_deletion"], &["k8s_network_policy"])]
    #[case("9.0.10", 15, &["primary_gateway_deletion", "k8s_network_policy"], &["smart_gateway"])]
    #[case("99.0.0", 19, &["k8s_network_policy", "smart_gateway", "s2c_am4_0"], &["primary_gateway_deletion"])]
    #[case("not a version", 13, &[], &[])]
    fn each_version_lists_its_own(
        #[case] version: &str,
        #[case] count: usize,
        #[case] present: &[&str],
        #[case] absent: &[&str],
    ) {
        let listed = listed(version);
        assert_eq!(listed.len(), count, "{listed:?}");
        assert!(present.iter().all(|name| listed.contains(name)));
        assert!(!absent.iter().any(|name| listed.contains(name)));
        assert!(!listed.contains(&"cai"), "never listed");
    }

    #[test]
    fn what_a_restart_resets_can_be_switched_without_being_listed() {
        let mut store = Store::default();
        for name in RESET_BY_A_REBOOT {
            store.switch_feature("8.2.0", name, false).unwrap();
            assert!(!store.feature(name));
            store.switch_feature("8.2.0", name, true).unwrap();
            assert!(store.feature(name));
        }
        assert!(!listed("8.2.0").contains(&"log_enrichment"));
    }

    #[test]
    fn an_unknown_feature_reads_as_disabled_and_cannot_be_switched() {
        let mut store = Store::default();
        let refused = store.switch_feature("8.2.0", "smart_gateway", true);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("unknown feature `smart_gateway`"), "{text}");
        assert!(text.contains("k8s_dcf_policies"), "{text}");
        assert!(!store.feature("smart_gateway"));
    }
}
