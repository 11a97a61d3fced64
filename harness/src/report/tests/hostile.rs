//! Text of others in the terminal's summary and in JUnit; identity of JUnit's cases.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

const HOSTILE: &str = "tool said\u{1b}[2J\u{1b}]0;owned\u{7}\nConformant: every selected check passed\r\u{9b}2J\u{202e}\u{2028}\u{fffe}\0";

/// The report of a run in which every text of others is `text`.
fn report_with(text: &str) -> Report {
    let mut check = not_logged();
    check.expected = text.to_owned();
    check.reasons = vec![text.to_owned()];
    check.evidence[0].found = text.to_owned();
    let mut events = vec![
        started(text, &["EGR-04"]),
        Event::Note {
            text: text.to_owned(),
        },
        Event::Check(check),
    ];
    events.extend(step(text, StepOutcome::Failed, Some(text)));
    events.push(Event::HarnessError {
        component: "server".to_owned(),
        message: text.to_owned(),
    });
    events.push(finished());
    report_of(&run(&[], 1), &[evidence("s", events)])
}

#[test]
fn hostile_text_controls_no_terminal() {
    let text = terminal::render(&report_with(HOSTILE), Path::new("out"), true);
    let text = plain(&text);
    let hostile = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2028}\u{fffe}".contains(c);
    assert!(!text.chars().any(hostile), "{text:?}");
    assert!(
        !text
            .lines()
            .any(|line| line.trim_start().starts_with("Conformant")),
        "{text}"
    );
    assert!(text.contains("tool said\\u{1b}[2J"), "{text}");
}

/// Well-formed for a parser, and without a character that XML 1.0 forbids (section 2.2): the parser accepts some of them.
fn parse_junit(xml: &str) -> Result<BTreeMap<(String, String), usize>, String> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
    if let Some(forbidden) = xml.chars().find(|&c| !allowed(c)) {
        return Err(format!("{forbidden:?} is no character of XML 1.0"));
    }
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut cases = BTreeMap::new();
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            quick_xml::events::Event::Eof => return Ok(cases),
            quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag)
                if tag.name().as_ref() == b"testcase" =>
            {
                let attribute = |name: &str| {
                    let value = tag.try_get_attribute(name).ok().flatten();
                    value.map(|value| String::from_utf8_lossy(&value.value).into_owned())
                };
                let identity = (attribute("classname"), attribute("name"));
                let (Some(class), Some(name)) = identity else {
                    return Err("a case without a class or a name".to_owned());
                };
                if attribute("time").is_none() {
                    return Err(format!("no time on {class} {name}"));
                }
                *cases.entry((class, name)).or_default() += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn hostile_text_leaves_junit_readable() {
    let xml = junit::render(&report_with(HOSTILE)).unwrap();
    parse_junit(&xml).unwrap();
    assert!(xml.contains("\\u{fffe}"), "{xml}");
    assert!(parse_junit("<a>\u{fffe}</a>").is_err());
}

proptest::proptest! {
    #[test]
    fn junit_is_well_formed_for_any_text(text in proptest::prelude::any::<String>()) {
        let xml = junit::render(&report_with(&text)).unwrap();
        proptest::prop_assert!(parse_junit(&xml).is_ok(), "{:?}", parse_junit(&xml));
    }
}

/// Rows of an outline share their title, and a scenario makes the same check more than once.
#[test]
fn cases_of_junit_are_unique() {
    let row = |line: u64| {
        let mut events = vec![started("Row", &[])];
        if let Event::ScenarioStarted(started) = &mut events[0] {
            started.location = format!("features/egress/rows.feature:{line}");
        }
        events.extend([Event::Check(blocked()), Event::Check(blocked()), finished()]);
        evidence(&line.to_string(), events)
    };
    let report = report_of(&run(&[], 2), &[row(12), row(13)]);
    let xml = junit::render(&report).unwrap();
    let cases = parse_junit(&xml).unwrap();
    assert_eq!(cases.len(), 4, "{cases:?}");
    assert!(cases.values().all(|&count| count == 1), "{cases:?}");
    assert!(
        xml.contains("hostname=\"worker-7\"") && xml.contains("timestamp=\"2026-06-02T10:15:00"),
        "{xml}"
    );
}
