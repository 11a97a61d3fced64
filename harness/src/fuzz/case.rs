//! One case: a policy, flows, and who sends them. The cells of its table are flows by sources.

use std::collections::BTreeSet;
use std::fmt;

use crate::judge::model::{DefaultAction, Egress, Flow, Policy, Source, Speech};

/// A policy with the flows to try under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) policy: Policy,
    /// Who sends; the columns.
    pub(super) sources: Vec<Source>,
    /// What each of them sends; the rows.
    pub(super) rows: Vec<Row>,
    /// How many cells there are, row by row: the last row may be cut.
    pub(super) cells: usize,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The far end's name, for readers.
    pub(super) host: String,
    pub(super) flow: Flow,
}

/// Row and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Case {
    /// Every cell, row by row.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        let columns = self.sources.len();
        (0..self.rows.len())
            .flat_map(move |row| (0..columns).map(move |column| Cell { row, column }))
            .take(self.cells)
    }

    /// The same policy with one cell.
    pub(super) fn only(&self, cell: Cell) -> Self {
        Self {
            policy: self.policy.clone(),
            sources: vec![self.sources[cell.column].clone()],
            rows: vec![self.rows[cell.row].clone()],
            cells: 1,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.flow.port;
        let text = match &self.flow.speech {
            Speech::Tls(Some(name)) if *name == self.host => format!("tls  {}:{port}", self.host),
            Speech::Tls(Some(name)) => format!("tls  {}:{port} sni={name}", self.host),
            Speech::Tls(None) => format!("tls  {}:{port} no sni", self.host),
            Speech::Http(host) if *host == self.host => format!("http {}:{port}", self.host),
            Speech::Http(host) => format!("http {}:{port} host={host}", self.host),
            Speech::Tcp => format!("tcp  {}:{port}", self.host),
            Speech::Udp => format!("udp  {}:{port}", self.host),
            Speech::Icmp => format!("icmp {}", self.host),
        };
        f.pad(&text)
    }
}

/// A server's egress fields as a reader would write them.
pub(super) fn egress_in_words(egress: &Egress) -> String {
    let list = match egress.domains.as_slice() {
        [] => "no list".to_owned(),
        domains => domains.join(", "),
    };
    match egress.deny_all {
        Some(true) => format!("{list}, denyAllEgress: true"),
        Some(false) => format!("{list}, denyAllEgress: false"),
        None => list,
    }
}

/// The policy in lines, a server each.
pub(super) fn policy_in_words(policy: &Policy) -> Vec<String> {
    let default_action = match policy.default_action {
        DefaultAction::DenyAndLog => "deny, logged",
        DefaultAction::Permit => "permit, not logged",
    };
    let setting = if policy.default_deny { "on" } else { "off" };
    let mut lines = vec![format!(
        "default action: {default_action}; default-deny setting: {setting}"
    )];
    let servers: BTreeSet<_> = policy.servers.keys().collect();
    let width = servers.iter().map(|name| name.len()).max().unwrap_or(0);
    for (name, egress) in &policy.servers {
        lines.push(format!("{name:width$}  {}", egress_in_words(egress)));
    }
    lines
}
