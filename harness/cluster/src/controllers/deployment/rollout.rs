//! How many replicas the new and the old ReplicaSets get next. Pure.
//!
//! Follows k8s.io/kubernetes/pkg/controller/deployment (rolling.go, recreate.go).

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Replicas that a ReplicaSet is asked for, and those available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) wanted: usize,
    pub(super) available: usize,
}

/// maxSurge and maxUnavailable in Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) surge: usize,
    pub(super) unavailable: usize,
}

/// Replicas to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) new: usize,
    pub(super) old: Vec<usize>,
}

impl Bounds {
    /// Percentages of surge round up, those of unavailability down; both zero would never move.
    pub(super) fn of(strategy: Option<&DeploymentStrategy>, desired: usize) -> Self {
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let number = |value: Option<&IntOrString>, up: bool| match value {
            Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
            Some(IntOrString::String(text)) => percentage(text, desired, up),
            None => percentage("25%", desired, up),
        };
        let surge = number(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let unavailable = number(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            false,
        )
        .min(desired);
        if surge == 0 && unavailable == 0 {
            Self {
                surge,
                unavailable: 1,
            }
        } else {
            Self { surge, unavailable }
        }
    }
}

fn percentage(text: &str, of: usize, up: bool) -> usize {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse::<usize>().ok())
        .unwrap_or(0);
    let product = of.saturating_mul(percent);
    if up {
        product.div_ceil(100)
    } else {
        product / 100
    }
}

/// Old ones down to nothing; the new one starts when their last Pod is gone.
pub(super) fn recreate(desired: usize, new: Scale, old: &[Scale], old_pods: bool) -> Target {
    let busy = old_pods || old.iter().any(|set| set.wanted > 0);
    Target {
        new: if busy {
            new.wanted.min(desired)
        } else {
            desired
        },
        old: vec![0; old.len()],
    }
}

/// New ones as far as the surge allows, then old ones down as far as availability allows.
pub(super) fn rolling(desired: usize, bounds: Bounds, new: Scale, old: &[Scale]) -> Target {
    let total = new.wanted + old.iter().map(|set| set.wanted).sum::<usize>();
    let room = (desired + bounds.surge).saturating_sub(total);
    let target_new = if new.wanted >= desired {
        desired
    } else {
        new.wanted + room.min(desired - new.wanted)
    };

    let mut target_old: Vec<_> = old.iter().map(|set| set.wanted).collect();
    let floor = desired.saturating_sub(bounds.unavailable);
    let coming = new.wanted.saturating_sub(new.available);
    // Pods that never became available do no harm when they go.
    let mut spare = total.saturating_sub(floor + coming);
    for (set, target) in old.iter().zip(&mut target_old) {
        let broken = set.wanted.saturating_sub(set.available).min(spare);
        *target -= broken;
        spare -= broken;
    }
    let available = new.available.min(new.wanted)
        + old
            .iter()
            .map(|set| set.available.min(set.wanted))
            .sum::<usize>();
    let mut surplus = available.saturating_sub(floor).min(spare);
    for (set, target) in old.iter().zip(&mut target_old) {
        let fewer = set.available.min(*target).min(surplus);
        *target -= fewer;
        surplus -= fewer;
    }
    Target {
        new: target_new,
        old: target_old,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn scale(wanted: usize, available: usize) -> Scale {
        Scale { wanted, available }
    }

    #[rstest]
    #[case("25%", 4, true, 1)]
    #[case("25%", 1, true, 1)]
    #[case("25%", 1, false, 0)]
    #[case("50%", 3, false, 1)]
    #[case("x", 3, true, 0)]
    fn percentages(
        #[case] text: &str,
        #[case] of: usize,
        #[case] up: bool,
        #[case] expected: usize,
    ) {
        assert_eq!(percentage(text, of, up), expected);
    }

    const ONE_MORE: Bounds = Bounds {
        surge: 1,
        unavailable: 0,
    };

    #[rstest]
    #[case::first(3, scale(0, 0), &[], 3, &[])]
    #[case::begin(1, scale(0, 0), &[scale(1, 1)], 1, &[1])]
    #[case::not_yet(1, scale(1, 0), &[scale(1, 1)], 1, &[1])]
    #[case::swap(1, scale(1, 1), &[scale(1, 1)], 1, &[0])]
    #[case::unready_new_protects_the_broken(1, scale(1, 0), &[scale(1, 0)], 1, &[1])]
    #[case::broken_old_goes_first(2, scale(1, 1), &[scale(2, 1)], 1, &[1])]
    #[case::scale_down(1, scale(3, 3), &[], 1, &[])]
    #[case::to_zero(0, scale(1, 1), &[scale(1, 1)], 0, &[0])]
    fn steps(
        #[case] desired: usize,
        #[case] new: Scale,
        #[case] old: &[Scale],
        #[case] to: usize,
        #[case] down_to: &[usize],
    ) {
        let target = rolling(desired, ONE_MORE, new, old);
        assert_eq!((target.new, target.old.as_slice()), (to, down_to));
    }

    proptest! {
        /// Pods that obey become available one by one; the rollout ends, and never leaves its bounds on the way.
        #[test]
        fn a_rollout_ends_within_its_bounds(
            desired in 0_usize..12,
            surge in 0_usize..4,
            unavailable in 0_usize..4,
            mut old in prop::collection::vec(0_usize..12, 0..3),
        ) {
            let bounds = if surge == 0 && unavailable == 0 { Bounds { surge: 1, unavailable } } else { Bounds { surge, unavailable } };
            // Starts from what a finished rollout leaves.
            let mut left = desired;
            for wanted in &mut old {
                *wanted = (*wanted).min(left);
                left -= *wanted;
            }
            let started_full = left == 0;
            let mut new = scale(0, 0);
            let mut sets: Vec<_> = old.iter().map(|&wanted| scale(wanted, wanted)).collect();
            for _ in 0..200 {
                let target = rolling(desired, bounds, new, &sets);
                let total = target.new + target.old.iter().sum::<usize>();
                prop_assert!(total <= desired + bounds.surge);
                new = scale(target.new, new.available.min(target.new));
                for (set, &wanted) in sets.iter_mut().zip(&target.old) {
                    *set = scale(wanted, set.available.min(wanted));
                }
                let available = new.available + sets.iter().map(|set| set.available).sum::<usize>();
                prop_assert!(!started_full || available >= desired.saturating_sub(bounds.unavailable));
                if new.available < new.wanted {
                    new.available += 1;
                }
            }
            prop_assert_eq!(new, scale(desired, desired));
            prop_assert!(sets.iter().all(|set| set.wanted == 0));
        }
    }

    #[rstest]
    #[case::old_running(scale(0, 0), &[scale(1, 1)], true, 0)]
    #[case::old_stopping(scale(0, 0), &[scale(0, 0)], true, 0)]
    #[case::old_gone(scale(0, 0), &[scale(0, 0)], false, 2)]
    #[case::already_up(scale(2, 2), &[], false, 2)]
    fn recreation(
        #[case] new: Scale,
        #[case] old: &[Scale],
        #[case] old_pods: bool,
        #[case] expected: usize,
    ) {
        assert_eq!(recreate(2, new, old, old_pods).new, expected);
    }
}
