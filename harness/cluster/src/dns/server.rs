//! Sockets around [`Zone::answer`]: cluster DNS and the VPC's resolver, over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Answer, Zone, fit_datagram, is_in, question, refused, server_failure};
use crate::netns::NetNs;
use crate::network::{DNS_ADDRESS, VPC_RESOLVER_ADDRESS};

/// Answers a query for a name outside the cluster, of whatever length: cutting it is done here.
pub type Upstream = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;
type QueryLog = Arc<dyn Fn(DnsQuery) + Send + Sync>;

const PORT: u16 = 53;
/// Connections per resolver; further ones wait, as with any listen queue.
const CONNECTIONS: usize = 64;
/// RFC 7766 section 6.2.3 advises a few seconds.
const IDLE: Duration = Duration::from_secs(10);
/// Enough for any query: names are bounded (RFC 1035 section 2.3.4), EDNS options are not needed here.
const LONGEST_DATAGRAM: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolver {
    Cluster,
    Vpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Udp,
    Tcp,
}

/// One query, as a resolver saw it. Beyond cluster DNS the asking pod can't be told any more, so this is
/// where data in labels is tied to a pod.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DnsQuery {
    pub at: jiff::Timestamp,
    pub client: SocketAddr,
    pub resolver: Resolver,
    pub transport: Transport,
    pub name: String,
    pub record_type: String,
    /// Whether the query went on to the VPC's resolver.
    pub forwarded: bool,
}

pub struct DnsServer {
    zone: RwLock<Arc<Zone>>,
    upstream: Upstream,
    /// Zones that cluster DNS forwards; none: every zone.
    forwarded: Option<Vec<String>>,
    log: QueryLog,
}

impl DnsServer {
    pub fn new(upstream: Upstream, log: impl Fn(DnsQuery) + Send + Sync + 'static) -> Arc<Self> {
        Self::forwarding(None, upstream, log)
    }

    /// One whose cluster DNS forwards queries for these zones alone, as a Corefile with a server block per zone and none
    /// for the root does.
    pub fn forwarding(
        forwarded: Option<Vec<String>>,
        upstream: Upstream,
        log: impl Fn(DnsQuery) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            zone: RwLock::default(),
            upstream,
            forwarded,
            log: Arc::new(log),
        })
    }

    pub fn set_zone(&self, zone: Zone) {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    /// Listens in the node's namespace. Queries are answered from when this returns until `cancel`.
    pub fn start(self: &Arc<Self>, node: &NetNs, cancel: &CancellationToken) -> io::Result<()> {
        let resolvers = [
            (Resolver::Cluster, DNS_ADDRESS),
            (Resolver::Vpc, VPC_RESOLVER_ADDRESS),
        ];
        for (resolver, address) in resolvers {
            self.listen(node, resolver, address, cancel)?;
        }
        Ok(())
    }

    fn listen(
        self: &Arc<Self>,
        node: &NetNs,
        resolver: Resolver,
        address: Ipv4Addr,
        cancel: &CancellationToken,
    ) -> io::Result<()> {
        let address = SocketAddr::V4(SocketAddrV4::new(address, PORT));
        let datagrams = UdpSocket::from_std(node.udp_socket(address)?)?;
        let listener = TcpListener::from_std(node.tcp_listener(address)?)?;
        let until = cancel.clone();
        let server = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = server.serve_datagrams(resolver, &datagrams) => {}
                () = until.cancelled() => {}
            }
        });
        tokio::spawn(Arc::clone(self).serve_connections(resolver, listener, cancel.clone()));
        Ok(())
    }

    async fn serve_datagrams(&self, resolver: Resolver, socket: &UdpSocket) {
        let mut buffer = vec![0; LONGEST_DATAGRAM];
        loop {
            // An ICMP error about an earlier answer shows up here: the asker is gone, nothing is lost.
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let query = &buffer[..length];
            if let Some(answer) = self.answer(resolver, Transport::Udp, client, query) {
                let _ = socket.send_to(&fit_datagram(query, answer), client).await;
            }
        }
    }

    async fn serve_connections(
        self: Arc<Self>,
        resolver: Resolver,
        listener: TcpListener,
        cancel: CancellationToken,
    ) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = cancel.cancelled() => return,
            };
            let Ok((stream, client)) = accepted else {
                continue;
            };
            let (server, until) = (Arc::clone(&self), cancel.clone());
            tokio::spawn(async move {
                let _slot = slot;
                tokio::select! {
                    // The asker's trouble with its own connection is nobody else's.
                    _ = server.serve_stream(resolver, stream, client) => {}
                    () = until.cancelled() => {}
                }
            });
        }
    }

    async fn serve_stream(
        &self,
        resolver: Resolver,
        mut stream: TcpStream,
        client: SocketAddr,
    ) -> io::Result<()> {
        loop {
            let query = tokio::time::timeout(IDLE, read_message(&mut stream)).await??;
            let Some(answer) = self.answer(resolver, Transport::Tcp, client, &query) else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend(answer);
            tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }

    fn answer(
        &self,
        resolver: Resolver,
        transport: Transport,
        client: SocketAddr,
        query: &[u8],
    ) -> Option<Vec<u8>> {
        let answer = match resolver {
            Resolver::Cluster => {
                let zone = Arc::clone(&self.zone.read().unwrap_or_else(PoisonError::into_inner));
                zone.answer(query)
            }
            Resolver::Vpc => Answer::Forward,
        };
        let question = question(query);
        let answer = match (answer, &self.forwarded, &question) {
            (Answer::Forward, Some(zones), Some((name, _)))
                if resolver == Resolver::Cluster && !is_in(name, zones) =>
            {
                refused(query).map_or(Answer::Ignore, Answer::Reply)
            }
            (answer, _, _) => answer,
        };
        if let Some((name, record_type)) = question {
            (self.log)(DnsQuery {
                at: jiff::Timestamp::now(),
                client,
                resolver,
                transport,
                name,
                record_type,
                forwarded: answer == Answer::Forward,
            });
        }
        match answer {
            Answer::Reply(reply) => Some(reply),
            Answer::Ignore => None,
            Answer::Forward => {
                let reply = (self.upstream)(query);
                if reply.is_empty() {
                    return server_failure(query);
                }
                Some(reply)
            }
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
