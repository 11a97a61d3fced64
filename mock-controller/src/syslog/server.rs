//! One remote server: its bounded queue, and the task that empties it in order, over as many connections as it takes.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::{Connection, Dialer};
use super::{BATCH, Counters, Limits};
use crate::store::syslog::RemoteSyslog;

/// The way into a server's queue. When it is dropped, the queue is delivered and the task ends.
pub(super) struct Server {
    profile: Arc<RemoteSyslog>,
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicU64>,
    counters: Counters,
    _ending: DropGuard,
}

impl Server {
    /// The server, and what has to be run for it.
    pub(super) fn new(
        profile: RemoteSyslog,
        limits: Limits,
        counters: Counters,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let profile = Arc::new(profile);
        let (sender, queue) = mpsc::channel(limits.queue.max(1));
        let waiting = Arc::new(AtomicU64::new(0));
        let ending = CancellationToken::new();
        let delivery = Delivery {
            profile: Arc::clone(&profile),
            limits,
            waiting: Arc::clone(&waiting),
            counters: counters.clone(),
            ending: ending.clone(),
        };
        let server = Self {
            profile,
            queue: sender,
            waiting,
            counters,
            _ending: ending.drop_guard(),
        };
        (server, delivery.run(queue))
    }

    pub(super) fn profile(&self) -> &RemoteSyslog {
        &self.profile
    }

    /// Adds a line, which ends with LF; without room it is dropped, counted and said.
    pub(super) fn enqueue(&self, line: Bytes) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(line).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let dropped = self.counters.dropped(self.profile.index, 1);
            // Each doubling: loud, and no flood in its turn.
            if dropped.is_power_of_two() {
                tracing::warn!(
                    "{}: its queue of {} records is full, {dropped} records dropped so far",
                    address(&self.profile),
                    self.queue.max_capacity(),
                );
            }
        }
    }
}

struct Delivery {
    profile: Arc<RemoteSyslog>,
    limits: Limits,
    /// Records in the queue, or taken from it and not yet handed to the network.
    waiting: Arc<AtomicU64>,
    counters: Counters,
    ending: CancellationToken,
}

impl Delivery {
    async fn run(self, mut queue: mpsc::Receiver<Bytes>) {
        let patience = async {
            self.ending.cancelled().await;
            tokio::time::sleep(self.limits.flush).await;
        };
        tokio::select! {
            () = self.deliver(&mut queue) => {}
            () = patience => {}
        }
        let lost = self.waiting.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.counters.dropped(self.profile.index, lost);
            tracing::warn!(
                "{}: {lost} records could not be delivered and are dropped",
                address(&self.profile)
            );
        }
    }

    async fn deliver(&self, queue: &mut mpsc::Receiver<Bytes>) {
        let to = address(&self.profile);
        let dialer = match Dialer::new(&self.profile) {
            Ok(dialer) => dialer,
            Err(error) => {
                tracing::warn!("{to}: nothing is sent, {error}");
                return self.discard(queue).await;
            }
        };
        let mut unsent = VecDeque::new();
        let mut pause = self.limits.first_retry;
        let mut failures: u64 = 0;
        loop {
            if self.ending.is_cancelled() && self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            match dialer.connect(self.limits.connect).await {
                Ok(connection) => {
                    if failures > 0 {
                        tracing::info!("{to}: reached after {failures} attempts in vain");
                    }
                    let mut sent = 0;
                    let ended = self.send(connection, queue, &mut unsent, &mut sent).await;
                    let Err(error) = ended else { return };
                    tracing::warn!("{to}: the connection broke, {error}; connecting again");
                    if sent > 0 {
                        (pause, failures) = (self.limits.first_retry, 0);
                        continue;
                    }
                }
                Err(error) if failures.is_power_of_two() || failures == 0 => {
                    tracing::warn!("{to}: {error}; its records wait");
                }
                Err(error) => tracing::debug!("{to}: {error}"),
            }
            failures += 1;
            self.rest(pause).await;
            pause = (pause * 2).min(self.limits.last_retry);
        }
    }

    /// Sends what comes out of the queue until it ends; then closes the connection. Counts in `sent`.
    async fn send(
        &self,
        mut connection: Connection,
        queue: &mut mpsc::Receiver<Bytes>,
        unsent: &mut VecDeque<Bytes>,
        sent: &mut u64,
    ) -> std::io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if unsent.is_empty() {
                let taken = tokio::select! {
                    biased;
                    error = connection.lost() => return Err(error),
                    taken = queue.recv_many(&mut batch, BATCH) => taken,
                };
                if taken == 0 {
                    return connection.close().await;
                }
                unsent.extend(batch.drain(..));
            }
            let before = unsent.len();
            let written = connection.write(unsent).await;
            let gone = (before - unsent.len()) as u64;
            let refused = written.as_ref().map_or(0, |refused| *refused);
            self.waiting.fetch_sub(gone, Ordering::Relaxed);
            self.counters.sent(gone - refused);
            *sent += gone - refused;
            if refused > 0 {
                let dropped = self.counters.dropped(self.profile.index, refused);
                tracing::warn!(
                    "{}: the network refused {refused} records, {dropped} dropped so far",
                    address(&self.profile)
                );
            }
            written?;
        }
    }

    /// Pauses before the next attempt; the end of the records ends the pause once.
    async fn rest(&self, pause: Duration) {
        let pause = tokio::time::sleep(pause);
        if self.ending.is_cancelled() {
            return pause.await;
        }
        tokio::select! {
            () = pause => {}
            () = self.ending.cancelled() => {}
        }
    }

    /// Drops what comes, for a server that can't be spoken to at all.
    async fn discard(&self, queue: &mut mpsc::Receiver<Bytes>) {
        while queue.recv().await.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let dropped = self.counters.dropped(self.profile.index, 1);
            if dropped.is_power_of_two() {
                tracing::warn!(
                    "{}: {dropped} records dropped so far",
                    address(&self.profile)
                );
            }
        }
    }
}

fn address(profile: &RemoteSyslog) -> String {
    format!(
        "syslog server {} ({} port {} over {:?})",
        profile.index, profile.server, profile.port, profile.transport
    )
}
