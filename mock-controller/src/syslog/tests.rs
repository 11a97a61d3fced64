//! Against bare sockets: what leaves, where to, and what happens when nobody takes it.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rstest::rstest;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::controller::{Controller, ControllerConfig};
use crate::policy::{Action, FiveTuple, Logging, Protocol, Verdict};
use crate::record::L4Record;
use crate::store::syslog::Transport;
use crate::time::Now;

/// Far beyond what a loaded machine takes; reached only by a defect.
const PATIENCE: Duration = Duration::from_secs(60);

fn gateway() -> GatewayIdentity {
    GatewayIdentity {
        name: "mcp-spoke".into(),
        public_ip: [203, 0, 113, 9].into(),
    }
}

fn record(number: u16) -> LogRecord {
    let flow = FiveTuple {
        protocol: Protocol::Udp,
        source: [10, 10, 1, 77].into(),
        source_port: number,
        destination: [198, 51, 100, 20].into(),
        destination_port: 53,
    };
    let verdict = Verdict {
        action: Action::Deny,
        decided_by: Uuid::from_u128(1),
        rule: "deny-all-external".into(),
        logging: Logging::Start,
        enforced: true,
    };
    let now = Now {
        monotonic: Duration::ZERO,
        wall: "2026-06-02T10:15:04Z".parse().unwrap(),
    };
    L4Record::start(now, flow, &verdict, 60, 1).into()
}

fn line(number: u16) -> String {
    record(number).to_syslog_line(&gateway())
}

fn profile(index: u8, port: u16, transport: Transport) -> RemoteSyslog {
    RemoteSyslog {
        index,
        name: format!("Remote_{index}"),
        server: Ipv4Addr::LOCALHOST.to_string(),
        port,
        protocol: format!("{transport:?}").to_uppercase(),
        transport,
        template: String::new(),
        excluded_gateways: Vec::new(),
        ca_certificate: None,
        public_certificate: None,
        private_key: None,
    }
}

/// A running gateway and the controller that tells it where its log goes.
struct Running {
    controller: Arc<Controller>,
    records: mpsc::UnboundedSender<LogRecord>,
    counters: Counters,
    end: JoinHandle<Counts>,
}

impl Running {
    fn start(servers: impl IntoIterator<Item = RemoteSyslog>, limits: Limits) -> Self {
        Self::faulty(servers, limits, &Faults::default())
    }

    fn faulty(
        servers: impl IntoIterator<Item = RemoteSyslog>,
        limits: Limits,
        faults: &Faults,
    ) -> Self {
        let controller = Arc::new(Controller::new(ControllerConfig::default()));
        for server in servers {
            controller
                .configure(|store| store.enable_remote_syslog(server))
                .unwrap();
        }
        let forwarder = Forwarder::new(gateway(), controller.remote_syslog(), limits, faults);
        let counters = forwarder.counters();
        let (records, receiver) = mpsc::unbounded_channel();
        let end = tokio::spawn(forwarder.run(receiver));
        Self {
            controller,
            records,
            counters,
            end,
        }
    }

    fn log(&self, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.records.send(record(number)).unwrap();
        }
    }

    async fn end(self) -> Counts {
        drop(self.records);
        tokio::time::timeout(PATIENCE, self.end)
            .await
            .expect("the end in time")
            .unwrap()
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    BufReader::new(accepted.expect("a connection in time").unwrap().0)
}

async fn next(stream: &mut BufReader<TcpStream>) -> String {
    let mut text = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut text));
    read.await.expect("a line in time").unwrap();
    text
}

/// Everything up to the orderly end.
async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut text = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text));
    read.await.expect("the end in time").unwrap();
    text
}

fn lines(numbers: impl IntoIterator<Item = u16>) -> String {
    numbers
        .into_iter()
        .map(|number| line(number) + "\n")
        .collect()
}

