//! The fake firewall's side of the evidence: its log lines, what it enforces, and what its rules are called.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use mock_controller::controller::{Controller, Push};
use mock_controller::crd::FirewallPolicy;
use mock_controller::policy::{DEFAULT_ACTION, ObjectRef};
use mock_controller::record::LogRecord;
use mock_controller::syslog::Forwarder;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Error;
use super::syslog_receiver::{Listen, SyslogReceiver};
use super::vendor_api::{self, VendorApi};
use crate::evidence::{Event, Recorder};
use crate::judge::RuleRef;

/// Label by which the policy controller says whose policy an object is (`reference/obot.md` section 3).
const SERVER_LABEL: &str = "obot.ai/mcp-server-name";

/// Where remote syslog has the harness's receiver: beside index 9, which is CoPilot's and changes with the design that
/// a scenario applies. Over TCP: evidence must not depend on datagrams.
pub(super) const LOG_INDEX: u8 = 8;

/// The vendor's CustomResourceDefinitions, as its Helm chart installs them.
///
/// # Errors
/// Never in practice: the objects are plain data.
pub(super) fn crds() -> Result<Vec<Value>, Error> {
    let failed = |error: serde_json::Error| Error::Cluster(error.to_string());
    mock_controller::crd::crds()
        .iter()
        .map(|crd| serde_json::to_value(crd).map_err(failed))
        .collect()
}

/// A receiver that keeps every line as evidence, and where it listens.
///
/// # Errors
/// When it can't listen.
pub(super) async fn receive_log(
    recorder: &Recorder,
) -> Result<(SyslogReceiver, SocketAddr), Error> {
    let recorder = recorder.clone();
    let sink = Arc::new(move |line: &str| drop(recorder.gateway_log(line)));
    let failed = |error: &dyn std::fmt::Display| Error::Cluster(error.to_string());
    let receiver = SyslogReceiver::start(Listen::on_loopback(), sink)
        .await
        .map_err(|error| failed(&error))?;
    let address = receiver.tcp;
    let address =
        address.ok_or_else(|| failed(&"the receiver of the gateway's log has no port"))?;
    Ok((receiver, address))
}

/// What listens where the platform's design has CoPilot: over UDP, as CoPilot does, and on a free port in the place of
/// its 5000. Datagrams may be lost; within one machine it takes a full buffer, which a scenario's few records do not fill.
///
/// # Errors
/// When it can't listen.
pub(super) async fn copilot(recorder: &Recorder) -> Result<(SyslogReceiver, SocketAddr), Error> {
    let kept = recorder.clone();
    let sink = Arc::new(move |line: &str| {
        let text = line.to_owned();
        drop(kept.record(Event::CopilotLog { text }));
    });
    let listen = Listen {
        udp: Some((Ipv4Addr::LOCALHOST, 0).into()),
        ..Listen::default()
    };
    let failed = |error: &dyn std::fmt::Display| Error::Cluster(error.to_string());
    let receiver = SyslogReceiver::start(listen, sink)
        .await
        .map_err(|error| failed(&error))?;
    let address = receiver.udp;
    let address = address.ok_or_else(|| failed(&"CoPilot's double listens nowhere"))?;
    recorder.record(Event::CopilotListens { address });
    Ok((receiver, address))
}

/// Sends every record to where the controller says, as the gateway does; what it could not send is said to be missing.
/// The evidence's server has to be configured before. A gateway that loses records by a seeded fault counts none of them
/// here: that they are missing is what has to be found.
pub(super) fn send_log(
    records: Option<mpsc::UnboundedReceiver<LogRecord>>,
    forwarder: Forwarder,
    recorder: &Recorder,
    tasks: &TaskTracker,
) {
    let Some(records) = records else { return };
    let recorder = recorder.clone();
    // Ends when the fabric does.
    tasks.spawn(async move {
        let counters = forwarder.counters();
        let nowhere = forwarder.run(records).await.nowhere;
        // What does not reach other servers is the affair of whoever configured them.
        let dropped = counters.dropped_for(LOG_INDEX);
        if dropped > 0 {
            let message = format!("the gateway could not send {dropped} of its records");
            incomplete(&recorder, message);
        }
        if nowhere > 0 {
            let message =
                format!("no server was configured for {nowhere} of the gateway's records");
            incomplete(&recorder, message);
        }
    });
}

