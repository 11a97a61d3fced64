//! Whether the controller's own settings are the design's: switches, remote syslog, CoPilot, the cluster's registration.

use serde_json::Value;

use super::{ANSWERS, Stated, list, listed, read, unexpected};
use crate::evidence::folder;
use crate::judge::finding::Finding;
use crate::judge::{Attempt, Check, CheckResult, Observations, Seen, correlate};
use crate::scenario_data::platform::Design;

/// What the gateways' way to CoPilot is for.
pub(super) const RECORDS_ARRIVE: &str = "the gateways' records arrive at CoPilot";

/// Judges that each switch of the design is on.
#[must_use]
pub fn judge_features(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    if let Some(features) = read(&stated.features, "the features", &mut finding) {
        for name in &design.features {
            match features.get(name) {
                Some(true) => finding.supports(ANSWERS, format!("{name} is on")),
                Some(false) => finding.contradicts(ANSWERS, format!("{name} is off")),
                None => finding.missing(ANSWERS, format!("nobody said whether {name} is on")),
            }
        }
    }
    finding.conclude(
        check,
        format!("the features {} are on", list(&design.features)),
    )
}

/// Judges the remote syslog server on the design's index.
#[must_use]
pub fn judge_syslog(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let wanted = &design.syslog;
    if let Some(answer) = read(&stated.syslog, "remote syslog", &mut finding) {
        if !answer["status"].is_string() {
            unexpected(answer, "remote syslog", &mut finding);
        } else if answer["status"] == "enabled" {
            for (key, wanted) in [
                ("index", &wanted.index.to_string()),
                ("server", &wanted.server),
                ("port", &wanted.port),
                ("protocol", &wanted.protocol),
            ] {
                same(key, wanted, &answer[key], &mut finding);
            }
        } else {
            finding.contradicts(
                ANSWERS,
                format!("remote syslog on index {} is not enabled", wanted.index),
            );
        }
    }
    let expected = format!(
        "gateways send their log to {} port {} on index {}",
        wanted.server, wanted.port, wanted.index
    );
    finding.conclude(check, expected)
}

/// Judges that the gateways' records really arrive at CoPilot: one of each attempt's flow.
#[must_use]
pub fn judge_reaches_copilot(
    check: &Check,
    attempts: &[Attempt],
    observations: &Observations,
) -> CheckResult {
    let mut finding = Finding::default();
    let copilot = match &observations.copilot {
        Seen::Read(log) => Some(log),
        Seen::Unreadable(why) => {
            finding.missing(folder::EVENTS, format!("what comes to CoPilot: {why}"));
            None
        }
        Seen::NotVisible => {
            let why = "what comes to CoPilot: nothing listens in its place here";
            finding.missing(folder::EVENTS, why);
            None
        }
    };
    for attempt in attempts {
        let label = &attempt.label;
        let Some(sent) = &attempt.sent else {
            finding.missing(folder::EVENTS, format!("{label} was never sent"));
            continue;
        };
        let Some(copilot) = copilot else { continue };
        let arrived = correlate::records_in(copilot, sent, observations);
        if let Some(record) = arrived.first() {
            let record = correlate::describe_record(record, observations);
            finding.supports(folder::EVENTS, format!("CoPilot got {record}"));
            continue;
        }
        match correlate::records(sent, observations).first() {
            Some(record) => finding.contradicts(
                folder::GATEWAY_LOG,
                format!(
                    "no record of {label} came to CoPilot; to another server this one did: {}",
                    correlate::describe_record(record, observations)
                ),
            ),
            None => finding.contradicts(
                folder::EVENTS,
                format!("no record of {label} came to CoPilot or to any other server"),
            ),
        }
    }
    finding.conclude(check, RECORDS_ARRIVE)
}

/// Judges the association with CoPilot: both addresses.
#[must_use]
pub fn judge_copilot(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let wanted = &design.copilot;
    let what = "the association with CoPilot";
    if let Some(answer) = read(&stated.copilot, what, &mut finding) {
        if !answer["status"].is_boolean() {
            unexpected(answer, what, &mut finding);
        } else if answer["status"] == true {
            same("ip", &wanted.private, &answer["ip"], &mut finding);
            same(
                "public_ip",
                &wanted.public,
                &answer["public_ip"],
                &mut finding,
            );
        } else {
            finding.contradicts(ANSWERS, "there is no association with CoPilot");
        }
    }
    let expected = format!(
        "CoPilot is associated with its private address {} and its public address {}",
        wanted.private, wanted.public
    );
    finding.conclude(check, expected)
}

/// Judges that the cluster at hand is registered, with the kind of credential that the design asks for. Whether the
/// controller gets in with it is what a canary shows.
#[must_use]
pub fn judge_cluster(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let id = &design.cluster.id;
    if let Some(clusters) = listed(&stated.clusters, "clusters", "the clusters", &mut finding) {
        let (own, others): (Vec<&Value>, Vec<&Value>) = clusters
            .iter()
            .partition(|cluster| text(&cluster["cluster_id"]) == *id);
        for cluster in &own {
            let csp = cluster["credential"]["use_csp_credentials"] == true;
            let how = if csp {
                "the cloud account"
            } else {
                "a kubeconfig"
            };
            let said = format!("{id} is registered with {how}");
            if csp == design.cluster.use_csp_credentials {
                finding.supports(ANSWERS, said);
            } else {
                finding.contradicts(ANSWERS, said);
            }
        }
        let others: Vec<String> = others.iter().map(|one| text(&one["cluster_id"])).collect();
        if own.is_empty() {
            finding.contradicts(
                ANSWERS,
                format!("{id} is not registered; {} is", list(&others)),
            );
        } else if !others.is_empty() {
            let said = format!("the controller also knows {}", list(&others));
            finding.neutral(ANSWERS, said);
        }
    }
    finding.conclude(check, format!("{id} is registered with the controller"))
}

fn same(key: &str, wanted: &str, has: &Value, finding: &mut Finding) {
    let has = text(has);
    if has == wanted {
        finding.supports(ANSWERS, format!("{key} is {has}"));
    } else {
        let has = if has.is_empty() { "missing" } else { &has };
        finding.contradicts(ANSWERS, format!("{key} is {has}, expected {wanted}"));
    }
}

/// A number may come as a number or as a text of digits (reference: aviatrix-controller-api.md section 6.1).
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
