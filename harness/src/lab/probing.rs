//! Probes: one attempt of a process inside a Pod to reach a far end, run over exec as on any cluster.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt as _, AsyncWrite, BufReader};
use tokio::task::AbortHandle;

use super::Error;
use super::reports::Reports;
use crate::evidence::{Event, Recorder};

/// What to send, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `tls`, `http`, `tcp`, `udp`, `icmp`, `dns`: a command of `containment probe`. And TLS with an unusual
    /// ClientHello: `tls-segments`, `tls-records`, `tls-uppercase`. `dns` and `dns-tcp` ask the Pod's own resolver for the
    /// host, over UDP and TCP.
    pub protocol: String,
    /// Name or address of the far end.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Send the server name in the ClientHello.
    pub server_name: bool,
    /// Name in the ClientHello, where it is not the far end's.
    pub sni: Option<String>,
    /// A bundle in the Pod that is trusted instead of the system's.
    pub trust: Option<String>,
    /// Keep the connection open for so many milliseconds, with a request every so often. For `session` alone.
    pub for_ms: Option<u64>,
    /// How much to hold. For `flood` alone.
    pub load: Option<Load>,
    /// Reach the host's IPv6 address.
    pub ipv6: bool,
    /// The token in the payload.
    pub canary: String,
    /// When the client gives up, in milliseconds.
    pub timeout_ms: u64,
}

/// Load of one Pod on the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Connections whose ClientHello never ends.
    pub connections: u32,
    /// Datagrams, each of a flow of its own.
    pub datagrams: u16,
}

impl Probe {
    /// The argument vector inside the Pod.
    fn command(&self) -> Vec<String> {
        let uppercase = self.host.to_ascii_uppercase();
        let (protocol, manner): (&str, &[&str]) = match self.protocol.as_str() {
            "tls-segments" => ("tls", &["--in-segments"]),
            "tls-records" => ("tls", &["--in-records"]),
            "tls-uppercase" => ("tls", &["--sni", &uppercase]),
            "dns-tcp" => ("dns", &["--tcp"]),
            plain => (plain, &[]),
        };
        let mut command: Vec<String> = ["containment", "probe", protocol]
            .iter()
            .chain(manner)
            .map(|&word| word.to_owned())
            .collect();
        let option = if self.host.parse::<std::net::IpAddr>().is_ok() {
            "--address"
        } else {
            "--host"
        };
        let port = self.port.to_string();
        let ports: &[&str] = if self.protocol == "icmp" {
            &[]
        } else {
            &["--port", &port]
        };
        command.extend(ports.iter().map(|&word| word.to_owned()));
        for word in [
            option,
            &self.host,
            "--canary",
            &self.canary,
            "--timeout-ms",
            &self.timeout_ms.to_string(),
        ] {
            command.push(word.to_owned());
        }
        if self.ipv6 {
            command.push("--ipv6".to_owned());
        }
        if self.protocol == "tls" && !self.server_name {
            command.push("--no-sni".to_owned());
        }
        let options = [
            ("--sni", self.sni.clone()),
            ("--trust", self.trust.clone()),
            ("--for-ms", self.for_ms.map(|millis| millis.to_string())),
            (
                "--connections",
                self.load.map(|load| load.connections.to_string()),
            ),
            (
                "--datagrams",
                self.load.map(|load| load.datagrams.to_string()),
            ),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                command.extend([option.to_owned(), value]);
            }
        }
        command
    }

    /// In words, as a label.
    pub fn describe(&self) -> String {
        let name = match &self.sni {
            Some(name) => format!(" as {name}"),
            None if self.server_name => String::new(),
            None => " without a server name".to_owned(),
        };
        let family = if self.ipv6 { " over IPv6" } else { "" };
        if self.port == 0 {
            return format!("{}://{}{family}", self.protocol, self.host);
        }
        format!(
            "{}://{}:{}{family}{name}",
            self.protocol, self.host, self.port
        )
    }
}

/// A probe that was started. Dropping it kills the process.
#[derive(Debug)]
pub struct RunningProbe(AbortHandle);

impl RunningProbe {
    /// Starts `probe` in the first container of a Pod and records what it reports under `label`.
    ///
    /// # Errors
    /// When the exec can't be started.
    pub async fn start(
        client: &kube::Client,
        namespace: &str,
        pod: &str,
        probe: &Probe,
        label: &str,
        recorder: &Recorder,
    ) -> Result<Self, Error> {
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let parameters = AttachParams::default()
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let process =
            api.exec(pod, probe.command(), &parameters)
                .await
                .map_err(Error::kubernetes(format!(
                    "run a probe in {namespace}/{pod}"
                )))?;
        let reports = Reports::new(recorder.clone(), label);
        Ok(follow(process, reports, recorder, label, None))
    }
}

/// Records what a process in a Pod reports, until it ends. `input` is kept open as long.
pub(super) fn follow(
    mut process: AttachedProcess,
    mut reports: Reports,
    recorder: &Recorder,
    label: &str,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
) -> RunningProbe {
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let notes = (recorder.clone(), label.to_owned());
    let task = tokio::spawn(async move {
        let errors = async {
            let Some(stderr) = stderr else { return };
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                notes.0.record(Event::Note {
                    text: format!("the probe {:?} says: {line}", notes.1),
                });
            }
        };
        let output = async {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                reports.line(&line);
            }
        };
        tokio::join!(output, errors);
        drop((process, input));
    });
    RunningProbe(task.abort_handle())
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        self.0.abort();
    }
}
