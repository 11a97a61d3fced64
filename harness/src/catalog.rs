//! The catalog of scenarios: every feature file, parsed and checked before anything runs.
//!
//! A broken feature, an unknown step or a selection that matches nothing is found here, with file and line,
//! and not in the middle of a run. The catalog knows Gherkin and tags; it does not know what a step does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cucumber::feature::Ext as _;
use cucumber::gherkin::tagexpr::TagOperation;
use cucumber::gherkin::{Feature, GherkinEnv, ParseFileError, Scenario, Step};
use cucumber::step::Collection;

use crate::fault::FaultRegister;
use crate::requirement::{Register, is_id};

/// Why a set of features can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it can't be read.
    #[error(
        "{path}: cannot be read: {source}\n  expected: a folder with *.feature files; run in the project's folder or name one with --project-dir"
    )]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not Gherkin.
    #[error("{path}:{line}:{column}: not valid Gherkin: expected {expected}")]
    Syntax {
        /// The feature file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the grammar wanted there.
        expected: String,
    },
    /// An outline whose examples do not fit its placeholders.
    #[error("{path}: {reason}")]
    Outline {
        /// The feature file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A construct of Gherkin that the runner would pass over in silence.
    #[error("{path}:{line}: `Rule:` is not supported; put its scenarios directly into the feature")]
    Rule {
        /// The feature file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A step no function implements, or more than one.
    #[error("{path}:{line}: {reason}: {step}")]
    Step {
        /// The feature file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The step as written.
        step: String,
        /// Unknown or ambiguous.
        reason: String,
    },
    /// A tag that looks like a requirement's id and is none.
    #[error("{path}:{line}: the tag @{id} names no requirement of scenarios/requirements.yaml")]
    Requirement {
        /// The feature file.
        path: PathBuf,
        /// Line of the scenario, from 1.
        line: usize,
        /// The id.
        id: String,
    },
    /// An entry of a register that speaks of a scenario that is not there.
    #[error("{entry}: no scenario is called {title:?}; `containment list` shows what there is")]
    Claim {
        /// The file and the entry.
        entry: String,
        /// The scenario's title.
        title: String,
    },
    /// Nothing matches the selection.
    #[error("no scenario matches {selection}; `containment list` shows what there is")]
    EmptySelection {
        /// The selection in words.
        selection: String,
    },
}

/// Which scenarios to run.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Profiles: folders below `features/`. None: all of them.
    pub profiles: Vec<String>,
    /// A tag expression such as `@EGR-03 and not @slow`.
    pub tags: Option<TagOperation>,
    /// A part of the scenario's name.
    pub name: Option<String>,
}

impl Selection {
    fn matches(&self, feature_tags: &[String], scenario: &Scenario) -> bool {
        let tags: BTreeSet<&String> = feature_tags.iter().chain(&scenario.tags).collect();
        self.tags
            .as_ref()
            .is_none_or(|expression| evaluate(expression, &tags))
            && self
                .name
                .as_ref()
                .is_none_or(|part| scenario.name.contains(part.as_str()))
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if !self.profiles.is_empty() {
            parts.push(format!("profile {:?}", self.profiles.join(",")));
        }
        if let Some(tags) = &self.tags {
            parts.push(format!("tags {tags:?}"));
        }
        if let Some(name) = &self.name {
            parts.push(format!("name {name:?}"));
        }
        if parts.is_empty() {
            "the catalog".to_owned()
        } else {
            parts.join(" and ")
        }
    }
}

fn evaluate(expression: &TagOperation, tags: &BTreeSet<&String>) -> bool {
    match expression {
        TagOperation::And(left, right) => evaluate(left, tags) && evaluate(right, tags),
        TagOperation::Or(left, right) => evaluate(left, tags) || evaluate(right, tags),
        TagOperation::Not(inner) => !evaluate(inner, tags),
        TagOperation::Tag(tag) => tags.contains(tag),
    }
}

/// Parsed features that hold only selected scenarios, in order of their paths.
#[derive(Debug, Clone)]
pub struct Catalog {
    features: Vec<Feature>,
}

