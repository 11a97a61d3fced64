//! A syslog receiver: the gateway's log as evidence, the way that a real gateway hands it over.
//!
//! Owns: listeners over UDP, TCP and TLS, their connections and bounds, and when a log is complete. Hands each line to a
//! sink in the order in which it arrived; what a line means is not its affair, so lines that are no record are kept
//! too. Must not know the firewall that sends.
//!
//! A datagram is one message (RFC 5426). A stream is cut into messages by `framing`. Text is kept as it came, but for
//! control characters and bytes that are no UTF-8, which become `#` and three octal digits as rsyslog writes them: one
//! message is one line of the log, whatever is in it.

mod framing;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use framing::Framer;

/// Longest message that is kept whole. The rest of a longer one is left out, and the line says so.
pub const MESSAGE_BOUND: usize = 64 * 1024;
/// Open connections per listener. Further senders wait.
const CONNECTIONS: usize = 64;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Until a TLS client has said who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Before a listener that could not accept tries again: the process may lack descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Takes each line, without its end.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Where to listen; port 0 takes a free one.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// Datagrams, one message each. They may be lost: not for evidence.
    pub udp: Option<SocketAddr>,
    /// Streams in clear.
    pub tcp: Option<SocketAddr>,
    /// Streams in TLS, with the receiver's certificate.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
}

impl Listen {
    /// TCP on a free port that only this machine reaches.
    #[must_use]
    pub fn on_loopback() -> Self {
        Self {
            tcp: Some((Ipv4Addr::LOCALHOST, 0).into()),
            ..Self::default()
        }
    }
}

/// A receiver that can't listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive syslog on {address}: {source}")]
pub struct Error {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// The log may lack lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway's log is incomplete: of its syslog connections {open} were still open {waited:?} after the end, {broken} broke off"
)]
pub struct Incomplete {
    /// Connections whose senders had not finished in time.
    pub open: usize,
    /// Connections that ended other than in order.
    pub broken: usize,
    /// How long they were waited for.
    pub waited: Duration,
}

/// A running receiver. Dropping it cuts everything; [`finish`](Self::finish) does not.
#[derive(Debug)]
pub struct SyslogReceiver {
    /// Where it takes datagrams.
    pub udp: Option<SocketAddr>,
    /// Where it takes streams in clear.
    pub tcp: Option<SocketAddr>,
    /// Where it takes streams in TLS.
    pub tls: Option<SocketAddr>,
    ending: CancellationToken,
    connections: Arc<Connections>,
    listeners: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Connections {
    open: AtomicUsize,
    broken: AtomicUsize,
}

impl SyslogReceiver {
    /// Listens. Senders can connect as soon as this resolves.
    ///
    /// # Errors
    /// When an address can't be had.
    pub async fn start(listen: Listen, sink: Sink) -> Result<Self, Error> {
        let mut receiver = Self {
            udp: None,
            tcp: None,
            tls: None,
            ending: CancellationToken::new(),
            connections: Arc::default(),
            listeners: Mutex::default(),
        };
        if let Some(address) = listen.udp {
            let failed = |source| Error { address, source };
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            receiver.udp = Some(socket.local_addr().map_err(failed)?);
            let ending = receiver.ending.clone();
            receiver.spawn(datagrams(socket, Arc::clone(&sink), ending));
        }
        if let Some(address) = listen.tcp {
            receiver.tcp = Some(receiver.accept(address, None, &sink).await?);
        }
        if let Some((address, config)) = listen.tls {
            let acceptor = TlsAcceptor::from(config);
            receiver.tls = Some(receiver.accept(address, Some(acceptor), &sink).await?);
        }
        Ok(receiver)
    }

