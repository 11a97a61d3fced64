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
