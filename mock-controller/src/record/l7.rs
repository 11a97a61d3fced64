//! The proxy's record: JSON behind a `traffic_server` syslog header.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{GatewayIdentity, syslog_date};
use crate::{
    policy::{Action, Application, FiveTuple, Verdict},
    time::Now,
};

/// A decision on a name, or the fate of a flow that the proxy handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L7Record {
    pub at: Timestamp,
    pub flow: FiveTuple,
    pub action: Action,
    pub reason: Reason,
    pub enforced: bool,
    pub stage: Stage,
    pub session_stage: SessionStage,
    /// Absent where the client sent none, or nothing at all.
    pub sni_hostname: Option<String>,
    /// Absent where no rule decided.
    pub decided_by: Option<Uuid>,
    /// Stable over all records of one flow.
    pub session_id: Uuid,
    pub session_start: Timestamp,
    /// Only on records after the start.
    pub ended: Option<SessionEnding>,
}

/// What a flow amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnding {
    pub duration: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// A rule or the default action decided.
    Policy,
    /// The client completed the handshake and never showed a name.
    ConnectionSynOnlyTimeout,
}

/// What the proxy was looking at. Which stage a decision on a Host header carries is unknown; ours says `txn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    #[serde(rename = "SNI")]
    Sni,
    #[serde(rename = "txn")]
    Transaction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStage {
    Start,
    End,
}

impl L7Record {
    /// The record of a decision: the start of a session.
    pub fn decision(
        now: Now,
        flow: FiveTuple,
        application: &Application,
        verdict: &Verdict,
        session_id: Uuid,
        session_start: Timestamp,
    ) -> Self {
        let (stage, name) = match application {
            Application::Tls { sni } => (Stage::Sni, sni.clone()),
            Application::Http { host } => (Stage::Transaction, host.clone()),
            Application::Other => (Stage::Transaction, None),
        };
        Self {
            at: now.wall,
            flow,
            action: verdict.action,
            reason: Reason::Policy,
            enforced: verdict.enforced,
            stage,
            session_stage: SessionStage::Start,
            sni_hostname: name,
            decided_by: Some(verdict.decided_by),
            session_id,
            session_start,
            ended: None,
        }
    }

    /// The record of a client that completed the handshake and showed no name before the deadline.
    pub fn syn_only_timeout(
        now: Now,
        flow: FiveTuple,
        session_id: Uuid,
        session_start: Timestamp,
    ) -> Self {
        Self {
            at: now.wall,
            flow,
            action: Action::Deny,
            reason: Reason::ConnectionSynOnlyTimeout,
            enforced: true,
            stage: Stage::Transaction,
            session_stage: SessionStage::End,
            sni_hostname: None,
            decided_by: None,
            session_id,
            session_start,
            ended: None,
        }
    }

    /// The record of the same flow's end.
    pub fn end(&self, now: Now, ending: SessionEnding) -> Self {
        Self {
            at: now.wall,
            session_stage: SessionStage::End,
            ended: Some(ending),
            ..self.clone()
        }
    }

    pub(super) fn to_syslog_line(&self, gateway: &GatewayIdentity) -> String {
        // Alerts are denials; everything else the proxy reports is a warning.
        let (pri, priority) = match self.action {
            Action::Deny => (153, "LOG_ALERT"),
            Action::Permit => (156, "LOG_WARNING"),
        };
        let json = serde_json::to_string(&Wire {
            record: self,
            priority,
        })
        .expect("invariant: plain fields always serialize");
        format!(
            "<{pri}>{date} GW-{name}-{ip}-sink traffic_server[811]: {json}",
            date = syslog_date(self.at),
            name = gateway.name,
            ip = gateway.public_ip,
        )
    }
}

/// The record with the vendor's field names, in the order of the published samples.
struct Wire<'a> {
    record: &'a L7Record,
    priority: &'static str,
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            priority: &'static str,
            action: &'static str,
            reason: Reason,
            src: String,
            src_port: u16,
            dest: String,
            dest_port: u16,
            enforced: bool,
            ids: bool,
            stage: Stage,
            #[serde(skip_serializing_if = "Option::is_none")]
            sni_hostname: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            decided_by: Option<Uuid>,
            proto: String,
            session_start: i64,
            #[serde(skip_serializing_if = "Option::is_none")]
            session_time: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_bytes: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            response_bytes: Option<u64>,
            session_stage: SessionStage,
            session_id: Uuid,
            timestamp: i64,
        }
        let record = self.record;
        Fields {
            priority: self.priority,
            action: match record.action {
                Action::Permit => "Permit",
                Action::Deny => "Deny",
            },
            reason: record.reason,
            src: record.flow.source.to_string(),
            src_port: record.flow.source_port,
            dest: record.flow.destination.to_string(),
            dest_port: record.flow.destination_port,
            enforced: record.enforced,
            ids: false,
            stage: record.stage,
            sni_hostname: record.sni_hostname.as_deref(),
            decided_by: record.decided_by,
            proto: record.flow.protocol.to_string(),
            session_start: i64::try_from(record.session_start.as_nanosecond()).unwrap_or(i64::MAX),
            session_time: record
                .ended
                .map(|end| u64::try_from(end.duration.as_nanos()).unwrap_or(u64::MAX)),
            request_bytes: record.ended.map(|end| end.request_bytes),
            response_bytes: record.ended.map(|end| end.response_bytes),
            session_stage: record.session_stage,
            session_id: record.session_id,
            timestamp: record.at.as_second(),
        }
        .serialize(serializer)
    }
}
