//! The summary on the terminal, for a reader who knows neither the tool nor the product: per
//! scenario a verdict, below it what proves it, and on failure what was expected, what was found
//! and how to see it again.
//!
//! It writes colours as escape sequences; printing through `anstream` takes them out where they
//! do not belong (no terminal, `NO_COLOR`).

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};

use super::foreign;
use super::model::{Check, CoverageState, ExpectationState, Figure, Report, Scenario};
use crate::judge::Bearing;
use crate::outcome::Outcome;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Renders the summary of the report in `run_folder`. Without `details`, a scenario that passed is one line; whatever
/// else a scenario came to is shown whole.
#[must_use]
pub fn render(report: &Report, run_folder: &Path, details: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = summary(&foreign::shown(report), run_folder, details, &mut out);
    out
}

fn summary(report: &Report, run_folder: &Path, details: bool, out: &mut String) -> fmt::Result {
    let run = &report.run;
    writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {} cluster, profile {}, seed {}",
        run.tool, run.tier, run.profile, run.seed
    )?;
    let mut apart = true;
    for scenario in &report.scenarios {
        let whole = details || scenario.outcome != Outcome::Passed;
        if apart || whole {
            writeln!(out)?;
        }
        apart = whole;
        if whole {
            one_scenario(scenario, run_folder, out)?;
        } else {
            one_line(scenario, out)?;
        }
    }
    if !details {
        writeln!(out, "{DIM}--verbose shows the proof of each.{DIM:#}")?;
    }
    writeln!(out)?;
    requirements(report, out)?;
    for figure in &report.figures {
        writeln!(out, "{}", one_figure(figure))?;
    }
    expected_failures(report, out)?;
    match (&run.detection, &run.detection_refused) {
        (_, Some(why)) => writeln!(
            out,
            "{RED}Detection: the stored score is refused:{RED:#} {why}"
        )?,
        (Some(score), None) => writeln!(out, "Detection: {score}")?,
        (None, None) => writeln!(
            out,
            "{DIM}Detection: not measured with these scenarios and this program; `containment faults` does{DIM:#}"
        )?,
    }
    if !run.faults.is_empty() {
        let faults = run.faults.join(", ");
        writeln!(
            out,
            "{YELLOW}Seeded faults were active: {faults}. This run says nothing about a real system and cannot be signed.{YELLOW:#}"
        )?;
    }
    writeln!(
        out,
        "Report: {}",
        run_folder.join(super::REPORT_JSON).display()
    )?;
    let style = if report.summary.exit_code == 0 {
        GREEN
    } else {
        RED
    };
    writeln!(
        out,
        "{style}{}{style:#}  {DIM}{} (exit code {}){DIM:#}",
        capitalised(&report.summary.verdict),
        counts(report),
        report.summary.exit_code
    )
}

fn one_line(scenario: &Scenario, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "{GREEN}PASSED{GREEN:#}  {}  {DIM}{}, {} checks: {}{DIM:#}",
        scenario.name,
        in_words(scenario.elapsed_us),
        scenario.checks.len(),
        scenario.requirements.join(" ")
    )
}

fn one_scenario(scenario: &Scenario, run_folder: &Path, out: &mut String) -> fmt::Result {
    let style = style_of(scenario.outcome);
    let verdict = scenario.outcome.as_str().to_uppercase();
    let elapsed = in_words(scenario.elapsed_us);
    writeln!(
        out,
        "{style}{verdict}{style:#}  {BOLD}{}{BOLD:#}  {DIM}{elapsed}, {}{DIM:#}",
        scenario.name, scenario.location
    )?;
    if let Some(reason) = &scenario.reason {
        writeln!(out, "  {RED}!{RED:#} {reason}")?;
    }
    let mut shown = BTreeSet::new();
    for check in &scenario.checks {
        one_check(check, &mut shown, out)?;
    }
    for earlier in &scenario.earlier {
        let evidence = run_folder.join(&earlier.evidence);
        writeln!(
            out,
            "  {YELLOW}before:{YELLOW:#} {}, {}  {DIM}{}{DIM:#}",
            earlier.outcome,
            earlier.reason,
            evidence.display()
        )?;
    }
    for note in &scenario.notes {
        writeln!(out, "  {DIM}note: {note}{DIM:#}")?;
    }
    writeln!(
        out,
        "  {DIM}evidence: {}{DIM:#}",
        run_folder.join(&scenario.evidence).display()
    )?;
    if !scenario.outcome.is_settled() {
        writeln!(out, "  reproduce: {BOLD}{}{BOLD:#}", scenario.reproduce)?;
    }
    Ok(())
}

