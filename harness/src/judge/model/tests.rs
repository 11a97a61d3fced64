#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const OPEN: Switches = Switches {
    wildcard_spans_labels: true,
    wildcard_matches_apex: true,
    case_insensitive: true,
    bare_star: BareStar::AllWeb,
    host_header_on_tls_port: true,
};

fn policy() -> Policy {
    let egress = |domains: &[&str], deny_all| Egress {
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        deny_all,
    };
    Policy {
        servers: BTreeMap::from([
            ("listed".to_owned(), egress(&["*.a.test", "b.test"], None)),
            ("deaf".to_owned(), egress(&[], Some(true))),
            ("silent".to_owned(), egress(&[], None)),
            ("open".to_owned(), egress(&[], Some(false))),
        ]),
        ..Policy::default()
    }
}

fn flow(port: u16, speech: Speech) -> Flow {
    Flow {
        address: "198.51.100.1".parse().unwrap(),
        port,
        speech,
    }
}

fn tls(name: &str) -> Flow {
    flow(443, Speech::Tls(Some(name.to_owned())))
}

fn http(port: u16, host: &str) -> Flow {
    flow(port, Speech::Http(host.to_owned()))
}

/// `P` permitted by the list, `D` denied by the server's last rule, `-` left to the default action.
fn mark(policy: &Policy, switches: &Switches, server: &str, flow: &Flow) -> char {
    let expected = expect(policy, switches, &Source::Server(server.to_owned()), flow);
    match (expected.verdict, expected.by) {
        (_, Decider::DefaultAction) => '-',
        (Verdict::Permit, Decider::Rule { rule, .. }) if rule == PERMIT_RULE => 'P',
        (Verdict::Deny, Decider::Rule { rule, .. }) if rule == DENY_RULE => 'D',
        other => panic!("{other:?}"),
    }
}

/// One row a document or a switch: the marks are of the servers listed, deaf, silent and open.
#[rstest]
#[case::exact(tls("b.test"), "PDPP")]
#[case::subdomain(tls("x.a.test"), "PDPP")]
#[case::deep(tls("x.y.a.test"), "PDPP")]
#[case::apex(tls("a.test"), "DDPP")]
#[case::look_alike(tls("evila.test"), "DDPP")]
#[case::suffix_of_listed(tls("xb.test"), "DDPP")]
#[case::super_domain(tls("b.test.evil.test"), "DDPP")]
#[case::case(tls("X.A.TEST"), "PDPP")]
#[case::trailing_dot(tls("b.test."), "PDPP")]
#[case::no_name(flow(443, Speech::Tls(None)), "DDDD")]
#[case::tls_elsewhere(flow(8443, Speech::Tls(Some("b.test".to_owned()))), "DDDD")]
#[case::host_header(http(443, "b.test"), "PDPP")]
#[case::http_port(http(80, "b.test"), "DDDD")]
#[case::other_bytes(flow(443, Speech::Tcp), "DDDD")]
#[case::quic(flow(443, Speech::Udp), "DDDD")]
#[case::echo(flow(0, Speech::Icmp), "DDDD")]
fn documented_verdicts(#[case] flow: Flow, #[case] marks: &str) {
    let found: String = ["listed", "deaf", "silent", "open"]
        .iter()
        .map(|server| mark(&policy(), &Switches::default(), server, &flow))
        .collect();
    assert_eq!(found, marks);
}

#[rstest]
#[case::one_label(Switches { wildcard_spans_labels: false, ..Switches::default() }, tls("x.y.a.test"), "listed", 'D')]
#[case::one_label_still(Switches { wildcard_spans_labels: false, ..Switches::default() }, tls("x.a.test"), "listed", 'P')]
#[case::apex(Switches { wildcard_matches_apex: true, ..Switches::default() }, tls("a.test"), "listed", 'P')]
#[case::case(Switches { case_insensitive: false, ..Switches::default() }, tls("B.test"), "listed", 'D')]
#[case::all_web(Switches { bare_star: BareStar::AllWeb, ..Switches::default() }, flow(443, Speech::Tls(None)), "silent", 'P')]
#[case::all_web_not_for_lists(OPEN, flow(443, Speech::Tls(None)), "listed", 'D')]
#[case::star_rejected(Switches { bare_star: BareStar::Rejected, ..Switches::default() }, tls("b.test"), "silent", '-')]
#[case::no_host_header(Switches { host_header_on_tls_port: false, ..Switches::default() }, http(443, "b.test"), "listed", 'D')]
fn switches_decide_what_is_unknown(
    #[case] switches: Switches,
    #[case] flow: Flow,
    #[case] server: &str,
    #[case] expected: char,
) {
    assert_eq!(mark(&policy(), &switches, server, &flow), expected);
}

/// The setting counts where a manifest says nothing: neither a list nor a choice.
#[test]
fn the_default_deny_setting_is_for_the_silent_alone() {
    let policy = Policy {
        default_deny: true,
        ..policy()
    };
    let marks: Vec<char> = ["listed", "deaf", "silent", "open"]
        .iter()
        .map(|server| mark(&policy, &Switches::default(), server, &tls("b.test")))
        .collect();
    assert_eq!(marks, ['P', 'D', 'D', 'P']);
}

#[test]
fn the_default_action_is_for_strays_and_for_ipv6() {
    let mut policy = policy();
    let six = Flow {
        address: "2001:db8::1".parse().unwrap(),
        ..tls("b.test")
    };
    for (source, flow) in [
        (Source::Stray, tls("b.test")),
        (Source::Server("listed".to_owned()), six),
    ] {
        policy.default_action = DefaultAction::DenyAndLog;
        let denied = expect(&policy, &Switches::default(), &source, &flow);
        assert_eq!(
            (denied.verdict, denied.by, denied.logged),
            (Verdict::Deny, Decider::DefaultAction, true)
        );
        policy.default_action = DefaultAction::Permit;
        let passed = expect(&policy, &Switches::default(), &source, &flow);
        assert_eq!((passed.verdict, passed.logged), (Verdict::Permit, false));
    }
}

/// The shortest thing that can be said about a glob.
fn naive(pattern: &str, text: &str, spans: bool) -> bool {
    match pattern.split_at_checked(1) {
        None => text.is_empty(),
        Some(("*", rest)) => (0..=text.len())
            .filter(|&end| spans || !text[..end].contains('.'))
            .any(|end| naive(rest, &text[end..], spans)),
        Some((one, rest)) => text
            .strip_prefix(one)
            .is_some_and(|text| naive(rest, text, spans)),
    }
}

proptest! {
    #[test]
    fn globs_are_what_the_naive_matcher_says(pattern in "[ab.*]{0,7}", text in "[ab.]{0,9}", spans: bool) {
        prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes(), spans), naive(&pattern, &text, spans));
    }
}
