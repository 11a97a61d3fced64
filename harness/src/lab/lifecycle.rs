//! What happens to parts of the running system: Pods that are replaced, servers that are deleted, controllers that stop
//! and start, a gateway that restarts, policy objects that somebody edits by hand.
//!
//! Acts through the interfaces that an administrator has, waits for what can be awaited, and reports facts. It does not
//! judge: what a scenario expects of a stopped controller stands in the feature.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::{
    Error, Lab, ORCHESTRATOR_NAMESPACE, Orchestrator, RUNTIME_NAMESPACE, orchestrator, watching,
};
use crate::evidence::Event;
use crate::judge::{Place, PodFact};
use crate::scenario_data::ServerManifest;

/// Label by which a policy object says whose it is (`reference/obot.md` section 3).
const SERVER_LABEL: &str = "obot.ai/mcp-server-name";
/// Between two looks at something that announces nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A part of the system that an administrator can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The orchestrator.
    Orchestrator,
    /// The policy controller.
    PolicyController,
}

impl Part {
    fn deployment(self) -> &'static str {
        match self {
            Self::Orchestrator => fixtures::obot::install::OBOT_DEPLOYMENT,
            Self::PolicyController => fixtures::obot::install::PROVIDER,
        }
    }
}

/// A Pod, and the one that took its place.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// When the first one's end was asked for.
    pub asked_at: Timestamp,
    /// The first one.
    pub before: PodFact,
    /// The one in its place.
    pub after: PodFact,
    /// Under which label the output of the new one is recorded.
    pub label: String,
}

