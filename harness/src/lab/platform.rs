//! The platform of the running system: set up over the vendor's API as its design has it, and asked about itself.
//!
//! Everything goes over the controller's HTTP API and the cluster's own, as a team's Terraform and kubectl do it.
//! Answers are kept as they came, but for credentials; what they mean is the judge's affair.

use std::collections::BTreeMap;
use std::fmt::Display;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use kube::core::DynamicObject;
use serde::Serialize;
use serde_json::{Value, json};

use super::policies::{firewall_policy_kind, is_enforced};
use super::{Error, Lab, RUNTIME_NAMESPACE};
use crate::judge::platform::Stated;
use crate::judge::{CheckResult, Seen};
use crate::scenario_data::platform::{Design, Platform};
use crate::system::await_::{Look, poll_until};
use crate::tier::vendor_api::{RemoteSyslog, VendorApi};

/// What a question about the platform asks beside what is the same in every design.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// Names of the switches.
    pub features: &'a [String],
    /// The index of the remote syslog server; nobody asks for one otherwise.
    pub syslog_index: Option<u8>,
}

impl Lab {
    /// The design with the addresses of this cluster.
    ///
    /// # Errors
    /// For a place that it does not know.
    pub fn design(&self, platform: &Platform) -> Result<Design, Error> {
        let design = platform.at(&self.cluster.places());
        Ok(design.map_err(crate::project::Error::from)?)
    }

    /// Sets what a design has beside its permits; false where this tier's firewall has no API.
    ///
    /// # Errors
    /// When the controller refuses something.
    pub async fn set_up_platform(&self, design: &Design) -> Result<bool, Error> {
        let Some(api) = self.cluster.vendor_api() else {
            return Ok(false);
        };
        let all = async {
            for group in &design.other_groups {
                api.create_group(group).await?;
            }
            let default_action = design.default_action_body();
            api.put("microseg/default-action-policy", &default_action)
                .await?;
            for feature in &design.features {
                api.set_feature(feature, true).await?;
            }
            set_syslog(api, design).await?;
            let addresses = [
                ("copilot_ip", design.copilot.private.as_str()),
                ("public_ip", design.copilot.public.as_str()),
            ];
            api.form_action("enable_copilot_association", &addresses)
                .await?;
            Ok::<_, crate::tier::vendor_api::Error>(())
        };
        let deadline = self.context.deadlines.policy_enforced;
        let set = self
            .waiting
            .until("the platform to be set up", deadline, all)
            .await?;
        set.map_err(|error| Error::Fixture(error.to_string()))?;
        Ok(true)
    }

    /// Restarts the firewall's controller; false where this tier can't.
    ///
    /// # Errors
    /// When it has not given the gateway a policy again in time.
    pub async fn restart_controller(&self) -> Result<bool, Error> {
        let what = "the firewall's controller to come back";
        let deadline = self.context.deadlines.policy_enforced;
        let restart = self.cluster.restart_controller();
        Ok(self.waiting.until(what, deadline, restart).await?)
    }

    /// Switches a feature of the firewall's controller; false where this tier's firewall has no API.
    ///
    /// # Errors
    /// When the controller refuses.
    pub async fn set_feature(&self, name: &str, enabled: bool) -> Result<bool, Error> {
        let Some(api) = self.cluster.vendor_api() else {
            return Ok(false);
        };
        let set = api.set_feature(name, enabled).await;
        set.map_err(|error| Error::Fixture(error.to_string()))?;
        Ok(true)
    }

    /// What the controller and the API server state now; bounded, and never an error: what can't be read says why.
    pub async fn ask_platform(&self, question: Question<'_>) -> Stated {
        let stated = self.ask_in_time(question).await;
        self.record_stated(&stated);
        stated
    }

    async fn ask_in_time(&self, question: Question<'_>) -> Stated {
        let deadline = self.context.deadlines.platform_told;
        let asked = tokio::time::timeout(deadline, self.ask(question)).await;
        asked.unwrap_or_else(|_| {
            let seconds = deadline.as_secs_f64();
            Stated::unreadable(&format!("no answer within {seconds} s"))
        })
    }

