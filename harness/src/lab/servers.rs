//! Servers: created, configured and launched through the orchestrator's API, as a user does it.

use super::{Error, Lab, RUNTIME_NAMESPACE, Server, watching};
use jiff::Timestamp;

use crate::evidence::Event;
use crate::judge::ListFact;
use crate::scenario_data::ServerManifest;

impl Lab {
    /// Creates, configures and launches the server of a manifest in `scenarios/servers/`, and follows its Pod's output.
    ///
    /// # Errors
    /// When the orchestrator refuses it or it does not become ready.
    pub async fn run_server(
        &mut self,
        name: &str,
        manifest: &ServerManifest,
    ) -> Result<Server, Error> {
        let server = self.launch(name, manifest, 1).await?;
        self.servers.insert(name.to_owned(), server.clone());
        Ok(server)
    }

    /// [`Lab::run_server`] for many at once.
    ///
    /// # Errors
    /// For the first that is refused or does not become ready.
    pub async fn run_servers(&mut self, all: &[(String, ServerManifest)]) -> Result<(), Error> {
        let launches = all
            .iter()
            .map(|(name, manifest)| self.launch(name, manifest, all.len()));
        let launched = futures::future::try_join_all(launches).await?;
        let names = all.iter().map(|(name, _)| name.clone());
        self.servers.extend(names.zip(launched));
        Ok(())
    }

    pub(super) async fn launch(
        &self,
        name: &str,
        manifest: &ServerManifest,
        at_once: usize,
    ) -> Result<Server, Error> {
        let id = self.register(name, manifest).await?;
        self.start_server(id, name, manifest, at_once).await
    }

    /// Creates and configures a server; nothing of it runs yet.
    pub(super) async fn register(
        &self,
        name: &str,
        manifest: &ServerManifest,
    ) -> Result<String, Error> {
        let created = self.orchestrator.create(&manifest.manifest).await?;
        self.recorder.record(Event::ServerCreated {
            id: created.id.clone(),
            name: name.to_owned(),
        });
        self.record_list(name, manifest);
        self.orchestrator
            .configure(&created.id, &manifest.configuration())
            .await?;
        Ok(created.id)
    }

    /// Records the list that the orchestrator accepted just now.
    pub(super) fn record_list(&self, name: &str, manifest: &ServerManifest) {
        self.recorder.record(Event::ListAccepted(ListFact {
            server: name.to_owned(),
            at: Timestamp::now(),
            domains: manifest.egress_domains.clone(),
            deny_all: manifest.deny_all_egress,
        }));
    }

    pub(super) async fn start_server(
        &self,
        id: String,
        name: &str,
        manifest: &ServerManifest,
        at_once: usize,
    ) -> Result<Server, Error> {
        let what = format!("the server {name:?} to be launched");
        // Pods that start together share the machine: each gets the time of all.
        let starts = u32::try_from(at_once).unwrap_or(u32::MAX);
        let deadline = self
            .context
            .deadlines
            .pod_ready
            .saturating_mul(starts)
            .min(self.context.deadlines.scenario);
        tokio::select! {
            launched = self.waiting.until(what, deadline, self.orchestrator.launch(&id)) => launched??,
            crash = self.cluster.crashed() => return Err(Error::Fixture(crash.to_string())),
        }
        let pod = self.pod_of(&id).await?;
        let server = Server {
            id,
            manifest: manifest.clone(),
            pod,
        };
        watching::follow_output(
            &self.cluster.client(),
            &self.recorder,
            (RUNTIME_NAMESPACE, &server.pod),
            name,
            &self.cancel,
            &self.tasks,
        );
        Ok(server)
    }
}
