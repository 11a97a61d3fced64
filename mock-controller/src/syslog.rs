//! Remote syslog: a gateway's records on their way to the servers that the controller names.
//!
//! Owns: the queue, the connection and the order of records of each server. Must not know policies or packets; what a
//! line looks like is [`record`](crate::record)'s, which servers there are is the [`store`](crate::store)'s.
//!
//! Faithful (`reference/aviatrix-controller-api.md` section 6.1, `reference/aviatrix-dcf.md` section 4): up to ten
//! servers by index, each over UDP, TCP or TLS, gateways excluded by name, both record formats. UDP is one datagram per
//! record (RFC 5426).
//!
//! Choices where the vendor's ways are not published:
//! - **Framing** over TCP and TLS: one line per record, ended by LF (non-transparent framing, RFC 6587 section 3.4.2),
//!   which is the default of rsyslog. RFC 5425 would count octets within TLS.
//! - **TLS** trusts the profile's CA certificate and nothing else; without one nothing is sent. A server is never
//!   spoken to in clear because its certificate was refused.
//! - **Records from before a server was configured** are gone, as nothing on a gateway keeps them. So are records for
//!   which its queue has no room: the newest is dropped, counted and said.
//! - **A change of a server's profile** is a new server: what waits for the old one is still delivered there.
//!
//! Not faithful: the template of a profile is stored and never rendered; every record has the default format. Syslog
//! has no acknowledgement: a record that the kernel took just before a server vanished is lost unseen, here as there.

mod connection;
mod server;
mod tls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::server::Server;
use crate::{
    fault::{Fault, Faults},
    record::{GatewayIdentity, LogRecord},
    store::syslog::{RemoteSyslog, RemoteSyslogs, Transport},
};

/// Whether a profile's certificates are such that records can be sent by them.
///
/// # Errors
/// With what is wrong with them.
pub fn check_certificates(profile: &RemoteSyslog) -> Result<(), tls::Error> {
    match profile.transport {
        Transport::Tls => tls::client_config(profile).map(drop),
        Transport::Udp | Transport::Tcp => Ok(()),
    }
}

/// Records that are taken and written at once.
const BATCH: usize = 256;

/// How much is kept, and how long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that wait for one server. A record takes half a kilobyte.
    pub queue: usize,
    /// Until a server has answered, TLS handshake included.
    pub connect: Duration,
    /// Before a server that could not be reached is tried again; doubled each time.
    pub first_retry: Duration,
    /// The longest such pause.
    pub last_retry: Duration,
    /// For what still waits when the gateway stops or a server is disabled.
    pub flush: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 65_536,
            connect: Duration::from_secs(5),
            first_retry: Duration::from_millis(50),
            last_retry: Duration::from_secs(5),
            flush: Duration::from_secs(2),
        }
    }
}

/// What became of the records so far. A record to two servers counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed to the network.
    pub sent: u64,
    /// Meant for a server and given up: no room in its queue, or unreachable until the end.
    pub dropped: u64,
    /// Records for which no server was configured.
    pub nowhere: u64,
}

/// Counts that can be read while they grow. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    /// By the server's index. Locked only when something is lost, or asked for.
    dropped: Mutex<BTreeMap<u8, u64>>,
    nowhere: AtomicU64,
}

impl Counters {
    pub fn counts(&self) -> Counts {
        Counts {
            sent: self.0.sent.load(Ordering::Relaxed),
            dropped: self.drops().values().sum(),
            nowhere: self.0.nowhere.load(Ordering::Relaxed),
        }
    }

    /// [`Counts::dropped`] of one server.
    pub fn dropped_for(&self, index: u8) -> u64 {
        self.drops().get(&index).copied().unwrap_or(0)
    }

    fn drops(&self) -> MutexGuard<'_, BTreeMap<u8, u64>> {
        self.0
            .dropped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, records: u64) {
        self.0.sent.fetch_add(records, Ordering::Relaxed);
    }

    /// The number of drops for that server up to now.
    fn dropped(&self, index: u8, records: u64) -> u64 {
        let mut drops = self.drops();
        let dropped = drops.entry(index).or_insert(0);
        *dropped += records;
        *dropped
    }

    fn nowhere(&self) {
        self.0.nowhere.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries one gateway's records to every enabled server that does not exclude it.
#[derive(Debug)]
pub struct Forwarder {
    gateway: GatewayIdentity,
    configuration: watch::Receiver<RemoteSyslogs>,
    limits: Limits,
    /// The seeded fault: everything is taken, and nothing is sent.
    loses_all: bool,
    counters: Counters,
}

impl Forwarder {
    /// Follows `configuration`, as [`Controller::remote_syslog`](crate::controller::Controller::remote_syslog) gives
    /// it. When the controller is gone, the gateway goes on as it was told last.
    pub fn new(
        gateway: GatewayIdentity,
        configuration: watch::Receiver<RemoteSyslogs>,
        limits: Limits,
        faults: &Faults,
    ) -> Self {
        Self {
            gateway,
            configuration,
            limits,
            loses_all: faults.has(Fault::SyslogLost),
            counters: Counters::default(),
        }
    }

    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Sends each record, in order, until there are no more; then delivers what waits, closes every connection in
    /// order and resolves. At most [`Limits::flush`] passes from the last record to the end.
    pub async fn run(mut self, mut records: mpsc::UnboundedReceiver<LogRecord>) -> Counts {
        let mut servers = BTreeMap::new();
        let mut tasks = JoinSet::new();
        self.follow(&mut servers, &mut tasks);
        let mut batch = Vec::with_capacity(BATCH);
        let mut controlled = true;
        loop {
            // The configuration first: a record goes by what was configured before it occurred.
            tokio::select! {
                biased;
                changed = self.configuration.changed(), if controlled => match changed {
                    Ok(()) => self.follow(&mut servers, &mut tasks),
                    Err(_) => controlled = false,
                },
                taken = records.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    for record in batch.drain(..) {
                        self.forward(&record, &servers);
                    }
                }
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => report(ended),
            }
        }
        // Each server's task ends with its queue.
        drop(servers);
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
        self.counters.counts()
    }

    fn forward(&self, record: &LogRecord, servers: &BTreeMap<u8, Server>) {
        if self.loses_all {
            return;
        }
        if servers.is_empty() {
            return self.counters.nowhere();
        }
        let mut line = record.to_syslog_line(&self.gateway);
        line.push('\n');
        let line = Bytes::from(line);
        for server in servers.values() {
            server.enqueue(line.clone());
        }
    }

    /// Makes the running servers those of the configuration.
    fn follow(&mut self, servers: &mut BTreeMap<u8, Server>, tasks: &mut JoinSet<()>) {
        let configured = self.configuration.borrow_and_update();
        let mine = |profile: &RemoteSyslog| !profile.excluded_gateways.contains(&self.gateway.name);
        servers.retain(|index, server| {
            configured
                .get(index)
                .is_some_and(|profile| mine(profile) && server.profile() == profile)
        });
        for (index, profile) in configured.iter().filter(|(_, profile)| mine(profile)) {
            servers.entry(*index).or_insert_with(|| {
                let (server, deliver) =
                    Server::new(profile.clone(), self.limits, self.counters.clone());
                tasks.spawn(deliver);
                server
            });
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a syslog sender broke, its records are lost: {error}");
    }
}

#[cfg(test)]
mod tests;