    /// Stores every part that a result may cite.
    fn record_stated(&self, stated: &Stated) {
        for (source, name, answer) in [
            ("controller", "app-domains", yaml(&stated.groups)),
            ("controller", "policy-list", yaml(&stated.policy_list)),
            ("controller", "policy-list3", yaml(&stated.rulesets)),
            (
                "controller",
                "default-action-policy",
                yaml(&stated.default_action),
            ),
            ("controller", "features", yaml(&stated.features)),
            ("controller", "remote-syslog", yaml(&stated.syslog)),
            ("controller", "copilot", yaml(&stated.copilot)),
            ("controller", "clusters", yaml(&stated.clusters)),
            ("cluster", "types", yaml(&stated.types)),
            ("cluster", "firewall-policies", yaml(&stated.policies)),
        ] {
            if let Some(answer) = answer {
                self.recorder.policy_object(source, "", name, 0, &answer);
            }
        }
    }

    async fn ask(&self, question: Question<'_>) -> Stated {
        let mut stated = Stated {
            types: self.types().await,
            policies: self.policies().await,
            ..Stated::default()
        };
        let Some(api) = self.cluster.vendor_api() else {
            return stated;
        };
        let (groups, policy_list, rulesets, default_action, clusters, syslog, copilot, features) = tokio::join!(
            api.get("app-domains"),
            api.get("microseg/policy-list"),
            api.get("microseg/policy-list3"),
            api.get("microseg/default-action-policy"),
            api.get("k8s/clusters"),
            syslog_status(api, question.syslog_index),
            api.read_action("get_copilot_association_status", &[]),
            switches(api, question.features),
        );
        stated.groups = seen(groups);
        stated.policy_list = seen(policy_list);
        stated.rulesets = seen(rulesets);
        stated.default_action = seen(default_action);
        stated.clusters = seen(clusters.map(without_kubeconfigs));
        stated.syslog = syslog;
        stated.copilot = seen(copilot);
        stated.features = seen(features);
        stated
    }

    async fn types(&self) -> Seen<Vec<String>> {
        let types = Api::<CustomResourceDefinition>::all(self.cluster.client());
        let listed = types.list(&ListParams::default()).await;
        seen(listed.map(|list| {
            let established = list.items.into_iter().filter(|one| {
                let conditions = one.status.as_ref().and_then(|own| own.conditions.as_ref());
                conditions.is_some_and(|all| {
                    all.iter()
                        .any(|one| one.type_ == "Established" && one.status == "True")
                })
            });
            established.map(|one| one.name_any()).collect()
        }))
    }

    async fn policies(&self) -> Seen<Vec<Value>> {
        let policies =
            Api::<DynamicObject>::all_with(self.cluster.client(), &firewall_policy_kind());
        let listed = policies.list(&ListParams::default()).await;
        match listed {
            Ok(list) => seen(
                list.items
                    .iter()
                    .map(serde_json::to_value)
                    .collect::<Result<_, _>>(),
            ),
            Err(error) => Seen::Unreadable(error.to_string()),
        }
    }

    /// Writes a FirewallPolicy and waits until the firewall has taken it, at most for the stated bound: the object as it
    /// is then, none where the cluster does not take it at all.
    ///
    /// # Errors
    /// When the API server refuses it for another reason than that it does not know the type.
    pub async fn write_canary(&self, name: &str, spec: &Value) -> Result<Option<Value>, Error> {
        let object = DynamicObject::new(name, &firewall_policy_kind())
            .within(RUNTIME_NAMESPACE)
            .data(json!({ "spec": spec }));
        let written = self
            .firewall_policies()
            .create(&PostParams::default(), &object)
            .await;
        match written {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            other => other.map_err(Error::kubernetes(format!("create the canary {name}")))?,
        };
        let seen = match self.await_policy(name, is_enforced).await? {
            Some(enforced) => Some(enforced),
            None => self.policy_now(name).await?,
        };
        let object = seen.map(serde_json::to_value).transpose();
        object.map_err(|error| Error::Fixture(format!("the canary {name} is no JSON: {error}")))
    }

