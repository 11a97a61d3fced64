//! Sets of rules, and the walk over what several of them have in common: the aggregated bit vectors of Baboescu and
//! Varghese, "Scalable Packet Classification" (SIGCOMM 2001).
//!
//! A rule is its ordinal in evaluation order. A set is one bit per rule in words of 64, of which only those that are
//! not zero are kept, behind a summary of one bit per word: a small set of a large policy costs a few words, and an
//! intersection skips what one of its sides does not have. Equal sets are kept once. Must not know what a rule is.

use std::collections::HashMap;

const BITS: u32 = u64::BITS;

/// A set in a [`RuleSets`]: where its summary starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const EMPTY: Self = Self(0);
}

/// All sets of one policy, one behind the other: each its summary, then its words.
#[derive(Clone, Debug)]
pub(super) struct RuleSets {
    /// Summary words of each set.
    blocks: usize,
    data: Vec<u64>,
}

/// Makes sets; each content is kept once, and so is each union.
pub(super) struct SetBuilder {
    sets: RuleSets,
    known: HashMap<Box<[u64]>, SetId>,
    unions: HashMap<Box<[SetId]>, SetId>,
    /// One bit per rule, all zero between calls.
    bits: Vec<u64>,
    packed: Vec<u64>,
}

impl SetBuilder {
    /// For a policy of `rules` rules.
    pub(super) fn new(rules: usize) -> Self {
        let words = rules.div_ceil(BITS as usize);
        let blocks = words.div_ceil(BITS as usize);
        Self {
            sets: RuleSets {
                blocks,
                data: vec![0; blocks],
            },
            known: HashMap::new(),
            unions: HashMap::new(),
            bits: vec![0; words],
            packed: Vec::new(),
        }
    }

    /// The set of these rules.
    pub(super) fn of(&mut self, ordinals: impl IntoIterator<Item = u32>) -> SetId {
        for ordinal in ordinals {
            self.bits[(ordinal / BITS) as usize] |= 1 << (ordinal % BITS);
        }
        self.intern()
    }

    /// The set of all rules in any of `sets`.
    pub(super) fn union(&mut self, sets: &[SetId]) -> SetId {
        let mut sets: Vec<_> = sets
            .iter()
            .copied()
            .filter(|set| *set != SetId::EMPTY)
            .collect();
        sets.sort_unstable();
        sets.dedup();
        match sets[..] {
            [] => return SetId::EMPTY,
            [only] => return only,
            _ => {}
        }
        if let Some(known) = self.unions.get(&sets[..]) {
            return *known;
        }
        for set in &sets {
            for (word, bits) in self.sets.words(*set) {
                self.bits[word] |= bits;
            }
        }
        let union = self.intern();
        self.unions.insert(sets.into(), union);
        union
    }

    /// Packs what stands in `bits`, and clears it.
    fn intern(&mut self) -> SetId {
        self.packed.clear();
        self.packed.resize(self.sets.blocks, 0);
        for (index, word) in self.bits.iter_mut().enumerate() {
            if *word != 0 {
                self.packed[index / BITS as usize] |= 1 << (index % BITS as usize);
                self.packed.push(std::mem::take(word));
            }
        }
        if self.packed.len() == self.sets.blocks {
            return SetId::EMPTY;
        }
        if let Some(known) = self.known.get(&self.packed[..]) {
            return *known;
        }
        let start = u32::try_from(self.sets.data.len())
            .expect("invariant: no policy fits in memory whose sets take 32 GiB");
        self.sets.data.extend_from_slice(&self.packed);
        self.known.insert(self.packed[..].into(), SetId(start));
        SetId(start)
    }

    pub(super) fn finish(mut self) -> RuleSets {
        self.sets.data.shrink_to_fit();
        self.sets
    }
}

impl RuleSets {
    /// The words that are not zero, with their index.
    fn words(&self, set: SetId) -> impl Iterator<Item = (usize, u64)> + '_ {
        let start = set.0 as usize;
        let summary = &self.data[start..start + self.blocks];
        let indices = summary
            .iter()
            .enumerate()
            .flat_map(|(block, bits)| ones(*bits).map(move |bit| block * BITS as usize + bit));
        indices.zip(self.data[start + self.blocks..].iter().copied())
    }

    /// The rules that are in each of `unions`, in evaluation order.
    pub(super) fn common(&self, unions: [Union; DIMENSIONS]) -> Common<'_> {
        let mut common = Common {
            sets: self,
            unions,
            block: 0,
            words: 0,
            word: 0,
            bits: 0,
        };
        for union in &mut common.unions {
            union.each(|set| set.words = set.start + self.blocks);
        }
        if self.blocks > 0 {
            common.words = common.summary();
        }
        common
    }

    /// Memory of all sets, in bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.data.len() * size_of::<u64>()
    }
}

fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        (lowest < BITS).then(|| {
            bits &= bits - 1;
            lowest as usize
        })
    })
}

/// What a flow is looked up by: names, source, destination, service.
pub(super) const DIMENSIONS: usize = 4;
/// Sets of a union that need no allocation.
pub(super) const INLINE: usize = 4;

/// Sets of which a rule has to be in one.
#[derive(Clone, Debug, Default)]
pub(super) struct Union {
    inline: [Place; INLINE],
    len: usize,
    more: Vec<Place>,
}

/// Where a walk stands in a set.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: usize,
    /// The first word of the block that the walk is in.
    words: usize,
}

