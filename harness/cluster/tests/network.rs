//! The network over real namespaces. Needs root or user namespaces, and /dev/net/tun; fails without.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::fabric::packet::Protocol;
use cluster::network::{Attachment, NODE_ADDRESS, Network, NetworkConfig};
use cluster::node_stage::DropReason;
use cluster::node_stage::policy::{Isolation, Peer, Peers, PodPolicy, PolicyDirection, PolicyTable, Ports, Rule};
use cluster::node_stage::service::{ServicePort, ServiceTable};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config, Gateway};
use mock_controller::policy::Snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const ALICE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Longer than any exchange here takes on a busy machine; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long silence must last to count as silence, once the packet is known to have been dropped.
const QUIET: Duration = Duration::from_millis(50);

fn config() -> NetworkConfig {
    let gateway = Gateway::new(Config::new(Ipv4Addr::new(203, 0, 113, 9)), Faults::default(), 1, Arc::new(Snapshot::deny_all()));
    NetworkConfig {
        internet_addresses: vec![INTERNET_HOST.into()],
        ..NetworkConfig::new(gateway)
    }
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddrV4::new(address, port).into()
}

/// An echo server in a pod's namespace, over TCP and UDP.
fn echo(pod: &Attachment, port: u16) {
    let listener = TcpListener::from_std(pod.namespace().tcp_listener(at(pod.address(), port)).unwrap()).unwrap();
    let datagrams = UdpSocket::from_std(pod.namespace().udp_socket(at(pod.address(), port)).unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(peer.ip().to_string().as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = datagrams.recv_from(&mut buffer).await {
            datagrams.send_to(&buffer[..length], peer).await.unwrap();
        }
    });
}

/// Connects and reads the address that the server sees.
async fn seen_by_server(stream: &mut TcpStream) -> String {
    let mut greeting = [0; 64];
    let length = timeout(DEADLINE, stream.read(&mut greeting)).await.unwrap().unwrap();
    String::from_utf8(greeting[..length].to_vec()).unwrap()
}

async fn connect(pod: &Attachment, to: SocketAddr) -> std::io::Result<TcpStream> {
    timeout(DEADLINE, pod.namespace().connect(to)).await.unwrap()
}

fn one_service(endpoints: Vec<SocketAddrV4>) -> ServiceTable {
    let port = |protocol| ServicePort {
        address: SERVICE,
        protocol,
        port: 80,
    };
    ServiceTable(BTreeMap::from([
        (port(Protocol::Tcp), endpoints.clone()),
        (port(Protocol::Udp), endpoints),
    ]))
}

#[tokio::test]
async fn pods_reach_each_other_and_their_node() {
    let network = Network::start(config()).unwrap();
    let (alice, bob) = (network.attach(ALICE).unwrap(), network.attach(BOB).unwrap());
    echo(&bob, 8080);
    let mut stream = connect(&alice, at(BOB, 8080)).await.unwrap();
    assert_eq!(seen_by_server(&mut stream).await, ALICE.to_string());
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let expected = sent.clone();
    let (mut reader, mut writer) = stream.into_split();
    let sender = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    timeout(DEADLINE, reader.read_to_end(&mut received)).await.unwrap().unwrap();
    sender.await.unwrap();
    assert!(received == expected, "the stream arrives unchanged");

    // The node reaches the pod, and the pod the node.
    let mut stream = timeout(DEADLINE, network.node().connect(at(BOB, 8080))).await.unwrap().unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());
    let listener = TcpListener::from_std(network.node().tcp_listener(at(NODE_ADDRESS, 6443)).unwrap()).unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), connect(&alice, at(NODE_ADDRESS, 6443)));
    connected.unwrap();
    assert_eq!(accepted.unwrap().1.ip(), ALICE);
    network.shutdown().await;
}

