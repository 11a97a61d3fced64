//! One connection to a server, whatever the transport: connect, write whole lines, notice that the other side went,
//! close in order.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::tls;
use crate::store::syslog::{RemoteSyslog, Transport};

/// Bytes that are written at once.
const CHUNK: usize = 64 * 1024;

/// How to reach a server. Its certificates are read once.
pub(super) struct Dialer {
    host: String,
    port: u16,
    transport: Way,
}

enum Way {
    Udp,
    Tcp,
    Tls(Arc<ClientConfig>, ServerName<'static>),
}

impl Dialer {
    /// # Errors
    /// When the profile can't be used, whatever answers.
    pub(super) fn new(profile: &RemoteSyslog) -> Result<Self, tls::Error> {
        let transport = match profile.transport {
            Transport::Udp => Way::Udp,
            Transport::Tcp => Way::Tcp,
            Transport::Tls => Way::Tls(
                Arc::new(tls::client_config(profile)?),
                ServerName::try_from(profile.server.clone())
                    .map_err(|_| tls::Error::Name(profile.server.clone()))?,
            ),
        };
        Ok(Self {
            host: profile.server.clone(),
            port: profile.port,
            transport,
        })
    }

    /// # Errors
    /// When nothing answers in time, or what answers is not who it should be.
    pub(super) async fn connect(&self, patience: Duration) -> io::Result<Connection> {
        let late = |_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer in {patience:?}"),
            )
        };
        tokio::time::timeout(patience, self.dial())
            .await
            .map_err(late)?
    }

    async fn dial(&self) -> io::Result<Connection> {
        let to = (self.host.as_str(), self.port);
        match &self.transport {
            Way::Udp => {
                let found = tokio::net::lookup_host(to).await?.next();
                let address = found.ok_or_else(|| io::Error::other("its name has no address"))?;
                let local: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(local).await?;
                Ok(Connection::Datagrams { socket, address })
            }
            Way::Tcp => {
                let stream = tcp(to).await?;
                // A second handle, because the first looks at the socket only when the runtime has heard of it.
                let watched = stream.as_fd().try_clone_to_owned()?;
                Ok(Connection::Stream {
                    stream: Box::new(stream),
                    watched: Some(watched.into()),
                })
            }
            Way::Tls(config, name) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), tcp(to).await?).await?;
                Ok(Connection::Stream {
                    stream: Box::new(stream),
                    watched: None,
                })
            }
        }
    }
}

async fn tcp(to: (&str, u16)) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    // A record that waits for company is late, and somebody waits for it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) enum Connection {
    /// Not connected, so that one datagram's rejection does not count against the next.
    Datagrams {
        socket: UdpSocket,
        address: SocketAddr,
    },
    Stream {
        stream: Box<dyn Duplex>,
        watched: Option<std::net::TcpStream>,
    },
}

impl Connection {
    /// Writes a stretch of `lines` and removes what was handed to the network, whole lines only. The answer is how many
    /// of those the network refused: datagrams are not repeated.
    ///
    /// # Errors
    /// When the connection is of no use any more; the lines that remain have to go over another one.
    pub(super) async fn write(&mut self, lines: &mut VecDeque<Bytes>) -> io::Result<u64> {
        match self {
            Self::Datagrams { socket, address } => {
                let mut refused = 0;
                while let Some(line) = lines.front() {
                    let record = line.strip_suffix(b"\n").unwrap_or(line);
                    if let Err(error) = socket.send_to(record, *address).await {
                        tracing::debug!("to {address}: {error}");
                        refused += 1;
                    }
                    lines.pop_front();
                }
                Ok(refused)
            }
            Self::Stream { stream, watched } => {
                if watched.as_ref().is_some_and(hung_up) {
                    return Err(closed());
                }
                let mut chunk = Vec::with_capacity(CHUNK.min(lines.iter().map(Bytes::len).sum()));
                for line in lines.iter() {
                    if !chunk.is_empty() && chunk.len() + line.len() > CHUNK {
                        break;
                    }
                    chunk.extend_from_slice(line);
                }
                let mut written = 0;
                let result = write_counted(stream, &chunk, &mut written).await;
                while let Some(line) = lines.front()
                    && line.len() <= written
                {
                    written -= line.len();
                    lines.pop_front();
                }
                result.map(|()| 0)
            }
        }
    }

    /// Resolves when the server has hung up. What it says is not listened to.
    pub(super) async fn lost(&mut self) -> io::Error {
        match self {
            Self::Datagrams { .. } => std::future::pending().await,
            Self::Stream { stream, .. } => match drain(stream).await {
                Ok(()) => closed(),
                Err(error) => error,
            },
        }
    }

    /// Ends the connection after the last byte (TLS: `close_notify`), and waits until the server has ended its side:
    /// then it has read everything.
    pub(super) async fn close(self) -> io::Result<()> {
        match self {
            Self::Datagrams { .. } => Ok(()),
            Self::Stream { mut stream, .. } => {
                stream.shutdown().await?;
                // How the server ends is its own affair.
                let _ = drain(&mut stream).await;
                Ok(())
            }
        }
    }
}

async fn drain(stream: &mut Box<dyn Duplex>) -> io::Result<()> {
    let mut heard = [0; 512];
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

fn hung_up(stream: &std::net::TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server hung up")
}

/// Writes all of `chunk` and says how much of it has left, also where the rest can't.
async fn write_counted(
    stream: &mut (impl AsyncWrite + Unpin),
    chunk: &[u8],
    written: &mut usize,
) -> io::Result<()> {
    let mut unsent = 0;
    while unsent < chunk.len() {
        match stream.write(&chunk[unsent..]).await? {
            0 => return Err(closed()),
            more => unsent += more,
        }
        // What a TLS session has taken and not handed on may still be lost.
        stream.flush().await?;
        *written = unsent;
    }
    Ok(())
}
