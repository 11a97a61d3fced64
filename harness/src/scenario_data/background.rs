//! Declared background traffic: what leaves in every scenario without a step that judges it (`background.yaml`).

use std::path::Path;

use serde::Deserialize;

use super::{Error, parse_yaml};
use crate::judge::{PodFact, Protocol};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Who sends.
    pub who: Sender,
    /// The far end, by its name in receipts.
    pub to: String,
    /// Transport protocol. Absent: its name is resolved, and no more.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Destination port. Absent: none has one.
    #[serde(default)]
    pub port: Option<u16>,
    /// What it is for.
    pub why: String,
    /// Where that is documented.
    pub source: String,
}

/// Pods that send background traffic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    /// Every Pod of a namespace that is not the MCP servers'.
    Namespace(String),
    /// The Pods of one MCP server, or with a `*` at the end, of every server whose name begins so.
    Server(String),
}

impl Sender {
    /// Whether a Pod is one of them.
    #[must_use]
    pub fn is(&self, pod: &PodFact) -> bool {
        match self {
            Self::Namespace(namespace) => pod.server.is_none() && pod.namespace == *namespace,
            Self::Server(server) => {
                pod.server
                    .as_ref()
                    .is_some_and(|own| match server.strip_suffix('*') {
                        Some(beginning) => own.starts_with(beginning),
                        None => own == server,
                    })
            }
        }
    }
}

/// Reads `<scenarios>/background.yaml`.
///
/// # Errors
/// With file, line and field when it can't be read.
pub fn load(scenarios: &Path) -> Result<Vec<Background>, Error> {
    let path = scenarios.join("background.yaml");
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Unreadable {
        path: path.clone(),
        source,
    })?;
    parse_yaml(&path, &text)
}
