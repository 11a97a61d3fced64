//! Collects observations while a claim is judged, and turns them into a result.

use std::time::Duration;

use jiff::Timestamp;

use super::{Bearing, Check, CheckResult, EvidenceLine};
use crate::evidence::Measurement;
use crate::outcome::Outcome;

/// What was found so far. Each clause of a claim adds exactly one kind of line: it supports,
/// contradicts, or is missing.
#[derive(Debug, Default)]
pub(super) struct Finding {
    lines: Vec<EvidenceLine>,
    control_broken: bool,
    measured: Vec<Measurement>,
}

impl Finding {
    pub(super) fn supports<'a>(&mut self, place: impl Into<Place<'a>>, found: impl Into<String>) {
        self.add(Bearing::Supports, Some(place.into()), found.into());
    }

    pub(super) fn contradicts<'a>(
        &mut self,
        place: impl Into<Place<'a>>,
        found: impl Into<String>,
    ) {
        self.add(Bearing::Contradicts, Some(place.into()), found.into());
    }

    pub(super) fn missing<'a>(&mut self, place: impl Into<Place<'a>>, found: impl Into<String>) {
        self.add(Bearing::Missing, Some(place.into()), found.into());
    }

    pub(super) fn neutral<'a>(&mut self, place: impl Into<Place<'a>>, found: impl Into<String>) {
        self.add(Bearing::Neutral, Some(place.into()), found.into());
    }

    /// A clause of the positive control is not met.
    pub(super) fn control_broken<'a>(
        &mut self,
        place: impl Into<Place<'a>>,
        found: impl Into<String>,
    ) {
        self.control_broken = true;
        self.missing(place, found);
    }

    pub(super) fn measured(
        &mut self,
        name: &str,
        of: String,
        micros: u64,
        bound: Option<Duration>,
    ) {
        self.measured.push(Measurement {
            name: name.to_owned(),
            of,
            micros,
            bound_micros: bound.map(micros_of),
        });
    }

    /// Adds what another result rests on.
    pub(super) fn absorb(&mut self, part: &CheckResult) {
        for line in &part.evidence {
            if !self.lines.contains(line) {
                self.lines.push(line.clone());
            }
        }
        // A result that was stated rests on no observation; its reason stands for one.
        if part.evidence.is_empty() && !part.passed() {
            let bearing = match part.outcome {
                Outcome::Failed => Bearing::Contradicts,
                _ => Bearing::Missing,
            };
            for reason in &part.reasons {
                self.add(bearing, None, reason.clone());
            }
        }
        self.control_broken |= part.control_broken;
        self.measured.extend(part.measured.iter().cloned());
    }

    /// A contradiction fails, something missing leaves it open, and nothing at all proves nothing.
    pub(super) fn conclude(self, check: &Check, expected: impl Into<String>) -> CheckResult {
        let has = |bearing| self.lines.iter().any(|line| line.bearing == bearing);
        let outcome = if has(Bearing::Contradicts) {
            Outcome::Failed
        } else if has(Bearing::Missing) || !has(Bearing::Supports) {
            Outcome::Inconclusive
        } else {
            Outcome::Passed
        };
        let decisive = match outcome {
            Outcome::Failed => Some(Bearing::Contradicts),
            Outcome::Inconclusive => Some(Bearing::Missing),
            _ => None,
        };
        CheckResult {
            check: check.name.clone(),
            kind: check.kind.clone(),
            step: None,
            attempt: check.attempt.clone(),
            about: check.about.clone(),
            requirements: Vec::new(),
            outcome,
            expected: expected.into(),
            reasons: self
                .lines
                .iter()
                .filter(|line| Some(line.bearing) == decisive)
                .map(|line| line.found.clone())
                .collect(),
            control_broken: outcome == Outcome::Inconclusive && self.control_broken,
            measured: self.measured,
            evidence: self.lines,
        }
    }

    fn add(&mut self, bearing: Bearing, place: Option<Place<'_>>, found: String) {
        self.lines.push(EvidenceLine {
            found,
            file: place.as_ref().map(|place| place.file.to_owned()),
            position: place.and_then(|place| place.position),
            bearing,
        });
    }
}

/// Where something was found: a file of the evidence folder and, where one observation is meant, its position in it.
pub(super) struct Place<'a> {
    file: &'a str,
    position: Option<u64>,
}

impl<'a> From<&'a str> for Place<'a> {
    fn from(file: &'a str) -> Self {
        Self {
            file,
            position: None,
        }
    }
}

impl<'a> From<(&'a str, u64)> for Place<'a> {
    fn from((file, position): (&'a str, u64)) -> Self {
        Self {
            file,
            position: Some(position),
        }
    }
}

impl<'a> From<(&'a str, Option<u64>)> for Place<'a> {
    fn from((file, position): (&'a str, Option<u64>)) -> Self {
        Self { file, position }
    }
}

/// Microseconds from one moment to a later one; 0 when it is not later.
pub(super) fn micros_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_microsecond() - from.as_microsecond()).unwrap_or(0)
}

pub(super) fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration as a reader wants it: `730 µs`, `12 ms`, `1.35 s`.
#[must_use]
pub fn in_words(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!(
            "{}.{:02} s",
            micros / 1_000_000,
            micros % 1_000_000 / 10_000
        ),
    }
}

/// `1 packet`, `2 packets`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
