//! Where the vendor's behaviour is unknown, the fake has a switch.

use serde::Serialize;

/// Every switch of the policy model, with the default of `reference/aviatrix-dcf.md` sections 2.3 and 7. Switches that
/// belong to packets (closing, live sessions, records) are the gateway's; the default action and the feature flags are
/// the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Switches {
    /// `*` matches across several labels: `*.example.com` matches `a.b.example.com`. Default true (plain glob).
    pub wildcard_spans_labels: bool,
    /// A leading `*.` matches the apex as well. Default false: vendor groups list both.
    pub wildcard_matches_apex: bool,
    /// Names are compared without regard to case. Default true.
    pub case_insensitive: bool,
    /// What a domain that is nothing but `*` means. Default [`BareStar::Accept`].
    pub bare_star: BareStar,
    /// A Host header is compared on port 443 too. Default true: the documentation limits it to no port.
    pub host_header_on_tls_port: bool,
    /// Evaluation goes on behind a watch rule that matched. Default true; if false the flow passes.
    pub watch_continues: bool,
    /// A WebgroupPolicy compiles to a permit rule of its own. Default true; in early releases it only made the groups.
    pub webgroup_policy_enforces: bool,
    /// A WebGroup may hold domains and URLs. Default false, as the vendor's documentation has it
    /// (`reference/aviatrix-controller-api.md` section 7), although the example of section 3 there holds both.
    pub mixed_web_groups: bool,
    /// What policy objects became stays enforced when their cluster is taken off the controller. Default true: the
    /// vendor's mirrors go only when the deletion of the object is seen.
    pub orphans_stay: bool,
    /// The order between policy objects is unknown: it is a permutation drawn from this seed. Default 0.
    pub object_order_seed: u64,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            wildcard_spans_labels: true,
            wildcard_matches_apex: false,
            case_insensitive: true,
            bare_star: BareStar::default(),
            host_header_on_tls_port: true,
            watch_continues: true,
            webgroup_policy_enforces: true,
            mixed_web_groups: false,
            orphans_stay: true,
            object_order_seed: 0,
        }
    }
}

/// The meaning of the bare domain `*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BareStar {
    /// A glob like any other: every name, but not a flow without a name.
    #[default]
    Accept,
    /// Refused: the policy object is in error.
    Reject,
    /// The system group All-Web: flows without a name too.
    AllWeb,
}
