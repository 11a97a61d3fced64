#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use rstest::rstest;

use super::{super::sets::RuleSets, *};
use crate::policy::{Action, FlowAppRequirement, InvalidDomain, Logging, switches::BareStar};

/// The index of a policy with one rule, which uses one group.
struct OneGroup {
    names: NameIndex,
    sets: RuleSets,
    all: SetId,
}

impl OneGroup {
    fn new(group: WebGroup, switches: &Switches) -> Self {
        let rule = Rule {
            uuid: Uuid::nil(),
            name: "rule".into(),
            sources: Vec::new(),
            destinations: Vec::new(),
            web_groups: vec![group.uuid],
            protocol: None,
            ports: Vec::new(),
            action: Action::Permit,
            logging: Logging::Off,
            watch: false,
            flow_app_requirement: FlowAppRequirement::default(),
        };
        let groups = BTreeMap::from([(group.uuid, Arc::new(group))]);
        let mut sets = SetBuilder::new(1);
        Self {
            names: NameIndex::new(&[&rule], &groups, switches, &mut sets),
            all: sets.of([0]),
            sets: sets.finish(),
        }
    }

    fn matches(&self, application: &Application, port: u16) -> bool {
        let any = || Union::from_iter([self.all]);
        let names = self.names.at(application, port);
        self.sets.common([names, any(), any(), any()]).count() == 1
    }
}

fn set(domains: &[&str], switches: &Switches) -> OneGroup {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    let group = WebGroup::new(Uuid::nil(), "w".into(), domains, switches).unwrap();
    OneGroup::new(group, switches)
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
    let matches = |switches: &Switches| set(&["*.example.com"], switches).matches(&tls(name), 443);
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
    let all_web = OneGroup::new(WebGroup::system(), &Switches::default());
    let is_unreadable =
        matches!(&application, Application::Tls { sni: Some(sni) } if sni.is_empty());
    assert_eq!(
        all_web.matches(&application, port),
        application != Application::Other && !is_unreadable
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

#[test]
fn the_bare_star_has_three_meanings() {
    let group = |bare_star| {
        let switches = Switches {
            bare_star,
            ..Switches::default()
        };
        WebGroup::new(Uuid::nil(), "w".into(), vec!["*".into()], &switches).map(|group| {
            OneGroup::new(group, &switches).matches(&Application::Tls { sni: None }, 443)
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

/// Wildcards that hash by both ends: many of one ending, and names that are shorter than the ends together.
#[rstest]
#[case("*brand.test", "mybrand.test", true)]
#[case("*brand.test", "brand.test", true)]
#[case("*brand.test", "brand.test.evil.test", false)]
#[case("api-*.example.com", "api-1.example.com", true)]
#[case("api-*.example.com", "api-.example.com", false)]
#[case("api-*.example.com", "api.example.com", false)]
#[case("a*a", "a", false)]
#[case("a*a", "aa", true)]
#[case("a.*", "a.", false)]
#[case("a.*", "a.b", true)]
#[case("*.s3.*.test", "s3.x.test", false)]
#[case("*.s3.*.test", "a.s3.b.test", true)]
#[case("*.s3.*.test", ".s3..test", false)]
#[case("*\u{e9}", "x", false)]
fn both_ends_of_a_wildcard(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
    let group = WebGroup {
        uuid: Uuid::nil(),
        name: "w".into(),
        domains: vec![
            "*brandy.test".into(),
            pattern.into(),
            "b*.example.com".into(),
        ],
        all_web: false,
    };
    let index = OneGroup::new(group, &Switches::default());
    assert_eq!(index.matches(&tls(name), 443), expected);
}

/// Strings that a wildcard's glob takes and that are no host name: denied under every kind of pattern.
#[rstest]
#[case::empty_label("a..listed.test")]
#[case::leading_dot(".listed.test")]
#[case::slash("evil.test/x.listed.test")]
#[case::star("*.listed.test")]
#[case::quote("\"x\".listed.test")]
#[case::brace("{x}.listed.test")]
#[case::percent("x%00.listed.test")]
#[case::control("x\u{9b}31m.listed.test")]
#[case::override_of_direction("x\u{202e}.listed.test")]
#[case::escaped("x\\x9b.listed.test")]
#[case::no_break_space("\u{a0}x.listed.test")]
#[case::port_within("x:443.listed.test")]
fn what_is_no_host_name_matches_no_pattern(#[case] name: &str) {
    let http = Application::Http {
        host: Some(name.to_owned()),
    };
    let patterns = ["*", "*.listed.test", "*listed.test", "*x*.listed.test"];
    for pattern in patterns {
        let index = set(&[pattern], &Switches::default());
        assert!(index.matches(&tls("x.listed.test"), 443), "control");
        assert!(!index.matches(&tls(name), 443), "{pattern}");
        assert!(!index.matches(&http, 80), "{pattern}");
    }
    let all_web = OneGroup::new(WebGroup::system(), &Switches::default());
    assert!(!all_web.matches(&tls(name), 443));
}

#[rstest]
#[case(63, true)]
#[case(64, false)]
#[case(100, false)]
fn a_label_that_is_too_long_matches_no_wildcard(#[case] length: usize, #[case] expected: bool) {
    let name = format!("{}.listed.test", "a".repeat(length));
    let index = set(&["*.listed.test"], &Switches::default());
    assert_eq!(index.matches(&tls(&name), 443), expected);
}

#[rstest]
#[case("\u{e9}\u{e9}.test")]
#[case("a\u{e9}.test")]
fn a_name_that_is_not_ascii_is_no_reason_to_panic(#[case] name: &str) {
    assert!(!set(&["*b.test", "a*b.test"], &Switches::default()).matches(&tls(name), 443));
}

#[test]
fn a_name_of_dots_is_not_hashed_for_each_of_them() {
    let index = set(&["*.example.com", "api.example.com"], &Switches::default());
    assert!(!index.matches(&tls(&".".repeat(1 << 20)), 443));
    assert!(!index.matches(&tls(&format!("{}.example.com", ".".repeat(1 << 20))), 443));
}

proptest! {
    #[test]
    fn wildcards_agree_with_their_definition(
        pattern in r"(\*?[ab.]){0,4}(\*?[ab]|[ab.]\*)", name in "[ab.]{0,9}[ab]", spans: bool
    ) {
        let switches = Switches { wildcard_spans_labels: spans, ..Switches::default() };
        // An empty label makes it no host name.
        let is_name = name.split('.').all(|label| !label.is_empty());
        let expected = is_name && naive(&pattern, &name, spans);
        prop_assert_eq!(set(&[&pattern], &switches).matches(&tls(&name), 443), expected);
    }
}
