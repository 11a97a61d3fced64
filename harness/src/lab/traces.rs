//! What is left of a server, wherever something of it can be: in the orchestrator, in the cluster, in the firewall.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::lifecycle::{LOOK_AGAIN, SERVER_LABEL};
use super::{Error, Lab, ORCHESTRATOR_NAMESPACE, RUNTIME_NAMESPACE, orchestrator};
use crate::judge::Place;

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
        let until = Timestamp::now()
            + jiff::SignedDuration::try_from(self.context.deadlines.policy_update_bound)
                .unwrap_or_default();
        loop {
            let places = self.traces_of(name, policies).await?;
            let clean = places.iter().all(|place| place.found.is_empty());
            if clean || Timestamp::now() > until {
                return Ok(places);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
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
        if let Some(policy) = self.cluster.firewall_policy() {
            let rules = list_of(&policy, "lists");
            let of = |list: &Value| {
                let named = |policy: &String| list["object"]["name"] == **policy;
                policies.iter().any(named)
            };
            places.push(place("rule lists in force", &rules, of, name_of));
            let groups = [
                list_of(&policy, "smart_groups"),
                list_of(&policy, "web_groups"),
            ]
            .concat();
            let of = |group: &Value| {
                let text = group["name"].as_str().unwrap_or_default();
                text.contains(&id) || policies.iter().any(|policy| text.contains(policy.as_str()))
            };
            places.push(place("groups in force", &groups, of, name_of));
        }
        places.push(self.objects::<Deployment>("Deployments", &id).await?);
        places.push(self.objects::<ReplicaSet>("ReplicaSets", &id).await?);
        places.push(self.objects::<Pod>("Pods", &id).await?);
        places.push(self.objects::<Service>("Services", &id).await?);
        places.push(self.objects::<Secret>("Secrets", &id).await?);
        Ok(places)
    }

    /// Names of the groups, among those that the policies of a server bring along, that the firewall counts an address
    /// to. None when the firewall can't be asked.
    ///
    /// # Errors
    /// When the policies can't be listed.
    pub async fn groups_of(
        &self,
        name: &str,
        address: IpAddr,
    ) -> Result<Option<Vec<String>>, Error> {
        let policies = self.firewall_policies_of(name).await?;
        let Some(firewall) = self.cluster.firewall_policy() else {
            return Ok(None);
        };
        let own = |group: &Value| {
            let text = group["name"].as_str().unwrap_or_default();
            // Groups of addresses hold everybody; those of Pods are what a rule's source is.
            !group["selectors"][0]["kubernetes"].is_null()
                && policies
                    .iter()
                    .any(|policy| text.contains(&policy.name_any()))
        };
        let groups = list_of(&firewall, "smart_groups");
        let holding = groups
            .iter()
            .filter(|group| own(group) && holds(&group["members"], address));
        Ok(Some(holding.map(name_of).collect()))
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

/// Whether a list of addresses and ranges holds an address.
fn holds(members: &Value, address: IpAddr) -> bool {
    let members = members.as_array().into_iter().flatten();
    members.filter_map(Value::as_str).any(|member| {
        let (first, last) = member.split_once('-').unwrap_or((member, member));
        match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&address),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!(["10.244.0.12"]), true)]
    #[case(json!(["10.244.0.1-10.244.0.20"]), true)]
    #[case(json!(["10.244.0.13", "fd00::1"]), false)]
    #[case(json!([]), false)]
    #[case(json!("10.244.0.12"), false)]
    fn members_are_addresses_and_ranges(#[case] members: Value, #[case] expected: bool) {
        let address = IpAddr::from([10, 244, 0, 12]);
        assert_eq!(holds(&members, address), expected);
    }
}
