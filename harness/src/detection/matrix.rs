//! The fault matrix as a person reads it: a line per fault, a column per scenario that ran, the requirement that caught
//! it at the end of the line.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{Cell, Row};
use crate::catalog::Catalog;
use crate::outcome::Outcome;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Renders the matrix, its legend and its score. `without` are core requirements that no fault is there for.
#[must_use]
pub fn render(rows: &[Row], catalog: &Catalog, without: &[String]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = matrix(rows, &columns(rows, catalog), without, &mut out);
    out
}

/// Titles of the scenarios that ran, in the order of the catalog, each with its number.
fn columns<'a>(rows: &[Row], catalog: &'a Catalog) -> Vec<&'a str> {
    let mut titles: Vec<&str> = Vec::new();
    for (_, scenario) in catalog.scenarios() {
        let ran = rows
            .iter()
            .any(|row| row.cells.contains_key(&scenario.name));
        if ran && !titles.contains(&scenario.name.as_str()) {
            titles.push(&scenario.name);
        }
    }
    titles
}

fn matrix(rows: &[Row], columns: &[&str], without: &[String], out: &mut String) -> fmt::Result {
    let width = rows.iter().map(|row| row.fault.len()).max().unwrap_or(0);
    writeln!(out, "{BOLD}Seeded faults against scenarios{BOLD:#}\n")?;
    for digit in [10, 1] {
        write!(out, "  {:width$}  ", "")?;
        for number in 1..=columns.len() {
            let shown = match (digit, number) {
                (10, number) if number < 10 => " ".to_owned(),
                (10, number) => (number / 10).to_string(),
                (_, number) => (number % 10).to_string(),
            };
            write!(out, "{DIM}{shown}{DIM:#}")?;
        }
        writeln!(out)?;
    }
    for row in rows {
        write!(out, "  {:width$}  ", row.fault)?;
        for column in columns {
            write!(out, "{}", mark(row.cells.get(*column)))?;
        }
        match &row.verdict {
            Ok(ids) => writeln!(out, "  {GREEN}caught{GREEN:#} by {}", ids.join(" "))?,
            Err(why) => writeln!(out, "  {RED}UNCAUGHT{RED:#} {why}")?,
        }
    }
    writeln!(
        out,
        "\n  {RED}■{RED:#} a requirement failed   {YELLOW}?{YELLOW:#} nothing proven   · passed   blank: not run"
    )?;
    for (index, column) in columns.iter().enumerate() {
        writeln!(out, "  {:>2} {column}", index + 1)?;
    }
    let mut by_component: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for row in rows {
        let entry = by_component.entry(row.component.to_string()).or_default();
        entry.0 += usize::from(row.verdict.is_ok());
        entry.1 += 1;
    }
    let parts: Vec<String> = by_component
        .iter()
        .map(|(component, (caught, all))| format!("{component} {caught}/{all}"))
        .collect();
    let caught = rows.iter().filter(|row| row.verdict.is_ok()).count();
    let style = if caught == rows.len() { GREEN } else { RED };
    if !without.is_empty() {
        writeln!(
            out,
            "\n{YELLOW}Core requirements that no seeded fault is there for:{YELLOW:#} {}",
            without.join(" ")
        )?;
    }
    writeln!(
        out,
        "\n{style}{caught} of {} seeded faults caught{style:#}  {DIM}{}{DIM:#}",
        rows.len(),
        parts.join(", ")
    )
}

fn mark(cell: Option<&Cell>) -> String {
    match cell.map(|cell| cell.outcome) {
        None => " ".to_owned(),
        Some(Outcome::Failed) => format!("{RED}■{RED:#}"),
        Some(Outcome::Passed | Outcome::Answered | Outcome::Finding | Outcome::NotApplicable) => {
            "·".to_owned()
        }
        Some(
            Outcome::Inconclusive | Outcome::NotTestable | Outcome::HarnessError | Outcome::Flaky,
        ) => format!("{YELLOW}?{YELLOW:#}"),
    }
}