impl Catalog {
    /// Reads `features/` (or the profiles' folders in it) and keeps what `selection` matches.
    ///
    /// # Errors
    /// See [`Error`]; each names the file, and the line where there is one.
    pub fn load(features: &Path, selection: &Selection) -> Result<Self, Error> {
        let mut paths = Vec::new();
        if selection.profiles.is_empty() {
            paths = feature_files(features)?;
        }
        for profile in &selection.profiles {
            paths.extend(feature_files(&features.join(profile))?);
        }
        let mut loaded = Vec::new();
        for path in paths {
            let mut feature = parse(&path)?;
            feature
                .scenarios
                .retain(|scenario| selection.matches(&feature.tags, scenario));
            if !feature.scenarios.is_empty() {
                loaded.push(feature);
            }
        }
        if loaded.is_empty() {
            return Err(Error::EmptySelection {
                selection: selection.describe(),
            });
        }
        Ok(Self { features: loaded })
    }

    /// Checks that exactly one function implements each step.
    ///
    /// # Errors
    /// [`Error::Step`] for the first step that has none or several.
    pub fn check_steps<W>(&self, steps: &Collection<W>) -> Result<(), Error> {
        for feature in &self.features {
            let background = feature
                .background
                .iter()
                .flat_map(|background| &background.steps);
            for step in background.chain(
                feature
                    .scenarios
                    .iter()
                    .flat_map(|scenario| &scenario.steps),
            ) {
                match steps.find(step) {
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(step_error(feature, step, "no such step is known")),
                    Err(ambiguous) => {
                        return Err(step_error(
                            feature,
                            step,
                            &format!("ambiguous ({ambiguous})"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks that every requirement a tag names is in the register.
    ///
    /// # Errors
    /// [`Error::Requirement`] for the first tag that names none.
    pub fn check_requirements(&self, register: &Register) -> Result<(), Error> {
        for (feature, scenario) in self.scenarios() {
            if let Err(id) = register.of_tags(
                feature
                    .tags
                    .iter()
                    .chain(&scenario.tags)
                    .map(String::as_str),
            ) {
                let (path, line) = (
                    feature.path.clone().unwrap_or_default(),
                    scenario.position.line,
                );
                return Err(Error::Requirement { path, line, id });
            }
        }
        Ok(())
    }

    /// Checks that every scenario which a requirement or a fault names is there, and that a scenario which a
    /// requirement names carries its tag. Only of use for a whole catalog.
    ///
    /// # Errors
    /// [`Error::Claim`] for the first that is not.
    pub fn check_claims(
        &self,
        requirements: &Register,
        faults: &FaultRegister,
    ) -> Result<(), Error> {
        for (name, fault) in faults.iter() {
            if !self
                .scenarios()
                .any(|(_, scenario)| scenario.name == fault.scenario)
            {
                let entry = format!("scenarios/faults.yaml: {name}");
                let title = fault.scenario.clone();
                return Err(Error::Claim { entry, title });
            }
        }
        for requirement in requirements.iter() {
            for title in &requirement.shown_by {
                let carries = |(feature, scenario): (&Feature, &Scenario)| {
                    scenario.name == *title
                        && feature
                            .tags
                            .iter()
                            .chain(&scenario.tags)
                            .any(|tag| *tag == requirement.id)
                };
                if !self.scenarios().any(carries) {
                    let entry = format!(
                        "scenarios/requirements.yaml: {} with the tag @{}",
                        requirement.id, requirement.id
                    );
                    let title = title.clone();
                    return Err(Error::Claim { entry, title });
                }
            }
        }
        Ok(())
    }

    /// The scenarios that `keep` chooses, given all tags of each. May be empty.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&[String], &Scenario) -> bool) -> Self {
        let mut features = self.features.clone();
        for feature in &mut features {
            let own = feature.tags.clone();
            feature.scenarios.retain(|scenario| {
                let tags: Vec<String> = own.iter().chain(&scenario.tags).cloned().collect();
                keep(&tags, scenario)
            });
        }
        features.retain(|feature| !feature.scenarios.is_empty());
        Self { features }
    }

    /// Profiles that the selected features are part of: the folders below `features/` that they lie in.
    pub fn profiles(&self) -> Vec<String> {
        let folder = |feature: &Feature| {
            let folder = feature.path.as_deref()?.parent()?.file_name()?;
            Some(folder.to_string_lossy().into_owned())
        };
        let profiles: BTreeSet<String> = self.features.iter().filter_map(folder).collect();
        profiles.into_iter().collect()
    }

    /// The features, for the runner.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Every selected scenario with its feature, in the order of files and lines.
    pub fn scenarios(&self) -> impl Iterator<Item = (&Feature, &Scenario)> {
        self.features.iter().flat_map(|feature| {
            feature
                .scenarios
                .iter()
                .map(move |scenario| (feature, scenario))
        })
    }
}

/// `path:line` of a scenario: its identity, because rows of an outline share their name. From `features/` on, so that a
/// report is the same wherever the project lies.
pub fn location(feature: &Feature, scenario: &Scenario) -> String {
    let path = feature
        .path
        .as_deref()
        .unwrap_or(Path::new("unnamed.feature"));
    let parts = path
        .components()
        .skip_while(|part| part.as_os_str() != "features");
    let path: PathBuf = parts.collect();
    format!("{}:{}", path.display(), scenario.position.line)
}

/// Tags that name requirements.
pub fn requirement_tags<'a>(tags: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    tags.into_iter().filter(|tag| is_id(tag)).cloned().collect()
}

fn feature_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "feature")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn parse(path: &Path) -> Result<Feature, Error> {
    let feature =
        Feature::parse_path(path, GherkinEnv::default()).map_err(|error| match error {
            ParseFileError::Reading { path, source } => Error::Unreadable { path, source },
            ParseFileError::Parsing {
                path,
                error,
                source,
            } => {
                let (line, column, expected) = place(&source.to_string());
                Error::Syntax {
                    path,
                    line,
                    column,
                    expected: error.map_or(expected, |error| format!("a keyword; {error}")),
                }
            }
        })?;
    if let Some(rule) = feature.rules.first() {
        return Err(Error::Rule {
            path: path.to_owned(),
            line: rule.position.line,
        });
    }
    feature.expand_examples().map_err(|error| Error::Outline {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Line, column and what was expected, out of the parser's `Error at <line>:<column>: {"a", "b"}`: it keeps the parts to
/// itself, in an order of their own each time.
fn place(message: &str) -> (usize, usize, String) {
    let mut parts = message.trim_start_matches("Error at ").splitn(3, ':');
    let mut number = || {
        parts
            .next()
            .and_then(|part| part.trim().parse().ok())
            .unwrap_or_default()
    };
    let (line, column) = (number(), number());
    let mut expected: Vec<&str> = parts
        .next()
        .unwrap_or_default()
        .trim()
        .trim_matches(['{', '}'])
        .split(", ")
        .collect();
    expected.sort_unstable();
    (line, column, expected.join(" or "))
}

fn step_error(feature: &Feature, step: &Step, reason: &str) -> Error {
    Error::Step {
        path: feature.path.clone().unwrap_or_default(),
        line: step.position.line,
        step: format!("{}{}", step.keyword, step.value),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder_with(name: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        folder
    }

    const TWO: &str = "@egress\nFeature: F\n  @EGR-01\n  Scenario: one\n    Given a\n  @EGR-02 @slow\n  Scenario: two\n    Given b\n";

    #[rstest::rstest]
    #[case("@EGR-01", &["one"])]
    #[case("@EGR-01 or @EGR-02", &["one", "two"])]
    #[case("@egress and not @slow", &["one"])]
    fn tags_select(#[case] expression: &str, #[case] expected: &[&str]) {
        let folder = folder_with("a.feature", TWO);
        let selection = Selection {
            tags: Some(expression.parse().unwrap()),
            ..Selection::default()
        };
        let catalog = Catalog::load(folder.path(), &selection).unwrap();
        let names: Vec<&str> = catalog
            .scenarios()
            .map(|(_, scenario)| scenario.name.as_str())
            .collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn an_empty_selection_is_an_error() {
        let folder = folder_with("a.feature", TWO);
        let selection = Selection {
            tags: Some("@nothing".parse().unwrap()),
            ..Selection::default()
        };
        assert!(matches!(
            Catalog::load(folder.path(), &selection),
            Err(Error::EmptySelection { .. })
        ));
    }

    #[test]
    fn broken_gherkin_names_file_and_line() {
        let folder = folder_with(
            "broken.feature",
            "Feature: F\n  Scenario: one\n    Given a\n    Nonsense here\n",
        );
        let error = Catalog::load(folder.path(), &Selection::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(
                "broken.feature:5:1: not valid Gherkin: expected a keyword; Unknown keyword"
            ),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_step_names_file_and_line() {
        let folder = folder_with("a.feature", TWO);
        let catalog = Catalog::load(folder.path(), &Selection::default()).unwrap();
        let error = catalog
            .check_steps(&Collection::<()>::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.feature:5: no such step is known: Given a"),
            "{error}"
        );
    }

    #[test]
    fn requirement_tags_are_told_from_other_tags() {
        let tags: Vec<String> = ["egress", "EGR-01", "serial", "AUT-12", "EGR-x"]
            .map(String::from)
            .to_vec();
        assert_eq!(requirement_tags(&tags), ["EGR-01", "AUT-12"]);
    }
}
