//! The register of seeded faults: one named defect in one stand-in, and what it must turn red.
//!
//! Parsed from `scenarios/faults.yaml`. It says what a fault is for; the stand-ins know what it
//! does. A run with an active fault cannot be signed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::requirement::{Register, is_id};
use crate::scenario_data::{Error, Place, parse_yaml};

/// The stand-in that a fault is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The policy controller: turns the orchestrator's policies into firewall policies.
    PolicyController,
    /// The firewall's controller: turns firewall policies into what gateways enforce.
    Controller,
    /// The gateway: enforces.
    Gateway,
    /// The orchestrator.
    Orchestrator,
    /// The cluster itself: its node, its network, its DNS.
    Cluster,
    /// The far ends beyond the gateway.
    Internet,
    /// The hostile dependency of a server: an attack that takes another way than the suite's own.
    Dependency,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PolicyController => "policy-controller",
            Self::Controller => "controller",
            Self::Gateway => "gateway",
            Self::Orchestrator => "orchestrator",
            Self::Cluster => "cluster",
            Self::Internet => "internet",
            Self::Dependency => "dependency",
        })
    }
}

/// One seeded fault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeededFault {
    /// The stand-in it is in.
    pub component: Component,
    /// What is broken.
    pub broken: String,
    /// Requirements that must not pass while it is active; at least one of them must fail.
    pub turns_red: Vec<RequirementId>,
    /// The scenario that must turn red, by its name.
    pub scenario: String,
}

/// The id of a requirement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct RequirementId(pub String);

impl TryFrom<String> for RequirementId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        if is_id(&id) {
            Ok(Self(id))
        } else {
            Err(format!("{id:?}, expected an id such as EGR-01"))
        }
    }
}

/// All seeded faults, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRegister(BTreeMap<String, SeededFault>);

impl FaultRegister {
    /// Reads `<scenarios>/faults.yaml`; every requirement it names must be registered.
    pub fn load(scenarios: &Path, requirements: &Register) -> Result<Self, Error> {
        let path = scenarios.join("faults.yaml");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        Self::parse(&path, &text, requirements)
    }

    /// Reads the text of a register; `path` is for errors alone.
    pub fn parse(path: &Path, text: &str, requirements: &Register) -> Result<Self, Error> {
        let faults: BTreeMap<String, SeededFault> = parse_yaml(path, text)?;
        for (name, fault) in &faults {
            let invalid = |message: String| Error::Invalid {
                path: path.to_owned(),
                place: Place(place_of(text, name)),
                message: format!("{name}: {message}"),
            };
            if fault.turns_red.is_empty() {
                return Err(invalid(
                    "turns_red is empty, expected a requirement".to_owned(),
                ));
            }
            for RequirementId(id) in &fault.turns_red {
                if requirements.find(id).is_none() {
                    return Err(invalid(format!("turns_red: {id} is not registered")));
                }
            }
        }
        Ok(Self(faults))
    }

    /// The fault with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&SeededFault> {
        self.0.get(name)
    }

    /// All faults, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SeededFault)> {
        self.0.iter().map(|(name, fault)| (name.as_str(), fault))
    }
}

/// Where the entry begins.
fn place_of(text: &str, name: &str) -> Option<(usize, usize)> {
    let is_entry = |line: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    };
    text.lines().position(is_entry).map(|index| (index + 1, 1))
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
    fn the_projects_faults_are_sound() {
        let requirements = Register::load(&scenarios()).unwrap();
        let faults = FaultRegister::load(&scenarios(), &requirements).unwrap();
        assert_eq!(
            faults.find("no-denial-log").unwrap().component,
            Component::Gateway
        );
    }

    /// A fault that names a scenario that does not exist would never be seen failing.
    #[test]
    fn the_scenarios_that_must_turn_red_exist() {
        use crate::catalog::{Catalog, Selection};
        let features = scenarios().join("../features");
        let catalog = Catalog::load(&features, &Selection::default()).unwrap();
        let requirements = Register::load(&scenarios()).unwrap();
        let faults = FaultRegister::load(&scenarios(), &requirements).unwrap();
        catalog.check_claims(&requirements, &faults).unwrap();

        let text = "f: {component: gateway, broken: x, turns_red: [EGR-01], scenario: Nowhere}\n";
        let faults = FaultRegister::parse(Path::new("f.yaml"), text, &requirements).unwrap();
        let error = catalog.check_claims(&requirements, &faults).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no scenario is called \"Nowhere\""),
            "{error}"
        );

        let text = "a:\n  EGR-05: {level: core, env: l, source: A, must: x, shown_by: [TLS that names no server matches no list]}\n";
        let claims = Register::parse(Path::new("r.yaml"), text).unwrap();
        let none = FaultRegister::parse(Path::new("f.yaml"), "{}", &claims).unwrap();
        let error = catalog.check_claims(&claims, &none).unwrap_err();
        assert!(
            error.to_string().contains("EGR-05 with the tag @EGR-05"),
            "{error}"
        );
    }

    #[rstest]
    #[case::component(
        "f:\n  component: dns\n  broken: x\n  turns_red: [EGR-01]\n  scenario: y\n",
        "f.yaml:2:",
        "unknown variant `dns`"
    )]
    #[case::unknown(
        "a:\n  component: gateway\n  broken: x\n  turns_red: [EGR-77]\n  scenario: y\n",
        "f.yaml:1:1",
        "EGR-77 is not registered"
    )]
    #[case::id(
        "a:\n  component: gateway\n  broken: x\n  turns_red: [all]\n  scenario: y\n",
        "f.yaml:4:",
        "expected an id such as EGR-01"
    )]
    #[case::none(
        "b: {component: gateway, broken: x, turns_red: [], scenario: y}\n",
        "f.yaml:1:1",
        "turns_red is empty"
    )]
    #[case::missing(
        "b: {component: gateway, broken: x, turns_red: [EGR-01]}\n",
        "f.yaml:1:",
        "missing field `scenario`"
    )]
    fn errors_name_the_place(#[case] text: &str, #[case] place: &str, #[case] message: &str) {
        let requirements = Register::load(&scenarios()).unwrap();
        let error = FaultRegister::parse(Path::new("f.yaml"), text, &requirements).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(place) && error.contains(message),
            "{error}"
        );
    }
}