impl Lab {
    /// Deletes the Pod of a server; its Deployment makes another. Returns when the other is ready and the first is gone.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn replace_pod(&mut self, name: &str) -> Result<Replaced, Error> {
        let server = self.server(name)?.clone();
        let before = self.pod_fact(&server.pod).await?;
        let pods = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE);
        let asked_at = Timestamp::now();
        pods.delete(&server.pod, &DeleteParams::default())
            .await
            .map_err(Error::kubernetes(format!("delete the Pod {}", server.pod)))?;
        let what = format!("another Pod of {name:?} with an address");
        let (wanted, old) = (Some(before.server.clone()), server.pod.clone());
        let deadline = self.context.deadlines.pod_ready;
        let after = self
            .see(what, deadline, |events| {
                events
                    .iter()
                    .rev()
                    .find_map(|recorded| match &recorded.event {
                        Event::PodStarted(fact)
                            if Some(&fact.server) == wanted.as_ref() && fact.name != old =>
                        {
                            Some(fact.clone())
                        }
                        _ => None,
                    })
            })
            .await?;
        // Read from the first line on, before anything is awaited: what it does first is what matters.
        self.replacements += 1;
        let label = format!("{name} (Pod {})", self.replacements + 1);
        watching::follow_output(
            &self.cluster.client(),
            &self.recorder,
            (RUNTIME_NAMESPACE, &after.name),
            &label,
            &self.cancel,
            &self.tasks,
        );
        self.waiting
            .until(
                format!("the new Pod of {name:?} to be ready"),
                deadline,
                watching::pod_ready(&self.cluster.client(), RUNTIME_NAMESPACE, &after.name),
            )
            .await??;
        self.pod_gone(&server.pod).await?;
        if let Some(known) = self.servers.get_mut(name) {
            known.pod.clone_from(&after.name);
        }
        Ok(Replaced {
            asked_at,
            before,
            after,
            label,
        })
    }

    /// What was recorded about the address of a Pod.
    ///
    /// # Errors
    /// When nothing is recorded in time.
    pub async fn pod_fact(&self, pod: &str) -> Result<PodFact, Error> {
        let deadline = self.context.deadlines.pod_ready;
        self.see(
            format!("the address of the Pod {pod}"),
            deadline,
            |events| {
                events
                    .iter()
                    .rev()
                    .find_map(|recorded| match &recorded.event {
                        Event::PodStarted(fact) if fact.name == pod => Some(fact.clone()),
                        _ => None,
                    })
            },
        )
        .await
    }

    async fn pod_gone(&self, pod: &str) -> Result<(), Error> {
        let deadline = self.context.deadlines.pod_ready;
        self.see(format!("the Pod {pod} to be gone"), deadline, |events| {
            let gone = |event: &Event| matches!(event, Event::PodGone { name, .. } if name == pod);
            events
                .iter()
                .any(|recorded| gone(&recorded.event))
                .then_some(())
        })
        .await
    }

    /// Creates and configures a server without launching it.
    ///
    /// # Errors
    /// When the orchestrator refuses it.
    pub async fn create_server(
        &mut self,
        name: &str,
        manifest: &ServerManifest,
    ) -> Result<(), Error> {
        let id = self.register(name, manifest).await?;
        self.created.insert(name.to_owned(), (id, manifest.clone()));
        Ok(())
    }

    /// Launches a server that was created before.
    ///
    /// # Errors
    /// When no step created it, or it does not become ready.
    pub async fn launch_created(&mut self, name: &str) -> Result<(), Error> {
        let created = self.created.remove(name);
        let (id, manifest) = created
            .ok_or_else(|| Error::Data(format!("no step created a server {name:?} to launch")))?;
        let server = self.start_server(id, name, &manifest).await?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// Names of the orchestrator's policies for a server that is not launched yet, as soon as there is one or the stated
    /// bound has passed. None when the orchestrator's storage can't be asked.
    ///
    /// # Errors
    /// When no step created the server, or the storage does not answer.
    pub async fn policies_before_launch(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let created = self.created.get(name);
        let (id, _) =
            created.ok_or_else(|| Error::Data(format!("no step created a server {name:?}")))?;
        let Some(token) = self.cluster.storage_token() else {
            return Ok(None);
        };
        let storage = self
            .cluster
            .forward(ORCHESTRATOR_NAMESPACE, "obot-obot", 8443)
            .await?;
        let own = async {
            loop {
                let listed = orchestrator::network_policies(storage, token).await?;
                let of = |policy: &&Value| policy["spec"]["mcpServerName"] == **id;
                let names: Vec<String> = listed.iter().filter(of).map(name_in).collect();
                if !names.is_empty() {
                    return Ok::<_, Error>(names);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let bound = self.context.deadlines.policy_update_bound;
        let what = format!("the orchestrator's policy for {name:?}");
        match self.waiting.until(what, bound, own).await {
            Ok(names) => names.map(Some),
            Err(_) => Ok(Some(Vec::new())),
        }
    }

    /// Registers a server that runs elsewhere, and launches it as a user would.
    ///
    /// # Errors
    /// When the orchestrator refuses it.
    pub async fn run_remote_server(
        &mut self,
        name: &str,
        manifest: &ServerManifest,
    ) -> Result<String, Error> {
        let created = self.orchestrator.create(&manifest.manifest).await?;
        self.recorder.record(Event::ServerCreated {
            id: created.id.clone(),
            name: name.to_owned(),
        });
        self.orchestrator.launch(&created.id).await?;
        self.remote.insert(name.to_owned(), created.id.clone());
        Ok(created.id)
    }

    /// Deletes a server through the orchestrator. It stays known here, so that its traces can be looked for.
    ///
    /// # Errors
    /// When the orchestrator refuses.
    pub async fn delete_server(&self, name: &str) -> Result<(), Error> {
        let id = self.id_of(name)?;
        Ok(self.orchestrator.delete(&id).await?)
    }

    /// The orchestrator's id of a server, one that runs elsewhere included.
    ///
    /// # Errors
    /// When no step created it.
    pub fn id_of(&self, name: &str) -> Result<String, Error> {
        match self.remote.get(name) {
            Some(id) => Ok(id.clone()),
            None => Ok(self.server(name)?.id.clone()),
        }
    }

    /// Names of the servers that the orchestrator knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn known_servers(&self) -> Result<Vec<String>, Error> {
        Ok(self.orchestrator.servers().await?)
    }

    /// Stops a part: no Pod of it runs when this returns.
    ///
    /// # Errors
    /// When its Pods do not end in time.
    pub async fn stop(&self, part: Part) -> Result<(), Error> {
        let pods = self.pods_of(part).await?;
        self.scale(part, 0).await?;
        let api = Api::<Pod>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        for pod in pods {
            let uid = pod.uid().unwrap_or_default();
            let name = pod.name_any();
            self.waiting
                .until(
                    format!("the Pod {name} to end"),
                    self.context.deadlines.pod_ready,
                    await_condition(api.clone(), &name, conditions::is_deleted(&uid)),
                )
                .await?
                .map_err(|error| unwatched("Pod", &name, &error))?;
        }
        Ok(())
    }

    /// Starts a part again, and waits until it is ready and answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn start_again(&mut self, part: Part) -> Result<Timestamp, Error> {
        self.scale(part, 1).await?;
        let started = Timestamp::now();
        let api = Api::<Deployment>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let name = part.deployment();
        self.waiting
            .until(
                format!("the Deployment {name} to be ready again"),
                self.context.deadlines.stand_ins_ready,
                await_condition(api, name, has_ready_replica),
            )
            .await?
            .map_err(|error| unwatched("Deployment", name, &error))?;
        for pod in self.pods_of(part).await? {
            let name = pod.name_any();
            watching::follow_output(
                &self.cluster.client(),
                &self.recorder,
                (ORCHESTRATOR_NAMESPACE, &name),
                &name,
                &self.cancel,
                &self.tasks,
            );
        }
        if part == Part::Orchestrator {
            // Connections to the Pod that is gone are of no use.
            self.orchestrator = Orchestrator::new(self.orchestrator.base());
            let answers = async {
                while self.orchestrator.servers().await.is_err() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let deadline = self.context.deadlines.stand_ins_ready;
            self.waiting
                .until("the orchestrator to answer again", deadline, answers)
                .await?;
        }
        Ok(started)
    }

    /// Addresses of the Pods of a part.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn addresses_of(&self, part: Part) -> Result<Vec<String>, Error> {
        let pods = self.pods_of(part).await?;
        let address = |pod: &Pod| pod.status.as_ref()?.pod_ip.clone();
        Ok(pods.iter().filter_map(address).collect())
    }

    /// Names of the Pods of a part, in the orchestrator's namespace.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn pods_of_part(&self, part: Part) -> Result<Vec<String>, Error> {
        Ok(self
            .pods_of(part)
            .await?
            .iter()
            .map(Pod::name_any)
            .collect())
    }

    async fn pods_of(&self, part: Part) -> Result<Vec<Pod>, Error> {
        let client = self.cluster.client();
        let deployment = Api::<Deployment>::namespaced(client.clone(), ORCHESTRATOR_NAMESPACE)
            .get(part.deployment())
            .await
            .map_err(Error::kubernetes("read a Deployment"))?;
        let labels = deployment
            .spec
            .and_then(|spec| spec.selector.match_labels)
            .unwrap_or_default();
        let selector: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let pods = Api::<Pod>::namespaced(client, ORCHESTRATOR_NAMESPACE)
            .list(&ListParams::default().labels(&selector.join(",")))
            .await
            .map_err(Error::kubernetes("list the Pods of a Deployment"))?;
        let alive = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        Ok(pods.items.into_iter().filter(alive).collect())
    }

    async fn scale(&self, part: Part, replicas: i32) -> Result<(), Error> {
        let api = Api::<Deployment>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let name = part.deployment();
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .map(drop)
            .map_err(Error::kubernetes(format!("scale {name} to {replicas}")))
    }

    /// Restarts the gateway and leaves it without a policy. Whether the tier can is in its capabilities.
    pub async fn restart_gateway(&self) {
        self.cluster.restart_gateway().await;
    }

    /// The restarted gateway gets its policy again; returns when it enforces it.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn give_policy_again(&self) -> Result<(), Error> {
        let deadline = self.context.deadlines.policy_enforced;
        self.waiting
            .until(
                "the restarted gateway to get its policy",
                deadline,
                self.cluster.give_policy_again(),
            )
            .await?;
        Ok(())
    }

    /// Whether the tier can restart the gateway.
    pub fn can_restart_gateway(&self) -> bool {
        self.cluster.capabilities().gateway_restart
    }

    /// FirewallPolicies that belong to a server.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn firewall_policies_of(&self, name: &str) -> Result<Vec<DynamicObject>, Error> {
        let id = self.id_of(name)?;
        let selector = ListParams::default().labels(&format!("{SERVER_LABEL}={id}"));
        let list = self.firewall_policies().list(&selector).await;
        let list = list.map_err(Error::kubernetes("list FirewallPolicies"))?;
        Ok(list.items)
    }

    /// The one FirewallPolicy of a server, once the gateway enforces it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn firewall_policy_of(&self, name: &str) -> Result<DynamicObject, Error> {
        let deadline = self.context.deadlines.policy_enforced;
        let one = async {
            loop {
                match self.firewall_policies_of(name).await?.as_slice() {
                    [one] if is_enforced(one) => return Ok::<_, Error>(one.clone()),
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        let what = format!("the FirewallPolicy of {name:?} to be enforced");
        self.waiting.until(what, deadline, one).await?
    }

    /// Replaces the spec of a FirewallPolicy by hand; the answer is the object as the API server took it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn edit_by_hand(
        &self,
        object: &DynamicObject,
        spec: &Value,
    ) -> Result<DynamicObject, Error> {
        let name = object.name_any();
        let patch = Patch::Merge(json!({"spec": spec}));
        self.firewall_policies()
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .map_err(Error::kubernetes(format!("edit the FirewallPolicy {name}")))
    }

    /// Deletes a FirewallPolicy by hand.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_by_hand(&self, object: &DynamicObject) -> Result<(), Error> {
        let name = object.name_any();
        self.firewall_policies()
            .delete(&name, &DeleteParams::default())
            .await
            .map(drop)
            .map_err(Error::kubernetes(format!(
                "delete the FirewallPolicy {name}"
            )))
    }

    /// Writes a FirewallPolicy by hand and waits until the gateway enforces it.
    ///
    /// # Errors
    /// When the API server refuses it, or the firewall does not take it in time.
    pub async fn write_by_hand(&self, name: &str, spec: &Value) -> Result<DynamicObject, Error> {
        let object = DynamicObject::new(name, &firewall_policy_kind())
            .within(RUNTIME_NAMESPACE)
            .data(json!({ "spec": spec }));
        self.firewall_policies()
            .create(&PostParams::default(), &object)
            .await
            .map_err(Error::kubernetes(format!(
                "create the FirewallPolicy {name}"
            )))?;
        let enforced = self
            .await_policy(name, |object| is_enforced(object))
            .await?;
        enforced.ok_or_else(|| {
            Error::Fixture(format!(
                "the firewall did not take the FirewallPolicy {name} in time"
            ))
        })
    }

    /// Waits until a FirewallPolicy is as `wanted` says; none when that does not come within the stated bound.
    ///
    /// # Errors
    /// When it can't be watched.
    pub async fn await_policy(
        &self,
        name: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> Result<Option<DynamicObject>, Error> {
        let bound = self.context.deadlines.policy_update_bound;
        let condition = |object: Option<&DynamicObject>| object.is_some_and(&wanted);
        let awaited = self
            .waiting
            .until(
                format!("the FirewallPolicy {name} to be as it should"),
                bound,
                await_condition(self.firewall_policies(), name, condition),
            )
            .await;
        match awaited {
            Err(_) => Ok(None),
            Ok(found) => found.map_err(|error| unwatched("FirewallPolicy", name, &error)),
        }
    }

    /// A FirewallPolicy as it is now.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn policy_now(&self, name: &str) -> Result<Option<DynamicObject>, Error> {
        self.firewall_policies()
            .get_opt(name)
            .await
            .map_err(Error::kubernetes(format!("read the FirewallPolicy {name}")))
    }

    fn firewall_policies(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.cluster.client(),
            RUNTIME_NAMESPACE,
            &firewall_policy_kind(),
        )
    }

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

/// Whether the gateway enforces an object as it is: the firewall says so in its status after the push.
pub fn is_enforced(object: &DynamicObject) -> bool {
    object.metadata.generation.is_some()
        && object.data["status"]["lastReconciledGeneration"].as_i64() == object.metadata.generation
}

fn firewall_policy_kind() -> ApiResource {
    ApiResource {
        group: "networking.aviatrix.com".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "networking.aviatrix.com/v1alpha1".to_owned(),
        kind: "FirewallPolicy".to_owned(),
        plural: "firewallpolicies".to_owned(),
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

fn name_in(object: &Value) -> String {
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

fn has_ready_replica(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let status = deployment.status.as_ref();
    status.and_then(|status| status.observed_generation) >= deployment.metadata.generation
        && status.and_then(|status| status.ready_replicas) == Some(1)
}

fn unwatched(kind: &str, name: &str, error: &kube::runtime::wait::Error) -> Error {
    Error::Fixture(format!("the {kind} {name} could not be watched: {error}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

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
