//! Seeded faults: one named, deliberate defect each, off unless asked for. They exist so that every check can be seen
//! to fail. Each is enforced in exactly one place, named on its variant.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A deliberate defect of the fake Aviatrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The controller compiles the default action as PERMIT, whatever is configured (`translate`).
    DefaultActionPermit,
    /// The controller compiles a policy object only the first time it sees it (`controller`).
    IgnoreUpdates,
    /// The gateway drops deny records (`gateway`).
    NoDenialLog,
    /// A gateway that has restarted permits everything until the controller pushes a policy (`gateway::core`).
    OpenWhileRestarting,
    /// The gateway permits a TLS ClientHello without SNI (`gateway`).
    PermitMissingSni,
}

impl Fault {
    pub const ALL: [Self; 5] = [
        Self::DefaultActionPermit,
        Self::IgnoreUpdates,
        Self::NoDenialLog,
        Self::OpenWhileRestarting,
        Self::PermitMissingSni,
    ];

    /// The name by which scenarios and the command line know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DefaultActionPermit => "default-action-permit",
            Self::IgnoreUpdates => "ignore-updates",
            Self::NoDenialLog => "no-denial-log",
            Self::OpenWhileRestarting => "open-while-restarting",
            Self::PermitMissingSni => "permit-missing-sni",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of a fault of the fake Aviatrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault `{name}`: expected one of {}", Fault::ALL.map(Fault::name).join(", "))]
pub struct UnknownFault {
    pub name: String,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.name() == name)
            .ok_or_else(|| UnknownFault {
                name: name.to_owned(),
            })
    }
}

/// The set of active faults. Empty in every run that may be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self::from_iter([fault])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_parse_back_and_agree_with_serde() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.name());
        }
        let error = "drop-everything".parse::<Fault>().unwrap_err();
        assert!(
            error.to_string().contains("drop-everything")
                && error.to_string().contains("ignore-updates")
        );
    }
}
