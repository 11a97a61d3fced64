//! Services and EndpointSlices as the table of the node stage and the zone of cluster DNS. Pure.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::dns::Zone;
use crate::fabric::packet::Protocol;
use crate::node_stage::service::{ServicePort, ServiceTable};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Every port with a ClusterIP, and its ready endpoints in the order of their addresses.
pub fn table(
    services: &[impl Borrow<Service>],
    slices: &[impl Borrow<EndpointSlice>],
) -> ServiceTable {
    let mut table = ServiceTable::default();
    for service in services.iter().map(Borrow::borrow) {
        let Some(address) = cluster_ip(service) else {
            continue;
        };
        for port in ports(service) {
            let endpoints: BTreeSet<SocketAddrV4> = slices_of(service, slices)
                .flat_map(|slice| endpoints_of(slice, &port.name))
                .collect();
            let key = ServicePort {
                address,
                protocol: port.protocol,
                port: port.number,
            };
            table.0.insert(key, endpoints.into_iter().collect());
        }
    }
    table
}

/// The names of every Service: kubernetes/dns, docs/specification.md, sections 2.3 and 2.4.
pub fn zone(services: &[impl Borrow<Service>], slices: &[impl Borrow<EndpointSlice>]) -> Zone {
    let mut zone = Zone::default();
    zone.entry("svc");
    for service in services.iter().map(Borrow::borrow) {
        let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace)
        else {
            continue;
        };
        let service_name = format!("{name}.{namespace}.svc");
        if let Some(address) = cluster_ip(service) {
            zone.entry(&service_name).addresses.insert(address);
            for port in ports(service) {
                add_srv(
                    &mut zone,
                    &service_name,
                    &service_name,
                    &port.name,
                    port.protocol,
                    port.number,
                );
            }
        } else if is_headless(service) {
            zone.entry(&service_name);
            for slice in slices_of(service, slices) {
                add_headless(&mut zone, &service_name, slice);
            }
        }
    }
    zone
}

struct Port {
    name: String,
    protocol: Protocol,
    number: u16,
}

fn ports(service: &Service) -> impl Iterator<Item = Port> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports.filter_map(|port| {
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol(port.protocol.as_deref()),
            number: u16::try_from(port.port).ok()?,
        })
    })
}

fn add_headless(zone: &mut Zone, service: &str, slice: &EndpointSlice) {
    for endpoint in ready(slice) {
        for address in addresses(endpoint) {
            // An endpoint without a name gets one from its address, as CoreDNS does.
            let host = endpoint
                .hostname
                .clone()
                .unwrap_or_else(|| address.to_string().replace('.', "-"));
            let host = format!("{host}.{service}");
            zone.entry(service).addresses.insert(address);
            zone.entry(&host).addresses.insert(address);
            for port in slice.ports.iter().flatten() {
                if let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) {
                    let name = port.name.as_deref().unwrap_or_default();
                    add_srv(
                        zone,
                        service,
                        &host,
                        name,
                        protocol(port.protocol.as_deref()),
                        number,
                    );
                }
            }
        }
    }
}

fn add_srv(
    zone: &mut Zone,
    service: &str,
    target: &str,
    port: &str,
    protocol: Protocol,
    number: u16,
) {
    let transport = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp | Protocol::Other(_) => return,
    };
    if !port.is_empty() {
        let target = format!("{target}.cluster.local.");
        zone.entry(&format!("_{port}._{transport}.{service}"))
            .services
            .insert((number, target));
    }
}

fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn slices_of<'a>(
    service: &'a Service,
    slices: &'a [impl Borrow<EndpointSlice>],
) -> impl Iterator<Item = &'a EndpointSlice> {
    slices.iter().map(Borrow::borrow).filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        slice.metadata.namespace == service.metadata.namespace
            && labels.and_then(|labels| labels.get(SERVICE_NAME)) == service.metadata.name.as_ref()
    })
}

/// The endpoints of the port of this name; slices name their ports as the Service does.
fn endpoints_of(slice: &EndpointSlice, port: &str) -> Vec<SocketAddrV4> {
    let numbers: Vec<u16> = slice
        .ports
        .iter()
        .flatten()
        .filter(|candidate| candidate.name.as_deref().unwrap_or_default() == port)
        .filter_map(|port| u16::try_from(port.port?).ok())
        .collect();
    ready(slice)
        .flat_map(addresses)
        .flat_map(|address| {
            numbers
                .iter()
                .map(move |port| SocketAddrV4::new(address, *port))
        })
        .collect()
}

