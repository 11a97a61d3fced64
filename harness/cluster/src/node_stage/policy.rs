//! NetworkPolicy as addresses and ports, ready to be asked per flow.
//!
//! Owns: the compiled form and its evaluation. Does not know selectors, names or the API: `sync` compiles
//! those away. Semantics: Kubernetes documentation, "Network Policies": a pod that a policy selects for a
//! direction is isolated in it and accepts what any rule of any such policy lists; a flow passes when its
//! source may send it and its destination may receive it. An address is of one family: a block of the other never holds
//! it, so that rules which list IPv4 blocks alone leave an isolated pod no IPv6.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::fabric::packet::{Protocol, Tuple};

/// Per pod address. A pod without an entry is not isolated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTable(pub BTreeMap<IpAddr, PodPolicy>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPolicy {
    pub ingress: Option<Isolation>,
    pub egress: Option<Isolation>,
}

/// A direction in which only listed flows pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// `namespace/name` of the policies that isolate, for reports.
    pub policies: Vec<String>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub peers: Peers,
    pub ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    Any,
    Listed(Vec<Peer>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Pods(BTreeSet<IpAddr>),
    Block { cidr: Cidr, except: Vec<Cidr> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    Listed(Vec<(Protocol, RangeInclusive<u16>)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyDirection {
    Ingress,
    Egress,
}

/// Which pod's isolation denied a flow, and the policies behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub direction: PolicyDirection,
    pub policies: Vec<String>,
}

impl PolicyTable {
    /// Judges the first packet of a flow between two addresses, after service translation.
    pub fn judge(&self, flow: &Tuple) -> Result<(), Denial> {
        let sides = [
            (PolicyDirection::Egress, flow.source, flow.destination),
            (PolicyDirection::Ingress, flow.destination, flow.source),
        ];
        for (direction, pod, peer) in sides {
            let isolation = self.0.get(&pod).and_then(|policy| match direction {
                PolicyDirection::Ingress => policy.ingress.as_ref(),
                PolicyDirection::Egress => policy.egress.as_ref(),
            });
            if let Some(isolation) = isolation
                && !isolation.rules.iter().any(|rule| rule.allows(peer, flow))
            {
                return Err(Denial {
                    direction,
                    policies: isolation.policies.clone(),
                });
            }
        }
        Ok(())
    }
}

impl Rule {
    fn allows(&self, peer: IpAddr, flow: &Tuple) -> bool {
        self.peers.contains(peer)
            && match &self.ports {
                Ports::Any => true,
                Ports::Listed(list) => list.iter().any(|(protocol, range)| {
                    *protocol == flow.protocol && range.contains(&flow.destination_port)
                }),
            }
    }
}

impl Peers {
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(list) => list.iter().any(|peer| peer.contains(address)),
        }
    }
}

impl Peer {
    fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Pods(addresses) => addresses.contains(&address),
            Self::Block { cidr, except } => {
                cidr.contains(address) && !except.iter().any(|hole| hole.contains(address))
            }
        }
    }
}

impl Cidr {
    #[must_use]
    pub const fn new(network: IpAddr, length: u8) -> Self {
        Self { network, length }
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let length = u32::from(self.length);
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let host = u32::BITS.saturating_sub(length);
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let host = u128::BITS.saturating_sub(length);
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CIDR such as 10.0.0.0/8 or fd00::/8")]
pub struct InvalidCidr(pub String);

impl std::str::FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (network, length) = text.split_once('/').ok_or_else(invalid)?;
        let network: IpAddr = network.parse().map_err(|_| invalid())?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| *length <= longest);
        Ok(Self {
            network,
            length: length.ok_or_else(invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10.0.0.0/8", "10.255.1.2", true)]
    #[case("10.0.0.0/8", "11.0.0.0", false)]
    #[case("0.0.0.0/0", "255.255.255.255", true)]
    #[case("192.0.2.7/32", "192.0.2.7", true)]
    #[case("192.0.2.7/32", "192.0.2.6", false)]
    #[case("172.16.0.0/12", "172.31.255.255", true)]
    #[case("172.16.0.0/12", "172.32.0.0", false)]
    #[case("0.0.0.0/0", "2001:db8::1", false)]
    #[case("::/0", "2001:db8::1", true)]
    #[case("::/0", "192.0.2.7", false)]
    #[case("2001:db8::/32", "2001:db8:ffff::1", true)]
    #[case("2001:db8::/32", "2001:db9::1", false)]
    #[case("2001:db8::1/128", "2001:db8::1", true)]
    #[case("2001:db8::1/128", "2001:db8::2", false)]
    fn a_cidr_contains(#[case] cidr: &str, #[case] address: &str, #[case] expected: bool) {
        let cidr: Cidr = cidr.parse().unwrap();
        assert_eq!(cidr.contains(address.parse().unwrap()), expected);
    }

    #[rstest]
    #[case("10.0.0.0")]
    #[case("10.0.0.0/33")]
    #[case("fd00::/129")]
    #[case("/8")]
    fn a_broken_cidr_is_refused(#[case] text: &str) {
        assert_eq!(text.parse::<Cidr>(), Err(InvalidCidr(text.into())));
    }
}
