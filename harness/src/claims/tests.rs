#![allow(clippy::unwrap_used)]

use rstest::rstest;

use super::*;
use crate::requirement::{Level, Register};

/// Requirements that a permitted request alone can show. Every other core requirement needs more.
const PERMITS_ALONE: [&str; 5] = ["EGR-01", "EGR-06", "EGR-07", "EGR-15", "EGR-23"];
/// Kinds of checks that a scenario without its denials still makes.
const CONTROLS: [&str; 6] = [
    "passed",
    "permit-logged",
    "drawn-permit",
    "record-stored",
    "tool-call",
    "no-server-name",
];

fn project() -> Register {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    Register::load(&scenarios).unwrap()
}

/// Every control that any claim could take, about the most fitting attempt.
fn controls(claims: &Claims) -> Vec<(&'static str, About)> {
    let takes = claims.iter().flat_map(|(_, claim)| claim.takes());
    takes
        .flat_map(|take| CONTROLS.map(|kind| (kind, take.best())))
        .collect()
}

/// Core requirements that the controls alone show.
fn shown_by_controls(register: &Register, claims: &Claims) -> Vec<String> {
    let controls = controls(register.claims());
    let controls: Vec<_> = controls
        .iter()
        .map(|(kind, about)| (*kind, about))
        .collect();
    register
        .iter()
        .filter(|requirement| requirement.level == Level::Core)
        .map(|requirement| requirement.id.clone())
        .filter(|id| claims.missing(id, &controls).is_empty())
        .collect()
}

#[test]
fn controls_alone_show_no_requirement_that_has_a_denial() {
    let register = project();
    assert_eq!(
        shown_by_controls(&register, register.claims()),
        PERMITS_ALONE
    );
}

/// The test above can fail: with claims that take any check about anything, controls show every requirement.
#[test]
fn ignored_claims_let_controls_show_everything() {
    let register = project();
    let mut ignored = register.claims().clone();
    let kinds = OneOrMore(ignored.kinds.keys().cloned().collect());
    for claim in ignored.claims.values_mut() {
        for take in &mut claim.all {
            take.check = kinds.clone();
            take.condition.clear();
            take.except.clear();
        }
    }
    let shown = shown_by_controls(&register, &ignored);
    assert!(shown.iter().any(|id| id == "EGR-03"), "{shown:?}");
    assert!(shown.len() > 40, "{shown:?}");
}

/// The flagship without its three lines about the attack.
#[test]
fn the_flagship_without_its_denials_does_not_show_its_requirement() {
    let register = project();
    let about: About = [(Aspect::Name, "listed".to_owned())].into();
    let mut checks = vec![
        ("tool-call", &about),
        ("record-stored", &about),
        ("passed", &about),
    ];
    let missing = register.claims().missing("EGR-03", &checks);
    assert_eq!(
        missing,
        [
            "a check \"blocked\", name unlisted|listed-elsewhere",
            "a check \"attack\"",
            "a check \"traceable\", source server",
            "a check \"spread\""
        ]
    );
    let attack: About = [
        (Aspect::Name, "unlisted".to_owned()),
        (Aspect::Source, "server".to_owned()),
    ]
    .into();
    checks.extend([
        ("blocked", &attack),
        ("attack", &attack),
        ("traceable", &attack),
        ("spread", &about),
    ]);
    assert!(register.claims().missing("EGR-03", &checks).is_empty());
}

#[rstest]
#[case::ipv4("EGR-42", "blocked", &[(Aspect::Family, "ipv4")], false)]
#[case::ipv6("EGR-42", "blocked", &[(Aspect::Family, "ipv6")], true)]
#[case::family_unknown("EGR-42", "blocked", &[], false)]
#[case::own_address("EGR-30", "blocked", &[(Aspect::Address, "own")], false)]
#[case::reused_address("EGR-30", "blocked", &[(Aspect::Address, "reused")], true)]
#[case::port_443("EGR-10", "blocked", &[(Aspect::Protocol, "tcp"), (Aspect::Name, "listed"), (Aspect::Port, "443")], false)]
#[case::port_22("EGR-10", "blocked", &[(Aspect::Protocol, "tcp"), (Aspect::Name, "listed"), (Aspect::Port, "22")], true)]
#[case::control("EGR-10", "passed", &[(Aspect::Protocol, "tcp"), (Aspect::Name, "listed"), (Aspect::Port, "22")], false)]
fn conditions_decide(
    #[case] id: &str,
    #[case] kind: &str,
    #[case] about: &[(Aspect, &str)],
    #[case] expected: bool,
) {
    let about = about
        .iter()
        .map(|(aspect, value)| (*aspect, (*value).to_owned()))
        .collect();
    let tags = [id.to_owned()];
    let register = project();
    let spoken = register.claims().spoken_for(kind, &about, &tags).unwrap();
    assert_eq!(spoken, if expected { &tags[..] } else { &[] });
    assert!(
        register
            .claims()
            .spoken_for(kind, &about, &[])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_prerequisite_speaks_without_a_tag_and_an_unknown_kind_never() {
    let register = project();
    let about = [(Aspect::Prerequisite, "features".to_owned())].into();
    let spoken = register
        .claims()
        .spoken_for("prerequisite", &about, &[])
        .unwrap();
    assert_eq!(spoken, ["PLT-09"]);
    let unknown = register
        .claims()
        .spoken_for("blokced", &about, &[])
        .unwrap_err();
    assert!(unknown.to_string().contains("\"blokced\""), "{unknown}");
}

#[rstest]
#[case::requirement("EGR-99: {check: a}", ":3:3", "EGR-99: not registered")]
#[case::kind("EGR-01: {check: b}", ":3:3", "\"b\" is no kind")]
#[case::aspect(
    "EGR-01: {check: a, where: {colour: red}}",
    ":3:",
    "unknown variant `colour`"
)]
#[case::value(
    "EGR-01: {check: a, where: {family: ipv5}}",
    ":3:3",
    "family: \"ipv5\", expected one of ipv4, ipv6"
)]
#[case::both("EGR-01: {check: a, all: [{check: a}]}", ":3:", "either check")]
#[case::neither("EGR-01: {}", ":3:", "either check")]
#[case::field("EGR-01: {check: a, when: {}}", ":3:", "unknown field `when`")]
#[case::twice("EGR-01: {check: a}\n  EGR-01: {check: a}", ":3:3", "claimed twice")]
fn errors_name_the_place(#[case] claim: &str, #[case] place: &str, #[case] message: &str) {
    let text = format!("kinds: {{a: A.}}\nclaims:\n  {claim}\n");
    let error = Claims::parse(Path::new("c.yaml"), &text, |id| id == "EGR-01")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("c.yaml{place}")) && error.contains(message),
        "{error}"
    );
}

#[test]
fn every_tagged_requirement_of_the_project_has_a_claim() {
    let register = project();
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features");
    let catalog =
        crate::catalog::Catalog::load(&features, &crate::catalog::Selection::default()).unwrap();
    let tagged: BTreeSet<String> = catalog
        .scenarios()
        .flat_map(|(feature, scenario)| {
            let tags: Vec<String> = feature.tags.iter().chain(&scenario.tags).cloned().collect();
            crate::catalog::requirement_tags(&tags)
        })
        .collect();
    let claimed: BTreeSet<String> = register
        .claims()
        .iter()
        .map(|(id, _)| id.to_owned())
        .collect();
    let missing: Vec<_> = tagged.difference(&claimed).collect();
    assert!(missing.is_empty(), "without a claim: {missing:?}");
    assert!(tagged.len() > 50);
}
