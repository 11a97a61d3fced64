//! What each source holds of the gateway's bounded resources, and how much more it may take.
//!
//! The rule is the dynamic threshold of Choudhury and Hahne ("Dynamic queue length thresholds", IEEE/ACM ToN 1998): a
//! source may hold as much of a resource as is still free. One greedy source gets half of it, two that compete get a
//! third each, and a source that holds little finds room beside them. Past its share a source fails closed alone.
//!
//! Denial records are bounded too, per source and interval, so that cheap packets do not become a flood of log lines.
//! Knows no packets and no policy.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use super::Limits;

/// What sources share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Flows,
    Inspections,
    /// Bytes that wait for a decision or for the destination.
    Buffer,
    TcpPorts,
    UdpPorts,
    /// Identifiers of ICMP echo.
    IcmpPorts,
}

const RESOURCES: usize = 6;

#[derive(Default)]
struct Account {
    held: [usize; RESOURCES],
    /// Denial records in the current interval.
    logged: usize,
}

impl Account {
    fn is_empty(&self) -> bool {
        self.logged == 0 && self.held == [0; RESOURCES]
    }
}

pub(super) struct Shares {
    limits: [usize; RESOURCES],
    denial_records: usize,
    /// Looked up, never iterated: its order must not reach behaviour. Bounded like the flow table.
    accounts: HashMap<IpAddr, Account>,
    total: [usize; RESOURCES],
    /// A seeded fault: any source may take all that is free.
    ignored: bool,
    /// When the interval of each source that has a denial record ends, earliest first.
    intervals: VecDeque<(Duration, IpAddr)>,
}

impl Shares {
    /// `ports` is the number of outside ports per protocol.
    pub(super) fn new(limits: &Limits, ports: usize) -> Self {
        Self {
            limits: [
                limits.flows,
                limits.inspections,
                limits.buffered,
                ports,
                ports,
                ports,
            ],
            denial_records: limits.denial_records,
            accounts: HashMap::new(),
            total: [0; RESOURCES],
            ignored: false,
            intervals: VecDeque::new(),
        }
    }

    /// The same, where a seeded fault lets any source take all that is free.
    pub(super) fn ignored_if(self, ignored: bool) -> Self {
        Self { ignored, ..self }
    }

    /// What all sources hold of a resource.
    pub(super) fn total(&self, resource: Resource) -> usize {
        self.total[resource as usize]
    }

    /// Adds to what a source holds; false when that would be more than its share.
    pub(super) fn take(&mut self, source: IpAddr, resource: Resource, amount: usize) -> bool {
        let index = resource as usize;
        let free = self.limits[index].saturating_sub(self.total[index]);
        let held = self.accounts.get(&source).map_or(0, |all| all.held[index]);
        let counted = if self.ignored { 0 } else { held };
        if counted + amount > free {
            return false;
        }
        let Some(account) = self.account(source) else {
            return false;
        };
        account.held[index] += amount;
        self.total[index] += amount;
        true
    }

    /// Returns what a source held.
    pub(super) fn give_back(&mut self, source: IpAddr, resource: Resource, amount: usize) {
        let index = resource as usize;
        let Some(account) = self.accounts.get_mut(&source) else {
            debug_assert_eq!(amount, 0, "{source} holds nothing to give back");
            return;
        };
        account.held[index] -= amount;
        self.total[index] -= amount;
        if account.is_empty() {
            self.accounts.remove(&source);
        }
    }

    /// Whether another denial of this source may be logged now; if so it counts. `interval` is the same in all calls.
    pub(super) fn may_log(&mut self, now: Duration, source: IpAddr, interval: Duration) -> bool {
        while let Some(&(until, over)) = self.intervals.front()
            && until <= now
        {
            self.intervals.pop_front();
            if let Some(account) = self.accounts.get_mut(&over) {
                account.logged = 0;
                if account.is_empty() {
                    self.accounts.remove(&over);
                }
            }
        }
        let most = self.denial_records;
        let Some(account) = self.account(source) else {
            return false;
        };
        if account.logged >= most {
            return false;
        }
        account.logged += 1;
        if account.logged == 1 {
            self.intervals.push_back((now + interval, source));
        }
        true
    }

