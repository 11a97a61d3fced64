//! What a client speaks, from the first bytes it sends: TLS, plain HTTP, or neither.
//!
//! The first byte of a handshake record means TLS; a method and a space mean HTTP (`reference/aviatrix-dcf.md` section
//! 2.3: the Host header then stands in for the server name). Bytes that break their format are [`Application::Other`],
//! which no WebGroup matches. Only the first request of a connection is looked at.

use super::client_hello::{self, Parse};
use crate::policy::Application;

const CONTENT_TYPE_HANDSHAKE: u8 = 22;
/// The longest registered method, UPDATEREDIRECTREF, has 17 characters.
const MAX_METHOD: usize = 20;
const MAX_HEADERS: usize = 128;
/// What common servers accept at most; a longer head is not HTTP to the gateway.
const MAX_HEAD: usize = 16 * 1024;

/// The application, or `None` while more bytes are needed. Once given, more bytes don't change the answer.
pub(super) fn classify(bytes: &[u8]) -> Option<Application> {
    match bytes {
        [] => None,
        [CONTENT_TYPE_HANDSHAKE, ..] => match client_hello::parse(bytes) {
            Parse::Incomplete => None,
            Parse::ClientHello(hello) => Some(Application::Tls { sni: hello.sni }),
            Parse::Malformed => Some(Application::Other),
        },
        _ => http(bytes),
    }
}

fn http(bytes: &[u8]) -> Option<Application> {
    let method = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    match bytes.get(method) {
        None if method <= MAX_METHOD => return None,
        Some(b' ') if (1..=MAX_METHOD).contains(&method) => {}
        _ => return Some(Application::Other),
    }
    // Cutting here keeps the answer independent of how many bytes have come beyond the bound.
    let head = &bytes[..bytes.len().min(MAX_HEAD)];
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => (head.len() == MAX_HEAD).then_some(Application::Other),
        // A line may not end without CR here: parsers that differ on it read different headers (RFC 9112 section 2.2).
        Ok(httparse::Status::Complete(length)) if has_bare_line_feed(&head[..length]) => {
            Some(Application::Other)
        }
        Ok(httparse::Status::Complete(_)) => Some(Application::Http {
            host: host(request.headers),
        }),
        Err(_) => Some(Application::Other),
    }
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let ends_in_cr = |line: &[u8]| line.ends_with(b"\r");
    // Behind the last line feed nothing is left.
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.next_back();
    !lines.all(ends_in_cr)
}

/// The Host header. A request with more than one is as good as one with none (RFC 9112 section 3.2).
fn host(headers: &[httparse::Header<'_>]) -> Option<String> {
    let mut hosts = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return None;
    };
    // Optional white space is SP and HTAB (RFC 9110 section 5.6.3); anything else is part of the value.
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = host.value.iter().position(|byte| !is_space(byte))?;
    let end = host.value.iter().rposition(|byte| !is_space(byte))?;
    Some(readable(&host.value[start..=end]))
}

/// A name as sent, for the policy and the log: bytes that are not printable ASCII, quotes and the backslash are escaped as
/// in a Rust literal, and of a name longer than any host name the rest is left out. What is changed here is no host name
/// and never becomes one.
pub(super) fn readable(name: &[u8]) -> String {
    const LONGEST: usize = 255;
    match name.get(..LONGEST) {
        Some(start) if name.len() > LONGEST => format!("{}...", start.escape_ascii()),
        _ => name.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn http(host: Option<&str>) -> Option<Application> {
        Some(Application::Http {
            host: host.map(str::to_owned),
        })
    }

    #[rstest]
    #[case::get(
        b"GET / HTTP/1.1\r\nHost: api.example.net\r\n\r\n",
        http(Some("api.example.net"))
    )]
    #[case::port(
        b"GET / HTTP/1.1\r\nhost:  api.example.net:443 \r\n\r\n",
        http(Some("api.example.net:443"))
    )]
    #[case::tab(
        b"GET / HTTP/1.1\r\nHost:\t api.example.net\t\r\n\r\n",
        http(Some("api.example.net"))
    )]
    #[case::no_break_space(
        b"GET / HTTP/1.1\r\nHost: \xc2\xa0api.example.net\r\n\r\n",
        http(Some(r"\xc2\xa0api.example.net"))
    )]
    #[case::raw_control(
        b"GET / HTTP/1.1\r\nHost: x\x9b\xe2\x80\xae.example.net\r\n\r\n",
        http(Some(r"x\x9b\xe2\x80\xae.example.net"))
    )]
    #[case::bare_line_feed(b"GET / HTTP/1.1\nHost: api.example.net\n\n", Some(Application::Other))]
    #[case::one_bare_line_feed(
        b"GET / HTTP/1.1\r\nHost: api.example.net\n\r\n",
        Some(Application::Other)
    )]
    #[case::folded(
        b"GET / HTTP/1.1\r\nHost:\r\n api.example.net\r\n\r\n",
        Some(Application::Other)
    )]
    #[case::space_before_colon(
        b"GET / HTTP/1.1\r\nHost : api.example.net\r\n\r\n",
        Some(Application::Other)
    )]
    #[case::no_host(b"GET / HTTP/1.0\r\n\r\n", http(None))]
    #[case::two_hosts(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", http(None))]
    #[case::empty_host(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", http(None))]
    #[case::body_follows(b"POST /x HTTP/1.1\r\nHost: a\r\n\r\nbody", http(Some("a")))]
    #[case::half_a_method(b"DEL", None)]
    #[case::half_a_head(b"GET / HTTP/1.1\r\nHost: api", None)]
    #[case::ssh(b"SSH-2.0-OpenSSH_9.7\r\n", Some(Application::Other))]
    #[case::smtp(b"EHLO mail.example.org\r\n", Some(Application::Other))]
    #[case::http2(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Application::Other))]
    #[case::endless_method(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(Application::Other))]
    #[case::alert_record(b"\x15\x03\x03\x00\x02", Some(Application::Other))]
    #[case::server_key_share(b"\x16\x03\x03\x00\x02\x02\x00", Some(Application::Other))]
    #[case::half_a_record(b"\x16\x03", None)]
    #[case::nothing(b"", None)]
    fn tells_applications_apart(#[case] bytes: &[u8], #[case] expected: Option<Application>) {
        assert_eq!(classify(bytes), expected);
    }
}
