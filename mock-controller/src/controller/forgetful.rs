//! Seeded faults of what the controller keeps of its configuration. Each undoes, right after every change, what it
//! stands for: that what was set is lost is then seen by whoever reads it back, and by the gateway.

use serde_json::json;
use uuid::Uuid;

use crate::{
    fault::{Fault, Faults},
    policy::ANYWHERE,
    store::{Store, settings::CopilotAssociation},
};

/// The index of remote syslog that is CoPilot's.
const COPILOT_INDEX: u8 = 9;
/// As many entries a group keeps.
const ENTRIES: usize = 5;
const FOREIGN_RULE: Uuid = Uuid::from_u128(0x6f2b_7c9e_5d41_4c0b_9a77_1f0e_54c3_0099);

/// Undoes what the active faults lose.
pub(super) fn forget(store: &mut Store, faults: &Faults) {
    for fault in faults.iter() {
        match fault {
            Fault::InfraListLost => set_list(store, Vec::new()),
            Fault::V1ListOverwritten => {
                let rule = json!({
                    "uuid": FOREIGN_RULE, "name": "another-blueprint-ssh", "action": "PERMIT", "priority": 10,
                    "protocol": "TCP", "port_ranges": [{"lo": 22}], "src_ads": [ANYWHERE], "dst_ads": [ANYWHERE],
                });
                set_list(store, vec![rule]);
            }
            Fault::SyslogNineDropped => store.disable_remote_syslog(COPILOT_INDEX),
            Fault::CopilotPublicAddressMissing => {
                let private = store.copilot_association().map(|own| own.ip.clone());
                let known = private.map(|ip| CopilotAssociation::new(&ip, None, None));
                store.set_copilot_association(known);
            }
            Fault::GroupTruncated => truncate_groups(store),
            // Realised elsewhere.
            _ => {}
        }
    }
}

fn set_list(store: &mut Store, rules: Vec<serde_json::Value>) {
    if let Err(error) = store.set_policy_list(rules) {
        tracing::error!("a seeded fault could not set the policy list: {error}");
    }
}

fn truncate_groups(store: &mut Store) {
    let long = store.app_domains().filter_map(|group| {
        let entries = group["selector"]["any"].as_array()?.get(..ENTRIES + 1)?;
        let uuid = group["uuid"].as_str()?.parse::<Uuid>().ok()?;
        let mut cut = (**group).clone();
        cut["selector"]["any"] = entries[..ENTRIES].to_vec().into();
        Some((uuid, cut))
    });
    for (uuid, cut) in long.collect::<Vec<_>>() {
        store
            .update_app_domain(uuid, cut)
            .expect("invariant: a part of what was taken before");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn copilot_keeps_its_private_address_alone() {
        let mut store = Store::default();
        let both = CopilotAssociation::new("10.0.0.9", Some("203.0.113.20"), None);
        store.set_copilot_association(Some(both));
        let fault = Faults::from(Fault::CopilotPublicAddressMissing);
        forget(&mut store, &Faults::default());
        assert_eq!(
            store.copilot_association().unwrap().public_ip,
            "203.0.113.20"
        );
        forget(&mut store, &fault);
        assert_eq!(store.copilot_association().unwrap().public_ip, "10.0.0.9");
    }
}
