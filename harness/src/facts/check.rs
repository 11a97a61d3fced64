//! Checks: which one a claim is, and what the judge says about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{About, Outcome};

/// Which check a claim is. Which requirements it speaks for, `scenarios/claims.yaml` says when it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// What kind of check it is, a word in kebab-case.
    pub kind: String,
    /// Name of the check, unique within the scenario.
    pub name: String,
    /// Label of the attempt that it is about, if it is about one.
    pub attempt: Option<String>,
    /// What is known about that attempt.
    pub about: About,
}

impl Check {
    /// A check about no attempt.
    #[must_use]
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            ..Self::default()
        }
    }
}

/// A measured figure. Reported, compared with its bound only where a requirement states one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// `time-to-enforce`, `denial-latency`, ...
    pub name: String,
    /// What was measured, in words.
    pub of: String,
    /// Microseconds.
    pub micros: u64,
    /// The stated bound in microseconds. Absent: no requirement states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_micros: Option<u64>,
}

/// The result of one check: a sentence, an outcome, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Name of the check, the same whether it passes or fails.
    pub check: String,
    /// What kind of check it is, a word in kebab-case: claims say what a kind can show.
    #[serde(default)]
    pub kind: String,
    /// Line of the step in the feature file. Absent: no step made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Label of the attempt that it is about. Absent: it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// What is known about that attempt: the conditions that claims set.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
    /// Ids of the requirements it speaks for.
    pub requirements: Vec<String>,
    /// What it came to.
    pub outcome: Outcome,
    /// What was expected, as a sentence; of an open question, the question.
    pub expected: String,
    /// What was found, and where to look it up. A passed check has at least one line.
    pub evidence: Vec<EvidenceLine>,
    /// Why it is not passed, as sentences: what contradicts it or is missing, what was answered, or the finding and its
    /// compensating control. Empty when it passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Whether the broken part was the positive control. Absent: it was not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control_broken: bool,
    /// Figures measured while judging.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measurement>,
}

/// One observation that a result rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceLine {
    /// What was found, in words.
    pub found: String,
    /// The file of the evidence folder that holds it. Absent: it follows from other lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in that file, from 1 but for events: the line of a log or of receipts, the number of a packet in a capture,
    /// the `seq` of an event. Absent: the file as a whole, as for something that is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How it bears on the expectation.
    pub bearing: Bearing,
}

/// How an observation bears on an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bearing {
    /// It is what was expected.
    Supports,
    /// It contradicts it.
    Contradicts,
    /// It was needed and is missing, or says less than needed.
    Missing,
    /// It helps a reader and decides nothing.
    Neutral,
}

impl CheckResult {
    /// A result that is not a comparison of observations: a tier that cannot show it, a feature
    /// that is not claimed, an answer to an open question, a broken stand-in.
    #[must_use]
    pub fn stated(
        check: Check,
        outcome: Outcome,
        expected: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let mut result = Self {
            check: check.name,
            kind: check.kind,
            step: None,
            attempt: check.attempt,
            about: check.about,
            requirements: Vec::new(),
            outcome,
            expected: expected.into(),
            evidence: Vec::new(),
            reasons: Vec::new(),
            control_broken: false,
            measured: Vec::new(),
        };
        if outcome == Outcome::Passed {
            result.evidence.push(EvidenceLine {
                found: reason.into(),
                file: None,
                position: None,
                bearing: Bearing::Supports,
            });
        } else {
            result.reasons.push(reason.into());
        }
        result
    }

    /// A residual risk that was shown: what was found, and what compensates for it.
    #[must_use]
    pub fn finding(
        check: Check,
        expected: impl Into<String>,
        found: impl Into<String>,
        compensating_control: &str,
    ) -> Self {
        let mut result = Self::stated(check, Outcome::Finding, expected, found);
        result
            .reasons
            .push(format!("compensating control: {compensating_control}"));
        result
    }

    /// The system's answer to an open question.
    #[must_use]
    pub fn answered(check: Check, question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self::stated(check, Outcome::Answered, question, answer)
    }

    /// The same result as one that speaks for these requirements.
    #[must_use]
    pub fn showing(mut self, requirements: &[&str]) -> Self {
        self.requirements = requirements.iter().map(|&id| id.to_owned()).collect();
        self
    }

    /// Whether the check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }
}

/// One line per fact, for a step's error message.
impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]: {}", self.check, self.outcome, self.expected)?;
        for reason in &self.reasons {
            write!(f, "\n  because {reason}")?;
        }
        for line in &self.evidence {
            write!(f, "\n  - {}", line.found)?;
            if let Some(file) = &line.file {
                match line.position {
                    Some(position) => write!(f, " [{file}:{position}]")?,
                    None => write!(f, " [{file}]")?,
                }
            }
        }
        Ok(())
    }
}
