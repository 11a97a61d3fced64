//! The platform as its design has it: what stands on the firewall's controller before the first server runs.
//!
//! A file of `scenarios/platform/` names what is in `scenarios/tier-one/` and repeats nothing of it. [`Design`] is the
//! two together, with the addresses of a cluster in the places of their names: what is applied, and what is expected.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::tier_one::{Places, TierOne};
use super::{Error, Place, names_in, parse_yaml};

/// One file of `scenarios/platform/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// The file it was read from.
    pub path: PathBuf,
    shape: Shape,
    /// The permits it names, in their order.
    pub permits: Vec<TierOne>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    cloud: String,
    permits: Vec<String>,
    groups: Vec<Value>,
    default_action: DefaultAction,
    features: Vec<String>,
    syslog: Syslog,
    copilot: Copilot,
    cluster: Cluster,
}

/// What decides when nothing else did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultAction {
    /// `DENY` or `PERMIT`.
    pub action: String,
    /// Whether it leaves a record.
    pub logging: bool,
}

/// One remote syslog server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// 0 to 9.
    pub index: u8,
    /// Its name.
    pub name: String,
    /// Host name or address.
    pub server: String,
    /// A number, as text: it may be a place.
    pub port: String,
    /// `UDP` or `TCP`.
    pub protocol: String,
}

/// Where CoPilot is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copilot {
    /// Its address inside.
    pub private: String,
    /// Its address for browsers.
    pub public: String,
}

/// How the controller gets into the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// As SmartGroups name it, an ARN or the like; it may be a place.
    pub id: String,
    /// By the cloud account's own right instead of a kubeconfig.
    pub use_csp_credentials: bool,
}

/// What is to be on the controller, with the addresses of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// `eks` or `aks`.
    pub cloud: String,
    /// SmartGroups and WebGroups in the vendor's wire form.
    pub groups: Vec<Value>,
    /// Rules of the V1 policy list in the order of their priorities; they name groups by name.
    pub permits: Vec<Value>,
    /// The groups that no permit names, which is a part of `groups`.
    pub other_groups: Vec<Value>,
    /// What decides when nothing else did.
    pub default_action: DefaultAction,
    /// Names of the switches that are on.
    pub features: Vec<String>,
    /// The gateways' log.
    pub syslog: Syslog,
    /// Where CoPilot is.
    pub copilot: Copilot,
    /// How the controller gets into the cluster.
    pub cluster: Cluster,
}

impl Platform {
    /// Reads `<scenarios>/platform/<cloud>.yaml` and the permits that it names.
    ///
    /// # Errors
    /// When a file is missing or broken; names it.
    pub fn load(scenarios: &Path, cloud: &str) -> Result<Self, Error> {
        let folder = scenarios.join("platform");
        let path = folder.join(format!("{cloud}.yaml"));
        if !path.is_file() {
            let known = names_in(&folder)?;
            return Err(Error::Unknown {
                path: folder,
                what: "platform",
                name: cloud.to_owned(),
                known,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        let shape: Shape = parse_yaml(&path, &text)?;
        let permits = shape
            .permits
            .iter()
            .map(|name| TierOne::load(scenarios, name))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path,
            shape,
            permits,
        })
    }

    /// The design with the addresses of a cluster.
    ///
    /// # Errors
    /// For a place that the cluster does not know.
    pub fn at(&self, places: &Places) -> Result<Design, Error> {
        let shape = &self.shape;
        let own = TierOne {
            path: self.path.clone(),
            name: shape.cloud.clone(),
            groups: shape.groups.clone(),
            rules: Vec::new(),
        };
        let other_groups = own.groups_at(places)?;
        let mut groups = Vec::new();
        for file in &self.permits {
            groups.extend(file.groups_at(places)?);
        }
        groups.extend(other_groups.clone());
        let mut permits: Vec<Value> = self
            .permits
            .iter()
            .flat_map(|file| file.rules.clone())
            .collect();
        permits.sort_by_key(|rule| rule["priority"].as_i64());
        let placed = |text: &str| self.placed(text, places);
        Ok(Design {
            cloud: shape.cloud.clone(),
            groups,
            permits,
            other_groups,
            default_action: shape.default_action.clone(),
            features: shape.features.clone(),
            syslog: Syslog {
                server: placed(&shape.syslog.server)?,
                port: placed(&shape.syslog.port)?,
                ..shape.syslog.clone()
            },
            copilot: Copilot {
                private: placed(&shape.copilot.private)?,
                public: placed(&shape.copilot.public)?,
            },
            cluster: Cluster {
                id: placed(&shape.cluster.id)?,
                ..shape.cluster.clone()
            },
        })
    }

    fn placed(&self, text: &str, places: &Places) -> Result<String, Error> {
        let place = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        let Some(place) = place else {
            return Ok(text.to_owned());
        };
        match places.get(place).map(Vec::as_slice) {
            Some([only]) => Ok(only.clone()),
            _ => Err(Error::Invalid {
                path: self.path.clone(),
                place: Place(None),
                message: format!("{{{place}}}: this cluster has no such place, or several"),
            }),
        }
    }
}

impl Design {
    /// The body that sets the default action (reference: aviatrix-controller-api.md section 4.5).
    #[must_use]
    pub fn default_action_body(&self) -> Value {
        json!({
            "action": self.default_action.action,
            "logging": self.default_action.logging,
            "log_profile": "",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn scenarios() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
    }

    fn places() -> Places {
        ["pod subnet", "node subnet", "api server", "copilot"]
            .into_iter()
            .map(|name| (name.to_owned(), vec!["192.0.2.1".to_owned()]))
            .chain([
                ("copilot port".to_owned(), vec!["5000".to_owned()]),
                ("cluster id".to_owned(), vec!["arn:aws:eks:1".to_owned()]),
            ])
            .collect()
    }

    #[rstest]
    #[case("eks", "*.s3.amazonaws.com")]
    #[case("aks", "*.blob.core.windows.net")]
    fn the_shipped_files_are_sound(#[case] cloud: &str, #[case] domain: &str) {
        let design = Platform::load(&scenarios(), cloud)
            .unwrap()
            .at(&places())
            .unwrap();
        assert_eq!(design.cloud, cloud);
        let names: Vec<_> = design.permits.iter().map(|rule| &rule["name"]).collect();
        let infrastructure = format!("allow-{cloud}-infrastructure");
        assert_eq!(
            names,
            [
                "allow-api-server",
                &infrastructure,
                "allow-orchestrator-egress"
            ]
        );
        assert_eq!(design.permits[0]["priority"], 1);
        assert!(
            Value::from(design.groups.clone())
                .to_string()
                .contains(domain)
        );
        // Every name that a rule refers to is a group of the design, or the vendor's own.
        for rule in &design.permits {
            for key in ["src_ads", "dst_ads", "web_filters"] {
                for name in rule[key].as_array().into_iter().flatten() {
                    let known = design.groups.iter().any(|group| group["name"] == *name);
                    assert!(known || name == "Public Internet", "{name}");
                }
            }
        }
    }

    #[test]
    fn a_place_that_nobody_knows_is_named() {
        let platform = Platform::load(&scenarios(), "eks").unwrap();
        let mut places = places();
        places.remove("copilot port");
        let error = platform.at(&places).unwrap_err().to_string();
        assert!(
            error.contains("eks.yaml") && error.contains("{copilot port}"),
            "{error}"
        );
        let error = Platform::load(&scenarios(), "gke").unwrap_err().to_string();
        assert!(error.contains("expected one of aks, eks"), "{error}");
    }
}
