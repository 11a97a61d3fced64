//! What happens to parts of the running system: Pods that are replaced, servers that are deleted, controllers that stop
//! and start, a gateway that restarts. Policy objects that somebody edits by hand are [`super::policies`]'s, what is left
//! of a deleted server is `super::traces`'s.
//!
//! Acts through the interfaces that an administrator has, waits for what can be awaited, and reports facts. It does not
//! judge: what a scenario expects of a stopped controller stands in the feature.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::traces::name_in;
use super::{Error, Lab, ORCHESTRATOR_NAMESPACE, RUNTIME_NAMESPACE, orchestrator, watching};
use crate::evidence::Event;
use crate::judge::PodFact;
use crate::scenario_data::ServerManifest;
use crate::system::await_::{Look, poll_until};

/// Label by which a policy object says whose it is (`reference/obot.md` section 3).
pub(super) const SERVER_LABEL: &str = "obot.ai/mcp-server-name";

/// A part of the system that an administrator can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The orchestrator.
    Orchestrator,
    /// The policy controller.
    PolicyController,
}

impl Part {
    pub(super) fn deployment(self) -> &'static str {
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
        let server = self.start_server(id, name, &manifest, 1).await?;
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
        let bound = self.context.deadlines.policy_update_bound;
        let own = poll_until(bound, async || {
            let listed = orchestrator::network_policies(storage, token).await?;
            let of = |policy: &&Value| policy["spec"]["mcpServerName"] == **id;
            let names: Vec<String> = listed.iter().filter(of).map(name_in).collect();
            Ok::<_, Error>(Look::when(!names.is_empty(), names))
        });
        own.await.map(Some)
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
            self.orchestrator = self.orchestrator.anew();
            let answers = poll_until(Duration::MAX, async || {
                let answers = self.orchestrator.servers().await.is_ok();
                Ok::<_, Error>(Look::when(answers, ()))
            });
            let deadline = self.context.deadlines.stand_ins_ready;
            self.waiting
                .until("the orchestrator to answer again", deadline, answers)
                .await??;
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
}

pub(super) fn has_ready_replica(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let status = deployment.status.as_ref();
    status.and_then(|status| status.observed_generation) >= deployment.metadata.generation
        && status.and_then(|status| status.ready_replicas) == Some(1)
}

pub(super) fn unwatched(kind: &str, name: &str, error: &kube::runtime::wait::Error) -> Error {
    Error::Fixture(format!("the {kind} {name} could not be watched: {error}"))
}
