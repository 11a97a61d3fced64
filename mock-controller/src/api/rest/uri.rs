//! Percent-encoding of paths and queries (RFC 3986 section 2.1).

use percent_encoding::percent_decode_str;

/// A segment of a path, decoded. A `%` that two hexadecimal digits do not follow stands for itself; what is no UTF-8 becomes U+FFFD, and so names nothing.
pub(super) fn segment(encoded: &str) -> String {
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

/// The first value of a query's parameter. A `+` is a space there, as HTML forms have it.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.replace('+', " "), value.replace('+', " ")))
        .find(|(key, _)| segment(key) == name)
        .map(|(_, value)| segment(&value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("plain", "plain")]
    #[case("a%20b+c", "a b+c")]
    #[case("%C3%A9%2f", "é/")]
    #[case("100%", "100%")]
    #[case("%zz%4", "%zz%4")]
    #[case("%ff", "\u{fffd}")]
    fn segments(#[case] encoded: &str, #[case] expected: &str) {
        assert_eq!(segment(encoded), expected);
    }

    #[rstest]
    #[case("name=a+b%2Fc", Some("a b/c"))]
    #[case("x=1&n%61me=y", Some("y"))]
    #[case("names=x", None)]
    #[case("name", None)]
    #[case("", None)]
    fn parameters(#[case] query: &str, #[case] expected: Option<&str>) {
        assert_eq!(parameter(query, "name").as_deref(), expected);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(text in "\\PC{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(segment(&encoded), text);
        }

        #[test]
        fn anything_is_read(text in "\\PC{0,40}") {
            segment(&text);
            parameter(&text, "name");
        }
    }
}
