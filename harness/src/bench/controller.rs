//! The fake controller's HTTP API under a steady load: what one call takes at 500 calls a second.
//!
//! The server has one thread, hence at most one core; on it also runs the compilation that every change starts. The
//! clients are on other threads. Each has one TLS connection and sends on a schedule that does not wait for slow
//! answers: a call that starts late because the one before it was slow counts from when it should have started.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::tls::client_config_trusting;
use futures::future::{BoxFuture, try_join_all};
use mock_controller::api::server::Server;
use mock_controller::api::{Api, ApiConfig, Credentials};
use mock_controller::controller::{Controller, ControllerConfig, GatewayLink};
use mock_controller::policy::Snapshot;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{millis, say};
use crate::run::Error;
use crate::tier::vendor_api::{Account, VendorApi};

/// Calls of all clients together in a second.
const CALLS_PER_SECOND: u32 = 500;
/// Connections; the vendor's provider has as many calls under way.
const CLIENTS: u32 = 10;
/// What a client does over and over.
const CYCLE: [&str; 5] = ["create", "read", "update", "feature", "delete"];

/// Measures for `seconds` and prints.
///
/// # Errors
/// When the controller does not start or refuses a call.
pub(super) async fn controller(seconds: u16) -> Result<(), Error> {
    let (ready, started) = tokio::sync::oneshot::channel();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let thread = std::thread::spawn(move || serve(ready, &stop));
    let result = match started.await {
        Ok(Ok((address, ca_pem))) => load(address, &ca_pem, seconds).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(setup("the server's thread ended before it said anything")),
    };
    cancel.cancel();
    // A server that died explains calls that failed, so that is said first.
    match tokio::task::spawn_blocking(|| thread.join()).await {
        Ok(Ok(())) => result,
        Ok(Err(_)) => Err(setup("the server's thread panicked; its message is above")),
        Err(error) => Err(setup(error)),
    }
}

type Started = Result<(SocketAddr, String), Error>;

/// A controller on this thread alone.
fn serve(ready: tokio::sync::oneshot::Sender<Started>, stop: &CancellationToken) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(setup(error)))),
    };
    runtime.block_on(async {
        let controller = Arc::new(Controller::new(ControllerConfig::default()));
        let api = Arc::new(Api::new(Arc::clone(&controller), ApiConfig::default()));
        match Server::start(api, "127.0.0.1:0", &["127.0.0.1"]).await {
            Ok(server) => {
                let _ = ready.send(Ok((server.address(), server.ca_pem().to_owned())));
                controller.run(Arc::new(NoGateway), stop.clone()).await;
                stop.cancelled().await;
                server.stop().await;
            }
            Err(error) => drop(ready.send(Err(setup(error)))),
        }
    });
}

struct NoGateway;

impl GatewayLink for NoGateway {
    fn push(&self, _: Arc<Snapshot>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

async fn load(address: SocketAddr, ca_pem: &str, seconds: u16) -> Result<(), Error> {
    let credentials = Credentials::default();
    let clients = try_join_all((0..CLIENTS).map(|_| {
        let account = Account {
            base: format!("https://{address}"),
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        };
        async {
            let trust = client_config_trusting(ca_pem).map_err(setup)?;
            VendorApi::login(account, trust).await.map_err(setup)
        }
    }))
    .await?;
    let calls = u32::from(seconds) * CALLS_PER_SECOND;
    let interval = Duration::from_secs(1) / CALLS_PER_SECOND;
    let start = Instant::now() + Duration::from_millis(100);
    let runs = clients.into_iter().zip(0..).map(|(client, number)| {
        let schedule = (number..calls)
            .step_by(CLIENTS as usize)
            .map(move |call| start + interval * call);
        tokio::spawn(follow(client, number, schedule))
    });
    let mut samples: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for run in try_join_all(runs).await.map_err(setup)? {
        for (call, took) in run? {
            samples.entry(call).or_default().push(took);
        }
    }
    let took = start.elapsed();
    let mut all: Vec<Duration> = samples.values().flatten().copied().collect();
    say(&format!(
        "controller, HTTPS on one thread, {CLIENTS} connections: {} calls in {:.2} s, {:.0} a second",
        all.len(),
        took.as_secs_f64(),
        all.len() as f64 / took.as_secs_f64(),
    ))?;
    say(&quantiles("every call", &mut all))?;
    for (call, samples) in &mut samples {
        say(&quantiles(call, samples))?;
    }
    Ok(())
}

/// One client's calls, and what each took.
async fn follow(
    client: VendorApi,
    number: u32,
    schedule: impl Iterator<Item = Instant>,
) -> Result<Vec<(&'static str, Duration)>, Error> {
    let group = |round: usize| {
        json!({"name": format!("bench-{number}"), "selector": {"any": [
            {"all": {"cidr": format!("10.{}.{}.0/24", number, round % 256)}}]}})
    };
    let mut samples = Vec::new();
    let mut path = String::new();
    for (index, due) in schedule.enumerate() {
        tokio::time::sleep_until(due.into()).await;
        // The timer's own lateness is not the server's; that of the call before is.
        let late_by_itself = due.elapsed() < Duration::from_millis(3);
        let began = if late_by_itself { Instant::now() } else { due };
        let call = CYCLE[index % CYCLE.len()];
        let round = index / CYCLE.len();
        match call {
            "create" => {
                let created = client.post("app-domains", &group(round)).await;
                let created = created.map_err(setup)?;
                let uuid = created["uuid"].as_str().unwrap_or_default();
                path = format!("app-domains/{uuid}");
            }
            "read" => drop::<Value>(client.get(&path).await.map_err(setup)?),
            "update" => client.put(&path, &group(round + 1)).await.map_err(setup)?,
            "feature" => drop(client.feature("k8s").await.map_err(setup)?),
            _ => client.delete(&path).await.map_err(setup)?,
        }
        samples.push((call, began.elapsed()));
    }
    Ok(samples)
}

fn quantiles(what: &str, samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let [median, p95, p99, longest] = [50, 95, 99, 100].map(|percent| millis(samples, percent));
    format!(
        "  {what}: p50 {median:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, longest {longest:.2} ms"
    )
}

fn setup(error: impl std::fmt::Display) -> Error {
    Error::Setup(error.to_string())
}
