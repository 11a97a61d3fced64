//! A policy controller that cannot see: started again with one of its sources out of reach.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use super::lifecycle::{Part, has_ready_replica};
use super::{Error, Lab, ORCHESTRATOR_NAMESPACE};

/// The provider's Secret, and its container (`reference/obot.md` section 4).
const KEY_SECRET: &str = "obot-network-policy-provider";
const CONTAINER: &str = "controller";

/// What the policy controller cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blindness {
    /// The orchestrator's storage does not answer.
    Storage,
    /// The orchestrator's storage refuses the key.
    Key,
    /// The cluster's API server does not answer.
    ApiServer,
}

impl Lab {
    /// Stops the policy controller and starts it again without one of its sources. Whether its Pod becomes ready is for
    /// the judge: a Pod that does not in time is no error.
    ///
    /// # Errors
    /// When the cluster refuses a change, or the old Pod does not end.
    pub async fn blind_policy_controller(&self, blindness: Blindness) -> Result<(), Error> {
        self.stop(Part::PolicyController).await?;
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        let env = match blindness {
            Blindness::Storage => {
                let nowhere = "https://obot-obot.obot-system.svc.cluster.local:8444";
                vec![variable("OBOT_STORAGE_URL", nowhere)]
            }
            Blindness::ApiServer => vec![variable("KUBERNETES_SERVICE_PORT", "444")],
            Blindness::Key => {
                self.spoil_key().await?;
                Vec::new()
            }
        };
        self.start_provider(env).await?;
        let name = Part::PolicyController.deployment();
        let api = Api::<Deployment>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let ready = await_condition(api, name, has_ready_replica);
        let deadline = self.context.deadlines.stand_ins_ready;
        let what = "the blind policy controller to report ready";
        drop(self.waiting.until(what, deadline, ready).await);
        Ok(())
    }

    async fn spoil_key(&self) -> Result<(), Error> {
        let api = Api::<Secret>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let key = ByteString(b"osa1-1-refused".to_vec());
        let data = BTreeMap::from([("apiKey".to_owned(), key)]);
        api.patch(
            KEY_SECRET,
            &PatchParams::default(),
            &Patch::Merge(json!({"data": data})),
        )
        .await
        .map(drop)
        .map_err(Error::kubernetes(format!("change the Secret {KEY_SECRET}")))
    }

    async fn start_provider(&self, env: Vec<Value>) -> Result<(), Error> {
        let name = Part::PolicyController.deployment();
        let api = Api::<Deployment>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE);
        let container = json!({"name": CONTAINER, "env": env});
        let patch =
            json!({"spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}}});
        let parameters = PatchParams::default();
        api.patch(name, &parameters, &Patch::Strategic(patch))
            .await
            .map_err(Error::kubernetes(format!("start {name} again")))?;
        Ok(())
    }
}
