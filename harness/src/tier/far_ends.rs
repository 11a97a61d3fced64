//! The far ends of the simulated internet, as their operator sees them: from the other side of the gateway.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use cluster::network::Network;
use fixtures::internet::{Internet, InternetHandle};
use fixtures::tls::CertificateAuthority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Error;

/// Longest answer that is read of a far end.
const ANSWER_BOUND: u64 = 64 * 1024;

/// The port of the discard service (RFC 863).
const DISCARD: u16 = 9;

/// Access to the far ends without passing the gateway.
#[derive(Clone)]
pub struct FarEnds {
    network: Network,
    handle: InternetHandle,
    internet: Internet,
    trust: Arc<rustls::ClientConfig>,
}

impl FarEnds {
    pub(super) fn new(
        network: Network,
        handle: InternetHandle,
        internet: Internet,
        authority: &CertificateAuthority,
    ) -> Result<Self, Error> {
        let trust = authority
            .client_config()
            .map_err(|error| Error::Cluster(error.to_string()))?;
        Ok(Self {
            network,
            handle,
            internet,
            trust: Arc::new(trust),
        })
    }

    /// An HTTPS request with a canary from elsewhere on the internet: shows that a far end would be heard.
    ///
    /// # Errors
    /// When the far end does not answer.
    pub async fn visit(&self, host: &str, canary: &str) -> Result<(), Error> {
        self.visit_at(host, canary, IpAddr::is_ipv4).await
    }

    /// The same over IPv6.
    ///
    /// # Errors
    /// When the far end does not answer, or has no such address.
    pub async fn visit_over_ipv6(&self, host: &str, canary: &str) -> Result<(), Error> {
        self.visit_at(host, canary, IpAddr::is_ipv6).await
    }

    async fn visit_at(
        &self,
        host: &str,
        canary: &str,
        family: impl Fn(&IpAddr) -> bool,
    ) -> Result<(), Error> {
        let silent = |reason: String| {
            Error::Cluster(format!(
                "the far end {host} does not answer a request that passes no gateway: {reason}"
            ))
        };
        let address = self.internet.host(host).and_then(|host| {
            host.addresses
                .iter()
                .copied()
                .find(|address| family(address))
        });
        let address = address.ok_or_else(|| {
            silent("scenarios/internet.yaml has no such host and address".to_owned())
        })?;
        let visit = async {
            let tcp = self
                .network
                .internet()
                .connect(SocketAddr::new(address, 443))
                .await?;
            let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                .map_err(std::io::Error::other)?;
            let mut tls = tokio_rustls::TlsConnector::from(Arc::clone(&self.trust))
                .connect(name, tcp)
                .await?;
            let request = format!(
                "GET /control/{canary} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            );
            tls.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            (&mut tls)
                .take(ANSWER_BOUND)
                .read_to_end(&mut answer)
                .await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = visit.await.map_err(|error| silent(error.to_string()))?;
        if answer.starts_with(b"HTTP/1.1 2") {
            Ok(())
        } else {
            Err(silent("its answer is no success".to_owned()))
        }
    }

    /// Sends a datagram from the internet to the gateway, which drops it; a capture outside the gateway that still runs holds
    /// it. Returns its source and destination.
    ///
    /// # Errors
    /// When it can't be sent.
    pub async fn mark_capture(&self, gateway: IpAddr) -> Result<(SocketAddr, SocketAddr), Error> {
        let failed = |error: std::io::Error| {
            Error::Cluster(format!(
                "a datagram from the internet to the gateway {gateway}: {error}"
            ))
        };
        let own = self.internet.addresses();
        let own = own
            .into_iter()
            .find(|own| own.is_ipv4() == gateway.is_ipv4());
        let own = own.ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
        let socket = self
            .network
            .internet()
            .udp_socket(SocketAddr::new(own, 0))
            .map_err(failed)?;
        let source = socket.local_addr().map_err(failed)?;
        let destination = SocketAddr::new(gateway, DISCARD);
        socket
            .send_to(b"end of the capture", destination)
            .map_err(failed)?;
        Ok((source, destination))
    }

    /// Names of the far ends by address.
    pub fn names(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        let hosts = self.internet.hosts().iter();
        hosts.flat_map(|host| host.addresses.iter().map(|address| (*address, host.name())))
    }

    /// How many resources of the EHR hold a canary.
    pub fn records_holding(&self, canary: &str) -> usize {
        self.handle
            .ehr_resources()
            .iter()
            .filter(|resource| resource.to_string().contains(canary))
            .count()
    }
}
