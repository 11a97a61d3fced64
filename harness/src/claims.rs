//! Claims: which checks show which requirement, as data (`scenarios/claims.yaml`).
//!
//! A check shows a requirement when the scenario is tagged with it and the claim takes a check of that kind about such an
//! attempt. A requirement is shown in a scenario when every part that its claim asks for is there; one part alone, as
//! the positive control of a denial, shows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::facts::{About, Aspect};
use crate::scenario_data::{Error, Place, parse_yaml};

/// All claims, by requirement, and the kinds of checks that they can name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Kinds of checks, each with the sentence that a passed check of it proves.
    kinds: BTreeMap<String, String>,
    /// Kinds that speak for a requirement in any scenario, tagged with it or not.
    #[serde(default)]
    untagged: BTreeSet<String>,
    claims: BTreeMap<String, Claim>,
}

/// What shows one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ClaimShape")]
pub struct Claim {
    /// All of these are needed.
    all: Vec<Take>,
    /// Checks that speak for it as well, and are not needed.
    also: Vec<Take>,
}

/// Checks that count: of one of these kinds, about an attempt that meets the condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    check: OneOrMore,
    /// Each aspect must be known and have one of the values.
    #[serde(default, rename = "where")]
    condition: BTreeMap<Aspect, OneOrMore>,
    /// No aspect may have one of the values.
    #[serde(default)]
    except: BTreeMap<Aspect, OneOrMore>,
}

/// A check of a kind that `scenarios/claims.yaml` does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "a check has the kind {kind:?}, which scenarios/claims.yaml does not know; add it to kinds, with what it proves"
)]
pub struct UnknownKind {
    /// The kind.
    pub kind: String,
}

impl Claims {
    /// Reads the text of a claims file; `path` is for errors alone. `is_registered` says whether an id is a requirement's.
    ///
    /// # Errors
    /// Names file, line, field and what was expected: for YAML that has another shape, an unknown requirement, kind,
    /// aspect or value.
    pub fn parse(
        path: &Path,
        text: &str,
        is_registered: impl Fn(&str) -> bool,
    ) -> Result<Self, Error> {
        let claims: Self = parse_yaml(path, text)?;
        let invalid = |key: &str, message: String| Error::Invalid {
            path: path.to_owned(),
            place: Place(place_of(text, key)),
            message,
        };
        if let Some(kind) = claims
            .untagged
            .iter()
            .find(|kind| !claims.kinds.contains_key(*kind))
        {
            return Err(invalid(
                "untagged",
                format!("untagged: {kind:?} is no kind; expected one of kinds"),
            ));
        }
        for (id, claim) in &claims.claims {
            if !is_registered(id) {
                return Err(invalid(
                    id,
                    format!("{id}: not registered; expected an id of requirements.yaml"),
                ));
            }
            let entry = format!("{id}:");
            if text
                .lines()
                .filter(|line| line.trim_start().starts_with(&entry))
                .count()
                > 1
            {
                return Err(invalid(
                    id,
                    format!("{id}: claimed twice, expected one claim"),
                ));
            }
            for take in claim.takes() {
                take.check_words(&claims.kinds)
                    .map_err(|why| invalid(id, format!("{id}: {why}")))?;
            }
        }
        Ok(claims)
    }

    /// Of the requirements that a scenario's tags name, those that a check of `kind` speaks for.
    ///
    /// # Errors
    /// [`UnknownKind`].
    pub fn spoken_for(
        &self,
        kind: &str,
        about: &About,
        tags: &[String],
    ) -> Result<Vec<String>, UnknownKind> {
        if !self.kinds.contains_key(kind) {
            let kind = kind.to_owned();
            return Err(UnknownKind { kind });
        }
        let beyond_tags = self.untagged.contains(kind);
        let spoken = self.claims.iter().filter(|(id, claim)| {
            (beyond_tags || tags.contains(id)) && claim.takes().any(|take| take.takes(kind, about))
        });
        Ok(spoken.map(|(id, _)| id.clone()).collect())
    }

    /// What is missing of the checks that show a requirement, in words; empty when they show it.
    #[must_use]
    pub fn missing(&self, id: &str, checks: &[(&str, &About)]) -> Vec<String> {
        let Some(claim) = self.claims.get(id) else {
            return vec![format!("a claim for {id}")];
        };
        let is_there = |take: &&Take| checks.iter().any(|(kind, about)| take.takes(kind, about));
        let missing = claim.all.iter().filter(|take| !is_there(take));
        missing.map(ToString::to_string).collect()
    }

