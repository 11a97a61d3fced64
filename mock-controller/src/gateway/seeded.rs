//! Seeded faults of the gateway's log: what is enforced stays right, what is written does not.

use std::{net::Ipv4Addr, time::Duration};

use uuid::Uuid;

use crate::{
    fault::{Fault, Faults},
    policy::Action,
    record::LogRecord,
};

const BEHIND: Duration = Duration::from_secs(3600);

/// The record as a gateway with the active faults writes it; `None` when it writes nothing.
pub(super) fn distort(faults: &Faults, own: Ipv4Addr, mut record: LogRecord) -> Option<LogRecord> {
    let is_denial = record.action() == Action::Deny;
    for fault in faults.iter() {
        match fault {
            Fault::NoPermitLog if !is_denial => return None,
            // Permits stay right otherwise: they are the positive controls.
            _ if !is_denial => {}
            Fault::NoDenialLog => return None,
            Fault::LogWrongSource => match &mut record {
                LogRecord::L4(record) => record.flow.source = own.into(),
                LogRecord::L7(record) => record.flow.source = own.into(),
            },
            Fault::LogLacksRule => match &mut record {
                LogRecord::L4(record) => record.policy = Uuid::nil(),
                LogRecord::L7(record) => record.decided_by = None,
            },
            Fault::LogLacksName => {
                if let LogRecord::L7(record) = &mut record {
                    record.sni_hostname = None;
                }
            }
            Fault::LogClockBehind => match &mut record {
                LogRecord::L4(record) => record.at -= BEHIND,
                LogRecord::L7(record) => {
                    record.at -= BEHIND;
                    record.session_start -= BEHIND;
                }
            },
            // Realised elsewhere.
            _ => {}
        }
    }
    Some(record)
}