fn ready(slice: &EndpointSlice) -> impl Iterator<Item = &Endpoint> {
    // "A nil value should be interpreted as true" (EndpointConditions.ready).
    slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    })
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = Ipv4Addr> {
    endpoint
        .addresses
        .iter()
        .filter_map(|address| address.parse().ok())
}

pub(super) fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Other(132),
        _ => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dns::Entry;
    use serde_json::json;

    fn services() -> Vec<Service> {
        let service = |value| serde_json::from_value(value).unwrap();
        vec![
            service(json!({
                "metadata": {"name": "web", "namespace": "team"},
                "spec": {"clusterIP": "10.96.0.20", "ports": [
                    {"name": "http", "port": 80, "targetPort": 8080},
                    {"name": "dns", "port": 53, "protocol": "UDP"}]}
            })),
            service(json!({
                "metadata": {"name": "db", "namespace": "team"},
                "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}
            })),
            service(json!({"metadata": {"name": "alias", "namespace": "team"},
                "spec": {"type": "ExternalName", "externalName": "exfil.example"}})),
        ]
    }

    fn slices() -> Vec<EndpointSlice> {
        let slice = |name: &str, namespace: &str, ports, endpoints| {
            serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-x"), "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": ports, "endpoints": endpoints
            }))
            .unwrap()
        };
        let ports = json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]);
        vec![
            slice(
                "web",
                "team",
                ports.clone(),
                json!([
                {"addresses": ["10.244.0.12"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.11"]},
                {"addresses": ["10.244.0.13"], "conditions": {"ready": false}}]),
            ),
            slice(
                "web",
                "elsewhere",
                ports,
                json!([{"addresses": ["10.244.0.99"]}]),
            ),
            slice(
                "db",
                "team",
                json!([{"name": "sql", "port": 5432}]),
                json!([
                {"addresses": ["10.244.0.14"], "hostname": "db-0"},
                {"addresses": ["10.244.0.15"]}]),
            ),
        ]
    }

    #[test]
    fn a_table_holds_the_ready_endpoints_of_the_same_namespace() {
        let lines: Vec<String> = table(&services(), &slices())
            .0
            .iter()
            .map(|(port, endpoints)| {
                format!(
                    "{} {:?} {} {endpoints:?}",
                    port.address, port.protocol, port.port
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "10.96.0.20 Tcp 80 [10.244.0.11:8080, 10.244.0.12:8080]",
                "10.96.0.20 Udp 53 [10.244.0.11:5353, 10.244.0.12:5353]",
            ]
        );
    }

    #[test]
    fn a_zone_names_services_endpoints_and_ports() {
        let mut expected = Zone::default();
        let mut put = |name: &str, addresses: &[[u8; 4]], services: &[(u16, &str)]| {
            *expected.entry(name) = Entry {
                addresses: addresses.iter().copied().map(Ipv4Addr::from).collect(),
                services: services
                    .iter()
                    .map(|(port, target)| (*port, (*target).into()))
                    .collect(),
            };
        };
        put("web.team.svc", &[[10, 96, 0, 20]], &[]);
        put(
            "_http._tcp.web.team.svc",
            &[],
            &[(80, "web.team.svc.cluster.local.")],
        );
        put(
            "_dns._udp.web.team.svc",
            &[],
            &[(53, "web.team.svc.cluster.local.")],
        );
        put("db.team.svc", &[[10, 244, 0, 14], [10, 244, 0, 15]], &[]);
        put("db-0.db.team.svc", &[[10, 244, 0, 14]], &[]);
        put("10-244-0-15.db.team.svc", &[[10, 244, 0, 15]], &[]);
        let targets = [
            (5432, "db-0.db.team.svc.cluster.local."),
            (5432, "10-244-0-15.db.team.svc.cluster.local."),
        ];
        put("_sql._tcp.db.team.svc", &[], &targets);
        assert_eq!(zone(&services(), &slices()), expected);
    }
}
