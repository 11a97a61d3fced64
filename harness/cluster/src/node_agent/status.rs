//! What a Pod's status says, computed from the states of its containers. Pure.
//!
//! Phases and conditions as in the Kubernetes documentation, "Pod Lifecycle".

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::network::NODE_ADDRESS;

/// Everything a status is made of.
#[derive(Clone, Debug)]
pub(super) struct PodState {
    pub(super) address: Option<Ipv4Addr>,
    /// In a dual-stack cluster.
    pub(super) ipv6: Option<Ipv6Addr>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) restart: RestartPolicy,
    pub(super) init: Vec<ContainerState>,
    pub(super) containers: Vec<ContainerState>,
    /// Value of each condition and since when.
    conditions: BTreeMap<&'static str, (bool, Timestamp)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct ContainerState {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) id: Option<String>,
    pub(super) run: Run,
    pub(super) last: Option<Termination>,
    pub(super) restarts: i32,
    /// The startup probe has succeeded, or there is none.
    pub(super) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(super) ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Waiting {
        reason: &'static str,
        message: Option<String>,
    },
    Running {
        since: Timestamp,
    },
    Terminated(Termination),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    pub(super) exit_code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Timestamp,
    pub(super) id: Option<String>,
}

impl RestartPolicy {
    pub(super) fn of(pod: &core::Pod) -> Self {
        match pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
        {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    pub(super) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

impl ContainerState {
    pub(super) fn new(container: &core::Container) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            id: None,
            run: Run::Waiting {
                reason: "ContainerCreating",
                message: None,
            },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
        }
    }

    fn status(&self) -> core::ContainerStatus {
        let running = matches!(self.run, Run::Running { .. });
        core::ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image.clone(),
            container_id: self.id.clone(),
            ready: running && self.started && self.ready,
            started: Some(running && self.started),
            restart_count: self.restarts,
            state: Some(self.run.state()),
            last_state: Some(
                self.last
                    .clone()
                    .map_or_else(core::ContainerState::default, |last| {
                        Run::Terminated(last).state()
                    }),
            ),
            ..core::ContainerStatus::default()
        }
    }

    fn succeeded(&self) -> bool {
        matches!(&self.run, Run::Terminated(end) if end.exit_code == 0)
    }

    fn is_ready(&self) -> bool {
        matches!(self.run, Run::Running { .. }) && self.started && self.ready
    }
}

impl Run {
    fn state(&self) -> core::ContainerState {
        let mut state = core::ContainerState::default();
        match self {
            Self::Waiting { reason, message } => {
                state.waiting = Some(core::ContainerStateWaiting {
                    reason: Some((*reason).to_owned()),
                    message: message.clone(),
                });
            }
            Self::Running { since } => {
                state.running = Some(core::ContainerStateRunning {
                    started_at: Some(Time(*since)),
                })
            }
            Self::Terminated(end) => {
                state.terminated = Some(core::ContainerStateTerminated {
                    exit_code: end.exit_code,
                    signal: end.signal,
                    reason: Some(end.reason.to_owned()),
                    message: end.message.clone(),
                    started_at: end.started_at.map(Time),
                    finished_at: Some(Time(end.finished_at)),
                    container_id: end.id.clone(),
                });
            }
        }
        state
    }
}

impl PodState {
    pub(super) fn new(pod: &core::Pod) -> Self {
        let states =
            |containers: &[core::Container]| containers.iter().map(ContainerState::new).collect();
        let spec = pod.spec.as_ref();
        Self {
            address: None,
            ipv6: None,
            started_at: None,
            restart: RestartPolicy::of(pod),
            init: states(
                spec.and_then(|spec| spec.init_containers.as_deref())
                    .unwrap_or_default(),
            ),
            containers: states(spec.map_or(&[], |spec| &spec.containers)),
            conditions: BTreeMap::new(),
        }
    }

