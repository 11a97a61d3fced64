//! Tier 1 of the firewall: what an administrator permits before any server's own policy is asked.
//!
//! A file of `scenarios/tier-one/` holds groups and rules in the vendor's wire form (reference:
//! aviatrix-controller-api.md sections 2 to 4), with two differences: a rule names its groups by name, because uuids
//! come from the controller, and a `cidr` may be a place in braces (`{pod subnet}`), because addresses come from the
//! cluster. A place with several addresses makes one selector of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Place, names_in, parse_yaml};

/// What a cluster has in the places that the data names: addresses as blocks in CIDR notation, ports, its id.
pub type Places = BTreeMap<String, Vec<String>>;

/// Groups and rules of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct TierOne {
    /// The file it was read from.
    pub path: PathBuf,
    /// Name of the file, without its ending.
    pub name: String,
    /// SmartGroups and WebGroups.
    pub groups: Vec<Value>,
    /// Rules, each with a priority.
    pub rules: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    groups: Vec<Value>,
    rules: Vec<Value>,
}

impl TierOne {
    /// Reads `<scenarios>/tier-one/<name>.yaml`.
    pub fn load(scenarios: &Path, name: &str) -> Result<Self, Error> {
        let folder = scenarios.join("tier-one");
        let path = folder.join(format!("{name}.yaml"));
        if !path.is_file() {
            let known = names_in(&folder)?;
            return Err(Error::Unknown {
                path: folder,
                what: "permits of Tier 1",
                name: name.to_owned(),
                known,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        Self::parse(&path, name, &text)
    }

    /// Reads the text of such a file.
    pub fn parse(path: &Path, name: &str, text: &str) -> Result<Self, Error> {
        let shape: Shape = parse_yaml(path, text)?;
        let tier_one = Self {
            path: path.to_owned(),
            name: name.to_owned(),
            groups: shape.groups,
            rules: shape.rules,
        };
        for rule in &tier_one.rules {
            if !rule["priority"].is_i64() || !rule["name"].is_string() {
                return Err(tier_one.invalid(format!(
                    "rules: {rule}: expected a name and a priority in each rule"
                )));
            }
        }
        Ok(tier_one)
    }

    /// The domains of its WebGroups, sorted, each once.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        let blocks = self
            .groups
            .iter()
            .flat_map(|group| group["selector"]["any"].as_array().into_iter().flatten());
        let mut domains: Vec<String> = blocks
            .filter_map(|block| block["all"]["snifilter"].as_str().map(str::to_owned))
            .collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// The groups with the addresses of a cluster in place of the names of places.
    ///
    /// # Errors
    /// For a place that the cluster does not know.
    pub fn groups_at(&self, places: &Places) -> Result<Vec<Value>, Error> {
        self.groups
            .iter()
            .map(|group| self.group_at(group, places))
            .collect()
    }

    fn group_at(&self, group: &Value, places: &Places) -> Result<Value, Error> {
        let mut blocks = Vec::new();
        for block in group["selector"]["any"].as_array().into_iter().flatten() {
            let place = block["all"]["cidr"]
                .as_str()
                .and_then(|cidr| cidr.strip_prefix('{')?.strip_suffix('}'));
            let Some(place) = place else {
                blocks.push(block.clone());
                continue;
            };
            let addresses = places.get(place).ok_or_else(|| {
                let known: Vec<&str> = places.keys().map(String::as_str).collect();
                self.invalid(format!(
                    "cidr: no place {place:?} in this cluster now; there are {}",
                    known.join(", ")
                ))
            })?;
            blocks.extend(addresses.iter().map(|cidr| json!({"all": {"cidr": cidr}})));
        }
        let mut placed = group.clone();
        placed["selector"]["any"] = blocks.into();
        Ok(placed)
    }

    fn invalid(&self, message: String) -> Error {
        Error::Invalid {
            path: self.path.clone(),
            place: Place(None),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn parse(text: &str) -> Result<TierOne, Error> {
        TierOne::parse(Path::new("t.yaml"), "t", text)
    }

    #[test]
    fn places_become_addresses() {
        let data = parse(
            "groups: [{name: pods, selector: {any: [{all: {cidr: '{pods}'}}, {all: {cidr: 192.0.2.1/32}}]}}]\nrules: []\n",
        )
        .unwrap();
        let places = Places::from([(
            "pods".to_owned(),
            vec!["10.1.0.0/16".into(), "10.2.0.0/16".into()],
        )]);
        let any = json!([{"all": {"cidr": "10.1.0.0/16"}}, {"all": {"cidr": "10.2.0.0/16"}}, {"all": {"cidr": "192.0.2.1/32"}}]);
        assert_eq!(data.groups_at(&places).unwrap()[0]["selector"]["any"], any);
        let error = data.groups_at(&Places::new()).unwrap_err().to_string();
        assert!(error.contains("no place \"pods\""), "{error}");
    }

    #[rstest]
    #[case::priority("groups: []\nrules: [{name: r}]\n", "a name and a priority")]
    #[case::typo("groups: []\nrule: []\n", "unknown field `rule`")]
    fn errors_name_the_file(#[case] text: &str, #[case] says: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.starts_with("t.yaml:") && error.contains(says),
            "{error}"
        );
    }
}
