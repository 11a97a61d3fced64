//! Where gateways send their log: up to ten remote syslog servers (`reference/aviatrix-controller-api.md` section 6.1).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Error, Store};

/// The index that is reserved for CoPilot, and the highest one.
pub const COPILOT_INDEX: u8 = 9;

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// Each record ends with a newline.
    Tcp,
    /// The same within TLS, with the certificates of the profile.
    Tls,
}

/// One remote syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSyslog {
    /// 0 to 9; 9 is reserved for CoPilot.
    pub index: u8,
    pub name: String,
    /// Host name or address.
    pub server: String,
    pub port: u16,
    /// As it was sent, because clients compare it: `UDP`, `TCP` or `TLS`.
    pub protocol: String,
    pub transport: Transport,
    /// The vendor's template text; empty for the default format, the only one that is rendered.
    pub template: String,
    /// Gateways that do not send to it.
    pub excluded_gateways: Vec<String>,
    /// PEM, where given.
    pub ca_certificate: Option<String>,
    pub public_certificate: Option<String>,
    pub private_key: Option<String>,
}

/// The configured ones, by index.
pub type RemoteSyslogs = BTreeMap<u8, RemoteSyslog>;

impl RemoteSyslog {
    /// `results` of `get_remote_syslog_logging_status` for a server that is configured. `port` and `index` are
    /// strings. Which transport `protocol` and the certificates made is not told; `notls` tells that there are none.
    pub fn to_wire(&self) -> Value {
        json!({
            "server": self.server,
            "port": self.port.to_string(),
            "protocol": self.protocol,
            "index": self.index.to_string(),
            "name": self.name,
            "template": self.template,
            "excluded_gateway": self.excluded_gateways,
            "status": "enabled",
            "notls": self.transport != Transport::Tls,
        })
    }

    /// `results` for an index that has no server.
    pub fn disabled() -> Value {
        json!({"status": "disabled"})
    }
}

impl Store {
    /// Where gateways send their log.
    pub fn remote_syslog(&self) -> &RemoteSyslogs {
        &self.remote_syslog
    }

    /// Sends the log to one server more.
    ///
    /// # Errors
    /// When its index has a server.
    pub fn enable_remote_syslog(&mut self, server: RemoteSyslog) -> Result<(), Error> {
        if self.remote_syslog.contains_key(&server.index) {
            return Err(Error::SyslogEnabled(server.index));
        }
        self.remote_syslog.insert(server.index, server);
        Ok(())
    }

    pub fn disable_remote_syslog(&mut self, index: u8) {
        self.remote_syslog.remove(&index);
    }
}
