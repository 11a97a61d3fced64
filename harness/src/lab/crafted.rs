//! Attempts that no process in a Pod can make, and attempts of the node itself.
//!
//! A Pod without CAP_NET_RAW sends TCP, UDP and ICMP echo and nothing else. That the network stops the rest as well is
//! shown with a packet that is put on the Pod's wire from outside; the evidence says so.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use etherparse::{IpNumber, Ipv4Header};
use fixtures::probe::{Command, Pace, ProbeReport, Reporter, Target, TlsArgs};
use jiff::Timestamp;

use super::reports::Reports;
use super::{Error, Lab};
use crate::evidence::Event;
use crate::judge::{Exchange, Protocol, Sent};

const TIME_TO_LIVE: u8 = 64;

impl Lab {
    /// Puts a packet of any IP protocol on the wire of the Pod that holds `source`, with the canary as its payload;
    /// false where this tier can't.
    ///
    /// # Errors
    /// When the ends are not IPv4.
    pub async fn send_as_pod(
        &self,
        source: IpAddr,
        destination: IpAddr,
        number: u8,
        canary: &str,
        label: &str,
    ) -> Result<bool, Error> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else {
            return Err(Error::Data("a crafted packet is IPv4".to_owned()));
        };
        let length = u16::try_from(canary.len()).unwrap_or(u16::MAX);
        let header = Ipv4Header::new(
            length,
            TIME_TO_LIVE,
            IpNumber(number),
            from.octets(),
            to.octets(),
        )
        .map_err(|error| Error::Data(error.to_string()))?;
        let mut packet = Vec::new();
        header
            .write(&mut packet)
            .map_err(|error| Error::Data(error.to_string()))?;
        packet.extend_from_slice(canary.as_bytes());
        self.recorder.record(Event::Note {
            text: format!(
                "{label}: put on the Pod's wire from outside, because a process without CAP_NET_RAW cannot send it"
            ),
        });
        self.recorder.record(Event::ProbeSent {
            attempt: label.to_owned(),
            canary: canary.to_owned(),
            sent: Sent {
                at: Timestamp::now(),
                protocol: Protocol::Other,
                exchange: Exchange::Raw,
                source: (source, 0).into(),
                destination: (destination, 0).into(),
                host: None,
                sni: None,
            },
        });
        Ok(self.cluster.send_as_pod(packet).await)
    }

    /// Makes a TLS request from the node itself, to a name of the simulated internet; false where this tier can't.
    ///
    /// # Errors
    /// When the name has no address or the request can't be made.
    pub async fn request_from_node(
        &self,
        host: &str,
        canary: &str,
        label: &str,
    ) -> Result<bool, Error> {
        let address = self
            .context
            .internet
            .host(host)
            .and_then(|host| host.addresses.first().copied())
            .ok_or_else(|| Error::Data(format!("scenarios/internet.yaml has no host {host:?}")))?;
        let timeout = self.context.deadlines.probe_result.as_millis();
        let probe = Command::Tls(TlsArgs {
            in_segments: false,
            in_records: false,
            target: Target {
                ipv6: false,
                host: Some(host.to_owned()),
                address: Some(address),
                port: 443,
                pace: Pace {
                    canary: Some(canary.to_owned()),
                    timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
                    count: 1,
                },
            },
            sni: None,
            no_sni: false,
            post: false,
            trust: None,
        });
        let reports = Mutex::new(Reports::new(self.recorder.clone(), label));
        let reporter: Reporter = Arc::new(move |report: ProbeReport| {
            if let Ok(line) = serde_json::to_string(&report) {
                let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                reports.line(&line);
            }
        });
        Ok(self.cluster.probe_from_node(probe, reporter).await?)
    }
}
