//! One direction of a TCP stream, put in order.
//!
//! Owns the bytes a client has sent and the gateway has not yet passed on. The first bytes that arrive for a position
//! win: a later segment can't change what was already judged. Bounded in bytes and in gaps. Knows no packets and no time.

/// Most runs of bytes held apart by gaps; a segment that would open one more is not accepted.
const MAX_RUNS: usize = 32;

/// Bytes from a fixed sequence number on, some of which may be missing.
#[derive(Debug)]
pub(super) struct Reassembly {
    /// Sequence number of the first byte.
    base: u32,
    /// What has arrived: sorted, disjoint, never touching. A gap takes no memory.
    runs: Vec<Run>,
    /// Bytes in all runs.
    held: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Run {
    start: usize,
    bytes: Vec<u8>,
}

impl Run {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

impl Reassembly {
    pub(super) fn new(base: u32, capacity: usize) -> Self {
        Self {
            base,
            runs: Vec::new(),
            held: 0,
            capacity,
        }
    }

    /// Takes the payload of a segment that starts at `sequence`. What lies before the base or past the capacity is left
    /// out. False when something that fits was refused, for want of a run.
    pub(super) fn insert(&mut self, sequence: u32, payload: &[u8]) -> bool {
        let (start, payload) = self.accepted(sequence, payload);
        payload.is_empty() || self.place(start, payload)
    }

    /// How many bytes [`insert`](Self::insert) would add for the same segment, at most.
    pub(super) fn growth(&self, sequence: u32, payload: &[u8]) -> usize {
        let (start, payload) = self.accepted(sequence, payload);
        let end = start + payload.len();
        let known = |run: &Run| {
            let (from, to) = (run.start.max(start), run.end().min(end));
            to.saturating_sub(from)
        };
        payload.len() - self.runs.iter().map(known).sum::<usize>()
    }

    /// The part of a payload between the base and the capacity, and where it starts.
    fn accepted<'a>(&self, sequence: u32, payload: &'a [u8]) -> (usize, &'a [u8]) {
        let offset = sequence.wrapping_sub(self.base).cast_signed();
        let skip = usize::try_from(offset.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let payload = payload.get(skip..).unwrap_or_default();
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX);
        let room = self.capacity.saturating_sub(start);
        let payload = &payload[..payload.len().min(room)];
        (start.min(self.capacity), payload)
    }

    fn place(&mut self, start: usize, payload: &[u8]) -> bool {
        let end = start + payload.len();
        let first = self.runs.partition_point(|run| run.end() < start);
        let last = self.runs.partition_point(|run| run.start <= end);
        if first == last {
            if self.runs.len() >= MAX_RUNS {
                return false;
            }
            let bytes = payload.to_vec();
            self.held += bytes.len();
            self.runs.insert(first, Run { start, bytes });
            return true;
        }
        // One run takes up the others; what they hold stays, and only the gaps between them are filled.
        let mut rest = self
            .runs
            .drain(first + 1..last)
            .collect::<Vec<_>>()
            .into_iter();
        let run = &mut self.runs[first];
        self.held -= run.bytes.len()
            + rest
                .as_slice()
                .iter()
                .map(|run| run.bytes.len())
                .sum::<usize>();
        if start < run.start {
            let before = &payload[..run.start - start];
            run.bytes.splice(..0, before.iter().copied());
            run.start = start;
        }
        loop {
            let next = rest.next();
            let until = next.as_ref().map_or(end, |next| next.start);
            let at = run.end();
            if at < until {
                run.bytes
                    .extend_from_slice(&payload[at - start..until - start]);
            }
            let Some(next) = next else { break };
            run.bytes.extend_from_slice(&next.bytes);
        }
        self.held += run.bytes.len();
        true
    }

    /// The bytes from the base up to the first gap.
    pub(super) fn contiguous(&self) -> &[u8] {
        match self.runs.first() {
            Some(run) if run.start == 0 => &run.bytes,
            _ => &[],
        }
    }

    /// Sequence number of the first byte that is missing.
    pub(super) fn next(&self) -> u32 {
        self.base
            .wrapping_add(u32::try_from(self.contiguous().len()).unwrap_or(u32::MAX))
    }

    /// How many more bytes in order would be accepted.
    pub(super) fn window(&self) -> usize {
        self.capacity - self.contiguous().len()
    }

    /// True when every byte that will ever be accepted is there.
    pub(super) fn is_full(&self) -> bool {
        self.window() == 0
    }

    /// Bytes held, for the bound over all flows.
    pub(super) fn buffered(&self) -> usize {
        self.held
    }

    /// Accepts nothing more, and forgets what lies behind the first gap: its sender still has it.
    pub(super) fn freeze(&mut self) {
        let length = self.contiguous().len();
        self.runs.truncate(usize::from(length > 0));
        self.held = length;
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
    fn a_gap_costs_nothing() {
        let mut reassembly = Reassembly::new(0, 40_000);
        assert_eq!(reassembly.growth(39_000, b"x"), 1);
        assert!(reassembly.insert(39_000, b"x"));
        assert_eq!(reassembly.buffered(), 1);
        assert_eq!(
            reassembly.growth(39_000, b"x"),
            0,
            "a repetition adds nothing"
        );
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
                prop_assert_eq!(reassembly.buffered(), bound);
                for (index, byte) in payload.iter().enumerate() {
                    if let Ok(position) = usize::try_from(*offset + index as i32) && position < CAPACITY {
                        cells[position].get_or_insert(*byte);
                    }
                }
                let expected: Vec<u8> = cells.iter().map_while(|cell| *cell).collect();
                prop_assert_eq!(reassembly.contiguous(), expected.as_slice());
                prop_assert_eq!(reassembly.window(), CAPACITY - expected.len());
                prop_assert_eq!(reassembly.buffered(), cells.iter().flatten().count());
            }
        }
    }
}
