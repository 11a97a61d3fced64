//! `multipart/form-data` (RFC 7578 in the syntax of RFC 2046 section 5.1) of bodies that are complete and bounded.
//!
//! Strict where leniency could read a request differently from its sender: a boundary that is missing, named twice or
//! never closed is an error, and so is a part without a name. Preamble, epilogue and headers other than
//! Content-Disposition are passed over; `name*` is not read.

/// Bytes of the headers of one part.
const MAX_HEADERS: usize = 8 << 10;
/// Parts of one body.
const MAX_PARTS: usize = 1000;

/// Why a body is no `multipart/form-data`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the content type names no boundary")]
    NoBoundary,
    #[error("the content type names two boundaries")]
    TwoBoundaries,
    #[error("the boundary `{0}` is not 1 to 70 characters of those that RFC 2046 allows")]
    BadBoundary(String),
    #[error("the boundary `{0}` of the content type is nowhere in the body")]
    BoundaryMissing(String),
    #[error("the body ends before its closing boundary")]
    Unclosed,
    #[error("part {0} has no headers, or more than {MAX_HEADERS} bytes of them")]
    NoHeaders(usize),
    #[error("part {0} has no Content-Disposition of form-data with a name")]
    NoName(usize),
    #[error("there are more than {MAX_PARTS} parts")]
    TooManyParts,
}

/// One field or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) value: &'a [u8],
}

/// The parts in their order. `content_type` is the whole header.
pub(super) fn parse<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Part<'a>>, Malformed> {
    let boundary = boundary(content_type)?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let opening = if body.starts_with(&delimiter[2..]) {
        delimiter.len() - 2
    } else {
        find_delimiter(body, &delimiter).ok_or(Malformed::BoundaryMissing(boundary))?
            + delimiter.len()
    };
    let mut rest = &body[opening..];
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        let line = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
        rest = line
            .and_then(|start| rest[start..].strip_prefix(b"\r\n"))
            .ok_or(Malformed::Unclosed)?;
        let number = parts.len() + 1;
        if number > MAX_PARTS {
            return Err(Malformed::TooManyParts);
        }
        let window = &rest[..rest.len().min(MAX_HEADERS)];
        let end = find(window, b"\r\n\r\n").ok_or(Malformed::NoHeaders(number))?;
        let name = name(&rest[..end]).ok_or(Malformed::NoName(number))?;
        // The blank line's own end may be the one that belongs to the next delimiter, but only of an empty part in
        // some writers' view; RFC 2046 wants one of its own, and so do we.
        let content = &rest[end + 4..];
        let length = find_delimiter(content, &delimiter).ok_or(Malformed::Unclosed)?;
        parts.push(Part {
            name,
            value: &content[..length],
        });
        rest = &content[length + delimiter.len()..];
    }
}

fn boundary(content_type: &str) -> Result<String, Malformed> {
    let mut boundaries = header_parameters(content_type)
        .into_iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value);
    let boundary = boundaries.next().ok_or(Malformed::NoBoundary)?;
    if boundaries.next().is_some() {
        return Err(Malformed::TwoBoundaries);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    if boundary.is_empty()
        || boundary.len() > 70
        || boundary.ends_with(' ')
        || !boundary.bytes().all(allowed)
    {
        return Err(Malformed::BadBoundary(boundary));
    }
    Ok(boundary)
}

/// Where the next delimiter begins. The same bytes with something else behind them than a line's end or `--` are
/// content.
fn find_delimiter(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + find(&bytes[from..], delimiter)?;
        let mut behind = bytes[at + delimiter.len()..].iter();
        let mut next = behind.next();
        while matches!(next, Some(b' ' | b'\t')) {
            next = behind.next();
        }
        match (next, behind.next()) {
            (Some(b'\r'), Some(b'\n')) => return Some(at),
            (Some(b'-'), Some(b'-')) if bytes[at + delimiter.len()] == b'-' => return Some(at),
            _ => from = at + 2,
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The `name` in a part's headers.
fn name(headers: &[u8]) -> Option<String> {
    let headers = std::str::from_utf8(headers).ok()?;
    let mut dispositions = headers.split("\r\n").filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    });
    let disposition = dispositions.next()?;
    let (kind, _) = disposition.split_once(';')?;
    if dispositions.next().is_some() || !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let mut names = header_parameters(disposition)
        .into_iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case("name"));
    let (_, name) = names.next()?;
    (names.next().is_none() && !name.is_empty()).then_some(name)
}

/// What follows the first `;` of a header: `key=value`, where a value may be quoted with backslashes in it.
fn header_parameters(header: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let Some((_, mut rest)) = header.split_once(';') else {
        return parameters;
    };
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';');
        let after = after.trim_start();
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, behind) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), behind)
            }
        };
        parameters.push((key.to_owned(), value));
    }
    parameters
}

