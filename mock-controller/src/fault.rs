//! Seeded faults: one named, deliberate defect each, off unless asked for. They exist so that every check can be seen
//! to fail. Each is realised in exactly one place, the module named on its group; a fault of policy is compiled into
//! the policy there, so that nothing asks for faults while packets pass.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Declares the enum with its names once, so that no list of them can be incomplete.
macro_rules! faults {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// A deliberate defect of the fake Aviatrix.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Fault {
            $($(#[$doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Fault {
            /// Every fault of this component.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name by which scenarios and the command line know it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

faults! {
    // What the controller makes of the configuration (`translate::seeded`).
    /// The default action is compiled as PERMIT, whatever is configured.
    DefaultActionPermit = "default-action-permit",
    /// The default action denies without a record.
    DefaultActionUnlogged = "default-action-unlogged",
    /// The default action decides before any policy does.
    DefaultActionFirst = "default-action-first",
    /// The default action is compiled as the last rule of a policy list instead of POST_RULES.
    DefaultActionInList = "default-action-in-list",
    /// The lists of policy objects are evaluated before those of the administrator.
    TierOrderWrong = "tier-order-wrong",
    /// The administrator's permits by address are not compiled.
    CidrPermitIgnored = "cidr-permit-ignored",
    /// The administrator's permits by domain are not compiled.
    DomainPermitIgnored = "domain-permit-ignored",
    /// The administrator's permits apply to every source, whatever SmartGroup they name.
    PermitSourceIgnored = "permit-source-ignored",
    /// An address in a SmartGroup stands for its whole /24 (IPv6: /120).
    AddressWidened = "address-widened",
    /// Of all policy objects only one is compiled: the last one wins.
    OnePolicyOnly = "one-policy-only",
    /// The order between policy objects follows their arrival: the newest comes first.
    NewestPolicyFirst = "newest-policy-first",
    /// Selectors by label select every Pod of the namespace.
    LabelSelectorIgnored = "label-selector-ignored",
    /// Selectors select Pods of every namespace.
    NamespaceIgnored = "namespace-ignored",
    /// A SmartGroup without members matches every source.
    EmptyGroupMatchesAll = "empty-group-matches-all",
    /// A domain matches every name that ends with the same letters: `*.example.com` takes `evil-example.com`.
    DomainSuffixMatch = "domain-suffix-match",
    /// A domain matches every name that begins with it: `example.com` takes `example.com.attacker.test`.
    DomainPrefixMatch = "domain-prefix-match",
    /// `*.example.com` matches the apex `example.com`.
    WildcardMatchesApex = "wildcard-matches-apex",
    /// A wildcard is a character like any other: it matches no real name.
    WildcardLiteral = "wildcard-literal",
    /// The bare domain `*` matches nothing, instead of every name.
    BareStarIgnored = "bare-star-ignored",
    /// Names are compared by case.
    CaseSensitiveNames = "case-sensitive-names",
    /// The ports of a rule are ignored.
    AnyPortPasses = "any-port-passes",
    /// No policy applies to UDP.
    UdpPasses = "udp-passes",
    /// No policy applies to ICMP.
    IcmpPasses = "icmp-passes",
    /// TLS to a package registry passes, whoever asks.
    RegistryPasses = "registry-passes",
    /// Denials are logged, and nothing else: what a rule denies passes.
    DenialsNotEnforced = "denials-not-enforced",
    /// A watch rule is enforced, not only reported.
    WatchEnforced = "watch-enforced",

    // What the controller sees of the cluster (`controller::seeded`).
    /// A policy object is compiled as it was first seen; later generations are ignored.
    IgnoreUpdates = "ignore-updates",
    /// Domains that are added to an existing policy object are ignored.
    AdditionsIgnored = "additions-ignored",
    /// Domains that are removed from a policy object stay in force.
    RemovalsIgnored = "removals-ignored",
    /// A deleted policy object stays in force.
    DeletedPolicyEnforced = "deleted-policy-enforced",
    /// Addresses of Pods that are gone stay members of their groups.
    StaleAddressesKept = "stale-addresses-kept",
    /// The labels of the first Pod with an address stay with the address.
    AddressReuseInherits = "address-reuse-inherits",
    /// A Pod that takes another's place is not seen: membership stays with the first.
    ReplacedPodUnseen = "replaced-pod-unseen",

    // What the controller does with its registrations and after a restart (`controller`, `controller::onboarding`).
    /// A cluster that is registered is never watched.
    ClusterNotOnboarded = "cluster-not-onboarded",
    /// The Kubernetes feature flags are off after a restart of the controller.
    FlagsResetAtRestart = "flags-reset-at-restart",

    // What the controller says of its work (`controller`).
    /// The status of policy objects is never written.
    StatusNeverWritten = "status-never-written",

    // What the controller does with what an administrator configured (`controller`, `controller::seeded`).
    /// The V1 policy list is empty, whatever was set.
    InfraListLost = "infra-list-lost",
    /// The V1 policy list holds a rule of somebody else's in place of those that were set.
    V1ListOverwritten = "v1-list-overwritten",
    /// The rules of the V1 policy list are set to be monitored, whatever was set: they decide on nothing.
    PermitInMonitorMode = "permit-in-monitor-mode",
    /// The default action goes back to what the vendor ships, PERMIT without a record, after each change.
    DefaultActionPutLost = "default-action-put-lost",
    /// A cluster's registration is accepted and forgotten.
    RegistrationLost = "registration-lost",
    /// Remote syslog of index 9, which is CoPilot's, is not kept.
    SyslogNineDropped = "syslog-nine-dropped",
    /// The association with CoPilot knows its private address alone.
    CopilotPublicAddressMissing = "copilot-public-address-missing",
    /// A SmartGroup or WebGroup keeps no more than five entries of its selector.
    GroupTruncated = "group-truncated",
    /// Policy objects of clusters are compiled and enforced, and nothing of them is listed.
    MirrorsNotListed = "mirrors-not-listed",
    /// Policy objects of clusters are compiled although the features that they need are off.
    FeaturesIgnored = "features-ignored",

    // What the gateway decides (`gateway::core`, `gateway::proxy`, `gateway::seeded`, `gateway::admission`).
    /// A ClientHello without SNI is permitted by any rule that asks for a name.
    PermitMissingSni = "permit-missing-sni",
    /// Bytes that are neither TLS nor HTTP are permitted where a rule asks for a name.
    NonTlsPasses = "non-tls-passes",
    /// An address that was reached with a permitted name is permitted for every name.
    PermitByAddress = "permit-by-address",
    /// A ClientHello that does not come in one segment passes unread.
    SplitSegmentsPass = "split-segments-pass",
    /// A ClientHello that is spread over several TLS records passes, whatever its name.
    SplitRecordsPass = "split-records-pass",
    /// The handshake is passed on before the name is known: the destination sees a SYN.
    HandshakeBeforeVerdict = "handshake-before-verdict",
    /// IPv6 is passed on without a look at the policy, and without a record.
    Ipv6Forgotten = "ipv6-forgotten",
    /// The packet that is denied is passed on; those behind it are not.
    FirstPacketPasses = "first-packet-passes",
    /// A gateway that has restarted permits everything until the controller pushes a policy.
    OpenWhileRestarting = "open-while-restarting",
    /// For 30 ms after each push of a policy everything is permitted.
    PushGap = "push-gap",
    /// A source may take all that is free of a resource: bounds are global.
    SharesIgnored = "shares-ignored",
    /// A client that shows no name before the inspection ends is passed on.
    StallOpens = "stall-opens",
    /// Fragments are passed on, and logged as denied.
    FragmentsPass = "fragments-pass",
    /// Packets with IPv4 options or IPv6 extension headers are passed on, and logged as denied.
    IpOptionsPass = "ip-options-pass",
    /// A SYN that carries data is passed on, whatever is decided about it.
    SynDataPasses = "syn-data-passes",

    // What the gateway does with payloads that it denies (`gateway::seeded`).
    /// The hex of the first 64 bytes of each denied payload goes to another host by UDP.
    MirrorHex = "mirror-hex",
    /// The first byte of each denied payload goes to another host by UDP.
    MirrorByte = "mirror-byte",
    /// As mirror-hex, 400 ms later.
    MirrorLate = "mirror-late",

    // What the gateway's log says (`gateway::seeded`).
    /// Denials are not logged.
    NoDenialLog = "no-denial-log",
    /// Permits are not logged.
    NoPermitLog = "no-permit-log",
    /// Of ten permits one is logged.
    PermitLogOneInTen = "permit-log-one-in-ten",
    /// Denials are logged with the gateway's own address as the source.
    LogWrongSource = "log-wrong-source",
    /// Denials are logged without the rule.
    LogLacksRule = "log-lacks-rule",
    /// Denials are logged without the server name.
    LogLacksName = "log-lacks-name",
    /// Denials are logged with a time that is an hour behind.
    LogClockBehind = "log-clock-behind",

    // What becomes of the gateway's log (`syslog`).
    /// Records leave the gateway and never reach a syslog server.
    SyslogLost = "syslog-lost",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of a fault of the fake Aviatrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault `{name}`: expected one of {}", known())]
pub struct UnknownFault {
    pub name: String,
}

fn known() -> String {
    let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    names.join(", ")
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|fault| fault.name() == name)
            .ok_or_else(|| UnknownFault {
                name: name.to_owned(),
            })
    }
}

/// The set of active faults. Empty in every run that may be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self::from_iter([fault])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_parse_back_and_agree_with_serde() {
        for &fault in Fault::ALL {
            assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.name());
        }
        let error = "drop-everything".parse::<Fault>().unwrap_err();
        assert!(
            error.to_string().contains("drop-everything")
                && error.to_string().contains("ignore-updates")
        );
    }
}