    /// The kinds of checks, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// The claims by requirement.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.claims.iter().map(|(id, claim)| (id.as_str(), claim))
    }
}

impl Claim {
    /// The parts that are needed.
    #[must_use]
    pub fn needed(&self) -> &[Take] {
        &self.all
    }

    fn takes(&self) -> impl Iterator<Item = &Take> {
        self.all.iter().chain(&self.also)
    }
}

impl Take {
    /// Whether a check of `kind` about this counts.
    #[must_use]
    pub fn takes(&self, kind: &str, about: &About) -> bool {
        let is = |(aspect, values): (&Aspect, &OneOrMore)| {
            about.get(aspect).is_some_and(|value| values.holds(value))
        };
        self.check.holds(kind) && self.condition.iter().all(is) && !self.except.iter().any(is)
    }

    /// Kinds of checks that count.
    #[must_use]
    pub fn kinds(&self) -> &[String] {
        &self.check.0
    }

    /// The most fitting thing that a check can be about: every condition met.
    #[must_use]
    pub fn best(&self) -> About {
        let first =
            |(aspect, values): (&Aspect, &OneOrMore)| Some((*aspect, values.0.first()?.clone()));
        self.condition.iter().filter_map(first).collect()
    }

    fn check_words(&self, kinds: &BTreeMap<String, String>) -> Result<(), String> {
        if self.check.0.is_empty() {
            return Err("check: empty, expected a kind".to_owned());
        }
        if let Some(kind) = self.check.0.iter().find(|kind| !kinds.contains_key(*kind)) {
            return Err(format!("check: {kind:?} is no kind; expected one of kinds"));
        }
        for (aspect, values) in self.condition.iter().chain(&self.except) {
            let Some(known) = aspect.values() else {
                continue;
            };
            if let Some(value) = values
                .0
                .iter()
                .find(|value| !known.contains(&value.as_str()))
            {
                return Err(format!(
                    "{aspect}: {value:?}, expected one of {}",
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Take {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a check {:?}", self.check.0.join("|"))?;
        for (aspect, values) in &self.condition {
            write!(f, ", {aspect} {}", values.0.join("|"))?;
        }
        for (aspect, values) in &self.except {
            write!(f, ", {aspect} not {}", values.0.join("|"))?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimShape {
    #[serde(default)]
    check: Option<OneOrMore>,
    #[serde(default, rename = "where")]
    condition: BTreeMap<Aspect, OneOrMore>,
    #[serde(default)]
    except: BTreeMap<Aspect, OneOrMore>,
    #[serde(default)]
    all: Vec<Take>,
    #[serde(default)]
    also: Vec<Take>,
}

impl TryFrom<ClaimShape> for Claim {
    type Error = String;

    fn try_from(shape: ClaimShape) -> Result<Self, String> {
        let mut all = shape.all;
        match (shape.check, all.is_empty()) {
            (Some(check), true) => all.push(Take {
                check,
                condition: shape.condition,
                except: shape.except,
            }),
            (None, false) if shape.condition.is_empty() && shape.except.is_empty() => {}
            _ => return Err("expected either check (with where, except) or all".to_owned()),
        }
        Ok(Self {
            all,
            also: shape.also,
        })
    }
}

/// One value or a list of them. Numbers stand for their decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMoreShape")]
struct OneOrMore(Vec<String>);

impl OneOrMore {
    fn holds(&self, value: &str) -> bool {
        self.0.iter().any(|own| own == value)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMoreShape {
    One(Word),
    More(Vec<Word>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(u64),
}

impl From<OneOrMoreShape> for OneOrMore {
    fn from(shape: OneOrMoreShape) -> Self {
        let word = |word| match word {
            Word::Text(text) => text,
            Word::Number(number) => number.to_string(),
        };
        match shape {
            OneOrMoreShape::One(one) => Self(vec![word(one)]),
            OneOrMoreShape::More(more) => Self(more.into_iter().map(word).collect()),
        }
    }
}

/// Where the entry with this key begins.
fn place_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let column = |line: &str| {
        let rest = line.trim_start();
        rest.strip_prefix(key)?
            .starts_with(':')
            .then(|| line.len() - rest.len() + 1)
    };
    let mut lines = text.lines().enumerate();
    lines.find_map(|(index, line)| column(line).map(|column| (index + 1, column)))
}

#[cfg(test)]
mod tests;
