//! kube-proxy and the NetworkPolicy agent: from API objects to the tables of the packet path.
//!
//! Owns: the watches, and publishing what they compile to. The compilation itself is pure: `services` and
//! `policies`. Bursts of changes are compiled once; nothing is published before every kind was listed, as
//! half a picture would lift isolation or break Services.

pub mod policies;
pub mod services;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll, StreamExt};
use futures::{FutureExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::dns::{DnsServer, Zone};
use crate::network::Network;
use crate::node_stage::policy::PolicyTable;
use crate::node_stage::service::ServiceTable;

/// Keeps the network and cluster DNS in step with the API until `cancel`.
pub async fn run(client: Client, network: Network, dns: Arc<DnsServer>, cancel: CancellationToken) {
    let mut changes = SelectAll::new();
    let stores = Stores {
        services: watch(&client, &mut changes),
        slices: watch(&client, &mut changes),
        policies: watch(&client, &mut changes),
        pods: watch(&client, &mut changes),
        namespaces: watch(&client, &mut changes),
    };
    let mut published = Published::default();
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = cancel.cancelled() => return,
        };
        if change.is_none() {
            return;
        }
        while let Some(Some(())) = changes.next().now_or_never() {}
        if stores.are_listed() {
            published.update(&stores, &network, &dns);
        }
    }
}

struct Stores {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
}

impl Stores {
    fn are_listed(&self) -> bool {
        is_listed(&self.services)
            && is_listed(&self.slices)
            && is_listed(&self.policies)
            && is_listed(&self.pods)
            && is_listed(&self.namespaces)
    }
}

/// What is in force, so that only differences are sent.
#[derive(Default)]
struct Published {
    services: Option<ServiceTable>,
    zone: Option<Zone>,
    policies: Option<PolicyTable>,
}

impl Published {
    fn update(&mut self, stores: &Stores, network: &Network, dns: &DnsServer) {
        let (services, slices) = (stores.services.state(), stores.slices.state());
        if let Some(table) = changed(&mut self.services, services::table(&services, &slices)) {
            network.set_services(table);
        }
        if let Some(zone) = changed(&mut self.zone, services::zone(&services, &slices)) {
            dns.set_zone(zone);
        }
        let table = policies::compile(
            &stores.policies.state(),
            &stores.pods.state(),
            &stores.namespaces.state(),
        );
        if let Some(table) = changed(&mut self.policies, table) {
            network.set_network_policies(table);
        }
    }
}

fn changed<T: PartialEq + Clone>(current: &mut Option<T>, next: T) -> Option<T> {
    (current.as_ref() != Some(&next)).then(|| {
        *current = Some(next.clone());
        next
    })
}

/// Watches all objects of a kind into a store; `changes` yields once per event.
fn watch<K>(client: &Client, changes: &mut SelectAll<BoxStream<'static, ()>>) -> Store<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default());
    let events = reflector::reflector(writer, events)
        .default_backoff()
        .inspect_err(|error| tracing::warn!(%error, kind = std::any::type_name::<K>(), "watch failed, trying again"));
    changes.push(events.map(drop).boxed());
    store
}

fn is_listed<K>(store: &Store<K>) -> bool
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some()
}
