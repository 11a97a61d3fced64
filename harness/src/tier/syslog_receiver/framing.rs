//! Cuts a stream of bytes into syslog messages (RFC 6587): by line feeds (section 3.4.2), and by octet count where a
//! message starts with its length, a space and the `<` of its priority (section 3.4.1). Both may come in one stream.
//!
//! Nothing that arrives is lost without a word: a message longer than the bound is cut and says by how much, one that
//! the end of the stream cuts is emitted as it is. Empty messages hold nothing and are passed over.

/// No octet count has more.
const COUNT_DIGITS: usize = 9;

/// The state between two reads. Holds at most `bound` bytes.
#[derive(Debug)]
pub(super) struct Framer {
    bound: usize,
    within: Within,
    /// The message so far, or what may turn out to be an octet count.
    held: Vec<u8>,
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
enum Within {
    /// At the start of a message: nothing is held but digits, and a space behind them.
    Start,
    /// In a message that ends with a line feed.
    Line,
    /// In a message of which so many bytes are to come.
    Counted(usize),
}

impl Framer {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            within: Within::Start,
            held: Vec::new(),
            left_out: 0,
        }
    }

    /// Takes what was read; `emit` gets each message that is complete by it, and how many bytes of it are left out.
    pub(super) fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8], u64)) {
        while let Some(&first) = bytes.first() {
            match self.within {
                Within::Start => {
                    if first == b'<'
                        && let Some(count) = self.count()
                    {
                        self.held.clear();
                        self.within = Within::Counted(count);
                    } else if self.may_become_count(first) {
                        self.held.push(first);
                        bytes = &bytes[1..];
                    } else if first == b'\n' && self.held.is_empty() {
                        bytes = &bytes[1..];
                    } else {
                        self.within = Within::Line;
                    }
                }
                Within::Line => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        self.hold(&bytes[..end]);
                        self.emit(emit);
                        bytes = &bytes[end + 1..];
                    }
                    None => {
                        self.hold(bytes);
                        return;
                    }
                },
                Within::Counted(missing) => {
                    let taken = missing.min(bytes.len());
                    self.hold(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    self.within = Within::Counted(missing - taken);
                    if missing == taken {
                        self.emit(emit);
                    }
                }
            }
        }
    }

    /// The stream has ended: what is held is the last message.
    pub(super) fn end(&mut self, emit: &mut impl FnMut(&[u8], u64)) {
        if !self.held.is_empty() {
            self.emit(emit);
        }
        self.within = Within::Start;
    }

    /// Whether what is held and this byte can be the start of an octet count. A count that exceeds the bound is not
    /// believed: it would swallow what follows.
    fn may_become_count(&self, byte: u8) -> bool {
        let digits = self.held.iter().all(u8::is_ascii_digit);
        match byte {
            b'0' => digits && !self.held.is_empty() && self.held.len() < COUNT_DIGITS,
            b'1'..=b'9' => digits && self.held.len() < COUNT_DIGITS,
            b' ' => digits && !self.held.is_empty(),
            _ => false,
        }
    }

    /// The count that is held, if it is one and within the bound.
    fn count(&self) -> Option<usize> {
        let digits = self.held.strip_suffix(b" ")?;
        let count = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (1..=self.bound).contains(&count).then_some(count)
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = self.bound.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..room]);
        self.left_out += (bytes.len() - room) as u64;
    }

    fn emit(&mut self, emit: &mut impl FnMut(&[u8], u64)) {
        emit(&self.held, self.left_out);
        self.held.clear();
        self.left_out = 0;
        self.within = Within::Start;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const BOUND: usize = 32;

    fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, u64)> {
        let mut framer = Framer::new(BOUND);
        let mut found = Vec::new();
        let mut emit = |message: &[u8], left_out| {
            found.push((String::from_utf8_lossy(message).into_owned(), left_out));
        };
        for chunk in chunks {
            framer.push(chunk, &mut emit);
            assert!(framer.held.len() <= BOUND);
        }
        framer.end(&mut emit);
        found
    }

    #[rstest]
    #[case::lines("<14>a\n<14>b\n", &["<14>a", "<14>b"])]
    #[case::no_end("<14>a\n<14>b", &["<14>a", "<14>b"])]
    #[case::empty_lines("\n\n<14>a\n\n", &["<14>a"])]
    #[case::counted("5 <14>a6 <14>bc", &["<14>a", "<14>bc"])]
    #[case::counted_with_line_feed("7 <14>a\nb\n<14>c\n", &["<14>a\nb", "<14>c"])]
    #[case::counted_and_cut("9 <14>a", &["<14>a"])]
    #[case::digits_and_end("123", &["123"])]
    #[case::digits_alone("123\n<14>a\n", &["123", "<14>a"])]
    #[case::zero_is_no_count("0 <14>a\n", &["0 <14>a"])]
    #[case::year_of_a_foreign_line("2026-06-02 up\n", &["2026-06-02 up"])]
    #[case::foreign_line_that_starts_with_a_number("12 up\n<14>a\n", &["12 up", "<14>a"])]
    #[case::number_too_long_to_be_a_count("1234567890 <14>a\n", &["1234567890 <14>a"])]
    #[case::count_beyond_the_bound("99 <14>a\n<14>b\n", &["99 <14>a", "<14>b"])]
    #[case::number_and_space_at_the_end("12 ", &["12 "])]
    #[case::space_first(" 5 <14>a\n", &[" 5 <14>a"])]
    #[case::nothing("", &[])]
    fn a_stream_is_cut_into_messages(#[case] stream: &str, #[case] expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|it| ((*it).to_owned(), 0)).collect();
        assert_eq!(frames([stream.as_bytes()]), expected);
        let bytewise: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(frames(bytewise), expected);
    }

    #[rstest]
    #[case::line(format!("{}\n<14>b\n", "x".repeat(BOUND + 7)), 7)]
    #[case::line_that_never_ends("x".repeat(BOUND + 100), 100)]
    fn what_is_left_out_is_counted(#[case] stream: String, #[case] left_out: u64) {
        let found = frames(stream.as_bytes().chunks(5));
        assert_eq!(found[0], ("x".repeat(BOUND), left_out));
        assert_eq!(
            found.get(1).map(|it| it.0.as_str()),
            stream.contains("<14>b").then_some("<14>b")
        );
    }

    #[derive(Clone, Debug)]
    struct Message {
        text: Vec<u8>,
        counted: bool,
    }

    /// Messages as a syslog sender makes them: they start with a priority, those in lines have no line feed.
    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let message = (proptest::collection::vec(any::<u8>(), 0..20), any::<bool>()).prop_map(
            |(mut text, counted)| {
                if !counted {
                    text.retain(|byte| *byte != b'\n');
                }
                text.insert(0, b'<');
                Message { text, counted }
            },
        );
        proptest::collection::vec(message, 0..20)
    }

    proptest! {
        #[test]
        fn what_was_framed_comes_out_however_it_is_chunked(
            messages in messages(),
            sizes in proptest::collection::vec(1_usize..40, 1..40),
        ) {
            let mut stream = Vec::new();
            for Message { text, counted } in &messages {
                if *counted {
                    stream.extend(format!("{} ", text.len()).bytes());
                    stream.extend(text);
                } else {
                    stream.extend(text);
                    stream.push(b'\n');
                }
            }
            let mut framer = Framer::new(BOUND);
            let mut found = Vec::new();
            let mut emit = |message: &[u8], left_out| found.push((message.to_vec(), left_out));
            let (mut rest, mut sizes) = (stream.as_slice(), sizes.into_iter().cycle());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                framer.push(chunk, &mut emit);
                rest = behind;
            }
            framer.end(&mut emit);
            let sent: Vec<_> = messages.into_iter().map(|message| (message.text, 0)).collect();
            prop_assert_eq!(found, sent);
        }

        #[test]
        fn no_byte_of_a_hostile_stream_is_unaccounted_for(stream in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framer = Framer::new(BOUND);
            let mut seen = 0;
            let mut emit = |message: &[u8], left_out: u64| seen += message.len() as u64 + left_out;
            for chunk in stream.chunks(7) {
                framer.push(chunk, &mut emit);
                prop_assert!(framer.held.len() <= BOUND);
            }
            framer.end(&mut emit);
            // Only line feeds and octet counts are not part of a message.
            let others = stream.iter().filter(|byte| **byte != b'\n' && **byte != b' ' && !byte.is_ascii_digit());
            prop_assert!(seen >= others.count() as u64);
        }
    }
}
