//! A case and what it came to, as a table for people: flows down, senders across, a mark in each cell.
//!
//! Rendering only. Colours are written as they come; the stream takes them out where they do not belong (`NO_COLOR`,
//! a pipe).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::case::{Case, Cell, policy_in_words};
use super::field::CellResult;
use crate::judge::model::Verdict;
use crate::judge::model::observed::Agreement;

/// Cells that are told in words below the table; more of them make no case clearer.
const TOLD: usize = 10;
const LEGEND: &str =
    "+ permitted   - denied   X differs from the documents   ? unproven   (+ and - as documented)";

/// The policy, the table, and what is not as documented.
pub(super) fn render(case: &Case, results: &[CellResult]) -> String {
    let mut text = String::new();
    for line in policy_in_words(&case.policy) {
        push(&mut text, &format!("  {line}"));
    }
    push(&mut text, "");
    let width = case
        .rows
        .iter()
        .map(|row| row.to_string().chars().count())
        .max()
        .unwrap_or(0);
    let mut head = format!("  {:width$}", "");
    for source in &case.sources {
        let _ = write!(head, "  {source}");
    }
    push(&mut text, &head);
    let by_cell: BTreeMap<Cell, &CellResult> =
        results.iter().map(|result| (result.cell, result)).collect();
    for (index, row) in case.rows.iter().enumerate() {
        let mut line = format!("  {row:width$}");
        for (column, source) in case.sources.iter().enumerate() {
            let cell = Cell { row: index, column };
            let mark = by_cell.get(&cell).map_or(" ".to_owned(), |cell| mark(cell));
            let pad = source.to_string().len().saturating_sub(1);
            let _ = write!(line, "  {mark}{:pad$}", "");
        }
        push(&mut text, line.trim_end());
    }
    push(&mut text, "");
    push(&mut text, &format!("  {LEGEND}"));
    for line in in_words(case, results) {
        push(&mut text, &line);
    }
    text
}

/// The cells that do not agree, a line each.
fn in_words(case: &Case, results: &[CellResult]) -> Vec<String> {
    let told: Vec<String> = results
        .iter()
        .filter_map(|result| {
            let why = match &result.agreement {
                Agreement::Agrees => return None,
                Agreement::Differs(why) => why.clone(),
                Agreement::Unproven(why) => format!("unproven: {why}"),
            };
            let source = &case.sources[result.cell.column];
            let row = &case.rows[result.cell.row];
            Some(format!("  {} {source}, {row}: {why}", mark(result)))
        })
        .collect();
    let more = told.len().saturating_sub(TOLD);
    let mut lines: Vec<String> = told.into_iter().take(TOLD).collect();
    if more > 0 {
        lines.push(format!("  ... and {more} more"));
    }
    lines
}

fn mark(result: &CellResult) -> String {
    let (mark, style) = match (&result.agreement, result.expected.verdict) {
        (Agreement::Agrees, Verdict::Permit) => ("+", AnsiColor::Green.on_default()),
        (Agreement::Agrees, Verdict::Deny) => ("-", Style::new().dimmed()),
        (Agreement::Differs(_), _) => ("X", AnsiColor::Red.on_default().bold()),
        (Agreement::Unproven(_), _) => ("?", AnsiColor::Yellow.on_default()),
    };
    format!("{style}{mark}{style:#}")
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::fuzz::case::Row;
    use crate::judge::model::observed::{Observed, compare};
    use crate::judge::model::{Decider, Egress, Flow, Policy, Source, Speech, Switches, expect};

    fn case() -> Case {
        let row = |port, speech| Row {
            host: "far.test".to_owned(),
            flow: Flow {
                address: "192.0.2.1".parse().unwrap(),
                port,
                speech,
            },
        };
        let egress = Egress {
            domains: vec!["far.test".to_owned(), "*.a.test".to_owned()],
            deny_all: None,
        };
        let deaf = Egress {
            domains: Vec::new(),
            deny_all: Some(true),
        };
        Case {
            policy: Policy {
                servers: [("ash".to_owned(), egress), ("birch".to_owned(), deaf)].into(),
                ..Policy::default()
            },
            sources: vec![
                Source::Server("ash".to_owned()),
                Source::Server("birch".to_owned()),
                Source::Stray,
            ],
            rows: vec![
                row(443, Speech::Tls(Some("far.test".to_owned()))),
                row(443, Speech::Tls(None)),
                row(53, Speech::Udp),
            ],
            cells: 8,
        }
    }

    /// As documented, but for two cells.
    fn results(case: &Case) -> Vec<CellResult> {
        let result = |cell: Cell| {
            let (source, row) = (&case.sources[cell.column], &case.rows[cell.row]);
            let expected = expect(&case.policy, &Switches::default(), source, &row.flow);
            let by = Some(expected.by.clone());
            let observed = match (cell.row, cell.column, expected.verdict) {
                (1, 1, _) => Observed::Passed {
                    by: Some(Decider::DefaultAction),
                },
                (2, 0, _) => Observed::Unproven("the cable was cut".to_owned()),
                (_, _, Verdict::Permit) => Observed::Passed { by },
                (_, _, Verdict::Deny) => Observed::Blocked { by },
            };
            CellResult {
                cell,
                agreement: compare(&expected, &observed),
                expected,
                observed,
            }
        };
        case.cells().map(result).collect()
    }

    #[test]
    fn a_table_reads_as_one() {
        let case = case();
        let text = render(&case, &results(&case));
        let plain = anstream::adapter::strip_str(&text).to_string();
        let expected = "  default action: deny, logged; default-deny setting: off
  ash    far.test, *.a.test
  birch  no list, denyAllEgress: true

                            ash  birch  stray
  tls  far.test:443         +    -      -
  tls  far.test:443 no sni  -    X      -
  udp  far.test:53          ?    -

  + permitted   - denied   X differs from the documents   ? unproven   (+ and - as documented)
  X birch, tls  far.test:443 no sni: expected deny by deny-all-external of birch, found permit by the default action
  ? ash, udp  far.test:53: unproven: the cable was cut
";
        assert_eq!(plain, expected);
    }
}
