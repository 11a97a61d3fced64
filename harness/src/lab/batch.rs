//! Batches of probes: one process in a Pod for all that it is to send.

use fixtures::probe::batch::Spec;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use tokio::io::AsyncWriteExt as _;

use super::probing::{self, RunningProbe};
use super::reports::Reports;
use super::{Error, Lab, RUNTIME_NAMESPACE};

/// Probes at the same time in one Pod. Silently dropped ones keep their place until they give up.
const CONCURRENCY: u16 = 256;

impl Lab {
    /// Starts a batch in a Pod of the servers' namespace. Each probe is recorded under its label; none is waited for.
    ///
    /// # Errors
    /// When the process can't be started or does not take its list.
    pub async fn start_batch(
        &self,
        pod: &str,
        probes: &[(String, Spec)],
    ) -> Result<RunningProbe, Error> {
        self.start_stream(pod, probes, CONCURRENCY).await
    }

    /// The same with so many probes at the same time, the others one after the other.
    ///
    /// # Errors
    /// As [`Lab::start_batch`].
    pub async fn start_stream(
        &self,
        pod: &str,
        probes: &[(String, Spec)],
        at_once: u16,
    ) -> Result<RunningProbe, Error> {
        let timeout_ms = self.context.deadlines.probe_result.as_millis();
        let command = [
            "containment",
            "probe",
            "batch",
            "--concurrency",
            &at_once.to_string(),
            "--timeout-ms",
            &timeout_ms.to_string(),
        ]
        .map(str::to_owned);
        let parameters = AttachParams::default()
            .stdin(true)
            .stdout(true)
            .stderr(true);
        let action = format!("run a batch of probes in {RUNTIME_NAMESPACE}/{pod}");
        let mut process = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .exec(pod, command.to_vec(), &parameters)
            .await
            .map_err(Error::kubernetes(action))?;
        let mut list = String::new();
        for (_, spec) in probes {
            list += &serde_json::to_string(spec).expect("invariant: specs are plain data");
            list.push('\n');
        }
        // Standard input of an exec can't be closed alone everywhere: an empty line ends the list.
        list.push('\n');
        let mut input = process
            .stdin()
            .ok_or_else(|| Error::Fixture(format!("the exec in {pod} has no standard input")))?;
        input.write_all(list.as_bytes()).await.map_err(|error| {
            Error::Fixture(format!(
                "the batch in {pod} does not take its list: {error}"
            ))
        })?;
        let labels = probes.iter().map(|(label, _)| label.clone()).collect();
        let reports = Reports::of_batch(self.recorder.clone(), labels);
        Ok(probing::follow(
            process,
            reports,
            &self.recorder,
            pod,
            Some(Box::new(input)),
        ))
    }
}
