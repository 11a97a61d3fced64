//! Servers that are packages: fetched from a registry when their Pod starts, which may fail.
//!
//! [`Lab::run_server`] expects a server to become ready; here a server may stay where it is, and what is looked at is
//! why.

use std::sync::Arc;

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kube::runtime::wait::{Condition, await_condition};

use super::{Error, Lab, RUNTIME_NAMESPACE, Server, watching};
use crate::evidence::{Event, Recorded};
use crate::judge::PodFact;
use crate::scenario_data::ServerManifest;

/// What came first of a Pod that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It became ready.
    Ready,
    /// A line of its output held what was looked for.
    Said(String),
}

impl Lab {
    /// Creates, configures and launches a server as [`Lab::run_server`] does, and returns when its container runs: the
    /// launch goes on in the background, and how it ends is noted.
    ///
    /// # Errors
    /// When the orchestrator refuses it or no container of it comes to run.
    pub async fn launch_server(
        &mut self,
        name: &str,
        manifest: &ServerManifest,
    ) -> Result<(), Error> {
        let created = self.orchestrator.create(&manifest.manifest).await?;
        self.recorder.record(Event::ServerCreated {
            id: created.id.clone(),
            name: name.to_owned(),
        });
        self.record_list(name, manifest);
        self.orchestrator
            .configure(&created.id, &manifest.configuration())
            .await?;
        let (orchestrator, id) = (self.orchestrator.clone(), created.id.clone());
        let (recorder, cancel, label) =
            (self.recorder.clone(), self.cancel.clone(), name.to_owned());
        self.tasks.spawn(async move {
            let launch = orchestrator.launch(&id);
            if let Some(ended) = cancel.run_until_cancelled(launch).await {
                let how =
                    ended.map_or_else(|error| error.to_string(), |()| "it is healthy".to_owned());
                let text = format!("the launch of {label} ended: {how}");
                recorder.record(Event::Note { text });
            }
        });
        let what = format!("the Pod of {name:?} to get an address");
        let deadline = self.context.deadlines.pod_ready;
        let fact = self.see(what, deadline, newest_pod(name)).await?;
        self.follow(name, &created.id, manifest, &fact.name).await
    }

    /// Restarts a server through the orchestrator and waits until the new Pod has taken over.
    ///
    /// # Errors
    /// When the orchestrator refuses, or the server does not become healthy.
    pub async fn restart_server(&mut self, name: &str) -> Result<(), Error> {
        let server = self.server(name)?.clone();
        self.orchestrator.restart(&server.id).await?;
        let replaced = async {
            // Of an old Pod that never was ready nothing is awaited: the launch looks at the new one.
            self.orchestrator.launch(&server.id).await?;
            let old = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE);
            let gone =
                |pod: Option<&Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
            await_condition(old, &server.pod, gone)
                .await
                .map_err(|error| watch_failed(&server.pod, &error))?;
            self.pod_of(&server.id).await
        };
        let what = format!("the restarted server {name:?} to be healthy");
        let deadline = self.context.deadlines.pod_ready;
        let pod = self.waiting.until(what, deadline, replaced).await??;
        self.follow(name, &server.id, &server.manifest, &pod).await
    }

    /// Waits until a server's Pod becomes ready, or says a line that holds `words`; none when neither comes in time.
    ///
    /// # Errors
    /// When the Pod can't be watched.
    pub async fn beginning(&self, name: &str, words: &str) -> Result<Option<Beginning>, Error> {
        let pod = self.server(name)?.pod.clone();
        let api = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE);
        let said = async {
            let parameters = LogParams {
                follow: true,
                ..LogParams::default()
            };
            let stream = api.log_stream(&pod, &parameters).await;
            let mut lines = stream
                .map_err(Error::kubernetes(format!("read the output of {pod}")))?
                .lines();
            while let Ok(Some(line)) = lines.try_next().await {
                if line.contains(words) {
                    return Ok(Beginning::Said(line));
                }
            }
            // A Pod that says no more may still become ready.
            std::future::pending().await
        };
        let ready = async {
            let client = self.cluster.client();
            watching::pod_ready(&client, RUNTIME_NAMESPACE, &pod)
                .await
                .map(|()| Beginning::Ready)
        };
        let first = async {
            tokio::select! {
                said = said => said,
                ready = ready => ready,
            }
        };
        let what = format!("{name:?} to start, or to say {words:?}");
        match self
            .waiting
            .until(what, self.context.deadlines.pod_ready, first)
            .await
        {
            Ok(first) => first.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Whether a server's Pod is ready now.
    ///
    /// # Errors
    /// When the Pod can't be read.
    pub async fn is_ready(&self, name: &str) -> Result<bool, Error> {
        let pod = &self.server(name)?.pod;
        let api = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE);
        let pod = api
            .get(pod)
            .await
            .map_err(Error::kubernetes(format!("read the Pod {pod}")))?;
        Ok(watching::is_ready().matches_object(Some(&pod)))
    }

    /// Takes a Pod as that of a server, from the moment on at which its container runs.
    async fn follow(
        &mut self,
        name: &str,
        id: &str,
        manifest: &ServerManifest,
        pod: &str,
    ) -> Result<(), Error> {
        let client = self.cluster.client();
        let api = Api::<Pod>::namespaced(client.clone(), RUNTIME_NAMESPACE);
        let running = await_condition(api, pod, is_running);
        let what = format!("the container of {name:?} to run");
        self.waiting
            .until(what, self.context.deadlines.pod_ready, running)
            .await?
            .map_err(|error| watch_failed(pod, &error))?;
        watching::follow_output(
            &client,
            &self.recorder,
            (RUNTIME_NAMESPACE, pod),
            name,
            &self.cancel,
            &self.tasks,
        );
        let server = Server {
            id: id.to_owned(),
            manifest: manifest.clone(),
            pod: pod.to_owned(),
        };
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }
}

fn watch_failed(pod: &str, error: &dyn std::error::Error) -> Error {
    Error::Fixture(format!("the Pod {pod} could not be watched: {error}"))
}

fn is_running(pod: Option<&Pod>) -> bool {
    watching::every_container(pod, |container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    })
}

/// The Pod of a server that got its address last.
fn newest_pod(server: &str) -> impl FnMut(&[Arc<Recorded>]) -> Option<PodFact> {
    let server = server.to_owned();
    move |events| {
        events
            .iter()
            .rev()
            .find_map(|recorded| match &recorded.event {
                Event::PodStarted(fact) if fact.server.as_ref() == Some(&server) => {
                    Some(fact.clone())
                }
                _ => None,
            })
    }
}