/// A passed check shows what proves it; any other also what is against it or missing. A check
/// whose proof an earlier one showed already does not show it again; one with anything new shows
/// all of it, so that no line has to be looked up elsewhere.
fn one_check<'a>(check: &'a Check, shown: &mut BTreeSet<&'a str>, out: &mut String) -> fmt::Result {
    let style = style_of(check.outcome);
    let mark = match check.outcome {
        Outcome::Passed | Outcome::Flaky => "✓",
        Outcome::Answered => "i",
        Outcome::Finding => "!",
        Outcome::Failed | Outcome::HarnessError => "✗",
        Outcome::Inconclusive => "?",
        Outcome::NotTestable | Outcome::NotApplicable => "-",
    };
    let requirements = match check.requirements.as_slice() {
        [] => String::new(),
        ids => format!("  {DIM}{}{DIM:#}", ids.join(", ")),
    };
    let expected = match check.outcome {
        Outcome::Passed => "",
        Outcome::Answered => "asked: ",
        _ => "expected: ",
    };
    writeln!(
        out,
        "  {style}{mark}{style:#} {expected}{}{requirements}",
        check.expected
    )?;
    if let Some(reason) = &check.expected_failure {
        writeln!(
            out,
            "      {YELLOW}listed as an expected failure:{YELLOW:#} {reason}"
        )?;
    }
    let mut news = false;
    for line in &check.evidence {
        news |= shown.insert(line.found.as_str());
    }
    for line in &check.evidence {
        match line.bearing {
            Bearing::Contradicts => writeln!(out, "      {RED}found: {}{RED:#}", line.found)?,
            Bearing::Missing => writeln!(out, "      {YELLOW}missing: {}{YELLOW:#}", line.found)?,
            Bearing::Supports if news => writeln!(out, "      {}", line.found)?,
            Bearing::Neutral if news => writeln!(out, "      {DIM}{}{DIM:#}", line.found)?,
            Bearing::Supports | Bearing::Neutral => {}
        }
    }
    if check.evidence.is_empty() || matches!(check.outcome, Outcome::Answered | Outcome::Finding) {
        for reason in &check.reasons {
            writeln!(out, "      {reason}")?;
        }
    }
    Ok(())
}

fn requirements(report: &Report, out: &mut String) -> fmt::Result {
    let of = |state| {
        let ids: Vec<&str> = report
            .requirements
            .iter()
            .filter(|coverage| coverage.state == state)
            .map(|coverage| coverage.id.as_str())
            .collect();
        ids
    };
    let shown = of(CoverageState::Shown);
    let answered = of(CoverageState::Answered);
    let findings = of(CoverageState::Finding);
    let not_testable = of(CoverageState::NotTestable);
    let not_applicable = of(CoverageState::NotApplicable);
    let failed = of(CoverageState::Failed);
    let open = of(CoverageState::Open);
    let total = report.requirements.len();
    writeln!(
        out,
        "Requirements: {} of {total} shown: {}",
        shown.len(),
        or_none(&shown)
    )?;
    if !answered.is_empty() {
        writeln!(out, "  answered: {}", answered.join(" "))?;
    }
    if !findings.is_empty() {
        writeln!(out, "  {YELLOW}findings:{YELLOW:#} {}", findings.join(" "))?;
    }
    if !not_testable.is_empty() {
        writeln!(
            out,
            "  {YELLOW}not testable here:{YELLOW:#} {}",
            not_testable.join(" ")
        )?;
    }
    if !not_applicable.is_empty() {
        writeln!(
            out,
            "  not applicable, the system does not claim the feature: {}",
            not_applicable.join(" ")
        )?;
    }
    if !failed.is_empty() {
        writeln!(out, "  {RED}failed:{RED:#} {}", failed.join(" "))?;
    }
    if !open.is_empty() {
        writeln!(
            out,
            "  {DIM}open, not proven by this run: {}{DIM:#}",
            open.join(" ")
        )?;
    }
    Ok(())
}

/// What became of each listed failure.
fn expected_failures(report: &Report, out: &mut String) -> fmt::Result {
    for expectation in &report.expected_failures {
        let (style, word) = match expectation.state {
            ExpectationState::Failed => (YELLOW, "failed, as listed"),
            ExpectationState::Stale => (RED, "passed: take it off the list"),
            ExpectationState::Unproven => (YELLOW, "neither failed nor passed"),
            ExpectationState::NotRun => (DIM, "not checked in this run"),
            ExpectationState::Expired => (RED, "expired, counts as not listed"),
            ExpectationState::OtherSystem => (DIM, "about another system"),
        };
        let entry = &expectation.entry;
        writeln!(
            out,
            "Expected failure {} of {}: {style}{word}{style:#}  {DIM}{}, until {}{DIM:#}",
            entry.subject(),
            entry.system,
            entry.reason,
            entry.expires
        )?;
    }
    Ok(())
}

fn one_figure(figure: &Figure) -> String {
    let name = capitalised(&figure.name.replace('-', " "));
    let bound = figure
        .bound_us
        .map(|bound| format!(", bound {}", in_words(bound)));
    let bound = bound.unwrap_or_default();
    if figure.count == 1 {
        return format!("{name}: {}{bound}", in_words(figure.max_us));
    }
    format!(
        "{name}: half within {}, all within {} ({} measured{bound})",
        in_words(figure.p50_us),
        in_words(figure.max_us),
        figure.count
    )
}

fn counts(report: &Report) -> String {
    let parts: Vec<String> = Outcome::ALL
        .iter()
        .filter_map(|outcome| {
            let number = report.summary.scenarios.get(outcome)?;
            Some(format!("{number} {outcome}"))
        })
        .collect();
    let started = report.scenarios.len();
    let never = report
        .summary
        .selected
        .unwrap_or(started)
        .saturating_sub(started);
    let never = if never > 0 {
        format!(", {never} never started")
    } else {
        String::new()
    };
    let noun = if started == 1 {
        "scenario"
    } else {
        "scenarios"
    };
    format!("{started} {noun}: {}{never}", or_none(&parts))
}

fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Passed | Outcome::Answered => GREEN,
        Outcome::Finding => YELLOW,
        Outcome::Failed | Outcome::HarnessError => RED,
        Outcome::Inconclusive | Outcome::NotTestable | Outcome::Flaky => YELLOW,
        Outcome::NotApplicable => DIM,
    }
}

fn or_none<T: AsRef<str>>(parts: &[T]) -> String {
    if parts.is_empty() {
        return "none".to_owned();
    }
    parts
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(if parts[0].as_ref().contains(' ') {
            ", "
        } else {
            " "
        })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn in_words(micros: u64) -> String {
    crate::judge::duration_in_words(micros)
}
