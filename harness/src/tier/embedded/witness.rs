//! Who else saw something: resolvers, the API server and the nodes, as evidence.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use api_server::{Access, AccessEvent, AccessLog};
use cluster::dns::{DnsQuery, Resolver, Transport, Upstream};
use cluster::network::{DNS_ADDRESS, VPC_RESOLVER_ADDRESS};
use fixtures::canary::{Assembly, Found, search, search_name};
use fixtures::internet::Internet;
use fixtures::internet::dns::question;
use fixtures::receipt::{Receipt, ReceiptEvent};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::{API_SERVER, API_SERVER_ADDRESS};
use crate::evidence::Recorder;
use crate::evidence::receipts::{CLUSTER_DNS, NAME_SERVER, VPC_RESOLVER};
use crate::tier::Error;

/// A query to a resolver is a far end too: what leaves in a label has left.
pub(super) fn dns_receipts(recorder: &Recorder) -> Arc<dyn Fn(DnsQuery) + Send + Sync> {
    let (recorder, pieces) = (recorder.clone(), Mutex::new(Assembly::default()));
    Arc::new(move |query| {
        let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
        drop(recorder.receipt(receipt_of(query, &mut pieces)));
    })
}

fn receipt_of(query: DnsQuery, pieces: &mut Assembly) -> Receipt {
    let (endpoint, address) = match query.resolver {
        Resolver::Cluster => (CLUSTER_DNS, DNS_ADDRESS),
        Resolver::Vpc => (VPC_RESOLVER, VPC_RESOLVER_ADDRESS),
    };
    let transport = match query.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    // A name that is not forwarded has left nothing; health checks ask for those of Services all the time, and the search
    // through every encoding is not cheap.
    let mut found = Found::default();
    if query.forwarded {
        found = search_name(&query.name);
        found.merge(&pieces.add_name(&query.name));
    }
    Receipt {
        at: query.at,
        endpoint: endpoint.to_owned(),
        local: SocketAddr::new(address.into(), 53),
        peer: query.client,
        canaries: found.tokens(),
        encodings: found.encodings(),
        event: ReceiptEvent::DnsQuery {
            name: query.name,
            record_type: query.record_type,
            transport: transport.to_owned(),
        },
    }
}

/// Address of every name server beyond the cluster (RFC 5737): the resolver of the VPC asks it, and no Pod does.
const NAME_SERVERS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 253);

/// Answers what the cluster's resolvers forward, and writes a receipt of each query: what a name server beyond the
/// cluster was asked has left the cluster.
pub(super) fn name_servers(world: &Internet, recorder: &Recorder) -> Upstream {
    let (world, zone, receipts) = (world.clone(), world.zone(), recorder.clone());
    let pieces = Mutex::new(Assembly::default());
    Arc::new(move |query: &[u8]| {
        if let Some(asked) = question(query) {
            let owner = world.host(&asked.name).map(|host| host.name());
            let mut found = search_name(&asked.name);
            let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
            found.merge(&pieces.add_name(&asked.name));
            drop(pieces);
            drop(receipts.receipt(Receipt {
                at: jiff::Timestamp::now(),
                endpoint: format!("{NAME_SERVER}{}", owner.unwrap_or("a zone without hosts")),
                local: SocketAddr::new(NAME_SERVERS.into(), 53),
                peer: SocketAddr::new(VPC_RESOLVER_ADDRESS.into(), 53),
                canaries: found.tokens(),
                encodings: found.encodings(),
                event: ReceiptEvent::DnsQuery {
                    name: asked.name,
                    record_type: asked.record_type,
                    transport: "udp".to_owned(),
                },
            }));
        }
        zone.answer_over_tcp(query)
    })
}

/// The API server beyond the gateway is a far end too: what it is asked is a receipt.
pub(super) fn api_server_receipts(recorder: &Recorder) -> AccessLog {
    let receipts = recorder.clone();
    Arc::new(move |access: Access| {
        let (event, found) = match access.event {
            AccessEvent::Connected => (ReceiptEvent::Connected, Found::default()),
            AccessEvent::Request {
                method,
                path,
                status,
            } => {
                let found = search(path.as_bytes());
                let event = ReceiptEvent::Request {
                    method,
                    host: None,
                    path,
                    body_bytes: 0,
                    status,
                };
                (event, found)
            }
        };
        drop(receipts.receipt(Receipt {
            at: jiff::Timestamp::now(),
            endpoint: API_SERVER.to_owned(),
            local: access.local,
            peer: access.peer,
            event,
            canaries: found.tokens(),
            encodings: found.encodings(),
        }));
    })
}

/// Records that the ClusterIP of the API server stands for an address beyond the gateway.
pub(super) async fn record_api_server(
    client: &kube::Client,
    recorder: &Recorder,
) -> Result<(), Error> {
    let service = Api::<Service>::namespaced(client.clone(), "default")
        .get("kubernetes")
        .await
        .map_err(|error| Error::Cluster(error.to_string()))?;
    let address = service.spec.and_then(|spec| spec.cluster_ip);
    if let Some(address) = address.and_then(|address| address.parse().ok()) {
        recorder.record(crate::evidence::Event::EndpointBeyond {
            service: SocketAddr::new(address, 443),
            endpoint: API_SERVER_ADDRESS.into(),
        });
    }
    Ok(())
}

/// Records the addresses of the nodes: behind them Pods vanish when the cluster masquerades.
pub(super) async fn record_nodes(client: &kube::Client, recorder: &Recorder) -> Result<(), Error> {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::Cluster(format!("its Nodes could not be listed: {error}")))?;
    for node in nodes {
        let name = node.name_any();
        let addresses = node.status.and_then(|status| status.addresses);
        for address in addresses.into_iter().flatten() {
            if let Ok(address) = address.address.parse() {
                let name = name.clone();
                recorder.record(crate::evidence::Event::NodeKnown { name, address });
            }
        }
    }
    Ok(())
}
