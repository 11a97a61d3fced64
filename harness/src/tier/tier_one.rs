//! Sets Tier 1 on the firewall over the vendor's API: data of `scenarios/tier-one/` as groups and rules.
//!
//! Groups are created once and updated in place; the rules of all files together are the V1 policy list, ordered by
//! their priorities. What was installed so far is remembered here, as Terraform remembers it in its state: another
//! writer of the same list would be overwritten, as on the real one.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Error;
use super::vendor_api::VendorApi;
use crate::scenario_data::tier_one::{Places, TierOne};

/// Uuids of rules derive from their content: a rule that changes is another rule in the gateway's log.
const NAMESPACE: Uuid = Uuid::from_u128(0x2d1f_7a54_8c3e_4b60_9d15_33a0_71c8_0001);

/// What was installed so far.
#[derive(Debug, Default)]
pub(super) struct Installed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By name, which is unique over all files; those that the controller had before are among them.
    groups: BTreeMap<String, Uuid>,
    /// By file.
    rules: BTreeMap<String, Vec<Value>>,
}

impl Installed {
    /// Installs the groups and rules of one file, in place of what the same file installed before. Returns the uuids of
    /// its rules; the gateway enforces them once the policy in force holds them.
    ///
    /// # Errors
    /// When the data names what does not exist, or the controller refuses it.
    pub(super) async fn install(
        &self,
        api: &VendorApi,
        data: &TierOne,
        places: &Places,
    ) -> Result<Vec<Uuid>, Error> {
        let groups = data
            .groups_at(places)
            .map_err(|error| Error::Environment(error.to_string()))?;
        let mut state = self.0.lock().await;
        if state.groups.is_empty() {
            state.groups = known_groups(api).await?;
        }
        for group in &groups {
            let name = group["name"].as_str().unwrap_or_default();
            match state.groups.get(name) {
                Some(uuid) => api.put(&format!("app-domains/{uuid}"), group).await?,
                None => {
                    let uuid = api.create_group(group).await?;
                    state.groups.insert(name.to_owned(), uuid);
                }
            }
        }
        let content = Value::from(groups).to_string();
        let rules = data.rules.iter().map(|rule| {
            let uuid = Uuid::new_v5(&NAMESPACE, format!("{content}{rule}").as_bytes());
            state.placed(rule, uuid)
        });
        let (uuids, rules) = rules.unzip();
        state.rules.insert(data.name.clone(), rules);
        state.put(api).await?;
        Ok(uuids)
    }

    /// Takes back what a file installed; returns the uuids of the rules that go.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub(super) async fn remove(&self, api: &VendorApi, name: &str) -> Result<Vec<Uuid>, Error> {
        let mut state = self.0.lock().await;
        let gone = state.rules.remove(name).unwrap_or_default();
        state.put(api).await?;
        let uuids = gone
            .iter()
            .filter_map(|rule| rule["uuid"].as_str()?.parse().ok());
        Ok(uuids.collect())
    }
}

impl State {
    /// The rule with its groups by uuid. An unknown name stays as it is: the controller refuses it and says where.
    fn placed(&self, rule: &Value, uuid: Uuid) -> (Uuid, Value) {
        let mut rule = rule.clone();
        for key in ["src_ads", "dst_ads", "web_filters"] {
            let names = rule.get_mut(key).and_then(Value::as_array_mut);
            for name in names.into_iter().flatten() {
                let known = name.as_str().and_then(|name| self.groups.get(name));
                if let Some(uuid) = known {
                    *name = uuid.to_string().into();
                }
            }
        }
        rule["uuid"] = uuid.to_string().into();
        (uuid, rule)
    }

    /// Replaces the whole list, as the vendor's API has it.
    async fn put(&self, api: &VendorApi) -> Result<(), Error> {
        let rules: Vec<&Value> = self.rules.values().flatten().collect();
        if rules.is_empty() {
            return Ok(api.delete("microseg/policy-list").await?);
        }
        let list = json!({"policies": rules});
        Ok(api.put("microseg/policy-list", &list).await?)
    }
}

/// Groups by name, the system's among them.
async fn known_groups(api: &VendorApi) -> Result<BTreeMap<String, Uuid>, Error> {
    let answer = api.get("app-domains").await?;
    let groups = answer["app_domains"].as_array().into_iter().flatten();
    let named = groups.filter_map(|group| {
        let uuid = group["uuid"].as_str()?.parse().ok()?;
        Some((group["name"].as_str()?.to_owned(), uuid))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::tier::vendor::FakeController;

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
    #[tokio::test]
    async fn the_shipped_files_install() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let firewall = FakeController::start(Default::default()).await.unwrap();
        let (api, installed) = (firewall.log_in().await.unwrap(), Installed::default());
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
            let first = installed.install(&api, &data, &places()).await.unwrap();
            assert_eq!(
                first,
                installed.install(&api, &data, &places()).await.unwrap(),
                "{name}"
            );
            assert!(!first.is_empty());
        }
        for name in &files {
            installed.remove(&api, name).await.unwrap();
        }
        let left = api.get("microseg/policy-list").await.unwrap();
        assert_eq!(left["policies"], json!([]));
    }

    #[tokio::test]
    async fn a_rule_about_a_group_that_nobody_declared_is_refused() {
        let firewall = FakeController::start(Default::default()).await.unwrap();
        let (api, installed) = (firewall.log_in().await.unwrap(), Installed::default());
        let text = "groups: []\nrules: [{name: r, priority: 1, action: PERMIT, protocol: TCP, src_ads: [nobody], dst_ads: [Public Internet]}]\n";
        let data = TierOne::parse(Path::new("t.yaml"), "t", text).unwrap();
        let error = installed.install(&api, &data, &places()).await.unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
