//! Each seeded defect of the controller, beside the behaviour without it.

use kube::api::DeleteParams;
use mock_controller::fault::{Fault, Faults};

use super::setup::*;

#[tokio::test]
async fn fault_ignore_updates_keeps_the_first_version_and_still_reports_success() {
    for (faults, follows) in [
        (Faults::default(), true),
        (Faults::from(Fault::IgnoreUpdates), false),
    ] {
        let world = World::start(faults).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        world.apply(&["labs.test"]).await;
        assert_eq!(world.permits("10.244.0.10", "labs.test"), follows);
        assert_eq!(world.permits("10.244.0.10", "fhir.ehr.test"), !follows);
    }
}

#[tokio::test]
async fn fault_default_action_permit_lets_unselected_pods_out() {
    for (faults, permits) in [
        (Faults::default(), false),
        (Faults::from(Fault::DefaultActionPermit), true),
    ] {
        let world = World::start(faults).await;
        world.run_pod("stray-1", "stray", "10.244.0.10").await;
        assert_eq!(world.permits("10.244.0.10", "evil.test"), permits);
    }
}

#[tokio::test]
async fn faults_of_live_changes() {
    for (fault, added, removed) in [
        (None, true, false),
        (Some(Fault::AdditionsIgnored), false, false),
        (Some(Fault::RemovalsIgnored), true, true),
    ] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        world.apply(&["fhir.ehr.test", "labs.test"]).await;
        assert_eq!(
            world.permits("10.244.0.10", "labs.test"),
            added,
            "{fault:?}"
        );
        world.apply(&["labs.test"]).await;
        assert_eq!(
            world.permits("10.244.0.10", "fhir.ehr.test"),
            removed,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn fault_deleted_policy_enforced_outlives_its_object() {
    for (fault, permits) in [(None, false), (Some(Fault::DeletedPolicyEnforced), true)] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        let policies = world.policies();
        policies
            .delete(POLICY, &DeleteParams::default())
            .await
            .unwrap();
        // The Pod comes after the deletion: when its address is known, the deletion is.
        world.run_pod("ehr-2", "ehr", "10.244.0.11").await;
        if fault.is_none() {
            deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
        }
        assert_eq!(world.permits("10.244.0.11", "fhir.ehr.test"), permits);
    }
}

#[tokio::test]
async fn faults_of_membership() {
    // A Pod of `ehr` goes, a Pod of `crm` gets its address, and a second Pod of `ehr` comes.
    for (fault, reused, successor) in [
        (None, false, true),
        (Some(Fault::StaleAddressesKept), true, true),
        (Some(Fault::AddressReuseInherits), true, true),
        (Some(Fault::ReplacedPodUnseen), false, false),
    ] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        assert!(world.permits("10.244.0.10", "fhir.ehr.test"), "{fault:?}");
        world
            .pods()
            .delete("ehr-1", &DeleteParams::default())
            .await
            .unwrap();
        world.run_pod("crm-1", "crm", "10.244.0.20").await;
        world.readdress("crm-1", "10.244.0.10").await;
        world.run_pod("ehr-2", "ehr", "10.244.0.30").await;
        assert_eq!(
            world.permits("10.244.0.10", "fhir.ehr.test"),
            reused,
            "{fault:?}"
        );
        assert_eq!(
            world.permits("10.244.0.30", "fhir.ehr.test"),
            successor,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn fault_status_never_written_enforces_in_silence() {
    let world = World::start(Fault::StatusNeverWritten).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let push = world.apply(&["fhir.ehr.test"]).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
    // Another push means that the turn in which the status was due is over.
    world.run_pod("ehr-2", "ehr", "10.244.0.11").await;
    let later = deadline(
        world
            .controller
            .enforced(|later| later.generation > push.generation),
    )
    .await;
    assert!(later.objects.contains_key(&object(POLICY)));
    assert!(world.policies().get(POLICY).await.unwrap().status.is_none());
}

#[tokio::test]
async fn fault_cluster_not_onboarded_makes_policy_objects_no_ops() {
    for (faults, denied_by) in [
        (Faults::default(), "deny-all-external"),
        (Faults::from(Fault::ClusterNotOnboarded), "default action"),
    ] {
        let onboarded = faults.is_empty();
        let world = World::start(faults).await;
        if onboarded {
            world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
            world.apply(&["fhir.ehr.test"]).await;
        } else {
            world.run_pod_unawaited("ehr-1", "ehr", "10.244.0.10").await;
            world
                .apply_unawaited(POLICY, server_spec(&["fhir.ehr.test"]))
                .await;
            // Whatever the controller sees of the cluster is in a push that comes after a restart.
            let before = deadline(world.controller.enforced(|_| true)).await;
            world.controller.restart();
            let after = world
                .controller
                .enforced(|push| push.generation > before.generation);
            let after = deadline(after).await;
            assert!(
                after.objects.is_empty() && after.addresses.is_empty(),
                "{after:?}"
            );
        }
        assert_eq!(world.decide("10.244.0.10", "evil.test"), deny(denied_by));
    }
}

#[tokio::test]
async fn fault_flags_reset_at_restart_turns_kubernetes_policies_off() {
    for (faults, permits) in [
        (Faults::default(), true),
        (Faults::from(Fault::FlagsResetAtRestart), false),
    ] {
        let world = World::start(faults).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        let before = world.apply(&["fhir.ehr.test"]).await;
        world.controller.restart();
        deadline(
            world
                .controller
                .enforced(|push| push.generation > before.generation),
        )
        .await;
        assert_eq!(world.permits("10.244.0.10", "fhir.ehr.test"), permits);
    }
}
