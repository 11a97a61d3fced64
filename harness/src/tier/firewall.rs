//! The fake firewall's side of the evidence: its log lines, and what its rules are called.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use mock_controller::controller::Controller;
use mock_controller::record::{GatewayIdentity, LogRecord};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use crate::evidence::Recorder;

/// Writes every record to the evidence as the line that a syslog receiver would get.
pub(super) fn write_log(records: Option<mpsc::UnboundedReceiver<LogRecord>>, gateway: GatewayIdentity, recorder: &Recorder, tasks: &TaskTracker) {
    let Some(mut records) = records else { return };
    let recorder = recorder.clone();
    // Ends when the fabric does.
    tasks.spawn(async move {
        while let Some(record) = records.recv().await {
            recorder.gateway_log(&record.to_syslog_line(&gateway));
        }
    });
}
