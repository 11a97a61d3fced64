//! Seeded faults of the cluster: one named, deliberate defect each, off unless asked for. They exist so that a check can
//! be seen to fail. Each is enforced in exactly one place, named on its variant.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A deliberate defect of the embedded cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterFault {
    /// Pods leave with the node's address although masquerade is configured off (`embedded`).
    MasqueradeOn,
    /// UDP leaves the node by a route of its own, past the gateway (`network::driver`).
    UdpBypassesGateway,
    /// ICMP leaves the node by a route of its own, past the gateway (`network::driver`).
    IcmpBypassesGateway,
    /// The status of a Pod that takes another's place shows the address of the first (`node_agent::pod`).
    ReplacedPodKeepsAddress,
    /// IPv4 leaves the node by a route of its own, past the gateway, and comes back by it (`network::driver`).
    GatewayBypassed,
    /// 400 ms after each denial a datagram leaves for a host that no step names (`network::leak`).
    LateLeak,
    /// With each denial a datagram leaves that the capture outside does not show (`network::leak`).
    LeakPastCapture,
    /// Datagrams of Pods are answered as if by their destination, whatever becomes of them (`network::leak`).
    AnswersForFarEnds,
    /// The capture outside the gateway ends after its first packets, and says nothing (`network::driver`).
    CaptureStops,
    /// The firewall's types are not installed: whoever starts the cluster leaves them out.
    CrdsMissing,
    /// Cluster DNS forwards queries for every zone, whatever its configuration says (`embedded`).
    ResolverForwardsAll,
}

impl ClusterFault {
    /// Every fault of this component.
    pub const ALL: [Self; 11] = [
        Self::LateLeak,
        Self::LeakPastCapture,
        Self::AnswersForFarEnds,
        Self::CaptureStops,
        Self::MasqueradeOn,
        Self::UdpBypassesGateway,
        Self::IcmpBypassesGateway,
        Self::ReplacedPodKeepsAddress,
        Self::GatewayBypassed,
        Self::CrdsMissing,
        Self::ResolverForwardsAll,
    ];

    /// The name by which scenarios and the command line know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LateLeak => "late-leak",
            Self::LeakPastCapture => "leak-past-capture",
            Self::AnswersForFarEnds => "answers-for-far-ends",
            Self::CaptureStops => "capture-stops",
            Self::MasqueradeOn => "masquerade-on",
            Self::UdpBypassesGateway => "udp-bypasses-gateway",
            Self::IcmpBypassesGateway => "icmp-bypasses-gateway",
            Self::ReplacedPodKeepsAddress => "replaced-pod-keeps-address",
            Self::GatewayBypassed => "gateway-bypassed",
            Self::CrdsMissing => "crds-missing",
            Self::ResolverForwardsAll => "resolver-forwards-all",
        }
    }
}

impl fmt::Display for ClusterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of a fault of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault `{name}`: expected one of {}", ClusterFault::ALL.map(ClusterFault::name).join(", "))]
pub struct UnknownFault {
    /// The name.
    pub name: String,
}

impl FromStr for ClusterFault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let known = Self::ALL.into_iter().find(|fault| fault.name() == name);
        known.ok_or_else(|| UnknownFault {
            name: name.to_owned(),
        })
    }
}

/// The active faults. Empty in every run that may be believed.
pub type ClusterFaults = BTreeSet<ClusterFault>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for fault in ClusterFault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("masquerade".parse::<ClusterFault>().is_err());
    }
}
