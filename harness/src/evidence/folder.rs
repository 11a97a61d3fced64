//! Names of the files in an evidence folder. The names are part of the report's interface.

use std::path::{Path, PathBuf};

use super::ScenarioStarted;

/// Events of the scenario, one JSON object a line.
pub const EVENTS: &str = "events.jsonl";
/// Events of the run, in the output folder itself.
pub const RUN: &str = "run.jsonl";
/// The folder of a run that holds one evidence folder per scenario.
pub const SCENARIOS: &str = "scenarios";
/// The folder of a run that holds what it was made with: the features and the scenarios' data.
pub const SUITE: &str = "suite";
/// The gateway's log, as the gateway wrote it.
pub const GATEWAY_LOG: &str = "gateway.log";
/// Receipts of the far ends, one JSON object a line.
pub const RECEIPTS: &str = "receipts.jsonl";
/// Packets between the pods and the node.
pub const POD_SIDE: &str = "pod-side.pcapng";
/// Packets between the gateway and the internet.
pub const OUTSIDE: &str = "outside.pcapng";
/// Policy objects, one YAML file each.
pub const POLICY: &str = "policy";
/// Output of the pods, one file each.
pub const PODS: &str = "pods";
/// Results of the judge.
pub const CHECK: &str = "check.json";
/// SHA-256 of every other file.
pub const MANIFEST: &str = "SHA256SUMS";

/// The name of a scenario's folder below [`SCENARIOS`]: its feature file, its line, its title, and which retry it is.
#[must_use]
pub fn scenario_name(scenario: &ScenarioStarted) -> String {
    let location = scenario.location.as_str();
    let (path, line) = location.rsplit_once(':').unwrap_or((location, ""));
    let stem = Path::new(path)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = slug(&[&stem, line, &scenario.name]);
    match scenario.retry {
        0 => name,
        retry => format!("{name}-retry-{retry}"),
    }
}

/// Paths inside one evidence folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path; nothing is created.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file by one of the names of this module.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where a policy object is stored, relative to the folder.
    #[must_use]
    pub fn policy_name(kind: &str, namespace: &str, name: &str) -> String {
        format!("{POLICY}/{}.yaml", slug(&[kind, namespace, name]))
    }

    /// Where a pod's output is stored, relative to the folder.
    #[must_use]
    pub fn pod_log_name(namespace: &str, pod: &str, container: &str) -> String {
        format!("{PODS}/{}.log", slug(&[namespace, pod, container]))
    }
}

/// A name for a file or folder, out of text that others chose: ASCII letters, digits, dots and
/// dashes, never a path, never hidden, at most 120 bytes.
#[must_use]
pub fn slug(parts: &[&str]) -> String {
    let mut slug = String::new();
    for character in parts
        .iter()
        .filter(|part| !part.is_empty())
        .flat_map(|part| {
            std::iter::once('-').chain(part.chars().map(|c| {
                if c.is_ascii_alphanumeric() || c == '.' {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            }))
        })
    {
        let repeated = character == '-' && slug.ends_with('-');
        let leading = slug.is_empty() && !character.is_ascii_alphanumeric();
        if !repeated && !leading && slug.len() < 120 {
            slug.push(character);
        }
    }
    let slug = slug.trim_end_matches(['-', '.']).to_owned();
    if slug.is_empty() {
        "unnamed".to_owned()
    } else {
        slug
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["FirewallPolicy", "obot-mcp", "obot-mnp1-fw"], "firewallpolicy-obot-mcp-obot-mnp1-fw")]
    #[case(&["", "Cluster wide"], "cluster-wide")]
    #[case(&["../../etc", "passwd"], "etc-passwd")]
    #[case(&["..."], "unnamed")]
    #[case(&["EHR passes, attacker blocked!"], "ehr-passes-attacker-blocked")]
    fn names_stay_inside_the_folder(#[case] parts: &[&str], #[case] expected: &str) {
        assert_eq!(slug(parts), expected);
    }
}