/// A quoted string without its quotes, and what is behind it; an open end is taken as closed.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=b0";

    fn pairs<'a>(content_type: &str, body: &'a str) -> Result<Vec<(String, &'a str)>, Malformed> {
        let parts = parse(content_type, body.as_bytes())?;
        let text = |value| std::str::from_utf8(value).unwrap();
        Ok(parts
            .into_iter()
            .map(|part| (part.name, text(part.value)))
            .collect())
    }

    #[rstest]
    #[case::one(TYPE, "--b0\r\nContent-Disposition: form-data; name=\"index\"\r\n\r\n9\r\n--b0--\r\n", &[("index", "9")])]
    #[case::file(TYPE, "--b0\r\ncontent-disposition:form-data;filename=\"ca.pem\";name=ca\r\n\
        Content-Type: application/octet-stream\r\n\r\nline\r\nline\r\n\r\n--b0--", &[("ca", "line\r\nline\r\n")])]
    #[case::empty(TYPE, "--b0\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n\r\n--b0--", &[("t", "")])]
    #[case::none(TYPE, "--b0--", &[])]
    #[case::around(TYPE, "before\r\n--b0 \t\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b0--\r\nafter",
        &[("a", "1")])]
    #[case::look_alike(TYPE, "--b0\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--b0x\r\n--b0--", &[("a", "\r\n--b0x")])]
    #[case::twice(TYPE, "--b0\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b0\r\n\
        Content-Disposition: form-data; name=\"a\"\r\n\r\n2\r\n--b0--", &[("a", "1"), ("a", "2")])]
    #[case::quoted("multipart/form-data; charset=utf-8; Boundary=\"b 0\"",
        "--b 0\r\nContent-Disposition: form-data; name=\"a\\\"b\\\\\"\r\n\r\n1\r\n--b 0--", &[("a\"b\\", "1")])]
    fn parts_are_read(
        #[case] content_type: &str,
        #[case] body: &str,
        #[case] expected: &[(&str, &str)],
    ) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        assert_eq!(pairs(content_type, body), Ok(expected));
    }

    #[rstest]
    #[case::no_boundary("multipart/form-data", "--b0--", "names no boundary")]
    #[case::two(
        "multipart/form-data; boundary=b0; boundary=b1",
        "--b0--",
        "two boundaries"
    )]
    #[case::empty_boundary("multipart/form-data; boundary=\"\"", "----", "1 to 70")]
    #[case::long(
        "multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "",
        "1 to 70"
    )]
    #[case::line_end("multipart/form-data; boundary=\"a\r\nb\"", "--a\r\nb--", "1 to 70")]
    #[case::other(TYPE, "--b1\r\n\r\n--b1--", "nowhere in the body")]
    #[case::empty(TYPE, "", "nowhere in the body")]
    #[case::unclosed(
        TYPE,
        "--b0\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1",
        "closing boundary"
    )]
    #[case::cut(TYPE, "--b0", "closing boundary")]
    #[case::no_headers(TYPE, "--b0\r\nvalue\r\n--b0--", "part 1 has no headers")]
    #[case::no_name(
        TYPE,
        "--b0\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b0--",
        "part 1 has no Content-Disposition"
    )]
    #[case::empty_name(
        TYPE,
        "--b0\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n1\r\n--b0--",
        "part 1 has no"
    )]
    #[case::attachment(
        TYPE,
        "--b0\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n1\r\n--b0--",
        "part 1 has no"
    )]
    fn what_is_malformed_is_named(
        #[case] content_type: &str,
        #[case] body: &str,
        #[case] expected: &str,
    ) {
        let error = pairs(content_type, body).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn too_many_parts_are_refused() {
        let part = "--b0\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n";
        let body = |count| format!("{}--b0--", part.repeat(count));
        assert_eq!(pairs(TYPE, &body(MAX_PARTS)).unwrap().len(), MAX_PARTS);
        assert_eq!(
            pairs(TYPE, &body(MAX_PARTS + 1)),
            Err(Malformed::TooManyParts)
        );
    }

    /// As the writers of Go's standard library and of others put it.
    fn write(boundary: &str, parts: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in parts {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let head =
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        body
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            parts in prop::collection::vec(("[ -~]{1,20}", prop::collection::vec(any::<u8>(), 0..200)), 0..8),
        ) {
            // A writer chooses a boundary that is in no value; random ones do not occur in so few bytes.
            let boundary = "0123456789abcdef0123456789abcdef";
            let body = write(boundary, &parts);
            let content_type = format!("multipart/form-data; boundary={boundary}");
            let read = parse(&content_type, &body).unwrap();
            let read: Vec<_> = read.into_iter().map(|part| (part.name, part.value.to_vec())).collect();
            prop_assert_eq!(read, parts);
        }

        #[test]
        fn anything_is_read_or_refused(content_type in "\\PC{0,80}", body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&content_type, &body);
        }

        /// From the alphabet of the syntax, so that more than the first check is reached.
        #[test]
        fn near_misses_are_read_or_refused(pieces in prop::collection::vec(
            prop::sample::select(vec!["--b0", "\r\n", "--", "Content-Disposition: form-data; name=\"a\"", ";", " ", "\"", "\\", "x"]),
            0..40,
        )) {
            let _ = parse(TYPE, pieces.concat().as_bytes());
        }
    }
}
