//! The register of requirements: the sentences that scenarios show true or false.
//!
//! Parsed from `scenarios/requirements.yaml`. Ids are never reused and never change meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::claims::Claims;
use crate::scenario_data::{Error, parse_yaml};

/// How much a requirement weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A conformant system passes all of these.
    Core,
    /// Only for a system that claims the feature.
    Extended,
    /// An attack.
    Evasion,
    /// An open question: the answer is recorded, and never fails.
    Question,
}

/// Where something can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// The embedded cluster.
    Embedded,
    /// A kind cluster.
    Kind,
    /// An existing cluster.
    Existing,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Embedded => "embedded",
            Self::Kind => "kind",
            Self::Existing => "existing",
        })
    }
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// `EGR-01`.
    pub id: String,
    /// The profile it is part of: `egress`, `authoring`, ...
    pub profile: String,
    /// How much it weighs.
    pub level: Level,
    /// The environments that can show it.
    pub environments: Vec<Environment>,
    /// Letters of the documents it comes from.
    pub source: Vec<String>,
    /// The sentence.
    pub must: String,
    /// Titles of scenarios that must be there and carry its tag, for a requirement that one scenario alone can show.
    /// Empty: whichever scenario carries its tag shows it.
    pub shown_by: Vec<String>,
}

/// All requirements, by id, and what shows each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    requirements: BTreeMap<String, Requirement>,
    claims: Claims,
}

impl Register {
    /// Reads `<scenarios>/requirements.yaml` and `<scenarios>/claims.yaml`.
    pub fn load(scenarios: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = scenarios.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok((path, text)),
                Err(source) => Err(Error::Unreadable { path, source }),
            }
        };
        let (path, text) = read("requirements.yaml")?;
        let register = Self::parse(&path, &text)?;
        let (path, text) = read("claims.yaml")?;
        register.with_claims(&path, &text)
    }

    /// The same register with the claims of this text; `path` is for errors alone.
    pub fn with_claims(mut self, path: &Path, text: &str) -> Result<Self, Error> {
        self.claims = Claims::parse(path, text, |id| self.find(id).is_some())?;
        Ok(self)
    }

    /// What shows each requirement.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Reads the text of a register; `path` is for errors alone.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        parse_yaml::<RegisterShape>(path, text).map(|shape| Self {
            requirements: shape.0,
            claims: Claims::default(),
        })
    }

    /// The requirement with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Requirement> {
        self.requirements.get(id)
    }

    /// All requirements, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.values()
    }

    /// The requirements that a scenario's tags name. A tag is written with or without its `@`.
    /// A tag that looks like an id and is none is returned as the error, so that a typo does not
    /// lose a requirement.
    pub fn of_tags<'a>(
        &self,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<&Requirement>, String> {
        let ids = tags
            .into_iter()
            .map(|tag| tag.strip_prefix('@').unwrap_or(tag));
        ids.filter(|tag| is_id(tag))
            .map(|id| self.find(id).ok_or_else(|| id.to_owned()))
            .collect()
    }
}

/// Three capital letters, a dash, two digits.
#[must_use]
pub fn is_id(text: &str) -> bool {
    match text.as_bytes() {
        [a, b, c, b'-', x, y] => {
            [a, b, c].iter().all(|letter| letter.is_ascii_uppercase())
                && [x, y].iter().all(|digit| digit.is_ascii_digit())
        }
        _ => false,
    }
}

/// The file: profiles, each with its requirements. Written out as a visitor because a map type
/// would let a repeated id silently replace the first one.
struct RegisterShape(BTreeMap<String, Requirement>);

impl<'de> Deserialize<'de> for RegisterShape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Profiles)
    }
}

struct Profiles;

impl<'de> Visitor<'de> for Profiles {
    type Value = RegisterShape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("profiles, each with its requirements")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RegisterShape, A::Error> {
        let mut all = BTreeMap::new();
        while let Some(profile) = map.next_key::<String>()? {
            let Some(entries) = map.next_value::<Option<Entries>>()? else {
                continue;
            };
            for (id, entry) in entries.0 {
                let requirement = Requirement {
                    id: id.clone(),
                    profile: profile.clone(),
                    level: entry.level,
                    environments: entry.env.0,
                    source: entry.source.split_whitespace().map(str::to_owned).collect(),
                    must: entry.must,
                    shown_by: entry.shown_by,
                };
                if all.insert(id.clone(), requirement).is_some() {
                    return Err(A::Error::custom(format!("{id} is registered twice")));
                }
            }
        }
        Ok(RegisterShape(all))
    }
}

