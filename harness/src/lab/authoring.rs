//! Acts and readings about what the orchestrator accepts and generates: calls that may be refused, its policies, the
//! objects made of them, and the installation of the policy provider. All of it through interfaces that a user, or an
//! administrator with the storage token, has.

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use flate2::read::GzDecoder;
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::orchestrator::{self, Server as Created};
use super::{Error, Lab, ORCHESTRATOR_NAMESPACE, RUNTIME_NAMESPACE, watching};
use crate::evidence::Event;
use crate::judge::authoring::{Answer, ReleaseRecord, ServerState};

/// Largest release record that is unpacked.
const RECORD_BOUND: u64 = 8 << 20;
/// Label of the provider's Pods (`reference/obot.md` section 4).
const PROVIDER: &str = "app.kubernetes.io/name=aviatrix-network-policy-controller";
/// Name of the orchestrator's container.
const ORCHESTRATOR: &str = "obot";

impl Lab {
    /// Asks for a server and says what the orchestrator answered; a server that was accepted is not launched.
    ///
    /// # Errors
    /// When the orchestrator does not answer.
    pub async fn try_create(
        &mut self,
        what: &str,
        manifest: &Value,
    ) -> Result<(Answer, Option<Created>), Error> {
        let call = format!("create {what}");
        match self.orchestrator.create(manifest).await {
            Ok(created) => {
                self.recorder.record(Event::ServerCreated {
                    id: created.id.clone(),
                    name: what.to_owned(),
                });
                let body = format!("server {}", created.id);
                let answer = self.answered(call, 201, body);
                Ok((answer, Some(created)))
            }
            Err(orchestrator::Error::Refused { status, body, .. }) => {
                Ok((self.answered(call, status, body), None))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for another list of a running server and says what the orchestrator answered.
    ///
    /// # Errors
    /// When no step runs the server, or the orchestrator does not answer.
    pub async fn try_set_domains(
        &mut self,
        name: &str,
        domains: &[String],
    ) -> Result<Answer, Error> {
        let server = self.server(name)?;
        let edited = server.manifest.with_egress_domains(domains);
        let call = format!("update {name} to the list {domains:?}");
        match self.orchestrator.update(&server.id, &edited.manifest).await {
            Ok(_) => Ok(self.answered(call, 200, "updated".to_owned())),
            Err(orchestrator::Error::Refused { status, body, .. }) => {
                Ok(self.answered(call, status, body))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn answered(&self, call: String, status: u16, body: String) -> Answer {
        self.recorder.record(Event::Note {
            text: format!("{call}: {status} {body}"),
        });
        Answer { call, status, body }
    }

    /// All policies in the orchestrator's storage; they are stored under `policy/`.
    ///
    /// # Errors
    /// When the storage can not be asked.
    pub async fn network_policies(&self) -> Result<Vec<Value>, Error> {
        let (address, token) = self.storage().await?;
        let policies = orchestrator::network_policies(address, token).await?;
        watching::record_objects(&self.recorder, "MCPNetworkPolicy", &policies);
        Ok(policies)
    }

    /// Writes a policy straight into the orchestrator's storage, past its checks.
    ///
    /// # Errors
    /// When the storage refuses it.
    pub async fn write_network_policy(&self, name: &str, spec: Value) -> Result<(), Error> {
        let (address, token) = self.storage().await?;
        let policy = json!({
            "apiVersion": "obot.obot.ai/v1", "kind": "MCPNetworkPolicy",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        });
        Ok(orchestrator::write_network_policy(address, token, &policy).await?)
    }

    async fn storage(&self) -> Result<(std::net::SocketAddr, &str), Error> {
        let token = self.cluster.storage_token().ok_or_else(|| {
            Error::Data("the orchestrator's storage token is not known here".to_owned())
        })?;
        let address = self
            .cluster
            .forward(ORCHESTRATOR_NAMESPACE, "obot-obot", 8443)
            .await?;
        Ok((address, token))
    }

    /// All FirewallPolicies; they are stored under `policy/`.
    ///
    /// # Errors
    /// When they can not be listed.
    pub async fn written_policies(&self) -> Result<Vec<Value>, Error> {
        let kind = firewall_policy();
        let api = Api::<DynamicObject>::all_with(self.cluster.client(), &kind);
        let list = api.list(&ListParams::default()).await;
        let list = list.map_err(Error::kubernetes("list FirewallPolicies"))?;
        let objects: Vec<Value> = list.iter().map(|object| json!(object)).collect();
        watching::record_objects(&self.recorder, &kind.kind, &objects);
        Ok(objects)
    }

    /// Waits until each of these policies has its FirewallPolicy. In vain is no error: the judge says what is missing.
    ///
    /// # Errors
    /// When a FirewallPolicy can not be watched.
    pub async fn await_firewall_policies(&self, sources: &[&str]) -> Result<(), Error> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.cluster.client(), RUNTIME_NAMESPACE, &firewall_policy());
        let written = async {
            for source in sources {
                let name = format!("obot-{source}-fw");
                let exists = |object: Option<&DynamicObject>| object.is_some();
                await_condition(api.clone(), &name, exists)
                    .await
                    .map_err(|error| {
                        Error::Fixture(format!("{name} could not be watched: {error}"))
                    })?;
            }
            Ok(())
        };
        let deadline = self.context.deadlines.denial_logged;
        let what = "the policies' FirewallPolicies";
        self.waiting
            .until(what, deadline, written)
            .await
            .unwrap_or(Ok(()))
    }

    /// Everything about a running server that a rejected update must leave alone.
    ///
    /// # Errors
    /// When a part of it can not be read.
    pub async fn state_of(&self, name: &str) -> Result<ServerState, Error> {
        let id = self.server(name)?.id.clone();
        let identity = |object: &Value| {
            let metadata = &object["metadata"];
            json!({"name": metadata["name"], "uid": metadata["uid"], "spec": object["spec"]})
        };
        let policies = self.network_policies().await?;
        let firewall = self.written_policies().await?;
        let pod_name = self.pod_of(&id).await?;
        let pod = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .get(&pod_name)
            .await
            .map_err(Error::kubernetes(format!("read the Pod {pod_name}")))?;
        Ok(ServerState {
            manifest: self.orchestrator.manifest(&id).await?,
            policies: policies
                .iter()
                .filter(|policy| policy["spec"]["mcpServerName"] == *id)
                .map(identity)
                .collect(),
            firewall: firewall
                .iter()
                .filter(|object| object["metadata"]["labels"]["obot.ai/mcp-server-name"] == *id)
                .map(identity)
                .collect(),
            pod: json!({"name": pod_name, "uid": pod.uid(), "restarts": self.restarts(&pod_name).await?}),
        })
    }

    /// Helm's records in the orchestrator's namespace, once the newest one left its pending state or time is up.
    ///
    /// # Errors
    /// When they can not be read.
    pub async fn releases(&self, release: &str) -> Result<Vec<ReleaseRecord>, Error> {
        let api = Api::<Secret>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let selector = format!("owner=helm,name={release},status=deployed");
        let parameters = kube::runtime::watcher::Config::default().labels(&selector);
        let deployed = async {
            use futures::StreamExt as _;
            use kube::runtime::WatchStreamExt as _;
            let changes = kube::runtime::watcher(api.clone(), parameters);
            let mut changes = changes.applied_objects().boxed();
            while let Some(Err(_)) = changes.next().await {}
        };
        // In vain is no error here: the judge says what is missing.
        let _ = self
            .waiting
            .until(
                "the release record",
                self.context.deadlines.denial_logged,
                deployed,
            )
            .await;
        let list = api.list(&ListParams::default().labels("owner=helm")).await;
        let list = list.map_err(Error::kubernetes("list the release records"))?;
        Ok(list.iter().map(record).collect())
    }

    /// The provider's Pods, and whether each is ready.
    ///
    /// # Errors
    /// When they can not be listed.
    pub async fn provider_pods(&self) -> Result<BTreeMap<String, bool>, Error> {
        let pods = self.providers().await?;
        let is_ready = |pod: &Pod| {
            let conditions = pod
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one.type_ == "Ready" && one.status == "True")
            })
        };
        Ok(pods
            .iter()
            .map(|pod| (pod.name_any(), is_ready(pod)))
            .collect())
    }

    /// Lines of the provider's log that hold `word`: the first that comes, or none in time.
    ///
    /// # Errors
    /// When its Pods can not be listed.
    pub async fn provider_says(&self, word: &str) -> Result<Vec<String>, Error> {
        let mut said = Vec::new();
        for pod in self.providers().await? {
            let api = Api::<Pod>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
            let parameters = LogParams {
                follow: true,
                ..LogParams::default()
            };
            let line = async {
                let stream = api.log_stream(&pod.name_any(), &parameters).await.ok()?;
                let mut lines = stream.lines();
                while let Ok(Some(line)) = lines.try_next().await {
                    if line.contains(word) {
                        return Some(line);
                    }
                }
                None
            };
            let deadline = self.context.deadlines.denial_logged;
            let what = format!("a line of the provider's log about {word}");
            if let Ok(Some(line)) = self.waiting.until(what, deadline, line).await {
                said.push(line);
            }
        }
        Ok(said)
    }

    async fn providers(&self) -> Result<Vec<Pod>, Error> {
        let api = Api::<Pod>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let list = api.list(&ListParams::default().labels(PROVIDER)).await;
        Ok(list
            .map_err(Error::kubernetes("list the provider's Pods"))?
            .items)
    }

    /// Restarts the orchestrator with another value in its environment, as an administrator's upgrade would; returns when
    /// the new Pod is ready and the old one is gone.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn restart_orchestrator_with(&self, name: &str, value: &str) -> Result<(), Error> {
        let client = self.cluster.client();
        let pods = Api::<Pod>::namespaced(client.clone(), ORCHESTRATOR_NAMESPACE);
        let old_name = self.orchestrator_pod().await?;
        let old = pods
            .get(&old_name)
            .await
            .map_err(Error::kubernetes(format!("read the Pod {old_name}")))?;
        let container = json!({"name": ORCHESTRATOR, "env": [{"name": name, "value": value}]});
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let deployments = Api::<Deployment>::namespaced(client.clone(), ORCHESTRATOR_NAMESPACE);
        deployments
            .patch(
                fixtures::obot::install::OBOT_DEPLOYMENT,
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
            .map_err(Error::kubernetes("change the orchestrator's Deployment"))?;
        let replaced = async {
            let uid = old.uid().unwrap_or_default();
            await_condition(pods, &old_name, conditions::is_deleted(&uid))
                .await
                .map_err(|error| {
                    Error::Fixture(format!("{old_name} could not be watched: {error}"))
                })?;
            watching::deployments_available(&client, ORCHESTRATOR_NAMESPACE).await
        };
        let deadline = self.context.deadlines.pod_ready;
        self.waiting
            .until("the orchestrator to be replaced", deadline, replaced)
            .await?
    }
}

fn firewall_policy() -> ApiResource {
    ApiResource {
        group: "networking.aviatrix.com".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "networking.aviatrix.com/v1alpha1".to_owned(),
        kind: "FirewallPolicy".to_owned(),
        plural: "firewallpolicies".to_owned(),
    }
}

fn record(secret: &Secret) -> ReleaseRecord {
    let payload = secret.data.as_ref().and_then(|data| data.get("release"));
    ReleaseRecord {
        name: secret.name_any(),
        kind: secret.type_.clone().unwrap_or_default(),
        labels: secret.labels().clone(),
        release: payload.and_then(|payload| unpack(&payload.0)),
    }
}

/// A release out of base64 of gzip of JSON.
fn unpack(payload: &[u8]) -> Option<Value> {
    let packed = base64::engine::general_purpose::STANDARD
        .decode(payload)
        .ok()?;
    let mut text = Vec::new();
    GzDecoder::new(packed.as_slice())
        .take(RECORD_BOUND)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}
