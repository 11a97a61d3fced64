//! What is left of a server, wherever something of it can be: in the orchestrator, in the cluster, in the firewall.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::lifecycle::SERVER_LABEL;
use super::{Error, Lab, ORCHESTRATOR_NAMESPACE, RUNTIME_NAMESPACE, orchestrator};
use crate::judge::Place;
use crate::system::await_::{Look, poll_until};
use crate::tier;

impl Lab {
    /// Waits until nothing of a server is left where [`Lab::traces_of`] looks, or the stated bound has passed; the last
    /// look is the answer. `policies` are the names of its FirewallPolicies.
    ///
    /// # Errors
    /// When a place can't be looked at.
    pub async fn await_no_traces(
        &self,
        name: &str,
        policies: &[String],
    ) -> Result<Vec<Place>, Error> {
        poll_until(self.context.deadlines.policy_update_bound, async || {
            let places = self.traces_of(name, policies).await?;
            let clean = places.iter().all(|place| place.found.is_empty());
            Ok(Look::when(clean, places))
        })
        .await
    }

    /// What there is of a server, place by place, from the orchestrator's storage to the gateway.
    ///
    /// # Errors
    /// When a place can't be looked at.
    pub async fn traces_of(&self, name: &str, policies: &[String]) -> Result<Vec<Place>, Error> {
        let id = self.id_of(name)?;
        let mut places = Vec::new();
        if let Some(token) = self.cluster.storage_token() {
            let storage = self
                .cluster
                .forward(ORCHESTRATOR_NAMESPACE, "obot-obot", 8443)
                .await?;
            let listed = orchestrator::network_policies(storage, token).await?;
            let of = |policy: &Value| policy["spec"]["mcpServerName"] == *id;
            places.push(place("MCPNetworkPolicies", &listed, of, name_in));
        }
        let all = self.firewall_policies().list(&ListParams::default()).await;
        let all = all.map_err(Error::kubernetes("list FirewallPolicies"))?;
        let of = |object: &DynamicObject| {
            object.labels().get(SERVER_LABEL) == Some(&id) || policies.contains(&object.name_any())
        };
        places.push(place(
            "FirewallPolicies",
            &all.items,
            of,
            DynamicObject::name_any,
        ));
        if let Some(api) = self.cluster.vendor_api() {
            let failed = tier::Error::from;
            let rules = api.get("microseg/policy-list3").await.map_err(failed)?;
            let of = |list: &Value| {
                let named = |policy: &String| list["metadata"]["k8s"]["name"] == **policy;
                policies.iter().any(named)
            };
            let rules = list_of(&rules, "dcf_policies");
            places.push(place("the controller's policy lists", &rules, of, name_of));
            let groups = api.get("app-domains").await.map_err(failed)?;
            let groups = list_of(&groups, "app_domains");
            let of = |group: &Value| {
                let text = group["name"].as_str().unwrap_or_default();
                text.contains(&id) || policies.iter().any(|policy| text.contains(policy.as_str()))
            };
            places.push(place("the controller's groups", &groups, of, name_of));
        }
        places.push(self.objects::<Deployment>("Deployments", &id).await?);
        places.push(self.objects::<ReplicaSet>("ReplicaSets", &id).await?);
        places.push(self.objects::<Pod>("Pods", &id).await?);
        places.push(self.objects::<Service>("Services", &id).await?);
        places.push(self.objects::<Secret>("Secrets", &id).await?);
        Ok(places)
    }

    async fn objects<K>(&self, what: &str, id: &str) -> Result<Place, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let list = Api::<K>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .list(&ListParams::default())
            .await
            .map_err(Error::kubernetes(format!("list {what}")))?;
        let of = |object: &K| object.name_any().starts_with(id);
        Ok(place(what, &list.items, of, |object| object.name_any()))
    }
}

/// Sorts what is in a place into the server's own and others'.
fn place<T>(what: &str, all: &[T], of: impl Fn(&T) -> bool, name: impl Fn(&T) -> String) -> Place {
    let found: Vec<String> = all.iter().filter(|&one| of(one)).map(name).collect();
    Place {
        what: what.to_owned(),
        others: all.len() - found.len(),
        found,
    }
}

pub(super) fn name_in(object: &Value) -> String {
    name_of(&object["metadata"])
}

fn name_of(object: &Value) -> String {
    object["name"].as_str().unwrap_or_default().to_owned()
}

fn list_of(policy: &Value, field: &str) -> Vec<Value> {
    policy[field].as_array().cloned().unwrap_or_default()
}