    /// The status as of now. Conditions remember when they changed.
    pub(super) fn status(&mut self, now: Timestamp) -> core::PodStatus {
        let phase = self.phase();
        let initialized = self.init.iter().all(ContainerState::succeeded);
        let ready = !matches!(phase, "Succeeded" | "Failed")
            && self.containers.iter().all(ContainerState::is_ready);
        let values = [
            ("PodReadyToStartContainers", self.address.is_some()),
            ("Initialized", initialized),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", true),
        ];
        let conditions = values
            .map(|(name, value)| self.condition(name, value, phase, now))
            .to_vec();
        let address = self.address.map(|address| address.to_string());
        core::PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(conditions),
            host_ip: Some(NODE_ADDRESS.to_string()),
            host_ips: Some(vec![core::HostIP {
                ip: NODE_ADDRESS.to_string(),
            }]),
            pod_ips: address.clone().map(|ip| {
                let second = self.ipv6.map(|address| address.to_string());
                let listed = std::iter::once(ip).chain(second);
                listed.map(|ip| core::PodIP { ip }).collect()
            }),
            pod_ip: address,
            start_time: self.started_at.map(Time),
            init_container_statuses: (!self.init.is_empty())
                .then(|| self.init.iter().map(ContainerState::status).collect()),
            container_statuses: Some(self.containers.iter().map(ContainerState::status).collect()),
            qos_class: Some("BestEffort".into()),
            ..core::PodStatus::default()
        }
    }

    fn condition(
        &mut self,
        name: &'static str,
        value: bool,
        phase: &str,
        now: Timestamp,
    ) -> core::PodCondition {
        let entry = self.conditions.entry(name).or_insert((value, now));
        if entry.0 != value {
            *entry = (value, now);
        }
        let (reason, message) = match (name, value, phase) {
            ("Ready" | "ContainersReady", false, "Succeeded") => {
                (Some("PodCompleted".into()), None)
            }
            ("Ready" | "ContainersReady", false, "Failed") => (Some("PodFailed".into()), None),
            ("Ready" | "ContainersReady", false, _) => {
                let unready: Vec<_> = self
                    .containers
                    .iter()
                    .filter(|state| !state.is_ready())
                    .map(|state| state.name.as_str())
                    .collect();
                let message = format!("containers with unready status: [{}]", unready.join(" "));
                (Some("ContainersNotReady".into()), Some(message))
            }
            ("Initialized", false, _) => (Some("ContainersNotInitialized".into()), None),
            _ => (None, None),
        };
        core::PodCondition {
            type_: name.to_owned(),
            status: if value { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(entry.1)),
            reason,
            message,
            ..core::PodCondition::default()
        }
    }

    pub(super) fn phase(&self) -> &'static str {
        let failed = |state: &ContainerState| matches!(&state.run, Run::Terminated(end) if end.exit_code != 0);
        if self.restart == RestartPolicy::Never && self.init.iter().any(failed) {
            return "Failed";
        }
        if !self.init.iter().all(ContainerState::succeeded) {
            return "Pending";
        }
        let ends = |state: &ContainerState| matches!(state.run, Run::Terminated(_));
        if self
            .containers
            .iter()
            .any(|state| matches!(state.run, Run::Waiting { .. }) && state.last.is_none())
        {
            "Pending"
        } else if !self.containers.iter().all(ends) || self.restart == RestartPolicy::Always {
            "Running"
        } else if self.containers.iter().all(ContainerState::succeeded) {
            "Succeeded"
        } else if self.restart == RestartPolicy::Never {
            "Failed"
        } else {
            "Running"
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn ended(exit_code: i32) -> Termination {
        let finished_at = Timestamp::UNIX_EPOCH;
        Termination {
            exit_code,
            signal: None,
            reason: "Error",
            message: None,
            started_at: None,
            finished_at,
            id: None,
        }
    }

    /// `w` waiting, `b` backing off after a crash, `r` running, `0` and `1` ended with that code.
    fn containers(code: &str) -> Vec<ContainerState> {
        let state = |letter: char| {
            let mut state = ContainerState::new(&core::Container {
                name: letter.to_string(),
                ..core::Container::default()
            });
            (state.started, state.ready) = (true, true);
            match letter {
                'w' => {}
                'b' => state.last = Some(ended(1)),
                'r' => {
                    state.run = Run::Running {
                        since: Timestamp::UNIX_EPOCH,
                    }
                }
                digit => {
                    state.run = Run::Terminated(ended(digit.to_digit(10).unwrap().cast_signed()))
                }
            }
            state
        };
        code.chars().map(state).collect()
    }

    fn pod(restart: RestartPolicy, init: &str, main: &str) -> PodState {
        let mut state = PodState::new(&core::Pod::default());
        state.restart = restart;
        state.init = containers(init);
        state.containers = containers(main);
        state
    }

    #[rstest]
    #[case(RestartPolicy::Always, "", "w", "Pending", false)]
    #[case(RestartPolicy::Always, "", "r", "Running", true)]
    #[case(RestartPolicy::Always, "", "rw", "Pending", false)]
    #[case(RestartPolicy::Always, "", "b", "Running", false)]
    #[case(RestartPolicy::Always, "", "0", "Running", false)]
    #[case(RestartPolicy::Always, "r", "w", "Pending", false)]
    #[case(RestartPolicy::Always, "0", "r", "Running", true)]
    #[case(RestartPolicy::Always, "1", "w", "Pending", false)]
    #[case(RestartPolicy::Never, "1", "w", "Failed", false)]
    #[case(RestartPolicy::Never, "", "00", "Succeeded", false)]
    #[case(RestartPolicy::Never, "", "01", "Failed", false)]
    #[case(RestartPolicy::Never, "", "1r", "Running", false)]
    #[case(RestartPolicy::OnFailure, "", "0", "Succeeded", false)]
    #[case(RestartPolicy::OnFailure, "", "1", "Running", false)]
    fn phases(
        #[case] restart: RestartPolicy,
        #[case] init: &str,
        #[case] main: &str,
        #[case] phase: &str,
        #[case] ready: bool,
    ) {
        let mut state = pod(restart, init, main);
        let status = state.status(Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.unwrap(), phase);
        let condition = status
            .conditions
            .unwrap()
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap();
        assert_eq!(condition.status == "True", ready);
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let since = |state: &mut PodState, now| {
            let conditions = state.status(at(now)).conditions.unwrap();
            let ready = conditions
                .into_iter()
                .find(|condition| condition.type_ == "Ready")
                .unwrap();
            ready.last_transition_time.unwrap().0
        };
        let mut state = pod(RestartPolicy::Always, "", "r");
        assert_eq!((since(&mut state, 1), since(&mut state, 2)), (at(1), at(1)));
        state.containers[0].ready = false;
        assert_eq!((since(&mut state, 3), since(&mut state, 4)), (at(3), at(3)));
    }
}
