//! Whether what is refused under one server's load is recorded.

use std::net::IpAddr;

use super::finding::{Finding, count};
use super::{Attempt, Check, CheckResult, Observations, Protocol, Seen};
use crate::evidence::{Action, folder};

/// The claim that the gateway's log holds what it refused of one Pod's load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadClaim {
    /// Which check this is.
    pub check: Check,
    /// The server whose Pod made the load.
    pub server: String,
    /// Address of that Pod.
    pub address: IpAddr,
    /// The load: its announcement, and the client's result once it stood.
    pub load: Attempt,
}

/// Judges that the log holds denials of the Pod since its load began, of connections and of datagrams. A gateway that
/// has no room for a source may record it once and not per packet.
#[must_use]
pub fn judge_load_recorded(claim: &LoadClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let expected = format!(
        "what is refused of the load of {} is in the gateway's log",
        claim.server
    );
    match (&claim.load.sent, &claim.load.result) {
        (Some(_), Some(result)) => finding.neutral(
            folder::EVENTS,
            format!("the load of {}: {}", claim.server, result.detail),
        ),
        _ => finding.missing(
            folder::EVENTS,
            format!("nothing says that the load of {} stood", claim.server),
        ),
    }
    let log = match &observations.log {
        Seen::Read(log) => log,
        Seen::Unreadable(why) => {
            finding.missing(
                folder::GATEWAY_LOG,
                format!("the gateway's log cannot be read: {why}"),
            );
            return finding.conclude(&claim.check, expected);
        }
        Seen::NotVisible => {
            finding.missing(folder::GATEWAY_LOG, "the gateway's log is not visible here");
            return finding.conclude(&claim.check, expected);
        }
    };
    let since = claim.load.sent.as_ref().map(|sent| sent.at);
    for (protocol, what) in [
        (Protocol::Tcp, "denied connection"),
        (Protocol::Udp, "denied datagram"),
    ] {
        let records = log
            .records
            .iter()
            .filter(|record| record.source.ip() == claim.address && record.protocol == protocol)
            .filter(|record| record.action == Action::Deny)
            .filter(|record| since.is_some_and(|since| record.not_before(since)))
            .count();
        let text = format!(
            "{} of {} in the gateway's log",
            count(records, what),
            claim.server
        );
        if records > 0 {
            finding.supports(folder::GATEWAY_LOG, text);
        } else {
            finding.contradicts(folder::GATEWAY_LOG, text);
        }
    }
    finding.conclude(&claim.check, expected)
}