    /// Takes no further senders and waits until those that had come have ended their side: then the sink has every
    /// line. Call it after the senders were told to stop; what they sent before is not lost to a listener's backlog.
    ///
    /// # Errors
    /// When the log may lack lines.
    pub async fn finish(&self, patience: Duration) -> Result<(), Incomplete> {
        self.ending.cancel();
        let mut listeners = std::mem::take(&mut *self.lock());
        let all = async { while listeners.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(patience, all).await.is_ok();
        let incomplete = Incomplete {
            // At least one: a listener itself may be what did not end.
            open: if in_time {
                0
            } else {
                self.connections.open.load(Ordering::SeqCst).max(1)
            },
            broken: self.connections.broken.load(Ordering::SeqCst),
            waited: patience,
        };
        if incomplete.open + incomplete.broken == 0 {
            Ok(())
        } else {
            Err(incomplete)
        }
    }

    async fn accept(
        &self,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        sink: &Sink,
    ) -> Result<SocketAddr, Error> {
        let failed = |source| Error { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let streams = Streams {
            tls,
            sink: Arc::clone(sink),
            connections: Arc::clone(&self.connections),
        };
        self.spawn(streams.serve(listener, self.ending.clone()));
        Ok(local)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lock().spawn(task);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn datagrams(socket: UdpSocket, sink: Sink, ending: CancellationToken) {
    // The largest that there can be, so that none is cut unseen.
    let mut buffer = vec![0; 65_536];
    let emit = |message: &[u8]| {
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        if !message.is_empty() {
            sink(&printable(message));
        }
    };
    loop {
        tokio::select! {
            biased;
            () = ending.cancelled() => break,
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, _)) => emit(&buffer[..length]),
                Err(error) => tracing::warn!("syslog over UDP: {error}"),
            },
        }
    }
    // What lies in the socket now was sent before the end.
    if let Ok(socket) = socket.into_std() {
        while let Ok(length) = socket.recv(&mut buffer) {
            emit(&buffer[..length]);
        }
    }
}

/// A listener's connections.
struct Streams {
    tls: Option<TlsAcceptor>,
    sink: Sink,
    connections: Arc<Connections>,
}

impl Streams {
    /// Accepts until the end, then reads what has come to its end.
    async fn serve(self, listener: TcpListener, ending: CancellationToken) {
        let this = Arc::new(self);
        let mut connections = JoinSet::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let next = async {
                let room = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, room)
            };
            tokio::select! {
                biased;
                () = ending.cancelled() => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (accepted, room) = next => match accepted {
                    Ok((stream, _)) => {
                        let this = Arc::clone(&this);
                        connections.spawn(async move {
                            this.receive(stream).await;
                            drop(room);
                        });
                    }
                    Err(error) => {
                        tracing::warn!("syslog over TCP: no connection accepted, {error}");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
        // Who connected before the end waits here, possibly unknown to the runtime. The backlog is bounded.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, _)) = listener.accept() {
                let stream = stream
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    let this = Arc::clone(&this);
                    connections.spawn(async move { this.receive(stream).await });
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }

    async fn receive(&self, stream: TcpStream) {
        self.connections.open.fetch_add(1, Ordering::SeqCst);
        let ended = match &self.tls {
            None => self.lines(stream).await,
            Some(acceptor) => {
                match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.lines(stream).await,
                    // No line was on its way yet.
                    Ok(Err(error)) => {
                        tracing::warn!("syslog over TLS: a sender was not taken, {error}");
                        Ok(())
                    }
                    Err(_) => {
                        tracing::warn!("syslog over TLS: no handshake in {HANDSHAKE:?}");
                        Ok(())
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::warn!("a syslog connection broke, lines may be lost: {error}");
            self.connections.broken.fetch_add(1, Ordering::SeqCst);
        }
        self.connections.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Hands over every line up to the end of the stream, one without an end among them.
    async fn lines(&self, mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut framer = Framer::new(MESSAGE_BOUND);
        let mut buffer = vec![0; CHUNK];
        let mut emit = |message: &[u8], left_out: u64| {
            let mut line = printable(message);
            if left_out > 0 {
                line += &format!(" [{left_out} bytes more are left out]");
            }
            (self.sink)(&line);
        };
        loop {
            let read = stream.read(&mut buffer).await;
            match read {
                Ok(0) | Err(_) => {
                    framer.end(&mut emit);
                    return read.map(drop);
                }
                Ok(length) => framer.push(&buffer[..length], &mut emit),
            }
        }
    }
}

/// The text of a message as one line: see the header.
fn printable(message: &[u8]) -> String {
    let mut text = String::with_capacity(message.len());
    for chunk in message.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_ascii_control() && character != '\t' {
                octal(&mut text, character as u8);
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            octal(&mut text, *byte);
        }
    }
    text
}

fn octal(text: &mut String, byte: u8) {
    text.push_str(&format!("#{byte:03o}"));
}

#[cfg(test)]
pub(super) mod tests;
