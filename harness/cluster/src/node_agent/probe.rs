//! Startup, readiness and liveness probes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use api_server::ExecOptions;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::container::Container;
use super::{NodeAgent, session};

/// A status line is shorter than this.
const STATUS_LINE: usize = 64;

/// Runs the probes of one started container. Returns only when the container must be restarted, with the reason.
pub(super) async fn watch(
    agent: &NodeAgent,
    container: &Container,
    spec: &ContainerSpec,
    address: Ipv4Addr,
) -> String {
    let target = Target {
        agent,
        container,
        spec,
        address,
    };
    if let Some(probe) = &spec.startup_probe
        && let Err(reason) = target.until_first_success(probe, true).await
    {
        return format!("startup probe failed: {reason}");
    }
    container.change(|state| {
        state.started = true;
        state.ready = spec.readiness_probe.is_none();
    });
    let readiness = async {
        match &spec.readiness_probe {
            Some(probe) => target.keep_ready(probe).await,
            None => std::future::pending().await,
        }
    };
    let liveness = async {
        match &spec.liveness_probe {
            Some(probe) => target.until_dead(probe).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = readiness => never,
        reason = liveness => format!("liveness probe failed: {reason}"),
    }
}

struct Target<'a> {
    agent: &'a NodeAgent,
    container: &'a Container,
    spec: &'a ContainerSpec,
    address: Ipv4Addr,
}

impl Target<'_> {
    /// Polls quickly, so that a container counts as ready as soon as it is. With `bounded`, gives up when the time is over that
    /// the threshold grants.
    async fn until_first_success(&self, probe: &Probe, bounded: bool) -> Result<(), String> {
        let timings = &self.agent.config.timings;
        let longest = timings.probe_poll_limit.min(period(probe));
        let mut pause = timings.probe_poll.min(longest);
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let deadline = Instant::now() + period(probe) * threshold(probe.failure_threshold, 3);
        loop {
            let failure = match self.check(probe).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if bounded && Instant::now() >= deadline {
                return Err(failure);
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(longest);
        }
    }

    async fn keep_ready(&self, probe: &Probe) -> ! {
        let needed = threshold(probe.success_threshold, 1);
        let tolerated = threshold(probe.failure_threshold, 3);
        loop {
            // Without a bound this only ever ends in success.
            let _ = self.until_first_success(probe, false).await;
            for _ in 1..needed {
                sleep(period(probe)).await;
                let _ = self.until_first_success(probe, false).await;
            }
            self.container.change(|state| state.ready = true);
            self.until_failures(probe, tolerated).await;
            self.container.change(|state| state.ready = false);
        }
    }

    async fn until_dead(&self, probe: &Probe) -> String {
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        self.until_failures(probe, threshold(probe.failure_threshold, 3))
            .await
    }

    /// Returns after so many failures in a row, one period apart.
    async fn until_failures(&self, probe: &Probe, tolerated: u32) -> String {
        let mut failures = 0;
        loop {
            sleep(period(probe)).await;
            match self.check(probe).await {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    if failures >= tolerated {
                        return reason;
                    }
                }
            }
        }
    }

    async fn check(&self, probe: &Probe) -> Result<(), String> {
        let limit = seconds(probe.timeout_seconds, 1);
        timeout(limit, self.once(probe))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    async fn once(&self, probe: &Probe) -> Result<(), String> {
        if let Some(get) = &probe.http_get {
            self.http(get).await
        } else if let Some(socket) = &probe.tcp_socket {
            self.connect(&socket.port, socket.host.as_deref())
                .await
                .map(drop)
        } else if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let options = ExecOptions {
                command,
                stdout: true,
                stderr: true,
                ..ExecOptions::default()
            };
            let session = session::start(&self.agent.spawner, self.container, options).await;
            match session::exit_code(session.map_err(|error| error.to_string())?).await {
                0 => Ok(()),
                code => Err(format!("exit code {code}")),
            }
        } else {
            Err("this node knows httpGet, tcpSocket and exec probes only".into())
        }
    }

    async fn http(&self, get: &HTTPGetAction) -> Result<(), String> {
        if get.scheme.as_deref().is_some_and(|scheme| scheme != "HTTP") {
            return Err("this node probes plain HTTP only".into());
        }
        let (mut stream, peer) = self.connect(&get.port, get.host.as_deref()).await?;
        let headers: String = get
            .http_headers
            .iter()
            .flatten()
            .map(|header| format!("{}: {}\r\n", header.name, header.value))
            .collect();
        let path = get.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let request = format!(
            "GET {slash}{path} HTTP/1.1\r\nHost: {peer}\r\nUser-Agent: kube-probe/1.34\r\nConnection: close\r\n{headers}\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let mut line = [0; STATUS_LINE];
        let mut length = 0;
        while length < STATUS_LINE && !line[..length].contains(&b'\n') {
            match stream.read(&mut line[length..]).await {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) => return Err(error.to_string()),
            }
        }
        match status(&line[..length]) {
            Some(200..=399) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err("the answer is not HTTP".into()),
        }
    }

    async fn connect(
        &self,
        port: &IntOrString,
        host: Option<&str>,
    ) -> Result<(tokio::net::TcpStream, SocketAddr), String> {
        let address = match host {
            Some(host) => host
                .parse()
                .map_err(|_| format!("probe host {host:?} is not an IPv4 address"))?,
            None => self.address,
        };
        let port = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let named = self
                    .spec
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_ref() == Some(name));
                named.and_then(|port| u16::try_from(port.container_port).ok())
            }
        };
        let port = port.ok_or("the probe's port is no port of the container")?;
        let peer = SocketAddr::from((address, port));
        let stream = self.agent.network.node().connect(peer).await;
        stream
            .map(|stream| (stream, peer))
            .map_err(|error| format!("dial tcp {peer}: {error}"))
    }
}

/// The code in `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.split(|&byte| byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(
        value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(default),
    )
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds, 10).max(Duration::from_secs(1))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(default)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"HTTP/1.1 200 OK\r\nServer: x", Some(200))]
    #[case(b"HTTP/1.0 503", Some(503))]
    #[case(b"HTTP/1.1", None)]
    #[case(b"SSH-2.0-x", None)]
    #[case(b"", None)]
    #[case(b"\xff\xfe", None)]
    fn status_lines(#[case] line: &[u8], #[case] expected: Option<u16>) {
        assert_eq!(status(line), expected);
    }
}