/// Waits for the last line of the log; a log that may lack some is a fault of the harness.
pub(super) async fn finish_log(receiver: &SyslogReceiver, patience: Duration, recorder: &Recorder) {
    if let Err(error) = receiver.finish(patience).await {
        incomplete(recorder, error.to_string());
    }
}

fn incomplete(recorder: &Recorder, message: String) {
    tracing::error!("{message}");
    recorder.record(Event::HarnessError {
        component: "gateway log".to_owned(),
        message,
    });
}

/// Records what the gateway enforces after each push, and the names of the rules it may log from then on.
pub(super) fn record_pushes(
    controller: &Arc<Controller>,
    api: &Arc<VendorApi>,
    client: &kube::Client,
    recorder: &Recorder,
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) {
    let (api, recorder) = (Arc::clone(api), recorder.clone());
    let objects = Api::<FirewallPolicy>::all(client.clone());
    let mut pushes = controller.pushes();
    let follow = async move {
        let mut enforced = BTreeMap::new();
        while pushes.changed().await.is_ok() {
            let Some(push) = pushes.borrow_and_update().clone() else {
                continue;
            };
            // First what happened, with its time; the names of the rules have to be asked for.
            record_enforced(&recorder, &push, &mut enforced);
            let (servers, listed) = tokio::join!(servers_of(&objects), lists(&api));
            recorder.record(match listed {
                Ok((v1, rulesets)) => Event::RulesKnown {
                    rules: rules(&v1, &rulesets, &servers),
                },
                Err(error) => Event::Note {
                    text: format!("the names of the firewall's rules are not known: {error}"),
                },
            });
        }
    };
    let cancel = cancel.clone();
    tasks.spawn(async move { cancel.run_until_cancelled(follow).await });
}

fn record_enforced(recorder: &Recorder, push: &Push, enforced: &mut BTreeMap<ObjectRef, i64>) {
    let names = push
        .objects
        .keys()
        .map(|object| format!("{}/{}", object.namespace, object.name));
    recorder.record(Event::PolicyPushed {
        generation: push.generation,
        at: push.at,
        objects: names.collect(),
        addresses: push.addresses.clone(),
    });
    enforced.retain(|object, _| {
        let stays = push.objects.contains_key(object);
        if !stays {
            recorder.record(Event::PolicyLifted {
                policy_kind: object.kind.to_owned(),
                namespace: object.namespace.clone(),
                name: object.name.clone(),
            });
        }
        stays
    });
    for (object, &generation) in &push.objects {
        if enforced.insert(object.clone(), generation) != Some(generation) {
            recorder.record(Event::PolicyEnforced {
                policy_kind: object.kind.to_owned(),
                namespace: object.namespace.clone(),
                name: object.name.clone(),
                generation,
            });
        }
    }
    for (object, reason) in &push.rejected {
        recorder.record(Event::Note {
            text: format!(
                "the firewall rejected {} {}/{}: {reason}",
                object.kind, object.namespace, object.name
            ),
        });
    }
}

/// Ids of the servers whose policy an object is, by `namespace/name`.
async fn servers_of(objects: &Api<FirewallPolicy>) -> BTreeMap<String, String> {
    let listed = objects
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    let with_server = listed.into_iter().filter_map(|object| {
        let server = object.labels().get(SERVER_LABEL)?.clone();
        Some((
            format!(
                "{}/{}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            ),
            server,
        ))
    });
    with_server.collect()
}

/// The V1 policy list and the policy lists of Terraform and Kubernetes.
async fn lists(api: &VendorApi) -> Result<(Value, Value), vendor_api::Error> {
    tokio::try_join!(
        api.get("microseg/policy-list"),
        api.get("microseg/policy-list3"),
    )
}

/// Names of rules by the uuid that log records carry, from the controller's own lists. Those that mirror a policy object
/// of a cluster carry its name in `metadata.k8s` (reference: aviatrix-controller-api.md section 9).
fn rules(
    v1: &Value,
    rulesets: &Value,
    servers: &BTreeMap<String, String>,
) -> BTreeMap<Uuid, RuleRef> {
    let default = RuleRef {
        name: "default action".to_owned(),
        part_of: Some("POST_RULES".to_owned()),
        server: None,
        default_action: true,
    };
    let mut known = BTreeMap::from([(DEFAULT_ACTION, default)]);
    known.extend(named(v1, "V1 policy list", None));
    for list in rulesets["dcf_policies"].as_array().into_iter().flatten() {
        let object = &list["metadata"]["k8s"];
        let object = match (object["namespace"].as_str(), object["name"].as_str()) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            _ => None,
        };
        let part_of = object.as_deref().or(list["name"].as_str());
        let server = object.as_ref().and_then(|object| servers.get(object));
        known.extend(named(list, part_of.unwrap_or_default(), server));
    }
    known
}

