//! Seeded faults of what the controller keeps of its configuration. Each undoes, right after every change, what it
//! stands for: that what was set is lost is then seen by whoever reads it back, and by the gateway.

use serde_json::json;
use uuid::Uuid;

use crate::{
    fault::{Fault, Faults},
    policy::{ANYWHERE, DefaultAction},
    store::{Store, settings::CopilotAssociation, syslog::COPILOT_INDEX},
};

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
            Fault::PermitInMonitorMode => monitor_all(store),
            Fault::DefaultActionPutLost => store.set_default_action(DefaultAction::default()),
            Fault::RegistrationLost => forget_clusters(store),
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

fn monitor_all(store: &mut Store) {
    let mut rules = store.policy_list()["policies"].clone();
    let rules = rules.as_array_mut().map(std::mem::take).unwrap_or_default();
    let monitored = rules.into_iter().map(|mut rule| {
        rule["enforcement"] = "MONITOR".into();
        rule
    });
    let monitored = store.set_policy_list(monitored.collect());
    monitored.expect("invariant: rules that were taken before, in a mode that each may have");
}

fn forget_clusters(store: &mut Store) {
    let known: Vec<String> = store.kubernetes_clusters().keys().cloned().collect();
    for id in known {
        if let Err(error) = store.delete_kubernetes_cluster(&id) {
            tracing::warn!(%error, "the registration is not lost");
        }
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

    #[test]
    fn permits_are_monitored_the_default_action_permits_and_no_cluster_is_known() {
        let mut store = Store::default();
        let deny = json!({"action": "DENY", "logging": true});
        store.set_default_action_rule(deny).unwrap();
        let rule = json!({"uuid": FOREIGN_RULE, "name": "r", "action": "PERMIT", "protocol": "TCP",
            "src_ads": [ANYWHERE], "dst_ads": [ANYWHERE]});
        set_list(&mut store, vec![rule]);
        let cluster = json!({"cluster_id": "c", "credential": {"use_csp_credentials": true}});
        store.create_kubernetes_cluster(cluster).unwrap();
        forget(&mut store, &Faults::default());
        assert_eq!(store.default_action_rule()["action"], "DENY");
        assert_eq!(store.kubernetes_clusters().len(), 1);

        let lost = [
            Fault::PermitInMonitorMode,
            Fault::DefaultActionPutLost,
            Fault::RegistrationLost,
        ];
        forget(&mut store, &Faults::from_iter(lost));
        let rule = &store.policy_list()["policies"][0];
        assert_eq!(
            (&rule["name"], &rule["enforcement"]),
            (&json!("r"), &json!("MONITOR"))
        );
        let unlogged = json!({"action": "PERMIT", "logging": false, "log_profile": ""});
        assert_eq!(**store.default_action_rule(), unlogged);
        assert!(store.kubernetes_clusters().is_empty());
    }
}