#[tokio::test]
async fn a_service_address_leads_to_its_endpoints() {
    let network = Network::start(config()).unwrap();
    let (alice, bob) = (network.attach(ALICE).unwrap(), network.attach(BOB).unwrap());
    echo(&bob, 8080);
    network.set_services(one_service(vec![SocketAddrV4::new(BOB, 8080)]));
    let mut stream = connect(&alice, at(SERVICE, 80)).await.unwrap();
    assert_eq!(seen_by_server(&mut stream).await, ALICE.to_string());

    let socket = UdpSocket::from_std(alice.namespace().udp_socket(at(ALICE, 0)).unwrap()).unwrap();
    socket.connect(at(SERVICE, 80)).await.unwrap();
    socket.send(b"ping").await.unwrap();
    let mut answer = [0; 16];
    let length = timeout(DEADLINE, socket.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..length], b"ping");

    // From the node, and from the endpoint itself (hairpin: masqueraded to the node's address).
    let mut stream = timeout(DEADLINE, network.node().connect(at(SERVICE, 80))).await.unwrap().unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());
    let mut stream = connect(&bob, at(SERVICE, 80)).await.unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());

    // No endpoints: refused at once, as kube-proxy does.
    network.set_services(one_service(Vec::new()));
    let refused = connect(&alice, at(SERVICE, 80)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // An ICMP error of an endpoint comes back as one of the Service.
    network.set_services(one_service(vec![SocketAddrV4::new(BOB, 9)]));
    socket.send(b"ping").await.unwrap();
    let refused = timeout(DEADLINE, socket.recv(&mut answer)).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    network.shutdown().await;
}

#[tokio::test]
async fn network_policy_denies_and_says_so() {
    let network = Network::start(config()).unwrap();
    let (alice, bob) = (network.attach(ALICE).unwrap(), network.attach(BOB).unwrap());
    echo(&bob, 8080);
    echo(&bob, 8081);
    let isolation = Isolation {
        policies: vec!["team/only-8080".into()],
        rules: vec![Rule {
            peers: Peers::Listed(vec![Peer::Pods(BTreeSet::from([ALICE]))]),
            ports: Ports::Listed(vec![(Protocol::Tcp, 8080..=8080)]),
        }],
    };
    let policy = PodPolicy {
        ingress: Some(isolation),
        egress: None,
    };
    network.set_network_policies(PolicyTable(BTreeMap::from([(BOB, policy)])));

    let mut allowed = connect(&alice, at(BOB, 8080)).await.unwrap();
    assert_eq!(seen_by_server(&mut allowed).await, ALICE.to_string());
    let reason = DropReason::NetworkPolicy {
        direction: PolicyDirection::Ingress,
        policies: vec!["team/only-8080".into()],
    };
    let denied = tokio::spawn({
        let namespace = alice.namespace().clone();
        async move { namespace.connect(at(BOB, 8081)).await }
    });
    let drop = loop {
        let drops = network.drops().await;
        if let Some(drop) = drops.recent.front() {
            break drop.clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(drop.reason, reason);
    assert_eq!(drop.flow.unwrap().destination_port, 8081);
    assert!(timeout(QUIET, denied).await.is_err(), "a denial is silent");
    // The node reaches its pods whatever policies say.
    let mut stream = timeout(DEADLINE, network.node().connect(at(BOB, 8081))).await.unwrap().unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures: cargo test -p cluster --test network -- --ignored --nocapture"]
async fn figures() {
    let start = Instant::now();
    let network = Network::start(config()).unwrap();
    println!("network started in {:?}", start.elapsed());
    let start = Instant::now();
    let alice = network.attach(ALICE).unwrap();
    println!("pod attached in {:?}", start.elapsed());
    let bob = network.attach(BOB).unwrap();
    echo(&bob, 8080);
    let start = Instant::now();
    let pods: Vec<_> = (0..100)
        .map(|n| network.attach(Ipv4Addr::new(10, 244, 1, n)).unwrap())
        .collect();
    println!("100 more pods in {:?}", start.elapsed());
    drop(pods);

    let mut stream = connect(&alice, at(BOB, 8080)).await.unwrap();
    seen_by_server(&mut stream).await;
    let start = Instant::now();
    let mut byte = [0];
    for _ in 0..1000 {
        stream.write_all(&byte).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
    }
    println!("round trip over TCP: {:?}", start.elapsed() / 1000);

    let listener = TcpListener::from_std(bob.namespace().tcp_listener(at(BOB, 9000)).unwrap()).unwrap();
    let (accepted, stream) = tokio::join!(listener.accept(), connect(&alice, at(BOB, 9000)));
    let (mut sink, mut source) = (accepted.unwrap().0, stream.unwrap());
    const VOLUME: usize = 1 << 30;
    let sender = tokio::spawn(async move {
        let chunk = vec![0; 256 << 10];
        for _ in 0..VOLUME / chunk.len() {
            source.write_all(&chunk).await.unwrap();
        }
    });
    let start = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    while sink.read(&mut buffer).await.unwrap() > 0 {}
    sender.await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("pod to pod: {:.2} Gbit/s", VOLUME as f64 * 8.0 / seconds / 1e9);
    network.shutdown().await;
}
