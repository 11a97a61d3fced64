//! Addresses of Pods: handed out in order from a bounded range. Pure.

use std::collections::BTreeSet;
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
        }
    }

    /// A free address; none when every one is taken.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let start = if self.reuse { self.first } else { self.next };
        let mut candidates = (start..=self.last).chain(self.first..start);
        let address = candidates.find(|address| !self.taken.contains(address))?;
        self.taken.insert(address);
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
        u16::try_from(u32::from(addresses.take().unwrap()) & 0xffff).unwrap()
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
            assert_eq!(last_two(&mut addresses), expected);
        }
    }

    #[test]
    fn the_range_ends_and_wraps() {
        let mut addresses = Addresses::new(Ipv4Addr::new(10, 244, 255, 253), false);
        assert_eq!(
            (last_two(&mut addresses), last_two(&mut addresses)),
            (0xfffd, 0xfffe)
        );
        assert_eq!(addresses.take(), None);
        addresses.release(Ipv4Addr::new(10, 244, 255, 253));
        assert_eq!(last_two(&mut addresses), 0xfffd);
    }
}
