//! One direction of a TCP stream, put in order.
//!
//! Owns the bytes a client has sent and the gateway has not yet passed on. The first bytes that arrive for a position
//! win: a later segment can't change what was already judged. Bounded in bytes and in gaps. Knows no packets and no time.

use std::ops::Range;

/// Most runs of bytes held apart by gaps; a segment that would open one more is not accepted.
const MAX_RUNS: usize = 32;

/// Bytes from a fixed sequence number on, some of which may be missing.
#[derive(Debug)]
pub(super) struct Reassembly {
    /// Sequence number of the first byte.
    base: u32,
    bytes: Vec<u8>,
    /// Which of `bytes` have arrived: sorted, disjoint, never touching.
    runs: Vec<Range<usize>>,
    capacity: usize,
}

impl Reassembly {
    pub(super) fn new(base: u32, capacity: usize) -> Self {
        Self {
            base,
            bytes: Vec::new(),
            runs: Vec::new(),
            capacity,
        }
    }

    /// Takes the payload of a segment that starts at `sequence`. What lies before the base or past the capacity is left
    /// out. False when something that fits was refused, for want of a run.
    pub(super) fn insert(&mut self, sequence: u32, payload: &[u8]) -> bool {
        let offset = sequence.wrapping_sub(self.base).cast_signed();
        let skip = usize::try_from(offset.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let payload = payload.get(skip..).unwrap_or_default();
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX);
        let room = self.capacity.saturating_sub(start);
        let payload = &payload[..payload.len().min(room)];
        if payload.is_empty() {
            return true;
        }
        self.place(start, payload)
    }

    /// How much memory [`insert`](Self::insert) would add for the same segment, at most.
    pub(super) fn growth(&self, sequence: u32, payload: &[u8]) -> usize {
        let offset = i64::from(sequence.wrapping_sub(self.base).cast_signed());
        let length = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        let end = usize::try_from(offset.saturating_add(length)).unwrap_or(0);
        end.min(self.capacity).saturating_sub(self.bytes.len())
    }

    fn place(&mut self, start: usize, payload: &[u8]) -> bool {
        let end = start + payload.len();
        let first = self.runs.partition_point(|run| run.end < start);
        let last = self.runs.partition_point(|run| run.start <= end);
        if first == last && self.runs.len() >= MAX_RUNS {
            return false;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut at = start;
        for run in &self.runs[first..last] {
            if at < run.start {
                self.bytes[at..run.start].copy_from_slice(&payload[at - start..run.start - start]);
            }
            at = at.max(run.end);
        }
        if at < end {
            self.bytes[at..end].copy_from_slice(&payload[at - start..]);
        }
        let merged = self.runs[first..last].iter().fold(start..end, |all, run| {
            all.start.min(run.start)..all.end.max(run.end)
        });
        self.runs.splice(first..last, [merged]);
        true
    }

    /// The bytes from the base up to the first gap.
    pub(super) fn contiguous(&self) -> &[u8] {
        &self.bytes[..self.contiguous_len()]
    }

    fn contiguous_len(&self) -> usize {
        match self.runs.first() {
            Some(run) if run.start == 0 => run.end,
            _ => 0,
        }
    }

    /// Sequence number of the first byte that is missing.
    pub(super) fn next(&self) -> u32 {
        self.base
            .wrapping_add(u32::try_from(self.contiguous_len()).unwrap_or(u32::MAX))
    }

    /// How many more bytes in order would be accepted.
    pub(super) fn window(&self) -> usize {
        self.capacity - self.contiguous_len()
    }

    /// True when every byte that will ever be accepted is there.
    pub(super) fn is_full(&self) -> bool {
        self.window() == 0
    }

    /// Bytes of memory in use, for the bound over all flows.
    pub(super) fn buffered(&self) -> usize {
        self.bytes.len()
    }

    /// Accepts nothing more, and forgets what lies behind the first gap: its sender still has it.
    pub(super) fn freeze(&mut self) {
        let length = self.contiguous_len();
        self.bytes.truncate(length);
        self.runs.truncate(usize::from(length > 0));
        self.capacity = length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::in_order(&[(0, "ab"), (2, "cd")], "abcd")]
    #[case::reordered(&[(2, "cd"), (0, "ab")], "abcd")]
    #[case::gap(&[(0, "ab"), (3, "d")], "ab")]
    #[case::first_bytes_win(&[(0, "abc"), (1, "XYZ")], "abcZ")]
    #[case::held_bytes_win(&[(1, "b"), (0, "XYZ")], "XbZ")]
    #[case::over_two_runs(&[(1, "b"), (3, "d"), (0, "12345")], "1b3d5")]
    #[case::before_the_base(&[(-2, "xxab")], "ab")]
    #[case::past_the_capacity(&[(0, "abcdefghij")], "abcdefgh")]
    fn puts_bytes_in_order(#[case] segments: &[(i32, &str)], #[case] expected: &str) {
        for base in [0, 1000, u32::MAX - 2] {
            let mut reassembly = Reassembly::new(base, 8);
            for (offset, text) in segments {
                assert!(reassembly.insert(base.wrapping_add_signed(*offset), text.as_bytes()));
            }
            assert_eq!(reassembly.contiguous(), expected.as_bytes());
            assert_eq!(reassembly.next(), base.wrapping_add(expected.len() as u32));
        }
    }

    #[test]
    fn refuses_to_hold_too_many_gaps() {
        let mut reassembly = Reassembly::new(0, 4096);
        for run in 0..MAX_RUNS as u32 {
            assert!(reassembly.insert(run * 2 + 1, b"x"));
        }
        assert!(!reassembly.insert(4000, b"x"));
        assert!(reassembly.insert(0, b"x"), "filling a gap needs no run");
        assert_eq!(reassembly.contiguous(), b"xx");
    }

    #[test]
    fn frozen_it_accepts_nothing() {
        let mut reassembly = Reassembly::new(7, 64);
        reassembly.insert(7, b"abc");
        reassembly.insert(20, b"held");
        reassembly.freeze();
        reassembly.insert(10, b"late");
        assert_eq!(reassembly.contiguous(), b"abc");
        assert_eq!(reassembly.buffered(), 3);
    }

    proptest! {
        /// The reference keeps one optional byte per position.
        #[test]
        fn agrees_with_one_cell_per_byte(
            base: u32,
            segments in proptest::collection::vec((-20i32..80, proptest::collection::vec(any::<u8>(), 0..30)), 0..20),
        ) {
            const CAPACITY: usize = 64;
            let mut cells = [None; CAPACITY];
            let mut reassembly = Reassembly::new(base, CAPACITY);
            for (offset, payload) in &segments {
                let sequence = base.wrapping_add_signed(*offset);
                let bound = reassembly.buffered() + reassembly.growth(sequence, payload);
                prop_assert!(reassembly.insert(sequence, payload));
                prop_assert!(reassembly.buffered() <= bound);
                for (index, byte) in payload.iter().enumerate() {
                    if let Ok(position) = usize::try_from(*offset + index as i32) && position < CAPACITY {
                        cells[position].get_or_insert(*byte);
                    }
                }
                let expected: Vec<u8> = cells.iter().map_while(|cell| *cell).collect();
                prop_assert_eq!(reassembly.contiguous(), expected.as_slice());
                prop_assert_eq!(reassembly.window(), CAPACITY - expected.len());
                prop_assert!(reassembly.buffered() <= CAPACITY);
            }
        }
    }
}
