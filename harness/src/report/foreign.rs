//! Text of others on its way to a terminal, to JUnit or to a step summary: answers of servers, output of programs, names
//! out of manifests. One place makes it safe, for every writer.
//!
//! Shown escaped, as `\\n` or `\\u{1b}`: control characters (C0, DEL, C1), separators of lines and paragraphs, marks that
//! change the direction of writing (Unicode Standard Annex 9) or are invisible, and what XML 1.0 forbids (section 2.2,
//! `Char`). So one line stays one line, no terminal is controlled, and XML stays well-formed. Everything else is left as
//! it is, backslashes too: an escape is for readers and can't be told from the same text sent as such.

use std::fmt::Write as _;

use super::model::Report;

/// Text as one line that is safe to print.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        push(&mut line, character);
    }
    line
}

/// Text of several lines, each safe to print; all but the first are indented, so that none passes for a line of ours.
#[must_use]
pub fn indented(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(one_line).collect();
    lines.join("\n  ")
}

/// The report with every text in it as one safe line. Names of fields and of outcomes hold nothing to escape.
#[must_use]
pub fn shown(report: &Report) -> Report {
    let mut value = serde_json::to_value(report).expect("invariant: a report is plain data");
    escape(&mut value);
    serde_json::from_value(value).expect("invariant: only texts were changed")
}

fn escape(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = one_line(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(escape),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(escape),
        _ => {}
    }
}

fn push(line: &mut String, character: char) {
    match character {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        hostile if is_hostile(hostile) => {
            // Writing to a String cannot fail.
            let _ = write!(line, "\\u{{{:x}}}", u32::from(hostile));
        }
        harmless => line.push(harmless),
    }
}

fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{180e}' // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero width, left-to-right and right-to-left marks
            | '\u{2028}' | '\u{2029}' // line and paragraph separator
            | '\u{202a}'..='\u{202e}' // embeddings and overrides
            | '\u{2060}'..='\u{206f}' // word joiner, isolates, deprecated format characters
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotations
            | '\u{e0000}'..='\u{e007f}' // tags
        )
        || is_noncharacter(character)
}

/// U+FDD0 to U+FDEF and the last two of every plane: never text. XML 1.0 forbids U+FFFE and U+FFFF among them.
fn is_noncharacter(character: char) -> bool {
    matches!(character, '\u{fdd0}'..='\u{fdef}') || u32::from(character) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::clear_screen("a\u{1b}[2Jb", "a\\u{1b}[2Jb")]
    #[case::title("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}")]
    #[case::c1("\u{9b}2J", "\\u{9b}2J")]
    #[case::forged_line(
        "no\nConformant: every selected check passed",
        "no\\nConformant: every selected check passed"
    )]
    #[case::return_over("no\rConformant", "no\\rConformant")]
    #[case::separators("a\u{2028}b\u{2029}c\u{85}d", "a\\u{2028}b\\u{2029}c\\u{85}d")]
    #[case::bidi("a\u{202e}tnamrofnoC\u{2066}", "a\\u{202e}tnamrofnoC\\u{2066}")]
    #[case::xml("\u{fffe}\u{ffff}\0\u{1}", "\\u{fffe}\\u{ffff}\\u{0}\\u{1}")]
    #[case::harmless("Zürich, 東京, \\n, 😀", "Zürich, 東京, \\n, 😀")]
    fn hostile_characters_are_shown(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(one_line(text), expected);
    }

    #[test]
    fn further_lines_of_an_error_are_indented() {
        let text = "error: refused\nConformant\u{1b}[2J";
        assert_eq!(indented(text), "error: refused\n  Conformant\\u{1b}[2J");
    }

    proptest! {
        #[test]
        fn one_line_stays_one_line(text in any::<String>()) {
            let line = one_line(&text);
            prop_assert!(line.lines().count() <= 1);
            prop_assert!(!line.chars().any(is_hostile));
            prop_assert_eq!(one_line(&line), line);
        }
    }
}
