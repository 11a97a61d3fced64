//! How a domain of a WebGroup is compared with the name that a flow shows (`reference/aviatrix-dcf.md` section 2.3).

use std::borrow::Cow;

use super::switches::Switches;

/// One trailing dot goes, case too if it does not matter. Nothing else: the comparison is textual. Names of flows are
/// checked before ([`is_host_name`](super::host_name::is_host_name)).
pub(super) fn normalize<'a>(name: &'a str, switches: &Switches) -> Cow<'a, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if switches.case_insensitive && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

/// A Host header without the port that may follow the name.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether the wildcard pattern stands for `name`; both are normalized.
pub(super) fn matches(pattern: &str, name: &str, switches: &Switches) -> bool {
    if switches.wildcard_spans_labels || pattern == "*" {
        glob(pattern.as_bytes(), name.as_bytes())
    } else {
        labelwise(pattern, name)
    }
}

fn labelwise(pattern: &str, name: &str) -> bool {
    pattern.split('.').count() == name.split('.').count()
        && pattern
            .split('.')
            .zip(name.split('.'))
            .all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
}

/// `*` stands for any number of bytes. Linear backtracking: only the last `*` seen is ever widened.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
