//! From a point on a line (an address, a port) to the rules whose ranges hold it: the line is cut wherever a range
//! begins or ends, and a binary search finds the piece. Must not know addresses, ports or groups.

use std::collections::HashMap;

use super::sets::{INLINE, SetBuilder, SetId, Union};

/// A whole number.
pub(super) trait Point: Copy + Ord {
    /// `None` behind the last.
    fn next(self) -> Option<Self>;
    /// How many points lie between.
    fn distance(first: Self, last: Self) -> u128;
}

macro_rules! points {
    ($($number:ty),*) => {$(
        impl Point for $number {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn distance(first: Self, last: Self) -> u128 {
                last.saturating_sub(first).into()
            }
        }
    )*};
}
points!(u16, u32, u128);

/// Ranges, both ends included and none overlapping another, and the rules that hold for each point in them.
pub(super) struct Column<K> {
    pub rules: SetId,
    pub ranges: Vec<(K, K)>,
}

/// Rules that hold for a piece of the line: the union of these. Most pieces are covered by few columns, and name them;
/// where many overlap, the wide ones are united once for all pieces below them.
type Row = [SetId; INLINE];

/// The pieces, in ascending order. What lies before the first is held by no range.
#[derive(Clone, Debug)]
pub(super) struct Intervals<K> {
    starts: Vec<K>,
    /// For each piece, which of `distinct` holds.
    rows: Vec<u32>,
    distinct: Vec<Row>,
}

impl<K: Point> Intervals<K> {
    pub(super) fn new(mut columns: Vec<Column<K>>, sets: &mut SetBuilder) -> Self {
        columns.retain(|column| column.rules != SetId::EMPTY && !column.ranges.is_empty());
        columns.sort_by_cached_key(|column| std::cmp::Reverse(width(&column.ranges)));
        let mut edges =
            Vec::with_capacity(2 * columns.iter().map(|c| c.ranges.len()).sum::<usize>());
        for (index, column) in (0u32..).zip(&columns) {
            for (first, last) in &column.ranges {
                edges.push((*first, index, true));
                if let Some(behind) = last.next() {
                    edges.push((behind, index, false));
                }
            }
        }
        edges.sort_unstable();

        let mut intervals = Self {
            starts: Vec::new(),
            rows: Vec::new(),
            distinct: Vec::new(),
        };
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        // The columns that cover the current piece, the wide ones first.
        let mut covering: Vec<u32> = Vec::new();
        for edges in edges.chunk_by(|a, b| a.0 == b.0) {
            for (_, column, begins) in edges {
                match (covering.binary_search(column), begins) {
                    (Err(at), true) => covering.insert(at, *column),
                    (Ok(at), false) => drop(covering.remove(at)),
                    _ => {}
                }
            }
            let row = match known.get(&covering) {
                Some(row) => *row,
                None => {
                    let row = u32::try_from(intervals.distinct.len())
                        .expect("invariant: there are fewer pieces than 32 bits count");
                    intervals
                        .distinct
                        .push(self::row(&covering, &columns, sets));
                    known.insert(covering.clone(), row);
                    row
                }
            };
            if intervals.rows.last() != Some(&row) {
                intervals.starts.push(edges[0].0);
                intervals.rows.push(row);
            }
        }
        intervals
    }

    /// The rules that hold for `point`.
    pub(super) fn at(&self, point: K) -> Union {
        let behind = self.starts.partition_point(|start| *start <= point);
        match behind.checked_sub(1) {
            Some(piece) => self.distinct[self.rows[piece] as usize]
                .iter()
                .copied()
                .collect(),
            None => Union::default(),
        }
    }
}

fn row<K>(covering: &[u32], columns: &[Column<K>], sets: &mut SetBuilder) -> Row {
    let mut row = [SetId::EMPTY; INLINE];
    let rules = |column: &u32| columns[*column as usize].rules;
    let split = covering.len().saturating_sub(INLINE - 1);
    let (wide, narrow) = covering.split_at(split);
    row[0] = sets.union(&wide.iter().map(rules).collect::<Vec<_>>());
    for (free, column) in row[1..].iter_mut().zip(narrow) {
        *free = rules(column);
    }
    row
}

fn width<K: Point>(ranges: &[(K, K)]) -> u128 {
    ranges.iter().fold(0, |width, (first, last)| {
        width.saturating_add(K::distance(*first, *last))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        merged
    }

    proptest! {
        #[test]
        fn a_point_has_the_rules_of_the_ranges_that_hold_it(
            ranges in prop::collection::vec(prop::collection::vec((0u16..64, 0u16..24), 0..5), 0..9),
            high: bool,
        ) {
            // The top of the line has no point behind it.
            let place = |at: u16| if high { u16::MAX - 90 + at } else { at };
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|column| merged(column.into_iter().map(|(first, len)| (place(first), place(first + len))).collect()))
                .collect();
            let mut sets = SetBuilder::new(ranges.len());
            let columns = (0u32..).zip(&ranges).map(|(rule, ranges)| Column {
                rules: sets.of([rule]),
                ranges: ranges.clone(),
            });
            let columns = columns.collect();
            let intervals = Intervals::new(columns, &mut sets);
            let all = sets.of(0..u32::try_from(ranges.len()).unwrap_or_default());
            let sets = sets.finish();
            for point in (0..=90).map(place) {
                let any = || Union::from_iter([all]);
                let rules: Vec<u32> = sets.common([any(), intervals.at(point), any(), any()]).collect();
                let naive: Vec<u32> = (0u32..)
                    .zip(&ranges)
                    .filter(|(_, ranges)| ranges.iter().any(|(first, last)| (first..=last).contains(&&point)))
                    .map(|(rule, _)| rule)
                    .collect();
                prop_assert_eq!(rules, naive, "at {}", point);
            }
        }
    }
}
