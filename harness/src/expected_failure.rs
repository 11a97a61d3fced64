//! The list of expected failures: what is known to fail on a system, why, and until when.
//!
//! Owns the file's format; what a list makes of a run is said by [`crate::report`].

use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::requirement::{Register, is_id};
use crate::scenario_data::{Error, Place, parse_yaml};

/// One entry: a requirement or a check that is known to fail on a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailure {
    /// Id of a requirement: each failed check that speaks for it is expected. Absent: [`ExpectedFailure::check`] is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// Name of a check. Absent: [`ExpectedFailure::requirement`] is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// The system that it is about; a run of another one passes over the entry.
    pub system: String,
    /// Why it is accepted, in words.
    pub reason: String,
    /// The last day (UTC) on which the entry counts, `YYYY-MM-DD`. A run that starts later treats it as not listed.
    pub expires: Date,
}

impl ExpectedFailure {
    /// The requirement or the check, in words.
    #[must_use]
    pub fn subject(&self) -> &str {
        let named = self.requirement.as_ref().or(self.check.as_ref());
        named.map_or("", String::as_str)
    }
}

/// Reads a list: YAML, a sequence of entries.
///
/// # Errors
/// When the file is missing or an entry is broken; names file, line and field.
pub fn load(path: &Path, register: &Register) -> Result<Vec<ExpectedFailure>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    // A device or a pipe would be read without an end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("expected a plain file")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(path, &text, register)
}

/// Reads the text of a list; `path` is for errors alone.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, register: &Register) -> Result<Vec<ExpectedFailure>, Error> {
    let entries: Vec<ExpectedFailure> = parse_yaml(path, text)?;
    for (index, entry) in entries.iter().enumerate() {
        if let Some(message) = objection(entry, register) {
            return Err(Error::Invalid {
                path: path.to_owned(),
                place: Place(place_of(text, index)),
                message: format!("entry {}: {message}", index + 1),
            });
        }
    }
    Ok(entries)
}

fn objection(entry: &ExpectedFailure, register: &Register) -> Option<String> {
    match (&entry.requirement, &entry.check) {
        (Some(_), Some(_)) => {
            return Some("names requirement and check, expected one of them".to_owned());
        }
        (None, None) => {
            return Some("names neither requirement nor check, expected one".to_owned());
        }
        (Some(id), None) if !is_id(id) => {
            return Some(format!(
                "requirement: {id:?}, expected an id such as EGR-01"
            ));
        }
        (Some(id), None) if register.find(id).is_none() => {
            return Some(format!(
                "requirement: {id} is not in scenarios/requirements.yaml"
            ));
        }
        (None, Some(check)) if check.trim().is_empty() => {
            return Some("check is empty, expected the name of a check".to_owned());
        }
        _ => {}
    }
    [("system", &entry.system), ("reason", &entry.reason)]
        .into_iter()
        .find(|(_, text)| text.trim().is_empty())
        .map(|(field, _)| format!("{field} is empty, expected text"))
}

/// Where an entry begins, in a list that is written with a dash per entry.
fn place_of(text: &str, index: usize) -> Option<(usize, usize)> {
    let mut entries = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("- "));
    entries.nth(index).map(|(line, _)| (line + 1, 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn register() -> Register {
        let text = "egress:\n  EGR-01: {level: core, env: l, source: A, must: x}\n";
        Register::parse(Path::new("r.yaml"), text).unwrap()
    }

    #[test]
    fn a_list_names_requirements_or_checks() {
        let text = "- requirement: EGR-01\n  system: stand-ins\n  reason: ticket 7\n  expires: 2030-01-31\n- {check: blocked, system: s, reason: r, expires: 2030-02-01}\n";
        let entries = parse(Path::new("e.yaml"), text, &register()).unwrap();
        assert_eq!(entries[0].subject(), "EGR-01");
        assert_eq!(entries[0].expires.to_string(), "2030-01-31");
        assert_eq!(entries[1].subject(), "blocked");
    }

    #[rstest]
    #[case::both(
        "- {requirement: EGR-01, check: c, system: s, reason: r, expires: 2030-01-01}\n",
        "e.yaml:1:1",
        "names requirement and check"
    )]
    #[case::neither(
        "# list\n- {system: s, reason: r, expires: 2030-01-01}\n",
        "e.yaml:2:1",
        "neither requirement nor check"
    )]
    #[case::unknown(
        "- {check: c, system: s, reason: r, expires: 2030-01-01}\n- {requirement: EGR-77, system: s, reason: r, expires: 2030-01-01}\n",
        "e.yaml:2:1",
        "entry 2: requirement: EGR-77 is not in"
    )]
    #[case::id(
        "- {requirement: egress, system: s, reason: r, expires: 2030-01-01}\n",
        "e.yaml:1:1",
        "requirement: \"egress\", expected an id"
    )]
    #[case::reason(
        "- {check: c, system: s, reason: ' ', expires: 2030-01-01}\n",
        "e.yaml:1:1",
        "reason is empty"
    )]
    #[case::no_reason(
        "- {check: c, system: s, expires: 2030-01-01}\n",
        "e.yaml:1:",
        "missing field `reason`"
    )]
    #[case::date(
        "- {check: c, system: s, reason: r, expires: soon}\n",
        "e.yaml:1:",
        "expires"
    )]
    #[case::field(
        "- {check: c, system: s, reason: r, expires: 2030-01-01, until: x}\n",
        "e.yaml:1:",
        "unknown field `until`"
    )]
    #[case::not_a_list("check: c\n", "e.yaml:1:1", "expected a sequence")]
    fn errors_name_the_place(#[case] text: &str, #[case] place: &str, #[case] message: &str) {
        let error = parse(Path::new("e.yaml"), text, &register())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(place) && error.contains(message),
            "{error}"
        );
    }
}