    fn account(&mut self, source: IpAddr) -> Option<&mut Account> {
        if self.accounts.len() >= self.limits[Resource::Flows as usize]
            && !self.accounts.contains_key(&source)
        {
            return None;
        }
        Some(self.accounts.entry(source).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shares(flows: usize, denial_records: usize) -> Shares {
        let limits = Limits {
            flows,
            denial_records,
            ..Limits::default()
        };
        Shares::new(&limits, 100)
    }

    fn source(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn take_all(shares: &mut Shares, number: u8) -> usize {
        std::iter::from_fn(|| {
            shares
                .take(source(number), Resource::Flows, 1)
                .then_some(())
        })
        .count()
    }

    #[test]
    fn one_greedy_source_gets_half_and_leaves_room_for_others() {
        let mut shares = shares(64, 8);
        assert_eq!(take_all(&mut shares, 1), 32);
        assert_eq!(take_all(&mut shares, 2), 16);
        assert!(shares.take(source(3), Resource::Flows, 1));
        shares.give_back(source(1), Resource::Flows, 32);
        assert_eq!(take_all(&mut shares, 3), 23);
        assert!(
            shares.take(source(1), Resource::Inspections, 1),
            "a resource of its own"
        );
    }

    #[test]
    fn two_that_compete_get_a_third_each() {
        let mut shares = shares(90, 8);
        let mut got = [0; 2];
        for _ in 0..100 {
            for number in [0, 1] {
                got[usize::from(number)] +=
                    usize::from(shares.take(source(number), Resource::Flows, 1));
            }
        }
        assert_eq!(got, [30, 30]);
    }

    #[test]
    fn denial_records_are_bounded_per_source_and_interval() {
        let mut shares = shares(64, 3);
        let logged = |shares: &mut Shares, number: u8, at: Duration| {
            (0..10)
                .filter(|_| shares.may_log(at, source(number), 60 * SECOND))
                .count()
        };
        assert_eq!(logged(&mut shares, 1, SECOND), 3);
        assert_eq!(
            logged(&mut shares, 2, 2 * SECOND),
            3,
            "the share of another source"
        );
        assert_eq!(logged(&mut shares, 1, 60 * SECOND), 0);
        assert_eq!(logged(&mut shares, 1, 61 * SECOND), 3, "the next interval");
    }

    #[test]
    fn sources_that_were_only_logged_are_forgotten() {
        let mut shares = shares(4, 1);
        for number in 0..20 {
            shares.may_log(SECOND, source(number), SECOND);
        }
        assert_eq!(shares.accounts.len(), 4, "bounded within an interval");
        assert!(shares.may_log(3 * SECOND, source(99), SECOND));
        assert_eq!((shares.accounts.len(), shares.intervals.len()), (1, 1));
    }

    proptest! {
        /// No order of calls takes more than the limit, and what is given back is there again.
        #[test]
        fn totals_agree_with_a_plain_sum(calls in proptest::collection::vec((0u8..5, 1usize..9, any::<bool>()), 0..200)) {
            const LIMIT: usize = 40;
            let mut shares = shares(LIMIT, 8);
            let mut held = [0usize; 5];
            for (number, amount, takes) in calls {
                let index = usize::from(number);
                let free = LIMIT - held.iter().sum::<usize>();
                if takes {
                    let taken = shares.take(source(number), Resource::Flows, amount);
                    prop_assert_eq!(taken, held[index] + amount <= free);
                    held[index] += if taken { amount } else { 0 };
                } else {
                    let amount = amount.min(held[index]);
                    shares.give_back(source(number), Resource::Flows, amount);
                    held[index] -= amount;
                }
                prop_assert_eq!(shares.total(Resource::Flows), held.iter().sum::<usize>());
            }
            let holders = held.iter().filter(|amount| **amount > 0).count();
            prop_assert_eq!(shares.accounts.len(), holders);
        }
    }
}
