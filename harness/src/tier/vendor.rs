//! The fake firewall's controller as this process runs it: its engine, its API over HTTPS, and a session with it.
//!
//! Everything the harness configures goes through the session, as it would on a real controller.

use std::net::SocketAddr;
use std::sync::Arc;

use mock_controller::api::server::Server;
use mock_controller::api::{Api, ApiConfig};
use mock_controller::controller::{Controller, ControllerConfig};

use super::Error;
use super::vendor_api::{Account, VendorApi};

/// A controller whose API answers on a loopback port.
pub(super) struct FakeController {
    pub(super) controller: Arc<Controller>,
    api: Arc<Api>,
    server: Server,
    config: ApiConfig,
}

impl FakeController {
    /// Starts the API; [`Controller::run`] is the caller's to start.
    pub(super) async fn start(config: ControllerConfig) -> Result<Self, Error> {
        let controller = Arc::new(Controller::new(config));
        let config = ApiConfig::default();
        let api = Arc::new(Api::new(Arc::clone(&controller), config.clone()));
        let server = Server::start(Arc::clone(&api), "127.0.0.1:0", &["127.0.0.1"])
            .await
            .map_err(|error| Error::Cluster(error.to_string()))?;
        Ok(Self {
            controller,
            api,
            server,
            config,
        })
    }

    /// A session of its own.
    pub(super) async fn log_in(&self) -> Result<VendorApi, Error> {
        let account = Account {
            base: format!("https://{}", self.address()),
            username: self.config.credentials.username.clone(),
            password: self.config.credentials.password.clone(),
        };
        let trust = fixtures::tls::client_config_trusting(self.server.ca_pem())
            .map_err(|error| Error::Cluster(error.to_string()))?;
        Ok(VendorApi::login(account, trust).await?)
    }

    /// Where the API answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Restarts the controller: sessions are gone, clusters are watched anew.
    pub(super) fn restart(&self) {
        self.api.restart();
    }
}
