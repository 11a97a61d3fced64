//! The network over real namespaces. Needs root or user namespaces, and /dev/net/tun; fails without.
//!
//! Longer than 600 lines because every test wires the same few helpers to one real network.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::dns::{DnsServer, Upstream, Zone};
use cluster::fabric::packet::Protocol;
use cluster::netns::Families;
use cluster::network::{
    Attachment, DNS_ADDRESS, NODE_ADDRESS, Network, NetworkConfig, VPC_RESOLVER_ADDRESS,
};
use cluster::node_stage::DropReason;
use cluster::node_stage::policy::{
    Isolation, Peer, Peers, PodPolicy, PolicyDirection, PolicyTable, Ports, Rule,
};
use cluster::node_stage::service::{ServicePort, ServiceTable};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config, Gateway};
use mock_controller::policy::{
    Action, DefaultAction, FiveTuple, Inventory, Logging, Policy, Snapshot, Switches,
};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const ALICE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const INTERNET_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const INTERNET_HOST_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10);
/// Longer than any exchange here takes on a busy machine; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long silence must last to count as silence, once the packet is known to have been dropped.
const QUIET: Duration = Duration::from_millis(50);

/// A gateway whose only rule is its default action.
fn policy(action: Action) -> Arc<Snapshot> {
    let default_action = DefaultAction {
        action,
        logging: Logging::Start,
    };
    let (inventory, switches) = (Inventory::default(), Switches::default());
    Arc::new(Snapshot::compile(
        1,
        &Policy::new(default_action),
        &inventory,
        &switches,
    ))
}

