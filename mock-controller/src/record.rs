//! Log records, in the two formats of the vendor's gateways (`reference/aviatrix-dcf.md` section 4).
//!
//! Faithful: the syslog header, key order and spelling of the L4 record, field names and types of the L7 record, uuids
//! in place of rule names. Not faithful: MAC addresses are constants, `DATA` is always empty, timestamps are UTC.

mod l4;
mod l7;

use std::net::IpAddr;

use jiff::Timestamp;
use uuid::Uuid;

pub use l4::{L4Record, L4Session, SessionEnd, SessionEvent};
pub use l7::{L7Record, Reason, SessionEnding, SessionStage, Stage};

use crate::policy::{Action, FiveTuple};

/// The gateway that writes the records: both parts appear in the syslog header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayIdentity {
    pub name: String,
    pub public_ip: IpAddr,
}

/// One record of the gateway's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// Of the packet filter, which decides on addresses and ports.
    L4(L4Record),
    /// Of the proxy, which decides on names.
    L7(L7Record),
}

impl From<L4Record> for LogRecord {
    fn from(record: L4Record) -> Self {
        Self::L4(record)
    }
}

impl From<L7Record> for LogRecord {
    fn from(record: L7Record) -> Self {
        Self::L7(record)
    }
}

impl LogRecord {
    /// The line as the vendor's gateway sends it to a syslog server, without a line end.
    pub fn to_syslog_line(&self, gateway: &GatewayIdentity) -> String {
        match self {
            Self::L4(record) => record.to_syslog_line(gateway),
            Self::L7(record) => record.to_syslog_line(gateway),
        }
    }

    pub fn at(&self) -> Timestamp {
        match self {
            Self::L4(record) => record.at,
            Self::L7(record) => record.at,
        }
    }

    pub fn flow(&self) -> &FiveTuple {
        match self {
            Self::L4(record) => &record.flow,
            Self::L7(record) => &record.flow,
        }
    }

    pub fn action(&self) -> Action {
        match self {
            Self::L4(record) => record.action,
            Self::L7(record) => record.action,
        }
    }

    pub fn enforced(&self) -> bool {
        match self {
            Self::L4(record) => record.enforced,
            Self::L7(record) => record.enforced,
        }
    }

    /// The uuid of the deciding rule; absent where no rule decided.
    pub fn decided_by(&self) -> Option<Uuid> {
        match self {
            Self::L4(record) => Some(record.policy),
            Self::L7(record) => record.decided_by,
        }
    }

    /// The server name or Host header that was compared, if the flow showed one.
    pub fn hostname(&self) -> Option<&str> {
        match self {
            Self::L4(_) => None,
            Self::L7(record) => record.sni_hostname.as_deref(),
        }
    }
}

/// `Jun  2 10:15:04`, the date of a BSD syslog header.
fn syslog_date(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%b %e %H:%M:%S")
}
