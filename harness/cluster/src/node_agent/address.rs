//! Addresses of Pods: handed out in order from a bounded range. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The last address before the broadcast address of 10.244.0.0/16 would be .255.255; one /16 from the first on at most.
const RANGE: u32 = 0xffff;

#[derive(Debug)]
pub(super) struct Addresses {
    first: u32,
    last: u32,
    next: u32,
    reuse: bool,
    taken: BTreeSet<u32>,
    /// The last holder of each address.
    holders: BTreeMap<u32, String>,
}

impl Addresses {
    pub(super) fn new(first: Ipv4Addr, reuse: bool) -> Self {
        let first = u32::from(first);
        Self {
            first,
            last: (first | RANGE) - 1,
            next: first,
            reuse,
            taken: BTreeSet::new(),
            holders: BTreeMap::new(),
        }
    }

    /// A free address for `holder`; none when every one is taken. Where addresses are reused it is the lowest that
    /// `holder` did not have before: whether a Pod that replaces another starts before or after the other's end changes
    /// nothing then.
    pub(super) fn take(&mut self, holder: &str) -> Option<Ipv4Addr> {
        let start = if self.reuse { self.first } else { self.next };
        let mut free = (start..=self.last)
            .chain(self.first..start)
            .filter(|address| !self.taken.contains(address));
        let had = |address: &u32| {
            self.reuse && self.holders.get(address).is_some_and(|last| last == holder)
        };
        let address = free
            .clone()
            .find(|address| !had(address))
            .or_else(|| free.next())?;
        self.taken.insert(address);
        self.holders.insert(address, holder.to_owned());
        self.next = if address == self.last {
            self.first
        } else {
            address + 1
        };
        Some(address.into())
    }

    pub(super) fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn last_two(addresses: &mut Addresses) -> u16 {
        u16::try_from(u32::from(addresses.take("a").unwrap()) & 0xffff).unwrap()
    }

    #[test]
    fn a_released_address_comes_back_at_once_only_when_asked_to() {
        for (reuse, expected) in [(true, 10), (false, 12)] {
            let mut addresses = Addresses::new(Ipv4Addr::new(10, 244, 0, 10), reuse);
            assert_eq!(
                (last_two(&mut addresses), last_two(&mut addresses)),
                (10, 11)
            );
            addresses.release(Ipv4Addr::new(10, 244, 0, 10));
            let address = addresses.take("b").unwrap();
            assert_eq!(u16::from(address.octets()[3]), expected);
        }
    }

    #[test]
    fn a_holder_gets_an_address_back_only_when_no_other_is_left() {
        let first = Ipv4Addr::new(10, 244, 255, 253);
        let mut addresses = Addresses::new(first, true);
        assert_eq!(last_two(&mut addresses), 0xfffd);
        addresses.release(first);
        assert_eq!(last_two(&mut addresses), 0xfffe);
        assert_eq!(last_two(&mut addresses), 0xfffd);
        assert_eq!(addresses.take("b"), None);
    }

    #[test]
    fn the_range_ends_and_wraps() {
        let mut addresses = Addresses::new(Ipv4Addr::new(10, 244, 255, 253), false);
        assert_eq!(
            (last_two(&mut addresses), last_two(&mut addresses)),
            (0xfffd, 0xfffe)
        );
        assert_eq!(addresses.take("a"), None);
        addresses.release(Ipv4Addr::new(10, 244, 255, 253));
        assert_eq!(last_two(&mut addresses), 0xfffd);
    }
}
