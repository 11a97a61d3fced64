//! Data that features name: server manifests in the orchestrator's own YAML, and how every YAML
//! file of `scenarios/` reports what is wrong with it.
//!
//! A manifest is what a user of the orchestrator writes (reference: obot.md section 1). Unknown
//! fields are refused here, although the orchestrator ignores them: a typo in a test's data must
//! not become a server without a policy.

pub mod background;
pub mod platform;
pub mod tier_one;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What is wrong with a data file, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}\n  expected: a file of the project's scenarios folder", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A place in the file.
    #[error("{}{place}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line and column, where they are known.
        place: Place,
        /// The field, what is wrong with it, and what was expected.
        message: String,
    },
    /// No such entry.
    #[error("{}: no {what} named {name:?}; expected one of {}", path.display(), known.join(", "))]
    Unknown {
        /// The file or folder that was searched.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// `:line:column`, both from 1, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(pub Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// Reads a YAML file of the project.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse_yaml(path, &text)
}

/// Reads the text of a YAML file; `path` is for errors alone.
pub fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text).map_err(|error| {
        let location = error.location().map(|place| (place.line(), place.column()));
        let message = error.to_string();
        // The place is said once, in front.
        let message = match message.rfind(" at line ") {
            Some(end) if location.is_some() => message[..end].to_owned(),
            _ => message,
        };
        Error::Invalid {
            path: path.to_owned(),
            place: Place(location),
            message,
        }
    })
}

/// A server, as a user of the orchestrator writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerManifest {
    /// The file it was read from.
    pub path: PathBuf,
    /// Display name of the server.
    pub name: String,
    /// What it may reach: the list as written.
    pub egress_domains: Vec<String>,
    /// Whether all egress is denied. `None`: the manifest says nothing.
    pub deny_all_egress: Option<bool>,
    /// The manifest to send to the orchestrator, as written.
    pub manifest: Value,
}

