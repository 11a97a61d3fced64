//! When a cluster counts as ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::Error;
use super::objects::DNS_SERVICE;
use crate::network::Network;

/// An unanswered query is sent again after this: until the Service is in force, it goes nowhere.
const RESEND: Duration = Duration::from_millis(5);
/// Far beyond what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// `kubernetes.default.svc.cluster.local`, type A, class IN (RFC 1035 section 4.1).
const QUERY: &[u8] = b"\x15\x3b\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
    \x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";

/// Where the question comes from: an address below those of Pods.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);

/// Resolves the API server's name through the address of the kube-dns Service, from where a Pod would be: the answer
/// proves the packet path, the table of Services, their endpoints and cluster DNS at once.
pub(super) async fn cluster_dns(network: Network) -> Result<(), Error> {
    let attached = tokio::task::spawn_blocking(move || network.attach(ASKER)).await;
    let attachment = attached.map_err(|_| Error::Broken)??;
    let failed = |error: std::io::Error| Error::NotReady(format!("it has no sockets: {error}"));
    let socket = attachment
        .namespace()
        .udp_socket(SocketAddr::from((ASKER, 0)))
        .and_then(UdpSocket::from_std)
        .map_err(failed)?;
    let deadline = Instant::now() + DEADLINE;
    let ask = async {
        let mut answer = [0; 512];
        loop {
            // A send or receive error says that nobody is there yet.
            let _ = socket.send_to(QUERY, (DNS_SERVICE, 53)).await;
            if let Ok(Ok((length, _))) = timeout(RESEND, socket.recv_from(&mut answer)).await
                && is_answered(&answer[..length])
            {
                return;
            }
        }
    };
    let late = || {
        Error::NotReady(format!(
            "cluster DNS at {DNS_SERVICE}:53 did not answer within {DEADLINE:?}"
        ))
    };
    timeout_at(deadline, ask).await.map_err(|_| late())
}

/// No error, and at least one record.
fn is_answered(message: &[u8]) -> bool {
    matches!(message, [0x15, 0x3b, _, flags, _, _, high, low, ..] if flags & 0x0f == 0 && (*high, *low) != (0, 0))
}
