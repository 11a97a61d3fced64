//! Every duration the harness uses, in one place, each with the reason for its value.
//!
//! A deadline is the longest that something may take before the harness says what it waited for;
//! no part of the harness sleeps for one of these.

use std::time::Duration;

/// The durations of one tier. Deadlines are generous, because a run on a loaded machine must not
/// fail for slowness; bounds that a requirement states (`*_bound`) are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// API server, DNS, fabric and node agent answer. Measured well below 150 ms on the embedded
    /// cluster; 15 s were too few for eight scenarios that started at once beside compilers on 2 cores.
    pub cluster_ready: Duration,
    /// The Obot stand-in, the policy controller and the firewall controller report ready. They
    /// start as processes and list a few collections each.
    pub stand_ins_ready: Duration,
    /// From creating a server to a ready pod. Real images are pulled first on other tiers.
    pub pod_ready: Duration,
    /// From a policy change at the orchestrator's API to its enforcement at the gateway, before
    /// the harness gives up waiting. Longer than the bound, so that a late update is reported as
    /// late, with its figure, and not as missing.
    pub policy_enforced: Duration,
    /// The stated bound for a live policy update (EGR-25, EGR-26). Obot's policy controller may
    /// back off to 5 s between two applies of one policy (reference: client rate limit and
    /// back-off of its apply library), and the gateway needs one push after that.
    pub policy_update_bound: Duration,
    /// From sending a probe to the client's own result. A dropped SYN is repeated after 1 s and
    /// 3 s; a client that has not given up after that long is cut by the probe itself.
    pub probe_result: Duration,
    /// From sending a probe to the matching record in the gateway's log. The embedded gateway
    /// writes at once; a real one forwards syslog over UDP within seconds.
    pub denial_logged: Duration,
    /// Until the firewall's controller and the API server have said what they are asked about the platform: ten calls
    /// side by side, of a few milliseconds each. It comes on top of a scenario that was cut, whose prerequisites are
    /// then asked for, so it is short.
    pub platform_told: Duration,
    /// How long the far ends and the captures are watched after the client's result before
    /// "nothing arrived" counts. On the embedded tier one thread moves every packet and no queue
    /// outlives its next turn, so a packet that was let through shows within one scheduling
    /// slice; this allows several on a loaded machine and still fits a denial into 50 ms.
    pub quiet_window: Duration,
    /// How long everything is watched after the last sign of an attempt, before the scenario ends: what a gateway or an
    /// implant sends later than the quiet window of a denial is seen here. Once per scenario, and longer than the repeat of
    /// a blocked implant (400 ms was tried).
    pub closing_window: Duration,
    /// How long a connection is watched that was open when its domain was removed, from the moment at which new
    /// connections are denied. An answer to an open question, so long enough to tell "at once" from "not at all".
    pub live_session: Duration,
    /// One MCP tool call, the agent's own time limit included.
    pub tool_call: Duration,
    /// One whole scenario, set-up and teardown included. Past it the scenario is cut and says
    /// what it waited for.
    pub scenario: Duration,
    /// From the gateway's last record to the last line of its log at the harness: once for what the sender still holds,
    /// once for what the receiver has not read. Microseconds here; well below `teardown`, of which it is a part.
    pub log_complete: Duration,
    /// Orderly teardown of one cluster; what is left then is killed with its PID namespace.
    pub teardown: Duration,
}

impl Deadlines {
    /// Values of the embedded tier.
    #[must_use]
    pub const fn embedded() -> Self {
        Self {
            cluster_ready: Duration::from_secs(60),
            stand_ins_ready: Duration::from_secs(30),
            pod_ready: Duration::from_secs(60),
            policy_enforced: Duration::from_secs(20),
            policy_update_bound: Duration::from_secs(10),
            probe_result: Duration::from_secs(5),
            denial_logged: Duration::from_secs(5),
            platform_told: Duration::from_secs(5),
            quiet_window: Duration::from_millis(20),
            closing_window: Duration::from_millis(500),
            live_session: Duration::from_millis(300),
            tool_call: Duration::from_secs(60),
            scenario: Duration::from_secs(240),
            log_complete: Duration::from_secs(1),
            teardown: Duration::from_secs(5),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::embedded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait that outlasts what contains it would be reported under the wrong name.
    #[test]
    fn inner_deadlines_end_before_outer_ones() {
        let all = Deadlines::embedded();
        for inner in [
            all.cluster_ready,
            all.stand_ins_ready,
            all.pod_ready,
            all.policy_enforced,
            all.probe_result,
            all.denial_logged,
            all.platform_told,
            all.tool_call,
        ] {
            assert!(inner < all.scenario);
        }
        assert!(all.policy_update_bound < all.policy_enforced);
        assert!(all.quiet_window < all.closing_window);
        assert!(all.quiet_window < all.denial_logged);
        assert!(all.probe_result < all.tool_call);
    }
}
