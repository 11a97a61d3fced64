//! WebGroups: sets of domain names with wildcards, compared with the SNI of a ClientHello or with a Host header.

use std::collections::HashSet;

use serde::Serialize;
use uuid::Uuid;

use super::{
    flow::Application,
    switches::{BareStar, Switches},
};

/// The system group All-Web: any TLS or HTTP flow, with or without a name.
pub const ALL_WEB: Uuid = Uuid::from_u128(0xdef0_00ad_0000_0000_0000_0000_0000_0002);

/// A named set of domain patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebGroup {
    pub uuid: Uuid,
    pub name: String,
    /// As written by the user.
    pub domains: Vec<String>,
    /// Matches any TLS or HTTP flow, whatever its name.
    pub all_web: bool,
}

/// A domain that the controller does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomain {
    #[error(
        "invalid domain `{domain}`: letters, digits, `.`, `-`, `_` and `*` are allowed, and international names need their A-labels"
    )]
    Characters { domain: String },
    #[error("invalid domain `{domain}`: `**` is not allowed, use a single `*`")]
    DoubleStar { domain: String },
    #[error("invalid domain `*`: name the domains, or use the system group All-Web")]
    BareStar,
    #[error("invalid domain: it is empty, remove it")]
    Empty,
}

impl WebGroup {
    /// A group of `domains`, refused as the vendor's controller refuses them.
    pub fn new(
        uuid: Uuid,
        name: String,
        domains: Vec<String>,
        switches: &Switches,
    ) -> Result<Self, InvalidDomain> {
        let mut all_web = false;
        for domain in &domains {
            check(domain)?;
            if domain == "*" {
                match switches.bare_star {
                    BareStar::Accept => {}
                    BareStar::Reject => return Err(InvalidDomain::BareStar),
                    BareStar::AllWeb => all_web = true,
                }
            }
        }
        Ok(Self {
            uuid,
            name,
            domains,
            all_web,
        })
    }

    /// The group every controller has.
    pub fn system() -> Self {
        Self {
            uuid: ALL_WEB,
            name: "All-Web".into(),
            domains: Vec::new(),
            all_web: true,
        }
    }
}

fn check(domain: &str) -> Result<(), InvalidDomain> {
    if domain.is_empty() {
        return Err(InvalidDomain::Empty);
    }
    if !domain
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte))
    {
        return Err(InvalidDomain::Characters {
            domain: domain.to_owned(),
        });
    }
    if domain.contains("**") {
        return Err(InvalidDomain::DoubleStar {
            domain: domain.to_owned(),
        });
    }
    Ok(())
}

/// All domains of a rule's WebGroups, ready to be asked per flow: names without wildcard by hash, the rest one by one.
#[derive(Clone, Debug)]
pub(super) struct DomainSet {
    exact: HashSet<String>,
    globs: Vec<String>,
    all_web: bool,
    switches: Switches,
}

impl DomainSet {
    pub(super) fn new<'a>(
        groups: impl IntoIterator<Item = &'a WebGroup>,
        switches: &Switches,
    ) -> Self {
        let mut set = Self {
            exact: HashSet::new(),
            globs: Vec::new(),
            all_web: false,
            switches: *switches,
        };
        for group in groups {
            set.all_web |= group.all_web;
            for domain in &group.domains {
                let domain = normalize(domain, switches);
                if !domain.contains('*') {
                    set.exact.insert(domain);
                    continue;
                }
                if let (true, Some(apex)) =
                    (switches.wildcard_matches_apex, domain.strip_prefix("*."))
                    && !apex.contains('*')
                {
                    set.exact.insert(apex.to_owned());
                }
                set.globs.push(domain);
            }
        }
        set
    }

    /// Whether the application's name is in the set. `port` matters only to
    /// [`Switches::host_header_on_tls_port`].
    pub(super) fn matches(&self, application: &Application, port: u16) -> bool {
        let name = match application {
            Application::Tls { sni } => sni.as_deref(),
            Application::Http { .. } if port == 443 && !self.switches.host_header_on_tls_port => {
                return false;
            }
            Application::Http { host } => host.as_deref().map(without_port),
            Application::Other => return false,
        };
        self.all_web || name.is_some_and(|name| self.contains(name))
    }

    fn contains(&self, name: &str) -> bool {
        let name = normalize(name, &self.switches);
        if name.is_empty() {
            return false;
        }
        self.exact.contains(&name)
            || self.globs.iter().any(|pattern| {
                if self.switches.wildcard_spans_labels || pattern == "*" {
                    glob(pattern.as_bytes(), name.as_bytes())
                } else {
                    labelwise(pattern, &name)
                }
            })
    }
}

