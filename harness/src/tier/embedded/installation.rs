//! The fake firewall of an embedded cluster, as somebody who installs it leaves it: its controller configured over the
//! vendor's API, its types in the cluster, and its log on the way to the evidence.

use std::net::SocketAddr;
use std::sync::Arc;

use cluster::EmbeddedCluster;
use cluster::fault::ClusterFault;
use cluster::network::{NODE_ADDRESS, POD_CIDR};
use mock_controller::controller::ControllerConfig;
use mock_controller::fault::Faults;
use mock_controller::record::GatewayIdentity;
use mock_controller::syslog::{Forwarder, Limits};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::parts::{create_all, has_fault};
use super::{API_SERVER_ADDRESS, CLUSTER_ID, GATEWAY_ADDRESS};
use crate::evidence::Recorder;
use crate::lab::Setup;
use crate::run::RunContext;
use crate::scenario_data::tier_one::Places;
use crate::tier::Error;
use crate::tier::blueprint::Blueprint;
use crate::tier::firewall;
use crate::tier::syslog_receiver::SyslogReceiver;
use crate::tier::tier_one::Installed;
use crate::tier::vendor::FakeController;
use crate::tier::vendor_api::{RemoteSyslog, VendorApi};

/// The firewall's controller, and what it was given.
pub(super) struct Firewall {
    pub(super) fake: FakeController,
    pub(super) api: Arc<VendorApi>,
    pub(super) tier_one: Installed,
    pub(super) places: Places,
    pub(super) log: SyslogReceiver,
    /// Listens as long as it is held.
    _copilot: SyslogReceiver,
}

/// Installs it. When this resolves, the controller works towards the first policy of the gateway.
///
/// # Errors
/// When a part does not start, or the controller or the cluster refuses something.
pub(super) async fn install(
    (context, setup): (&RunContext, &Setup),
    faults: &Faults,
    recorder: &Recorder,
    (cluster, client): (&EmbeddedCluster, &kube::Client),
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Firewall, Error> {
    let (log, log_address) = firewall::receive_log(recorder).await?;
    let (copilot, copilot_address) = firewall::copilot(recorder).await?;
    let fake = FakeController::start(ControllerConfig {
        faults: faults.clone(),
        ..ControllerConfig::default()
    })
    .await?;
    let identity = GatewayIdentity {
        name: "embedded".to_owned(),
        public_ip: GATEWAY_ADDRESS.into(),
    };
    let limits = Limits {
        flush: context.deadlines.log_complete,
        ..Limits::default()
    };
    let api = Arc::new(fake.log_in().await?);
    api.enable_remote_syslog(&RemoteSyslog {
        index: firewall::LOG_INDEX,
        name: "evidence",
        server: &log_address.ip().to_string(),
        port: &log_address.port().to_string(),
        protocol: "TCP",
    })
    .await?;
    // The gateway decides from the start; its records wait in the fabric until somebody takes them. The first that is
    // taken finds a server, so that none is lost for want of one.
    let configured = fake.controller.remote_syslog();
    let forwarder = Forwarder::new(identity, configured, limits, faults);
    firewall::send_log(cluster.network().records(), forwarder, recorder, tasks);
    let blueprint = Blueprint {
        cluster_id: CLUSTER_ID,
        kubeconfig: cluster.kubeconfig(),
        default_action_denies: setup.default_action_denies,
    };
    blueprint.apply(&api).await?;
    let (tier_one, places) = (Installed::default(), places(copilot_address));
    for data in &setup.tier_one {
        tier_one.install(&api, data, &places).await?;
    }
    if !has_fault(context, ClusterFault::CrdsMissing) {
        create_all(client, &firewall::crds()?).await?;
    }
    // Subscribes now: a push before the first poll of a task would be missed.
    firewall::record_pushes(&fake.controller, &api, client, recorder, cancel, tasks);
    let controller = Arc::clone(&fake.controller);
    tasks.spawn(controller.run(cluster.network().gateway_link(), cancel.child_token()));
    Ok(Firewall {
        fake,
        api,
        tier_one,
        places,
        log,
        _copilot: copilot,
    })
}

/// Addresses by the names that data of Tier 1 has for them.
fn places(copilot: SocketAddr) -> Places {
    let network = NODE_ADDRESS.octets();
    let nodes = format!("{}.{}.{}.0/24", network[0], network[1], network[2]);
    Places::from([
        ("pod subnet".to_owned(), vec![POD_CIDR.to_string()]),
        ("node subnet".to_owned(), vec![nodes]),
        (
            "api server".to_owned(),
            vec![format!("{}/32", API_SERVER_ADDRESS.ip())],
        ),
        ("copilot".to_owned(), vec![copilot.ip().to_string()]),
        ("copilot port".to_owned(), vec![copilot.port().to_string()]),
        ("cluster id".to_owned(), vec![CLUSTER_ID.to_owned()]),
    ])
}
