//! From a loopback port into the cluster, by way of the node: what `kubectl port-forward` is elsewhere.

use std::net::SocketAddr;

use cluster::network::Network;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Relays every connection to `target` until cancelled.
pub(super) async fn relay(
    listener: TcpListener,
    network: Network,
    target: SocketAddr,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(Ok((mut inbound, _))) = cancel.run_until_cancelled(listener.accept()).await {
        let (network, cancel) = (network.clone(), cancel.clone());
        tasks.spawn(async move {
            let relay = async {
                let mut outbound = network.node().connect(target).await?;
                tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await
            };
            if let Some(Err(error)) = cancel.run_until_cancelled(relay).await {
                tracing::debug!("relay to {target}: {error}");
            }
        });
    }
}
