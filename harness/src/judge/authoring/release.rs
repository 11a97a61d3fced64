//! The Helm release of a policy provider: the newest record of it, and the Pods that came of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::finding::Finding;
use super::super::{Check, CheckResult};
use super::clause;
use crate::evidence::folder;

/// A Secret in which Helm keeps a revision of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// Name of the Secret.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The release, unpacked. None: the payload can not be read.
    pub release: Option<Value>,
}

/// The claim that a release is installed and its Pod is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseClaim {
    /// Which check this is.
    pub check: Check,
    /// Name of the release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// Every record of a release in that namespace.
    pub records: Vec<ReleaseRecord>,
    /// Pods of the provider, and whether each is ready.
    pub pods: BTreeMap<String, bool>,
}

/// Judges the newest record of a release, and the Pods that came of it.
#[must_use]
pub fn judge_release(claim: &ReleaseClaim) -> CheckResult {
    let mut finding = Finding::default();
    let version = |record: &ReleaseRecord| -> u32 {
        let text = record.labels.get("version").map(String::as_str);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let own = claim
        .records
        .iter()
        .filter(|record| record.labels.get("name") == Some(&claim.release));
    match own.max_by_key(|record| version(record)) {
        None => finding.contradicts(
            folder::EVENTS,
            format!("{} holds no record of {}", claim.namespace, claim.release),
        ),
        Some(record) => {
            let number = version(record);
            let name = format!("sh.helm.release.v1.{}.v{number}", claim.release);
            clause(&mut finding, "record", &json!(record.name), &json!(name));
            clause(
                &mut finding,
                "type",
                &json!(record.kind),
                &json!("helm.sh/release.v1"),
            );
            for (label, wanted) in [("owner", "helm"), ("status", "deployed")] {
                let found = json!(record.labels.get(label));
                clause(
                    &mut finding,
                    &format!("label {label}"),
                    &found,
                    &json!(wanted),
                );
            }
            let release = record.release.clone().unwrap_or_default();
            for (field, pointer, wanted) in [
                ("name", "/name", json!(claim.release)),
                ("namespace", "/namespace", json!(claim.namespace)),
                ("version", "/version", json!(number)),
                ("status", "/info/status", json!("deployed")),
            ] {
                let found = release.pointer(pointer).cloned().unwrap_or_default();
                clause(
                    &mut finding,
                    &format!("{field} in the record"),
                    &found,
                    &wanted,
                );
            }
        }
    }
    let ready: BTreeSet<&String> = claim
        .pods
        .iter()
        .filter_map(|(name, ready)| ready.then_some(name))
        .collect();
    if ready.is_empty() {
        finding.contradicts(
            folder::EVENTS,
            format!("no Pod of the provider is ready, of {}", claim.pods.len()),
        );
    }
    for name in ready {
        finding.supports(folder::EVENTS, format!("the Pod {name} is ready"));
    }
    finding.conclude(
        &claim.check,
        format!(
            "the release {} is deployed in {} and its Pod is ready",
            claim.release, claim.namespace
        ),
    )
}
