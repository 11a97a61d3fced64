//! Tier 1 of the running system's firewall.

use super::{Error, Lab};
use crate::scenario_data::tier_one::TierOne;

impl Lab {
    /// Sets permits of the firewall's Tier 1; returns when the gateway enforces them.
    ///
    /// # Errors
    /// When the data is broken or the gateway is not told in time.
    pub async fn set_tier_one(&self, data: &TierOne) -> Result<(), Error> {
        let what = format!(
            "the gateway to enforce Tier 1 as in {}",
            data.path.display()
        );
        let deadline = self.context.deadlines.policy_enforced;
        Ok(self
            .waiting
            .until(what, deadline, self.cluster.set_tier_one(data))
            .await??)
    }

    /// Takes back the permits that a file set on Tier 1; returns when the gateway has forgotten them.
    ///
    /// # Errors
    /// When the gateway is not told in time.
    pub async fn clear_tier_one(&self, name: &str) -> Result<(), Error> {
        let what = format!("the gateway to forget Tier 1 of {name}");
        let deadline = self.context.deadlines.policy_enforced;
        Ok(self
            .waiting
            .until(what, deadline, self.cluster.clear_tier_one(name))
            .await??)
    }
}