    /// Deletes a canary, and asks the controller until `gone` is satisfied with its answer, at most for the stated bound.
    /// The last answer, which the result is about, is recorded.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_canary(
        &self,
        name: &str,
        gone: impl Fn(&Stated) -> CheckResult,
    ) -> Result<CheckResult, Error> {
        if let Some(object) = self.policy_now(name).await? {
            self.delete_by_hand(&object).await?;
        }
        let bound = self.context.deadlines.policy_update_bound;
        let (stated, result) = poll_until(bound, async || {
            let stated = self.ask_in_time(Question::default()).await;
            let result = gone(&stated);
            Ok::<_, Error>(Look::when(result.passed(), (stated, result)))
        })
        .await?;
        self.record_stated(&stated);
        Ok(result)
    }
}

/// The index may hold another server from before: that goes first, because an index that is taken refuses.
async fn set_syslog(
    api: &VendorApi,
    design: &Design,
) -> Result<(), crate::tier::vendor_api::Error> {
    let syslog = &design.syslog;
    let index = syslog.index.to_string();
    let own = [("index", index.as_str())];
    let before = api
        .read_action("get_remote_syslog_logging_status", &own)
        .await?;
    let port = before["port"].to_string();
    if before["server"] == syslog.server.as_str() && port.trim_matches('"') == syslog.port {
        return Ok(());
    }
    if before["status"] == "enabled" {
        api.form_action("disable_remote_syslog_logging", &own)
            .await?;
    }
    api.enable_remote_syslog(&RemoteSyslog {
        index: syslog.index,
        name: &syslog.name,
        server: &syslog.server,
        port: &syslog.port,
        protocol: &syslog.protocol,
    })
    .await
}

async fn syslog_status(api: &VendorApi, index: Option<u8>) -> Seen<Value> {
    let Some(index) = index.map(|index| index.to_string()) else {
        return Seen::NotVisible;
    };
    let index = [("index", index.as_str())];
    seen(
        api.read_action("get_remote_syslog_logging_status", &index)
            .await,
    )
}

async fn switches(
    api: &VendorApi,
    names: &[String],
) -> Result<BTreeMap<String, bool>, crate::tier::vendor_api::Error> {
    let mut switches = BTreeMap::new();
    for name in names {
        switches.insert(name.clone(), api.feature(name).await?);
    }
    Ok(switches)
}

fn seen<T>(answer: Result<T, impl Display>) -> Seen<T> {
    match answer {
        Ok(answer) => Seen::Read(answer),
        Err(error) => Seen::Unreadable(error.to_string()),
    }
}

fn yaml(answer: &Seen<impl Serialize>) -> Option<String> {
    let yaml = serde_yaml::to_string(answer.read()?);
    Some(yaml.unwrap_or_else(|error| format!("# {error}\n")))
}

/// An answer without the credentials in it: evidence is shown around.
fn without_kubeconfigs(mut answer: Value) -> Value {
    match &mut answer {
        Value::Array(list) => {
            for one in list {
                *one = without_kubeconfigs(one.take());
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                *value = if name == "kube_config" {
                    "(left out)".into()
                } else {
                    without_kubeconfigs(value.take())
                };
            }
        }
        _ => {}
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kubeconfig_gets_into_the_evidence() {
        let answer = json!({"clusters": [
            {"cluster_id": "a", "credential": {"use_csp_credentials": false, "kube_config": "token: secret"}},
        ]});
        let expected = json!({"clusters": [
            {"cluster_id": "a", "credential": {"use_csp_credentials": false, "kube_config": "(left out)"}},
        ]});
        assert_eq!(without_kubeconfigs(answer), expected);
    }
}