#[tokio::test]
async fn a_record_is_a_line_over_tcp_and_leaves_at_once() {
    let (listener, port) = listen().await;
    let gateway = Running::start([profile(9, port, Transport::Tcp)], Limits::default());
    let mut stream = accept(&listener).await;
    for number in 0..3 {
        gateway.log([number]);
        assert_eq!(next(&mut stream).await, line(number) + "\n");
    }
    let ended = tokio::spawn(gateway.end());
    assert_eq!(rest(stream).await, "");
    assert_eq!(ended.await.unwrap().sent, 3);
}

#[tokio::test]
async fn a_record_is_a_datagram_without_a_line_end() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let gateway = Running::start([profile(9, port, Transport::Udp)], Limits::default());
    gateway.log(0..2);
    assert_eq!(gateway.end().await.sent, 2);
    let mut buffer = [0; 2048];
    for number in 0..2 {
        let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer));
        let length = received.await.unwrap().unwrap();
        assert_eq!(buffer[..length], *line(number).as_bytes());
    }
}

#[tokio::test]
async fn every_server_gets_every_record_but_the_one_that_excludes_the_gateway() {
    let (first, first_port) = listen().await;
    let (second, second_port) = listen().await;
    let (other, other_port) = listen().await;
    let excluding = RemoteSyslog {
        excluded_gateways: vec!["other-spoke".into(), gateway().name],
        ..profile(2, other_port, Transport::Tcp)
    };
    let including = RemoteSyslog {
        excluded_gateways: vec!["other-spoke".into()],
        ..profile(9, second_port, Transport::Tcp)
    };
    let servers = [profile(0, first_port, Transport::Tcp), including, excluding];
    let gateway = Running::start(servers, Limits::default());
    gateway.log(0..5);
    let ended = tokio::spawn(gateway.end());
    for listener in [first, second] {
        assert_eq!(rest(accept(&listener).await).await, lines(0..5));
    }
    let counts = ended.await.unwrap();
    assert_eq!((counts.sent, counts.dropped), (10, 0));
    let other = other.into_std().unwrap();
    let error = other.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_server_can_come_and_go_and_what_no_server_was_there_for_is_counted() {
    let gateway = Running::start([], Limits::default());
    gateway.log(0..2);
    let counters = gateway.counters.clone();
    while counters.counts().nowhere < 2 {
        tokio::task::yield_now().await;
    }
    let (listener, port) = listen().await;
    let server = profile(9, port, Transport::Tcp);
    gateway
        .controller
        .configure(|store| store.enable_remote_syslog(server))
        .unwrap();
    gateway.log(2..4);
    let mut stream = accept(&listener).await;
    assert_eq!(next(&mut stream).await, lines([2]));
    assert_eq!(next(&mut stream).await, lines([3]));
    gateway
        .controller
        .configure(|store| store.disable_remote_syslog(9));
    gateway.log(4..6);
    assert_eq!(rest(stream).await, "");
    let expected = Counts {
        sent: 2,
        dropped: 0,
        nowhere: 4,
    };
    assert_eq!(gateway.end().await, expected);
}

#[tokio::test]
async fn what_was_logged_before_a_server_was_disabled_still_gets_there() {
    let (listener, port) = listen().await;
    let gateway = Running::start([profile(9, port, Transport::Tcp)], Limits::default());
    let mut stream = accept(&listener).await;
    gateway.log(0..100);
    assert_eq!(next(&mut stream).await, lines([0]));
    gateway
        .controller
        .configure(|store| store.disable_remote_syslog(9));
    assert_eq!(rest(stream).await, lines(1..100));
    assert_eq!(gateway.end().await.dropped, 0);
}

#[tokio::test]
async fn a_server_that_was_down_gets_what_it_missed_in_order() {
    let (listener, port) = listen().await;
    let gateway = Running::start([profile(9, port, Transport::Tcp)], Limits::default());
    let mut stream = accept(&listener).await;
    gateway.log([0]);
    assert_eq!(next(&mut stream).await, lines([0]));
    drop((stream, listener));
    gateway.log(1..50);
    let again = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let mut stream = accept(&again).await;
    for number in 1..50 {
        assert_eq!(next(&mut stream).await, lines([number]));
    }
    let ended = tokio::spawn(gateway.end());
    assert_eq!(rest(stream).await, "");
    let counts = ended.await.unwrap();
    assert_eq!((counts.sent, counts.dropped), (50, 0));
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_counts() {
    let (listener, port) = listen().await;
    drop(listener);
    let limits = Limits {
        queue: 3,
        ..Limits::default()
    };
    let gateway = Running::start([profile(9, port, Transport::Tcp)], limits);
    gateway.log(0..10);
    let counters = gateway.counters.clone();
    while counters.counts().dropped < 7 {
        tokio::task::yield_now().await;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let stream = accept(&listener).await;
    let ended = tokio::spawn(gateway.end());
    assert_eq!(rest(stream).await, lines(0..3));
    let counts = ended.await.unwrap();
    assert_eq!((counts.sent, counts.dropped), (3, 7));
}

#[tokio::test]
async fn a_server_that_stays_away_does_not_hold_the_end_up() {
    let (listener, port) = listen().await;
    drop(listener);
    let limits = Limits {
        flush: Duration::from_millis(50),
        ..Limits::default()
    };
    let gateway = Running::start([profile(9, port, Transport::Tcp)], limits);
    gateway.log(0..4);
    let counters = gateway.counters.clone();
    let counts = gateway.end().await;
    assert_eq!((counts.sent, counts.dropped), (0, 4));
    assert_eq!((counters.dropped_for(8), counters.dropped_for(9)), (0, 4));
}

#[tokio::test]
async fn a_server_that_never_reads_does_not_hold_the_end_up() {
    let (listener, port) = listen().await;
    let limits = Limits {
        flush: Duration::from_millis(50),
        ..Limits::default()
    };
    let gateway = Running::start([profile(9, port, Transport::Tcp)], limits);
    let _held = accept(&listener).await;
    // More than any socket buffers hold.
    for _ in 0..4 {
        gateway.log(0..16_000);
    }
    let counts = gateway.end().await;
    assert!(counts.dropped > 0, "{counts:?}");
    assert_eq!(counts.sent + counts.dropped, 64_000);
}

#[rstest]
#[case::no_authority(None)]
#[case::no_pem(Some("no certificate"))]
#[tokio::test]
async fn a_profile_that_cannot_be_used_sends_nothing(#[case] authority: Option<&str>) {
    let (listener, port) = listen().await;
    let profile = RemoteSyslog {
        ca_certificate: authority.map(str::to_owned),
        ..profile(9, port, Transport::Tls)
    };
    let gateway = Running::start([profile], Limits::default());
    gateway.log(0..3);
    let counts = gateway.end().await;
    assert_eq!((counts.sent, counts.dropped), (0, 3));
    let listener = listener.into_std().unwrap();
    assert!(listener.accept().is_err());
}

/// `x` is an identity that is right but for what the case takes away.
#[rstest]
#[case::right(|_: &mut RemoteSyslog| {}, "")]
#[case::no_authority(|x: &mut RemoteSyslog| x.ca_certificate = None, "no CA certificate")]
#[case::no_pem(|x: &mut RemoteSyslog| x.ca_certificate = Some("nonsense".to_owned()), "ca_certificate holds no PEM certificate")]
#[case::no_certificate(|x: &mut RemoteSyslog| x.public_certificate = Some(String::new()), "public_certificate holds no PEM certificate")]
#[case::half_an_identity(|x: &mut RemoteSyslog| x.private_key = None, "without a private key")]
#[case::the_other_half(|x: &mut RemoteSyslog| x.public_certificate = None, "without a certificate")]
#[case::no_key(|x: &mut RemoteSyslog| x.private_key = Some("nonsense".to_owned()), "private_key holds no PEM private key")]
#[case::another_key(|x: &mut RemoteSyslog| x.private_key = Some(identity().key), "do not fit")]
fn what_is_wrong_with_certificates_is_said(
    #[case] change: fn(&mut RemoteSyslog),
    #[case] says: &str,
) {
    let own = identity();
    let mut profile = RemoteSyslog {
        ca_certificate: Some(own.authority),
        public_certificate: Some(own.certificate),
        private_key: Some(own.key),
        ..profile(9, 6514, Transport::Tls)
    };
    change(&mut profile);
    let result = check_certificates(&profile);
    assert_eq!(result.is_ok(), says.is_empty(), "{result:?}");
    let said = result.map_or_else(|error| error.to_string(), |()| String::new());
    assert!(said.contains(says), "{said}");
}

/// A CA, and what it issued to `127.0.0.1` for either side.
struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

fn identity() -> Identity {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().unwrap();
    Identity {
        authority,
        certificate: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// A server that takes clients of `clients` alone, where that is given.
fn server(own: &Identity, clients: Option<&Identity>) -> tokio_rustls::TlsAcceptor {
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
    };
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(certificates(&clients.authority).remove(0))
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(certificates(&own.certificate), key)
        .unwrap();
    Arc::new(config).into()
}

#[rstest]
#[case::ca_alone(false)]
#[case::all_three(true)]
#[tokio::test]
async fn over_tls_the_ca_decides_and_the_client_shows_its_certificate(#[case] mutual: bool) {
    let (listener, port) = listen().await;
    let (own, client) = (identity(), identity());
    let acceptor = server(&own, mutual.then_some(&client));
    let profile = RemoteSyslog {
        ca_certificate: Some(own.authority),
        public_certificate: mutual.then_some(client.certificate),
        private_key: mutual.then_some(client.key),
        ..profile(9, port, Transport::Tls)
    };
    let gateway = Running::start([profile], Limits::default());
    gateway.log(0..3);
    let ended = tokio::spawn(gateway.end());
    let stream = accept(&listener).await.into_inner();
    let stream = acceptor.accept(stream).await.unwrap();
    // An end without close_notify would be an error.
    assert_eq!(rest(stream).await, lines(0..3));
    assert_eq!(ended.await.unwrap().sent, 3);
}

#[tokio::test]
async fn a_server_of_another_ca_gets_no_byte_in_clear() {
    let (listener, port) = listen().await;
    let (own, other) = (identity(), identity());
    let acceptor = server(&own, None);
    let profile = RemoteSyslog {
        ca_certificate: Some(other.authority),
        ..profile(9, port, Transport::Tls)
    };
    let limits = Limits {
        flush: Duration::from_millis(50),
        ..Limits::default()
    };
    let gateway = Running::start([profile], limits);
    gateway.log(0..3);
    let stream = accept(&listener).await.into_inner();
    let error = acceptor.accept(stream).await.unwrap_err().to_string();
    assert!(error.contains("received fatal alert"), "{error}");
    let counts = gateway.end().await;
    assert_eq!((counts.sent, counts.dropped), (0, 3));
}

#[tokio::test]
async fn the_seeded_fault_loses_every_record() {
    let (listener, port) = listen().await;
    let server = profile(9, port, Transport::Tcp);
    let faults = Fault::SyslogLost.into();
    let gateway = Running::faulty([server], Limits::default(), &faults);
    gateway.log(0..3);
    let ended = tokio::spawn(gateway.end());
    assert_eq!(rest(accept(&listener).await).await, "");
    assert_eq!(ended.await.unwrap(), Counts::default());
}

#[test]
fn a_change_elsewhere_in_the_store_wakes_no_gateway() {
    let controller = Controller::new(ControllerConfig::default());
    let mut configuration = controller.remote_syslog();
    controller.configure(|store| store.set_feature("k8s", false));
    assert!(!configuration.has_changed().unwrap());
    let server = profile(9, 5000, Transport::Udp);
    controller
        .configure(|store| store.enable_remote_syslog(server.clone()))
        .unwrap();
    assert_eq!(configuration.borrow_and_update()[&9], server);
}
