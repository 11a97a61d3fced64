//! The API over HTTPS: TLS 1.2 or 1.3, HTTP/1.1, keep-alive.
//!
//! Owns what a client may cost before its request is understood ([`Limits`]). Must not know actions or objects: a
//! request is complete before [`Api::handle`] sees it. Every refusal that has a request to answer is JSON with the
//! vendor's two error keys; only what is no HTTP at all, or a head over its bound, gets the bare status that hyper
//! sends. A panic in a handler is answered 500 and leaves the connection open, because clients of this API take a
//! dropped connection worse than an error (section 10, trap 2).

mod body;

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::EXPECT,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::body::{Budget, Sent};
use super::{Api, Called, failure, tls};

/// Bodies up to this size, in bytes, are handled on the thread that reads them, and count in no total.
const SMALL_BODY: usize = 64 << 10;

/// Characters of a path or a reason that the log repeats.
const MAX_LOGGED: usize = 300;

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait in the listener's queue.
    pub connections: usize,
    /// Size of one body in bytes. A policy list of 5,000 rules is a few megabytes.
    pub body: usize,
    /// Memory of all large bodies together, responses and what becomes of JSON among them, in bytes. What does not fit
    /// is answered 503.
    pub bodies: usize,
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the end of one response, or of the handshake, to the end of the next request's head: idle time too.
    pub head: Duration,
    /// From the first byte of a body to its last one.
    pub body_time: Duration,
    /// How long a client may take nothing of its response.
    pub stall: Duration,
    /// What running requests have when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            body: 64 << 20,
            bodies: 256 << 20,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(60),
            body_time: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why no server runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot listen on {address}: {source}; choose an address of this machine and a free port"
    )]
    Listen {
        address: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// A running API server. Dropping it stops it; [`stop`](Self::stop) also waits for requests that are under way.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ca_pem: String,
    cancel: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    /// Serves `api` on `address` (`host:port`, port 0 for a free one) with a certificate of an authority of its own for
    /// `names` (host names or addresses).
    pub async fn start(
        api: Arc<Api>,
        address: &str,
        names: &[impl AsRef<str>],
    ) -> Result<Self, Error> {
        Self::start_with(api, address, names, Limits::default()).await
    }

    /// [`start`](Self::start) with other limits.
    pub async fn start_with(
        api: Arc<Api>,
        address: &str,
        names: &[impl AsRef<str>],
        limits: Limits,
    ) -> Result<Self, Error> {
        let identity = tls::Identity::generate(names)?;
        let refused = |source| Error::Listen {
            address: address.to_owned(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let cancel = CancellationToken::new();
        let (tls, stop) = (identity.server, cancel.clone());
        let running = tokio::spawn(serve(api, listener, tls, limits, stop));
        Ok(Self {
            address,
            ca_pem: identity.ca_pem,
            cancel,
            running,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Accepts nothing more and waits for the requests under way, up to [`Limits::grace`].
    pub async fn stop(mut self) {
        self.cancel.cancel();
        let _ = (&mut self.running).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Serves until cancelled.
async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let host = Arc::new(Host {
        api,
        acceptor: TlsAcceptor::from(tls),
        budget: Budget::new(limits.bodies),
        limits,
    });
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (host, cancel) = (Arc::clone(&host), cancel.clone());
                    connections.spawn(async move {
                        host.connection(stream, cancel).await;
                        drop(place);
                    });
                }
                // Out of descriptors, or the peer has gone: others may end meanwhile.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(accepting).await;
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(limits.grace, connections.wait()).await;
}

/// What the connections of one server share.
struct Host {
    api: Arc<Api>,
    acceptor: TlsAcceptor,
    budget: Budget,
    limits: Limits,
}

impl Host {
    async fn connection(self: Arc<Self>, stream: TcpStream, cancel: CancellationToken) {
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.stall));
        let handshake = tokio::time::timeout(
            self.limits.handshake,
            self.acceptor.accept(Box::pin(stream)),
        );
        let stream = match cancel.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return;
            }
            Some(Err(_)) | None => return,
        };
        let limits = self.limits;
        let service = service_fn(move |request| {
            let host = Arc::clone(&self);
            async move { Ok::<_, Infallible>(host.respond(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_headers(100)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(limits.grace, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Reads the rest of a request, has it answered, and logs the call.
    async fn respond(&self, request: Request<Incoming>) -> Response<Sent> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let expects = head.headers.contains_key(EXPECT);
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let response = match self.budget.read(body, expects, &self.limits).await {
            Ok((body, counted)) => {
                let large = body.len() > SMALL_BODY;
                let request = Request::from_parts(head, body);
                let api = Arc::clone(&self.api);
                let work = move || {
                    let response = call(&api, &request);
                    drop(counted);
                    response
                };
                if large {
                    tokio::task::spawn_blocking(work)
                        .await
                        .unwrap_or_else(|_| broken())
                } else {
                    work()
                }
            }
            Err(refusal) => refusal.response(),
        };
        log(&method, &path, &response, start.elapsed());
        self.budget.send(response)
    }
}

/// One call, behind the last net for defects of this fake.
fn call(api: &Api, request: &Request<Bytes>) -> Response<Bytes> {
    let now = Instant::now();
    std::panic::catch_unwind(AssertUnwindSafe(|| api.handle(request, now)))
        .unwrap_or_else(|_| broken())
}

/// One line per call. What a client chose in it is cut and cannot forge another line; parameters are not in it, because
/// passwords and CIDs are among them.
fn log(method: &Method, path: &str, response: &Response<Bytes>, took: Duration) {
    let quoted = |text: &str| -> String {
        text.chars()
            .take(MAX_LOGGED)
            .flat_map(char::escape_debug)
            .collect()
    };
    let (mut action, mut refused) = (String::new(), String::new());
    if let Some(called) = response.extensions().get::<Called>() {
        if !called.action.is_empty() {
            action = format!(" {}", quoted(&called.action));
        }
        if let Some(reason) = &called.refused {
            refused = format!(" refused: {}", quoted(reason));
        }
    }
    let status = response.status().as_u16();
    tracing::info!(target: "api", "{method} {}{action} {status} {took:.1?}{refused}", quoted(path));
}

fn broken() -> Response<Bytes> {
    tracing::error!("a call met a defect of this fake controller; its panic is above");
    let message = "this fake controller has a defect; its log says where";
    failure(StatusCode::INTERNAL_SERVER_ERROR, message)
}