/// One trailing dot goes, case too if it does not matter. Nothing else: the comparison is textual.
fn normalize(name: &str, switches: &Switches) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    if switches.case_insensitive {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn set(domains: &[&str], switches: &Switches) -> DomainSet {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        DomainSet::new(
            [&WebGroup::new(Uuid::nil(), "w".into(), domains, switches).unwrap()],
            switches,
        )
    }

    fn tls(sni: &str) -> Application {
        Application::Tls {
            sni: Some(sni.to_owned()),
        }
    }

    #[rstest]
    #[case("api.example.com", "api.example.com", true)]
    #[case("api.example.com", "API.Example.COM", true)]
    #[case("API.example.com", "api.example.com", true)]
    #[case("api.example.com", "api.example.com.", true)]
    #[case("api.example.com.", "api.example.com", true)]
    #[case("api.example.com", "api.example.com..", false)]
    #[case("api.example.com", "xapi.example.com", false)]
    #[case("api.example.com", "api.example.com.evil.net", false)]
    #[case("api.example.com", "api-example.com", false)]
    #[case("*.example.com", "a.example.com", true)]
    #[case("*.example.com", "a.b.example.com", true)]
    #[case("*.example.com", "example.com", false)]
    #[case("*.example.com", "evilexample.com", false)]
    #[case("*.s3.*.amazonaws.com", "b.s3.eu-west-1.amazonaws.com", true)]
    #[case("api*.example.com", "api.example.com", true)]
    #[case("*", "anything.test", true)]
    #[case("192.0.2.1", "192.0.2.1", true)]
    fn default_switches(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(
            set(&[pattern], &Switches::default()).matches(&tls(name), 443),
            expected
        );
    }

    #[rstest]
    #[case::one_label(Switches { wildcard_spans_labels: false, ..Switches::default() }, "a.b.example.com", false)]
    #[case::one_label(Switches { wildcard_spans_labels: false, ..Switches::default() }, "a.example.com", true)]
    #[case::apex(Switches { wildcard_matches_apex: true, ..Switches::default() }, "example.com", true)]
    #[case::case(Switches { case_insensitive: false, ..Switches::default() }, "a.EXAMPLE.com", false)]
    fn switches_change_the_match(
        #[case] switches: Switches,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        let matches =
            |switches: &Switches| set(&["*.example.com"], switches).matches(&tls(name), 443);
        assert_eq!(matches(&switches), expected);
        assert!(matches(&switches) != matches(&Switches::default()) || name == "a.example.com");
    }

    #[rstest]
    #[case::no_sni(Application::Tls { sni: None }, 443, false)]
    #[case::empty_sni(Application::Tls { sni: Some(String::new()) }, 443, false)]
    #[case::http(Application::Http { host: Some("a.test".into()) }, 80, true)]
    #[case::http_with_port(Application::Http { host: Some("a.test:8080".into()) }, 8080, true)]
    #[case::http_on_443(Application::Http { host: Some("a.test".into()) }, 443, true)]
    #[case::http_without_host(Application::Http { host: None }, 80, false)]
    #[case::ssh(Application::Other, 443, false)]
    fn applications(#[case] application: Application, #[case] port: u16, #[case] expected: bool) {
        assert_eq!(
            set(&["*"], &Switches::default()).matches(&application, port),
            expected
        );
        assert_eq!(
            set(&["a.test"], &Switches::default()).matches(&application, port),
            expected
        );
        let all_web = DomainSet::new([&WebGroup::system()], &Switches::default());
        assert_eq!(
            all_web.matches(&application, port),
            application != Application::Other
        );
    }

    #[test]
    fn host_header_on_443_can_be_switched_off() {
        let switches = Switches {
            host_header_on_tls_port: false,
            ..Switches::default()
        };
        let http = Application::Http {
            host: Some("a.test".into()),
        };
        assert!(!set(&["a.test"], &switches).matches(&http, 443));
        assert!(set(&["a.test"], &switches).matches(&http, 80));
    }

    #[rstest]
    #[case("", InvalidDomain::Empty)]
    #[case("**.example.com", InvalidDomain::DoubleStar { domain: "**.example.com".into() })]
    #[case(" api.example.com", InvalidDomain::Characters { domain: " api.example.com".into() })]
    #[case("bücher.example", InvalidDomain::Characters { domain: "bücher.example".into() })]
    #[case("https://example.com/x", InvalidDomain::Characters { domain: "https://example.com/x".into() })]
    fn refused(#[case] domain: &str, #[case] expected: InvalidDomain) {
        let result = WebGroup::new(
            Uuid::nil(),
            "w".into(),
            vec![domain.into()],
            &Switches::default(),
        );
        assert_eq!(result, Err(expected));
    }

    #[test]
    fn the_bare_star_has_three_meanings() {
        let group = |bare_star| {
            let switches = Switches {
                bare_star,
                ..Switches::default()
            };
            WebGroup::new(Uuid::nil(), "w".into(), vec!["*".into()], &switches).map(|group| {
                DomainSet::new([&group], &switches).matches(&Application::Tls { sni: None }, 443)
            })
        };
        assert_eq!(group(BareStar::Accept), Ok(false));
        assert_eq!(group(BareStar::Reject), Err(InvalidDomain::BareStar));
        assert_eq!(group(BareStar::AllWeb), Ok(true));
    }

    /// The definition of a wildcard, without any cleverness.
    fn naive(pattern: &str, name: &str, spans: bool) -> bool {
        let Some(head) = pattern.chars().next() else {
            return name.is_empty();
        };
        let rest = &pattern[1..];
        if head != '*' {
            return name.starts_with(head) && naive(rest, &name[1..], spans);
        }
        (0..=name.len())
            .take_while(|taken| spans || !name[..*taken].contains('.'))
            .any(|taken| naive(rest, &name[taken..], spans))
    }

    proptest! {
        #[test]
        fn wildcards_agree_with_their_definition(
            pattern in r"(\*?[ab.]){0,4}(\*?[ab]|[ab.]\*)", name in "[ab.]{0,9}[ab]", spans: bool
        ) {
            let switches = Switches { wildcard_spans_labels: spans, ..Switches::default() };
            let expected = naive(&pattern, &name, spans);
            prop_assert_eq!(set(&[&pattern], &switches).matches(&tls(&name), 443), expected);
        }
    }
}
