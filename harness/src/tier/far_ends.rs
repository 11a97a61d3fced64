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

    /// How many resources of the EHR hold a canary.
    pub fn records_holding(&self, canary: &str) -> usize {
        self.handle
            .ehr_resources()
            .iter()
            .filter(|resource| resource.to_string().contains(canary))
            .count()
    }
}