impl ServerManifest {
    /// Reads `<scenarios>/servers/<name>.yaml`.
    pub fn load(scenarios: &Path, name: &str) -> Result<Self, Error> {
        let folder = scenarios.join("servers");
        let path = folder.join(format!("{name}.yaml"));
        if !path.is_file() {
            let known = names_in(&folder)?;
            return Err(Error::Unknown {
                path: folder,
                what: "server manifest",
                name: name.to_owned(),
                known,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?;
        let manifest = Self::parse(&path, &text)?;
        if manifest.name != name {
            let message = format!(
                "name: {:?}, expected {name:?} as the file is called",
                manifest.name
            );
            return Err(Error::Invalid {
                path,
                place: Place(None),
                message,
            });
        }
        Ok(manifest)
    }

    /// Reads the text of a manifest.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let shape: ManifestShape = parse_yaml(path, text)?;
        let manifest: Value = parse_yaml(path, text)?;
        let config = shape.config(path)?;
        Ok(Self {
            path: path.to_owned(),
            name: shape.name.clone(),
            egress_domains: config
                .and_then(|config| config.egress_domains.clone())
                .unwrap_or_default(),
            deny_all_egress: config.and_then(|config| config.deny_all_egress),
            manifest,
        })
    }

    /// The manifest of a containerized server that no file holds: `image` on port 8080 with this list.
    #[must_use]
    pub fn generated(name: &str, image: &str, domains: &[String], deny_all: Option<bool>) -> Self {
        let mut config = json!({"image": image, "port": 8080, "path": "/mcp"});
        if !domains.is_empty() {
            config["egressDomains"] = json!(domains);
        }
        if let Some(deny_all) = deny_all {
            config["denyAllEgress"] = json!(deny_all);
        }
        Self {
            path: PathBuf::from(format!("{name}.yaml")),
            name: name.to_owned(),
            egress_domains: domains.to_vec(),
            deny_all_egress: deny_all,
            manifest: json!({
                "name": name,
                "shortDescription": "A server with a generated list",
                "runtime": "containerized",
                "containerizedConfig": config,
            }),
        }
    }

    /// Values for the variables in `env`: what a user types into the orchestrator's form. The orchestrator takes them
    /// through its configure call alone.
    #[must_use]
    pub fn configuration(&self) -> BTreeMap<String, String> {
        let variables = self.manifest["env"].as_array().into_iter().flatten();
        let text = |variable: &Value, field: &str| variable[field].as_str().map(str::to_owned);
        variables
            .filter_map(|variable| Some((text(variable, "key")?, text(variable, "value")?)))
            .collect()
    }

    /// The manifest with another list, as a user's edit would leave it.
    #[must_use]
    pub fn with_egress_domains(&self, domains: &[String]) -> Self {
        let mut edited = self.clone();
        edited.egress_domains = domains.to_vec();
        for key in ["npxConfig", "uvxConfig", "containerizedConfig"] {
            if let Some(Value::Object(config)) = edited.manifest.get_mut(key) {
                config.insert("egressDomains".to_owned(), domains.into());
            }
        }
        edited
    }
}

/// The fields of a manifest, to check them before the orchestrator does: a broken file is the
/// test's fault and says so with its line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManifestShape {
    name: String,
    #[serde(rename = "shortDescription")]
    _short_description: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    runtime: Runtime,
    #[serde(default, rename = "env")]
    _env: Vec<EnvShape>,
    npx_config: Option<Config>,
    uvx_config: Option<Config>,
    containerized_config: Option<Config>,
    remote_config: Option<RemoteConfig>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Runtime {
    Npx,
    Uvx,
    Containerized,
    Remote,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvShape {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "key")]
    _key: String,
    #[serde(rename = "value")]
    _value: Option<String>,
    #[serde(rename = "sensitive")]
    _sensitive: Option<bool>,
    #[serde(rename = "required")]
    _required: Option<bool>,
    #[serde(rename = "file")]
    _file: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    package: Option<String>,
    image: Option<String>,
    #[serde(rename = "command")]
    _command: Option<String>,
    #[serde(rename = "args")]
    _args: Option<Vec<String>>,
    #[serde(rename = "port")]
    _port: Option<std::num::NonZeroU16>,
    #[serde(rename = "path")]
    _path: Option<String>,
    egress_domains: Option<Vec<String>>,
    deny_all_egress: Option<bool>,
}

/// Somebody else's server: it has no list, because nothing of it runs in the cluster.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteConfig {
    #[serde(rename = "url")]
    _url: String,
}