fn named(
    list: &Value,
    part_of: &str,
    server: Option<&String>,
) -> impl Iterator<Item = (Uuid, RuleRef)> {
    let rules = list["policies"].as_array().into_iter().flatten();
    rules.filter_map(move |rule| {
        let uuid = rule["uuid"].as_str()?.parse().ok()?;
        let known = RuleRef {
            name: rule["name"].as_str()?.to_owned(),
            part_of: Some(part_of.to_owned()),
            server: server.cloned(),
            default_action: false,
        };
        Some((uuid, known))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mock_controller::fault::{Fault, Faults};
    use mock_controller::record::GatewayIdentity;
    use mock_controller::syslog::Limits;
    use rstest::rstest;
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::tier::syslog_receiver::tests::record;

    #[test]
    fn rules_are_named_by_the_list_that_holds_them() {
        let uuid = |number: u128| Uuid::from_u128(number);
        let v1 = json!({"policies": [{"uuid": uuid(1), "name": "allow-partner"}]});
        let rulesets = json!({"dcf_policies": [
            {"name": "firewallpolicylist-a", "policies": [{"uuid": uuid(2), "name": "deny-all-external"}],
             "metadata": {"k8s": {"namespace": "obot-mcp", "name": "ms1"}}},
            {"name": "terraform", "policies": [{"uuid": uuid(3), "name": "r"}, {"name": "no uuid"}]},
        ]});
        let servers = BTreeMap::from([("obot-mcp/ms1".to_owned(), "ms1abcde".to_owned())]);
        let known = rules(&v1, &rulesets, &servers);
        let part_of = |uuid: Uuid| known[&uuid].part_of.as_deref().unwrap();
        assert_eq!(known.len(), 4);
        assert!(known[&DEFAULT_ACTION].default_action);
        assert_eq!(part_of(uuid(1)), "V1 policy list");
        assert_eq!(part_of(uuid(2)), "obot-mcp/ms1");
        assert_eq!(known[&uuid(2)].server.as_deref(), Some("ms1abcde"));
        assert_eq!(
            (part_of(uuid(3)), &known[&uuid(3)].server),
            ("terraform", &None)
        );
    }

    /// A defect that loses records is to be found by what is missing, and is no defect of the harness.
    #[rstest]
    #[case::lost(None, 1)]
    #[case::lost_by_a_fault(Some(Fault::SyslogLost), 0)]
    #[tokio::test]
    async fn records_without_a_server_leave_the_log_incomplete(
        #[case] fault: Option<Fault>,
        #[case] errors: usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(folder.path().join("s")).unwrap();
        let gateway = GatewayIdentity {
            name: "embedded".to_owned(),
            public_ip: [203, 0, 113, 9].into(),
        };
        let (_controller, configured) = watch::channel(Default::default());
        let faults = Faults::from_iter(fault);
        let forwarder = Forwarder::new(gateway, configured, Limits::default(), &faults);
        let (fabric, records) = mpsc::unbounded_channel();
        fabric.send(record(0)).unwrap();
        drop(fabric);
        let tasks = TaskTracker::new();
        send_log(Some(records), forwarder, &recorder, &tasks);
        tasks.close();
        tasks.wait().await;
        let events = recorder.events();
        let found = events.iter().filter(|one| {
            matches!(&one.event, Event::HarnessError { message, .. } if message.contains("no server was configured for 1"))
        });
        assert_eq!(found.count(), errors);
    }
}