fn config() -> NetworkConfig {
    let gateway = Gateway::new(
        Config::new(GATEWAY),
        Faults::default(),
        1,
        policy(Action::Deny),
    );
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
    let listener = TcpListener::from_std(
        pod.namespace()
            .tcp_listener(at(pod.address(), port))
            .unwrap(),
    )
    .unwrap();
    let datagrams =
        UdpSocket::from_std(pod.namespace().udp_socket(at(pod.address(), port)).unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            tokio::spawn(async move {
                stream
                    .write_all(peer.ip().to_string().as_bytes())
                    .await
                    .unwrap();
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
    let length = timeout(DEADLINE, stream.read(&mut greeting))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(greeting[..length].to_vec()).unwrap()
}

async fn connect(pod: &Attachment, to: SocketAddr) -> std::io::Result<TcpStream> {
    timeout(DEADLINE, pod.namespace().connect(to))
        .await
        .unwrap()
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

/// What a dual-stack pod sends, without a policy of the gateway that could stop it.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_reaches_the_internet_through_the_gateway() {
    let mut config = NetworkConfig {
        families: Families::DualStack,
        ..config()
    };
    config.internet_addresses.push(INTERNET_HOST_IPV6.into());
    let network = Network::start(config).unwrap();
    let mut records = network.records().unwrap();
    let (alice, bob) = (network.attach(ALICE).unwrap(), network.attach(BOB).unwrap());
    let [from, neighbour] = [ALICE, BOB].map(|pod| network.pod_ipv6(pod).unwrap());
    let end = |address: Ipv6Addr, port| SocketAddr::new(address.into(), port);
    let listen = |listener: std::io::Result<std::net::TcpListener>| {
        let listener = TcpListener::from_std(listener.unwrap()).unwrap();
        tokio::spawn(async move {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let seen = peer.ip().to_string();
            stream.write_all(seen.as_bytes()).await.unwrap();
        })
    };
    listen(bob.namespace().tcp_listener(end(neighbour, 8080)));
    let mut between_pods = connect(&alice, end(neighbour, 8080)).await.unwrap();
    assert_eq!(seen_by_server(&mut between_pods).await, from.to_string());

    let target = end(INTERNET_HOST_IPV6, 22);
    listen(network.internet().tcp_listener(target));
    let refused = timeout(QUIET, alice.namespace().connect(target)).await;
    assert!(refused.is_err(), "denied, and silent");
    let denied = timeout(DEADLINE, records.recv()).await.unwrap().unwrap();
    assert_eq!(denied.action(), Action::Deny);
    assert_eq!(denied.flow().source, from);
    assert_eq!(denied.flow().destination, INTERNET_HOST_IPV6);

    network.gateway_link().push(policy(Action::Permit)).await;
    let mut passed = connect(&alice, target).await.unwrap();
    assert_eq!(seen_by_server(&mut passed).await, from.to_string());
    network.shutdown().await;
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
    timeout(DEADLINE, reader.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    sender.await.unwrap();
    assert!(received == expected, "the stream arrives unchanged");

    // The node reaches the pod, and the pod the node.
    let mut stream = timeout(DEADLINE, network.node().connect(at(BOB, 8080)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());
    let listener =
        TcpListener::from_std(network.node().tcp_listener(at(NODE_ADDRESS, 6443)).unwrap())
            .unwrap();
    let (accepted, connected) =
        tokio::join!(listener.accept(), connect(&alice, at(NODE_ADDRESS, 6443)));
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
    let length = timeout(DEADLINE, socket.recv(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer[..length], b"ping");

    // From the node, and from the endpoint itself (hairpin: masqueraded to the node's address).
    let mut stream = timeout(DEADLINE, network.node().connect(at(SERVICE, 80)))
        .await
        .unwrap()
        .unwrap();
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
    let refused = timeout(DEADLINE, socket.recv(&mut answer))
        .await
        .unwrap()
        .unwrap_err();
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
            peers: Peers::Listed(vec![Peer::Pods(BTreeSet::from([ALICE.into()]))]),
            ports: Ports::Listed(vec![(Protocol::Tcp, 8080..=8080)]),
        }],
    };
    let policy = PodPolicy {
        ingress: Some(isolation),
        egress: None,
    };
    network.set_network_policies(PolicyTable(BTreeMap::from([(BOB.into(), policy)])));

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
    let first_drop = async {
        loop {
            if let Some(drop) = network.drops().await.recent.front() {
                return drop.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let drop = timeout(DEADLINE, first_drop).await.unwrap();
    assert_eq!(drop.reason, reason);
    assert_eq!(drop.flow.unwrap().destination_port, 8081);
    assert!(timeout(QUIET, denied).await.is_err(), "a denial is silent");
    // The node reaches its pods whatever policies say.
    let mut stream = timeout(DEADLINE, network.node().connect(at(BOB, 8081)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen_by_server(&mut stream).await, NODE_ADDRESS.to_string());
    network.shutdown().await;
}

/// The packets of a capture: direction (1 inbound, 2 outbound), source, destination.
fn packets(path: &Path) -> Vec<(u32, Ipv4Addr, Ipv4Addr)> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            let [EnhancedPacketOption::Flags(direction)] = packet.options[..] else {
                panic!("one option")
            };
            let address =
                |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet.data[at..at + 4]).unwrap());
            packets.push((direction, address(12), address(16)));
        }
    }
    packets
}

/// A listener of the internet that answers with the address it sees and closes.
fn internet_listener(network: &Network, port: u16) {
    let listener = network
        .internet()
        .tcp_listener(at(INTERNET_HOST, port))
        .unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let _ = stream.write_all(peer.ip().to_string().as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn a_denied_flow_leaves_a_record_and_no_packet_outside() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::start(NetworkConfig {
        capture_dir: Some(folder.path().into()),
        ..config()
    })
    .unwrap();
    let mut records = network.records().unwrap();
    assert!(network.records().is_none(), "there is one receiver");
    let alice = network.attach(ALICE).unwrap();
    internet_listener(&network, 22);
    let denied = tokio::spawn({
        let namespace = alice.namespace().clone();
        async move { namespace.connect(at(INTERNET_HOST, 22)).await }
    });
    let record = timeout(DEADLINE, records.recv()).await.unwrap().unwrap();
    assert_eq!(
        (record.action(), record.flow().source),
        (Action::Deny, ALICE.into())
    );
    assert_eq!(network.outside_source(*record.flow()).await, None);
    assert!(timeout(QUIET, denied).await.is_err(), "a denial is silent");

    let status = network.flush_captures().await;
    assert_eq!(
        (
            status.pod_side.skipped,
            status.outside.skipped,
            status.outside.written
        ),
        (0, 0, 0)
    );
    assert_eq!(packets(&folder.path().join("outside.pcapng")), []);
    let sent = packets(&folder.path().join("pod-side.pcapng"));
    assert!(
        !sent.is_empty()
            && sent
                .iter()
                .all(|packet| *packet == (2, ALICE, INTERNET_HOST))
    );
    network.shutdown().await;
}

#[tokio::test]
async fn a_permit_opens_the_way_out_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::start(NetworkConfig {
        capture_dir: Some(folder.path().into()),
        ..config()
    })
    .unwrap();
    let alice = network.attach(ALICE).unwrap();
    internet_listener(&network, 22);
    network.gateway_link().push(policy(Action::Permit)).await;
    let mut stream = connect(&alice, at(INTERNET_HOST, 22)).await.unwrap();
    let local = stream.local_addr().unwrap();
    assert_eq!(seen_by_server(&mut stream).await, GATEWAY.to_string());
    let flow = FiveTuple {
        protocol: mock_controller::policy::Protocol::Tcp,
        source: local.ip(),
        source_port: local.port(),
        destination: INTERNET_HOST.into(),
        destination_port: 22,
    };
    assert_eq!(network.outside_source(flow).await.unwrap().ip(), GATEWAY);

    network.flush_captures().await;
    let outside = packets(&folder.path().join("outside.pcapng"));
    assert_eq!(
        outside[..2],
        [(2, GATEWAY, INTERNET_HOST), (1, INTERNET_HOST, GATEWAY)]
    );
    let inside = packets(&folder.path().join("pod-side.pcapng"));
    assert_eq!(
        inside[..2],
        [(2, ALICE, INTERNET_HOST), (1, INTERNET_HOST, ALICE)]
    );
    network.shutdown().await;
}

#[tokio::test]
async fn masquerade_shows_the_gateway_the_node() {
    let network = Network::start(config()).unwrap();
    network.set_masquerade(true);
    let mut records = network.records().unwrap();
    let alice = network.attach(ALICE).unwrap();
    internet_listener(&network, 22);
    let denied = tokio::spawn({
        let namespace = alice.namespace().clone();
        async move { namespace.connect(at(INTERNET_HOST, 22)).await }
    });
    let record = timeout(DEADLINE, records.recv()).await.unwrap().unwrap();
    assert_eq!(record.flow().source, NODE_ADDRESS);
    denied.abort();
    network.gateway_link().push(policy(Action::Permit)).await;
    let mut stream = connect(&alice, at(INTERNET_HOST, 22)).await.unwrap();
    assert_eq!(seen_by_server(&mut stream).await, GATEWAY.to_string());
    network.shutdown().await;
}

#[tokio::test]
async fn names_are_answered_in_the_cluster_and_beyond() {
    let network = Network::start(config()).unwrap();
    let alice = network.attach(ALICE).unwrap();
    let (log, mut logged) = tokio::sync::mpsc::unbounded_channel();
    let upstream: Upstream = Arc::new(|query| {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer
    });
    let dns = DnsServer::new(upstream, move |query| log.send(query).unwrap());
    let cancel = tokio_util::sync::CancellationToken::new();
    dns.start(network.node(), &cancel).unwrap();
    let mut zone = Zone::default();
    zone.entry("web.team.svc").addresses.insert(SERVICE);
    dns.set_zone(zone);
    let resolver = Ipv4Addr::new(10, 96, 0, 10);
    let port = |protocol| ServicePort {
        address: resolver,
        protocol,
        port: 53,
    };
    let endpoints = vec![SocketAddrV4::new(DNS_ADDRESS, 53)];
    network.set_services(ServiceTable(BTreeMap::from([
        (port(Protocol::Udp), endpoints.clone()),
        (port(Protocol::Tcp), endpoints),
    ])));

    let socket = UdpSocket::from_std(alice.namespace().udp_socket(at(ALICE, 0)).unwrap()).unwrap();
    socket.connect(at(resolver, 53)).await.unwrap();
    let mut answer = [0; 512];
    socket
        .send(&query("web.team.svc.cluster.local."))
        .await
        .unwrap();
    let length = timeout(DEADLINE, socket.recv(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer[..length].ends_with(&SERVICE.octets()));
    socket.send(&query("ehr.example.")).await.unwrap();
    timeout(DEADLINE, socket.recv(&mut answer))
        .await
        .unwrap()
        .unwrap();

    let mut stream = connect(&alice, at(resolver, 53)).await.unwrap();
    let question = query("web.team.svc.cluster.local.");
    stream.write_u16(question.len() as u16).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let length = timeout(DEADLINE, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; usize::from(length)];
    timeout(DEADLINE, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.ends_with(&SERVICE.octets()));

    // The resolver of the VPC is there for pods that ask it themselves.
    socket.connect(at(VPC_RESOLVER_ADDRESS, 53)).await.unwrap();
    socket.send(&query("ehr.example.")).await.unwrap();
    timeout(DEADLINE, socket.recv(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let mut lines = Vec::new();
    while let Ok(entry) = logged.try_recv() {
        assert_eq!(entry.client.ip(), ALICE);
        lines.push(format!(
            "{:?} {:?} {} {} {}",
            entry.resolver, entry.transport, entry.record_type, entry.name, entry.forwarded
        ));
    }
    assert_eq!(
        lines,
        [
            "Cluster Udp A web.team.svc.cluster.local false",
            "Cluster Udp A ehr.example true",
            "Cluster Tcp A web.team.svc.cluster.local false",
            "Vpc Udp A ehr.example true",
        ]
    );
    cancel.cancel();
    network.shutdown().await;
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// Processor seconds of the fabric thread: what it could do on a machine of its own.
fn fabric_cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let fabric = tasks
        .map(|task| task.unwrap().path())
        .find(|task| read(task.join("comm")).trim() == "fabric")
        .unwrap();
    let nanoseconds: f64 = read(fabric.join("schedstat"))
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    nanoseconds / 1e9
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
    let start = Instant::now();
    drop(pods);
    network.settled().await;
    println!("and detached in {:?}", start.elapsed());

    let mut stream = connect(&alice, at(BOB, 8080)).await.unwrap();
    seen_by_server(&mut stream).await;
    let start = Instant::now();
    let mut byte = [0];
    for _ in 0..1000 {
        stream.write_all(&byte).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
    }
    println!("round trip over TCP: {:?}", start.elapsed() / 1000);

    let mut records = network.records().unwrap();
    let probe = UdpSocket::from_std(alice.namespace().udp_socket(at(ALICE, 0)).unwrap()).unwrap();
    let mut latencies = Vec::new();
    for port in 1000..1100 {
        let start = Instant::now();
        probe.send_to(b"x", at(INTERNET_HOST, port)).await.unwrap();
        records.recv().await.unwrap();
        latencies.push(start.elapsed());
    }
    latencies.sort();
    println!(
        "datagram sent to denial logged: median {:?}, worst {:?}",
        latencies[50], latencies[99]
    );

    let listener =
        TcpListener::from_std(bob.namespace().tcp_listener(at(BOB, 9000)).unwrap()).unwrap();
    let (accepted, stream) = tokio::join!(listener.accept(), connect(&alice, at(BOB, 9000)));
    let (mut sink, mut source) = (accepted.unwrap().0, stream.unwrap());
    const VOLUME: usize = 1 << 30;
    let sender = tokio::spawn(async move {
        let chunk = vec![0; 256 << 10];
        for _ in 0..VOLUME / chunk.len() {
            source.write_all(&chunk).await.unwrap();
        }
    });
    let (start, busy) = (Instant::now(), fabric_cpu());
    let mut buffer = vec![0; 256 << 10];
    while sink.read(&mut buffer).await.unwrap() > 0 {}
    sender.await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let busy: f64 = fabric_cpu() - busy;
    let gigabits = VOLUME as f64 * 8.0 / 1e9;
    println!(
        "pod to pod: {:.2} Gbit/s; {:.2} per second of the fabric thread",
        gigabits / seconds,
        gigabits / busy
    );
    let start = Instant::now();
    network.shutdown().await;
    println!("shut down in {:?}", start.elapsed());
}