/// The requirements of one profile, in order.
struct Entries(Vec<(String, EntryShape)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("requirements by id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(String, EntryShape)> = Vec::new();
                while let Some(Id(id)) = map.next_key()? {
                    if entries.iter().any(|(known, _)| *known == id) {
                        return Err(A::Error::custom(format!("{id} is registered twice")));
                    }
                    entries.push((id, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }

        from.deserialize_map(EntriesVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryShape {
    level: Level,
    env: Environments,
    source: String,
    must: String,
    #[serde(default)]
    shown_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Id(String);

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        if is_id(&id) {
            Ok(Self(id))
        } else {
            Err(format!("{id:?}, expected an id such as EGR-01"))
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Environments(Vec<Environment>);

impl TryFrom<String> for Environments {
    type Error = String;

    fn try_from(letters: String) -> Result<Self, String> {
        let environments: Result<Vec<Environment>, String> = letters
            .chars()
            .map(|letter| match letter {
                'l' => Ok(Environment::Embedded),
                'k' => Ok(Environment::Kind),
                'c' => Ok(Environment::Existing),
                other => Err(format!("env: {other:?}, expected l, k or c")),
            })
            .collect();
        match environments? {
            found if found.is_empty() => {
                Err("env: no environment, expected some of l, k and c".to_owned())
            }
            found => Ok(Self(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn scenarios() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
    }

    #[test]
    fn the_projects_register_is_sound() {
        let register = Register::load(&scenarios()).unwrap();
        let first = register.find("EGR-01").unwrap();
        assert_eq!(first.profile, "egress");
        assert_eq!(first.level, Level::Core);
        assert_eq!(
            first.environments,
            [
                Environment::Embedded,
                Environment::Kind,
                Environment::Existing
            ]
        );
        assert_eq!(first.source, ["A", "B"]);
        assert!(first.must.starts_with("A listed domain is reachable"));
        assert!(register.iter().count() > 90);
    }

    #[test]
    fn tags_name_requirements() {
        let register = Register::load(&scenarios()).unwrap();
        let found = register
            .of_tags(["@egress", "@EGR-02", "EGR-01", "@flagship"])
            .unwrap();
        assert_eq!(
            found.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(),
            ["EGR-02", "EGR-01"]
        );
        assert_eq!(register.of_tags(["@EGR-99"]).unwrap_err(), "EGR-99");
    }

    const ENTRY: &str = "{level: core, env: l, source: A, must: x}";

    #[rstest]
    #[case::twice(format!("egress:\n  EGR-01: {ENTRY}\n  EGR-01: {ENTRY}\n"), "r.yaml:", "EGR-01 is registered twice")]
    #[case::twice_over_profiles(format!("a:\n  EGR-01: {ENTRY}\nb:\n  EGR-01: {ENTRY}\n"), "r.yaml:", "EGR-01 is registered twice")]
    #[case::id(format!("egress:\n  EGR-1: {ENTRY}\n"), "r.yaml:2:3", "\"EGR-1\", expected an id such as EGR-01")]
    #[case::environment("egress:\n  EGR-01: {level: core, env: lx, source: A, must: x}\n".to_owned(), "r.yaml:2:", "env: 'x', expected l, k or c")]
    #[case::no_environment("egress:\n  EGR-01: {level: core, env: '', source: A, must: x}\n".to_owned(), "r.yaml:2:", "env: no environment")]
    #[case::level("egress:\n  EGR-01: {level: high, env: l, source: A, must: x}\n".to_owned(), "r.yaml:2:", "unknown variant `high`")]
    #[case::missing("egress:\n  EGR-01: {level: core, env: l, source: A}\n".to_owned(), "r.yaml:2:", "missing field `must`")]
    #[case::unknown("egress:\n  EGR-01: {level: core, env: l, source: A, must: x, note: y}\n".to_owned(), "r.yaml:2:", "unknown field `note`")]
    #[case::not_a_map("- a\n".to_owned(), "r.yaml:1:1", "expected profiles")]
    fn errors_name_the_place(#[case] text: String, #[case] place: &str, #[case] message: &str) {
        let error = Register::parse(Path::new("r.yaml"), &text)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(place) && error.contains(message),
            "{error}"
        );
    }
}