impl Union {
    pub(super) fn push(&mut self, set: SetId) {
        if set == SetId::EMPTY {
            return;
        }
        let place = Place {
            start: set.0 as usize,
            words: 0,
        };
        match self.inline.get_mut(self.len) {
            Some(free) => *free = place,
            None => self.more.push(place),
        }
        self.len += 1;
    }

    fn each(&mut self, mut change: impl FnMut(&mut Place)) {
        let inline = self.len.min(INLINE);
        self.inline[..inline].iter_mut().for_each(&mut change);
        self.more.iter_mut().for_each(change);
    }

    fn any(&self, bits: impl Fn(&Place) -> u64) -> u64 {
        let inline = &self.inline[..self.len.min(INLINE)];
        let union = inline.iter().fold(0, |union, set| union | bits(set));
        self.more.iter().fold(union, |union, set| union | bits(set))
    }
}

impl FromIterator<SetId> for Union {
    fn from_iter<I: IntoIterator<Item = SetId>>(sets: I) -> Self {
        let mut union = Self::default();
        sets.into_iter().for_each(|set| union.push(set));
        union
    }
}

/// A walk over the rules that several unions have in common.
pub(super) struct Common<'a> {
    sets: &'a RuleSets,
    unions: [Union; DIMENSIONS],
    block: usize,
    /// Words of the block that are still to be looked at.
    words: u64,
    /// The word whose rules are being given out, and those that are left of them.
    word: usize,
    bits: u64,
}

impl Common<'_> {
    fn summary(&self) -> u64 {
        let data = &self.sets.data;
        let summary = |union: &Union| union.any(|set| data[set.start + self.block]);
        let mut common = u64::MAX;
        for union in &self.unions {
            common &= summary(union);
            if common == 0 {
                break;
            }
        }
        common
    }

    fn rules(&self, word: u32) -> u64 {
        let data = &self.sets.data;
        let before = (1u64 << word) - 1;
        let bits = |set: &Place| {
            let summary = data[set.start + self.block];
            if summary >> word & 1 == 0 {
                return 0;
            }
            data[set.words + (summary & before).count_ones() as usize]
        };
        let mut common = u64::MAX;
        for union in &self.unions {
            common &= union.any(bits);
            if common == 0 {
                break;
            }
        }
        common
    }

    fn next_block(&mut self) {
        let (data, block) = (&self.sets.data, self.block);
        for union in &mut self.unions {
            union.each(|set| set.words += data[set.start + block].count_ones() as usize);
        }
        self.block += 1;
    }
}

impl Iterator for Common<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.bits == 0 {
            while self.words == 0 {
                if self.block + 1 >= self.sets.blocks {
                    return None;
                }
                self.next_block();
                self.words = self.summary();
            }
            let word = self.words.trailing_zeros();
            self.words &= self.words - 1;
            self.word = self.block * BITS as usize + word as usize;
            self.bits = self.rules(word);
        }
        let bit = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        let word = u32::try_from(self.word).expect("invariant: ordinals fit 32 bits");
        Some(word * BITS + bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_sets_are_one_and_cost_what_they_hold() {
        let mut builder = SetBuilder::new(5_000);
        let empty = builder.of([]);
        let one = builder.of([4_711]);
        let size = builder.sets.size();
        assert_eq!(empty, SetId::EMPTY);
        assert_eq!(builder.of([4_711]), one);
        assert_eq!(builder.union(&[one, SetId::EMPTY, one]), one);
        assert_eq!(builder.sets.size(), size);
        assert_eq!(size, (2 + 2 + 1) * size_of::<u64>());
    }

    #[test]
    fn a_policy_without_rules_has_none_in_common() {
        let sets = SetBuilder::new(0).finish();
        let unions = std::array::from_fn(|_| Union::from_iter([SetId::EMPTY]));
        assert_eq!(sets.common(unions).count(), 0);
    }

    /// Sets that are dense, sparse, or bunched, so that whole words and blocks are skipped.
    fn rules() -> impl Strategy<Value = BTreeSet<u32>> {
        let bunched = (0u32..4_200, 0u32..200).prop_map(|(first, count)| first..first + count);
        prop_oneof![
            Just((0u32..4_400).collect()),
            prop::collection::btree_set(0u32..4_400, 0..40),
            prop::collection::vec(bunched, 0..4)
                .prop_map(|bunches| bunches.into_iter().flatten().collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_walk_finds_what_all_unions_hold(
            unions in prop::collection::vec(prop::collection::vec(rules(), 0..7), DIMENSIONS),
        ) {
            let mut builder = SetBuilder::new(4_400);
            let ids: Vec<Vec<SetId>> = unions
                .iter()
                .map(|union| union.iter().map(|set| builder.of(set.iter().copied())).collect())
                .collect();
            let merged: Vec<SetId> = ids.iter().map(|ids| builder.union(ids)).collect();
            let sets = builder.finish();
            let naive = (0u32..4_400).filter(|rule| {
                unions.iter().all(|union| union.iter().any(|set| set.contains(rule)))
            });
            let naive: Vec<u32> = naive.collect();
            let walk = sets.common(std::array::from_fn(|at| ids[at].iter().copied().collect()));
            prop_assert_eq!(&walk.collect::<Vec<_>>(), &naive);
            let walk = sets.common(std::array::from_fn(|at| Union::from_iter([merged[at]])));
            prop_assert_eq!(walk.collect::<Vec<_>>(), naive);
        }
    }
}
