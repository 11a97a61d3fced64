//! Sets Tier 1 on the fake firewall: data of `scenarios/tier-one/` into the controller's store.
//!
//! One function, [`Installed::install`], is the only way in, so that the vendor's HTTP API can take its place. Groups
//! are created once and updated in place; the rules of all files together are the V1 policy list, ordered by their
//! priorities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use mock_controller::controller::Controller;
use mock_controller::policy::SmartGroup;
use mock_controller::store::{self, Store};
use serde_json::Value;
use uuid::Uuid;

use super::Error;
use crate::scenario_data::tier_one::{Places, TierOne};

/// Uuids of rules derive from their content: a rule that changes is another rule in the gateway's log.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d1f_7a54_8c3e_4b60_9d15_33a0_71c8_0001);

/// What was installed so far.
#[derive(Debug, Default)]
pub(super) struct Installed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By name, which is unique over all files.
    groups: BTreeMap<String, Uuid>,
    /// By file.
    rules: BTreeMap<String, Vec<Value>>,
}

impl Installed {
    /// Installs the groups and rules of one file, in place of what the same file installed before. Returns the uuids of
    /// its rules; the gateway enforces them once the controller's export holds them.
    ///
    /// # Errors
    /// When the data names what does not exist, or the store refuses it.
    pub(super) fn install(
        &self,
        controller: &Controller,
        data: &TierOne,
        places: &Places,
    ) -> Result<Vec<Uuid>, Error> {
        let groups = data
            .groups_at(places)
            .map_err(|error| Error::Environment(error.to_string()))?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        controller
            .configure(|store| state.set(store, data, &groups))
            .map_err(|error| Error::Environment(format!("{}: {error}", data.path.display())))
    }

    /// Takes back what a file installed; returns the uuids of the rules that go.
    ///
    /// # Errors
    /// Never in practice: what is left was accepted before.
    pub(super) fn remove(&self, controller: &Controller, name: &str) -> Result<Vec<Uuid>, Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = state.rules.remove(name).unwrap_or_default();
        let all = state.rules.values().flatten().cloned().collect();
        controller
            .configure(|store| store.set_policy_list(all))
            .map_err(|error| Error::Cluster(error.to_string()))?;
        let uuids = gone
            .iter()
            .filter_map(|rule| rule["uuid"].as_str()?.parse().ok());
        Ok(uuids.collect())
    }
}

impl State {
    fn set(
        &mut self,
        store: &mut Store,
        data: &TierOne,
        groups: &[Value],
    ) -> Result<Vec<Uuid>, store::Error> {
        for group in groups {
            let name = group["name"].as_str().unwrap_or_default().to_owned();
            match self.groups.get(&name) {
                Some(uuid) => store.update_app_domain(*uuid, group.clone())?,
                None => {
                    let uuid = store.create_app_domain(group.clone())?;
                    self.groups.insert(name, uuid);
                }
            }
        }
        let content = Value::from(groups.to_vec()).to_string();
        let mut uuids = Vec::new();
        let mut rules = Vec::new();
        for rule in &data.rules {
            let uuid = Uuid::new_v5(&NAMESPACE, format!("{content}{rule}").as_bytes());
            let mut rule = rule.clone();
            for key in ["src_ads", "dst_ads", "web_filters"] {
                if let Some(names) = rule.get_mut(key).and_then(Value::as_array_mut) {
                    names.iter_mut().for_each(|name| self.name_to_uuid(name));
                }
            }
            rule["uuid"] = uuid.to_string().into();
            uuids.push(uuid);
            rules.push(rule);
        }
        self.rules.insert(data.name.clone(), rules);
        store.set_policy_list(self.rules.values().flatten().cloned().collect())?;
        Ok(uuids)
    }

    /// An unknown name stays as it is: the store refuses it and says where.
    fn name_to_uuid(&self, name: &mut Value) {
        let known = name.as_str().and_then(|name| {
            let system = SmartGroup::system()
                .into_iter()
                .find(|group| group.name == name)
                .map(|group| group.uuid);
            self.groups.get(name).copied().or(system)
        });
        if let Some(uuid) = known {
            *name = uuid.to_string().into();
        }
    }
}

/// Whether the policy in force holds all these rules.
pub(super) fn in_force(export: &Value, rules: &[Uuid]) -> bool {
    let enforced = enforced(export);
    rules.iter().all(|rule| enforced.contains(rule))
}

/// Whether the policy in force holds any of these rules.
pub(super) fn any_in_force(export: &Value, rules: &[Uuid]) -> bool {
    let enforced = enforced(export);
    rules.iter().any(|rule| enforced.contains(rule))
}

fn enforced(export: &Value) -> BTreeSet<Uuid> {
    let lists = export["lists"].as_array().into_iter().flatten();
    lists
        .flat_map(|list| list["rules"].as_array().into_iter().flatten())
        .filter_map(|rule| rule["uuid"].as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use mock_controller::controller::ControllerConfig;

    use super::*;

    fn places() -> Places {
        [
            "pod subnet",
            "node subnet",
            "api server",
            "orchestrator pods",
        ]
        .into_iter()
        .map(|name| (name.to_owned(), vec!["10.244.0.0/16".to_owned()]))
        .collect()
    }

    /// Every file that ships is accepted, also twice, also beside the others.
    #[test]
    fn the_shipped_files_install() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let (controller, installed) = (
            Controller::new(ControllerConfig::default()),
            Installed::default(),
        );
        let mut files: Vec<_> = std::fs::read_dir(scenarios.join("tier-one"))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        assert!(!files.is_empty());
        for name in &files {
            let data = TierOne::load(&scenarios, name).unwrap();
            let first = installed.install(&controller, &data, &places()).unwrap();
            assert_eq!(
                first,
                installed.install(&controller, &data, &places()).unwrap(),
                "{name}"
            );
            assert!(!first.is_empty());
        }
        for name in &files {
            installed.remove(&controller, name).unwrap();
        }
    }

    #[test]
    fn a_rule_about_a_group_that_nobody_declared_is_refused() {
        let (controller, installed) = (
            Controller::new(ControllerConfig::default()),
            Installed::default(),
        );
        let text = "groups: []\nrules: [{name: r, priority: 1, action: PERMIT, protocol: TCP, src_ads: [nobody], dst_ads: [Public Internet]}]\n";
        let data = TierOne::parse(Path::new("t.yaml"), "t", text).unwrap();
        let error = installed
            .install(&controller, &data, &places())
            .unwrap_err();
        assert!(error.to_string().starts_with("t.yaml: "), "{error}");
    }
}