impl ManifestShape {
    /// The configuration that belongs to the runtime; none for a server that runs elsewhere.
    fn config(&self, path: &Path) -> Result<Option<&Config>, Error> {
        let invalid = |message: String| Error::Invalid {
            path: path.to_owned(),
            place: Place(None),
            message,
        };
        let (field, config, wanted) = match self.runtime {
            Runtime::Npx => ("npxConfig", &self.npx_config, "package"),
            Runtime::Uvx => ("uvxConfig", &self.uvx_config, "package"),
            Runtime::Containerized => ("containerizedConfig", &self.containerized_config, "image"),
            Runtime::Remote if self.remote_config.is_some() => return Ok(None),
            Runtime::Remote => {
                return Err(invalid(
                    "remoteConfig: missing, expected by the runtime".to_owned(),
                ));
            }
        };
        let config = config
            .as_ref()
            .ok_or_else(|| invalid(format!("{field}: missing, expected by the runtime")))?;
        let given = if wanted == "image" {
            &config.image
        } else {
            &config.package
        };
        if given.as_deref().is_none_or(|value| value.trim().is_empty()) {
            return Err(invalid(format!(
                "{field}.{wanted}: missing, expected a name"
            )));
        }
        Ok(Some(config))
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn load(name: &str) -> Result<ServerManifest, Error> {
        ServerManifest::load(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios"),
            name,
        )
    }

    #[test]
    fn a_manifest_is_sent_as_it_is_written() {
        let manifest = load("ehr-sync").unwrap();
        assert_eq!(manifest.egress_domains, ["fhir.stolaf-hospital.test"]);
        assert_eq!(manifest.deny_all_egress, None);
        assert_eq!(
            manifest.manifest,
            json!({
                "name": "ehr-sync",
                "shortDescription": "Copies patient records to the hospital's EHR",
                "runtime": "containerized",
                "containerizedConfig": {
                    "image": "containment.test/ehr-sync:1.0.0",
                    "port": 8080,
                    "path": "/mcp",
                    "egressDomains": ["fhir.stolaf-hospital.test"],
                },
                "env": [{
                    "key": "EHR_BASE_URL",
                    "name": "Base URL of the EHR",
                    "description": "FHIR R4 endpoint that records are written to",
                    "value": "https://fhir.stolaf-hospital.test",
                    "required": true,
                }],
            })
        );
    }

    #[rstest]
    #[case("weather", &["api.weather-service.test"], None)]
    #[case("vault", &[], Some(true))]
    #[case("notes", &[], None)]
    fn the_projects_manifests_say_what_they_may_reach(
        #[case] name: &str,
        #[case] domains: &[&str],
        #[case] deny: Option<bool>,
    ) {
        let manifest = load(name).unwrap();
        assert_eq!(manifest.egress_domains, domains);
        assert_eq!(manifest.deny_all_egress, deny);
        let config = &manifest.manifest["containerizedConfig"];
        assert_eq!(config.get("egressDomains").is_some(), name != "notes");
    }

    #[test]
    fn an_edit_changes_the_list_alone() {
        let manifest = load("weather").unwrap();
        let domains = ["a.test".to_owned(), "b.test".to_owned()];
        let edited = manifest.with_egress_domains(&domains);
        let config = &edited.manifest["containerizedConfig"];
        assert_eq!(config["egressDomains"], json!(["a.test", "b.test"]));
        assert_eq!(
            edited.with_egress_domains(&manifest.egress_domains),
            manifest
        );
    }

    #[rstest]
    #[case::typo(
        "name: a\nruntime: npx\nnpxConfig:\n  package: p\n  egresDomains: []\n",
        "m.yaml:5:3: npxConfig: unknown field `egresDomains`, expected one of"
    )]
    #[case::kind(
        "name: a\nruntime: npx\nnpxConfig:\n  package: p\n  egressDomains: api.test\n",
        "m.yaml:5:18: npxConfig.egressDomains: invalid type: string \"api.test\", expected a sequence"
    )]
    #[case::port(
        "name: a\nruntime: containerized\ncontainerizedConfig: {image: i, port: 0}\n",
        "m.yaml:3:39: containerizedConfig.port: invalid value: integer `0`, expected a nonzero u16"
    )]
    #[case::runtime(
        "name: a\nruntime: docker\n",
        "m.yaml:2:10: runtime: unknown variant `docker`, expected one of"
    )]
    #[case::no_config(
        "name: a\nruntime: npx\n",
        "m.yaml: npxConfig: missing, expected by the runtime"
    )]
    #[case::no_image(
        "name: a\nruntime: containerized\ncontainerizedConfig: {image: ' '}\n",
        "m.yaml: containerizedConfig.image: missing, expected a name"
    )]
    #[case::no_name("runtime: npx\n", "m.yaml:1:1: missing field `name`")]
    #[case::syntax("name: [\n", "m.yaml:")]
    fn errors_name_file_line_field_and_what_was_expected(#[case] text: &str, #[case] start: &str) {
        let error = ServerManifest::parse(Path::new("m.yaml"), text)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn an_unknown_server_is_answered_with_those_there_are() {
        let error = load("ehr").unwrap_err().to_string();
        assert!(
            error.contains("no server manifest named \"ehr\"; expected one of ")
                && error.contains(" ehr-sync, ")
                && error.contains(", weather"),
            "{error}"
        );
    }
}
