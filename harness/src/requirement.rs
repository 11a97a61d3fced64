//! The register of requirements: the sentences that scenarios show true or false.
//!
//! Parsed from `scenarios/requirements.yaml`. Ids are never reused and never change meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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
    Probe,
}

/// Where something can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The embedded cluster.
    Embedded,
    /// A kind cluster.
    Kind,
    /// An existing cluster.
    Existing,
}

impl fmt::Display for Tier {
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
    /// The tiers that can show it.
    pub tiers: Vec<Tier>,
    /// Letters of the documents it comes from.
    pub source: Vec<String>,
    /// The sentence.
    pub must: String,
    /// Titles of scenarios that must be there and carry its tag, for a requirement that one scenario alone can show.
    /// Empty: whichever scenario carries its tag shows it.
    pub shown_by: Vec<String>,
}

/// All requirements, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register(BTreeMap<String, Requirement>);

impl Register {
    /// Reads `<scenarios>/requirements.yaml`.
    pub fn load(scenarios: &Path) -> Result<Self, Error> {
        let path = scenarios.join("requirements.yaml");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a register; `path` is for errors alone.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        parse_yaml::<RegisterShape>(path, text).map(|shape| Self(shape.0))
    }

    /// The requirement with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Requirement> {
        self.0.get(id)
    }

    /// All requirements, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.0.values()
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
                    tiers: entry.tiers.0,
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
    tiers: Tiers,
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
struct Tiers(Vec<Tier>);

impl TryFrom<String> for Tiers {
    type Error = String;

    fn try_from(letters: String) -> Result<Self, String> {
        let tiers: Result<Vec<Tier>, String> = letters
            .chars()
            .map(|letter| match letter {
                'l' => Ok(Tier::Embedded),
                'k' => Ok(Tier::Kind),
                'c' => Ok(Tier::Existing),
                other => Err(format!("tier {other:?}, expected l, k or c")),
            })
            .collect();
        match tiers? {
            tiers if tiers.is_empty() => Err("no tiers, expected some of l, k and c".to_owned()),
            tiers => Ok(Self(tiers)),
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
        assert_eq!(first.tiers, [Tier::Embedded, Tier::Kind, Tier::Existing]);
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

    const ENTRY: &str = "{level: core, tiers: l, source: A, must: x}";

    #[rstest]
    #[case::twice(format!("egress:\n  EGR-01: {ENTRY}\n  EGR-01: {ENTRY}\n"), "r.yaml:", "EGR-01 is registered twice")]
    #[case::twice_over_profiles(format!("a:\n  EGR-01: {ENTRY}\nb:\n  EGR-01: {ENTRY}\n"), "r.yaml:", "EGR-01 is registered twice")]
    #[case::id(format!("egress:\n  EGR-1: {ENTRY}\n"), "r.yaml:2:3", "\"EGR-1\", expected an id such as EGR-01")]
    #[case::tier("egress:\n  EGR-01: {level: core, tiers: lx, source: A, must: x}\n".to_owned(), "r.yaml:2:", "tier 'x', expected l, k or c")]
    #[case::no_tier("egress:\n  EGR-01: {level: core, tiers: '', source: A, must: x}\n".to_owned(), "r.yaml:2:", "no tiers")]
    #[case::level("egress:\n  EGR-01: {level: high, tiers: l, source: A, must: x}\n".to_owned(), "r.yaml:2:", "unknown variant `high`")]
    #[case::missing("egress:\n  EGR-01: {level: core, tiers: l, source: A}\n".to_owned(), "r.yaml:2:", "missing field `must`")]
    #[case::unknown("egress:\n  EGR-01: {level: core, tiers: l, source: A, must: x, note: y}\n".to_owned(), "r.yaml:2:", "unknown field `note`")]
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
