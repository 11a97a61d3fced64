//! Address sets: what a SmartGroup is once it is resolved.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Serialize, Serializer};

/// An address block. Host bits are accepted and ignored; an address alone is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

/// The text is not an address block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid cidr `{text}`: expected an address, or an address and a prefix length as in 10.0.0.0/8"
)]
pub struct InvalidCidr {
    pub text: String,
}

impl Cidr {
    /// The block of `prefix` bits around `address`; `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let first = match address {
            IpAddr::V4(v4) => {
                let host = 32u32.checked_sub(prefix.into())?;
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                let host = 128u32.checked_sub(prefix.into())?;
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into())
            }
        };
        Some(Self { first, prefix })
    }

    /// The block that is `bits` bits wider: it holds this one and its neighbours.
    pub(crate) fn widened(self, bits: u8) -> Self {
        Self::new(self.first, self.prefix.saturating_sub(bits)).unwrap_or(self)
    }

    /// One address alone.
    pub(crate) fn is_single(self) -> bool {
        self.first == self.last()
    }

    /// The first and the last address.
    pub(super) fn range(self) -> (IpAddr, IpAddr) {
        (self.first, self.last())
    }

    fn last(self) -> IpAddr {
        let prefix = u32::from(self.prefix);
        match self.first {
            IpAddr::V4(v4) => {
                Ipv4Addr::from_bits(v4.to_bits() | u32::MAX.checked_shr(prefix).unwrap_or(0)).into()
            }
            IpAddr::V6(v6) => {
                Ipv6Addr::from_bits(v6.to_bits() | u128::MAX.checked_shr(prefix).unwrap_or(0))
                    .into()
            }
        }
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let Some((address, prefix)) = text.split_once('/') else {
                let address: IpAddr = text.parse().ok()?;
                return Self::new(address, if address.is_ipv4() { 32 } else { 128 });
            };
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| InvalidCidr {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of addresses, held as disjoint ranges in ascending order. IPv4 sorts before IPv6, so one list serves both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl AddressSet {
    pub fn contains(&self, address: IpAddr) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        after
            .checked_sub(1)
            .is_some_and(|index| address <= self.ranges[index].1)
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The set of all addresses in the given ranges, which may overlap; both ends belong to their range.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.ranges.iter().copied()
    }
}

impl FromIterator<Cidr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Cidr>>(blocks: I) -> Self {
        Self::from_ranges(blocks.into_iter().map(Cidr::range))
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        Self::from_ranges(addresses.into_iter().map(|address| (address, address)))
    }
}

impl Serialize for AddressSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges.iter().map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.0/8", "10.255.255.255", true)]
    #[case("10.0.0.0/8", "11.0.0.0", false)]
    #[case("10.1.2.3/8", "10.0.0.0", true)]
    #[case("0.0.0.0/0", "255.255.255.255", true)]
    #[case("0.0.0.0/0", "2001:db8::1", false)]
    #[case("192.0.2.7", "192.0.2.7", true)]
    #[case("192.0.2.7", "192.0.2.8", false)]
    #[case("2001:db8::/32", "2001:db8:ffff::", true)]
    #[case("::/0", "192.0.2.7", false)]
    fn a_block_contains(#[case] block: Cidr, #[case] address: IpAddr, #[case] expected: bool) {
        assert_eq!(AddressSet::from_iter([block]).contains(address), expected);
    }

    #[rstest]
    #[case("")]
    #[case("10.0.0.0/33")]
    #[case("10.0.0/8")]
    #[case("::/129")]
    #[case("example.com")]
    fn nonsense_is_refused(#[case] text: &str) {
        assert!(text.parse::<Cidr>().unwrap_err().to_string().contains(text));
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_blocks_contains(
            blocks in prop::collection::vec((0u32..4096, 20u8..=32), 0..8),
            probe in 0u32..4096,
        ) {
            let blocks: Vec<(u32, u8)> = blocks.into_iter().map(|(bits, prefix)| (bits << 4, prefix)).collect();
            let probe = probe << 3;
            let set: AddressSet =
                blocks.iter().map(|(bits, prefix)| Cidr::new(Ipv4Addr::from_bits(*bits).into(), *prefix).unwrap()).collect();
            let naive = blocks.iter().any(|(bits, prefix)| (bits ^ probe).leading_zeros() >= u32::from(*prefix));
            prop_assert_eq!(set.contains(Ipv4Addr::from_bits(probe).into()), naive);
        }
    }
}
