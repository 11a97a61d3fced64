//! A controller on a socket of this machine, and clients of it that trust its authority alone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use mock_controller::{
    api::{
        Api, ApiConfig,
        server::{Limits, Server},
    },
    controller::{Controller, ControllerConfig},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Nothing here takes longer on a loaded machine; what does, hangs.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn deadline<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it ends")
}

pub(crate) struct World {
    pub(crate) controller: Arc<Controller>,
    pub(crate) api: Arc<Api>,
    pub(crate) server: Server,
    connector: TlsConnector,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default(), Duration::from_secs(3600)).await
    }

    pub(crate) async fn start_with(limits: Limits, session_lifetime: Duration) -> Self {
        let controller = Arc::new(Controller::new(ControllerConfig::default()));
        let config = ApiConfig {
            session_lifetime,
            ..ApiConfig::default()
        };
        let api = Arc::new(Api::new(Arc::clone(&controller), config));
        let names = ["localhost", "127.0.0.1"];
        let server = Server::start_with(Arc::clone(&api), "127.0.0.1:0", &names, limits);
        let server = server.await.unwrap();
        let connector = connector(server.ca_pem(), &[&rustls::version::TLS13]);
        Self {
            controller,
            api,
            server,
            connector,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The same controller and sessions behind a server with other limits.
    pub(crate) async fn restarted_with(self, limits: Limits) -> Self {
        let names = ["localhost", "127.0.0.1"];
        let server = Server::start_with(Arc::clone(&self.api), "127.0.0.1:0", &names, limits);
        let server = server.await.unwrap();
        let connector = connector(server.ca_pem(), &[&rustls::version::TLS13]);
        Self {
            server,
            connector,
            ..self
        }
    }

    /// Names of the accounts, as a fresh client lists them; none when the server cut the client before it was done.
    pub(crate) async fn account_names(&self) -> Option<Vec<Value>> {
        let stream = handshake(&self.connector, self.address()).await.ok()?;
        let mut client = Connection::over(stream).await;
        let login = "action=login&username=admin&password=containment".to_owned();
        let (_, login) = client.try_form("/v1/api", login).await.ok()?;
        let form = format!("CID={}&action=list_accounts", login["CID"].as_str()?);
        let (_, listed) = client.try_form("/v2/api", form).await.ok()?;
        let accounts = listed["results"]["account_list"].as_array()?;
        Some(
            accounts
                .iter()
                .map(|one| one["account_name"].clone())
                .collect(),
        )
    }

    /// TLS without HTTP.
    pub(crate) async fn stream(&self) -> TlsStream<TcpStream> {
        handshake(&self.connector, self.address()).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::over(self.stream().await).await
    }

    /// A connection that has logged in as scripts do.
    pub(crate) async fn client(&self) -> Connection {
        let mut connection = self.connect().await;
        connection.log_in().await;
        connection
    }
}

pub(crate) fn connector(
    ca_pem: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn handshake(
    connector: &TlsConnector,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    connector.connect(name, stream).await
}

/// One keep-alive connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    pub(crate) cid: String,
}

impl Connection {
    pub(crate) async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            cid: String::new(),
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<(StatusCode, Value)> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await?.to_bytes();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        Ok((status, body))
    }

    pub(crate) async fn form(&mut self, path: &str, form: String) -> (StatusCode, Value) {
        self.try_form(path, form).await.unwrap()
    }

    async fn try_form(&mut self, path: &str, form: String) -> hyper::Result<(StatusCode, Value)> {
        let request = Request::post(path)
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Full::from(form)).unwrap()).await
    }

    pub(crate) async fn log_in(&mut self) {
        let form = "action=login&username=admin&password=containment";
        let (_, body) = self.form("/v1/api", form.to_owned()).await;
        self.cid = body["CID"].as_str().unwrap().to_owned();
    }

    /// An action as a form; `results`, or the whole answer if it failed.
    pub(crate) async fn action(&mut self, form: &str) -> Result<Value, Value> {
        let form = format!("CID={}&{form}", self.cid);
        let (_, mut body) = self.form("/v2/api", form).await;
        if body["return"] == true {
            Ok(body["results"].take())
        } else {
            Err(body)
        }
    }

    /// An action as JSON.
    pub(crate) async fn json_action(&mut self, mut body: Value) -> (StatusCode, Value) {
        body["CID"] = json!(self.cid);
        self.raw_json("/v2/api", body.to_string()).await
    }

    pub(crate) async fn raw_json(&mut self, path: &str, body: String) -> (StatusCode, Value) {
        let request = Request::post(path)
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("cid {}", self.cid));
        let request = request.body(Full::from(body)).unwrap();
        self.send(request).await.unwrap()
    }
}
