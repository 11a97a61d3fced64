//! Nothing of a network stays behind. Alone in its process, as it counts the process's descriptors.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use cluster::network::{Error, Network, NetworkConfig};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config, Gateway};
use mock_controller::policy::Snapshot;

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn attach_detach_and_shutdown_leave_nothing_behind() {
    let before = (descriptors(), threads());
    let gateway = Gateway::new(
        Config::new(Ipv4Addr::new(203, 0, 113, 9)),
        Faults::default(),
        1,
        Arc::new(Snapshot::deny_all()),
    );
    let network = Network::start(NetworkConfig::new(gateway)).unwrap();
    for _ in 0..50 {
        let pod = network.attach(POD).unwrap();
        drop(pod);
    }
    let pod = network.attach(POD).unwrap();
    assert!(matches!(network.attach(POD), Err(Error::AddressInUse(_))));
    network.shutdown().await;
    drop(pod);
    assert!(matches!(network.attach(POD), Err(Error::ShutDown)));
    drop(network);
    // One thread stays: the runtime's, which waited for the fabric's.
    assert_eq!((descriptors(), threads()), (before.0, before.1 + 1));
}
