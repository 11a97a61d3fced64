//! What a flow may show as its name: a host name of RFC 952 as relaxed by RFC 1123 section 2.1, within the lengths of
//! RFC 1035 section 2.3.4.

/// Longest label in octets.
const MAX_LABEL: usize = 63;
/// Longest name in octets as text, without a trailing dot: 255 on the wire hold two octets more.
const MAX_NAME: usize = 253;

/// Whether `name` is a host name. One trailing dot is allowed, the root alone is not.
///
/// The underscore counts as a letter: no host name of the RFCs has it, but the vendor takes it in a WebGroup's domain
/// (`reference/aviatrix-dcf.md` section 2.3), and a listed name has to match itself. An IPv4 literal has the form of a
/// host name and is compared like one (same section); an IPv6 literal has not.
pub(crate) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| is_inner(&byte))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("api.example.com", true)]
    #[case::capitals("API.Example.COM", true)]
    #[case::one_label("localhost", true)]
    #[case::digit_first("3com.example", true)]
    #[case::a_label("xn--bcher-kva.example", true)]
    #[case::underscore("my_bucket.s3.example", true)]
    #[case::trailing_dot("api.example.com.", true)]
    #[case::ipv4_literal("192.0.2.1", true)]
    #[case::empty("", false)]
    #[case::root(".", false)]
    #[case::two_trailing_dots("api.example.com..", false)]
    #[case::leading_dot(".example.com", false)]
    #[case::empty_label("a..example.com", false)]
    #[case::leading_hyphen("-a.example.com", false)]
    #[case::trailing_hyphen("a-.example.com", false)]
    #[case::slash("evil.test/x.example.com", false)]
    #[case::star("*.example.com", false)]
    #[case::quote("\"a\".example.com", false)]
    #[case::apostrophe("a'.example.com", false)]
    #[case::brace("{a}.example.com", false)]
    #[case::percent("a%00.example.com", false)]
    #[case::nul("a\0.example.com", false)]
    #[case::space("a .example.com", false)]
    #[case::at("user@a.example.com", false)]
    #[case::port("a.example.com:443", false)]
    #[case::hash("evil.test#.example.com", false)]
    #[case::backslash("evil.test\\.example.com", false)]
    #[case::control_sequence_introducer("a\u{9b}.example.com", false)]
    #[case::right_to_left_override("a\u{202e}.example.com", false)]
    #[case::no_break_space("\u{a0}a.example.com", false)]
    #[case::u_label("bücher.example.com", false)]
    #[case::ipv6_literal("[2001:db8::1]", false)]
    fn tells_host_names_from_other_strings(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(is_host_name(name), expected);
    }

    #[rstest]
    #[case(63, 253, true)]
    #[case(64, 253, false)]
    #[case(63, 254, false)]
    fn lengths_are_bounded(#[case] label: usize, #[case] length: usize, #[case] expected: bool) {
        let mut name = "a".repeat(label);
        while name.len() < length {
            let room = (length - name.len() - 1).min(50);
            name += ".";
            name += &"b".repeat(room.max(1));
        }
        assert_eq!(name.len(), length);
        assert_eq!(is_host_name(&name), expected);
        assert_eq!(
            is_host_name(&(name + ".")),
            expected,
            "a trailing dot is not counted"
        );
    }

    proptest! {
        /// The reference is the grammar as a regular expression, and the lengths beside it.
        #[test]
        fn agrees_with_the_grammar(name in "([a-cA-Z0-9_*/.\u{9b}é-]{0,6}|[a-z]{60,66}|[a-z0-9.-]{240,260})(\\.[a-z0-9-]{0,4}){0,3}\\.?") {
            let grammar = regex::Regex::new(
                "^(?i:[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)(\\.(?i:[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?))*\\.?$",
            ).expect("the grammar compiles");
            let bare = name.strip_suffix('.').unwrap_or(&name);
            let expected = grammar.is_match(&name)
                && bare.len() <= 253
                && bare.split('.').all(|label| label.len() <= 63);
            prop_assert_eq!(is_host_name(&name), expected, "{:?}", name);
        }
    }
}
