//! One container of a Pod: starts it, restarts it as its policy says, stops it, and keeps its output.

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_server::{KubeletError, LogOptions, PodRef};
use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt as _;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::launch::{self, Refusal};
use super::log::Log;
use super::pod::Shared;
use super::source::Error as SourceError;
use super::status::{ContainerState, RestartPolicy, Run, Termination};
use super::{Crash, NodeAgent, probe, session};
use crate::sandbox::{Exit, Launch, Process, RootSpec};

/// Exit code of a container whose program never ran, as container runtimes report it.
const START_ERROR: i32 = 128;
/// Lines of output that a crash report quotes.
const CRASH_OUTPUT: usize = 20;

/// When everything of the Pod must have ended; none while it should run.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// Where a container stands in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Init(usize),
    Main(usize),
}

pub(super) struct Container {
    shared: Arc<Shared>,
    slot: Slot,
    spec: core::Container,
    running: Mutex<Option<Arc<Running>>>,
    logs: Mutex<Logs>,
}

/// A process, and what another one beside it needs to know.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) launch: Launch,
}

#[derive(Default)]
struct Logs {
    current: Option<Arc<Log>>,
    previous: Option<Arc<Log>>,
    file: Option<Arc<File>>,
}

impl Container {
    pub(super) fn new(shared: Arc<Shared>, slot: Slot, spec: core::Container) -> Arc<Self> {
        Arc::new(Self {
            shared,
            slot,
            spec,
            running: Mutex::default(),
            logs: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn running(&self) -> Option<Arc<Running>> {
        lock(&self.running).clone()
    }

    /// Changes the container's part of the status, which is then reported.
    pub(super) fn change(&self, change: impl FnOnce(&mut ContainerState)) {
        self.shared.change(|pod| {
            change(match self.slot {
                Slot::Init(index) => &mut pod.init[index],
                Slot::Main(index) => &mut pod.containers[index],
            });
        });
    }

    pub(super) fn logs(
        &self,
        pod: &PodRef,
        options: LogOptions,
    ) -> Result<impl Stream<Item = Bytes> + use<>, KubeletError> {
        let logs = lock(&self.logs);
        let log = if options.previous {
            &logs.previous
        } else {
            &logs.current
        };
        let log = log.as_ref().ok_or_else(|| {
            let (which, state) = if options.previous {
                ("previous terminated ", "not found")
            } else {
                ("", "is waiting to start")
            };
            KubeletError::BadRequest(format!(
                "{which}container \"{}\" in pod \"{}\" {state}",
                self.name(),
                pod.name
            ))
        })?;
        Ok(log.read(options, Timestamp::now()))
    }

    /// Runs the container until it may not run again. True when it ended well.
    pub(super) async fn run(
        &self,
        agent: &NodeAgent,
        pod: &core::Pod,
        address: Ipv4Addr,
        netns: &Netns<'_>,
        mut stop: Stop,
    ) -> bool {
        let policy = self.policy(pod);
        let mut backoff = Duration::ZERO;
        loop {
            let launch = tokio::select! {
                launch = self.prepared(agent, pod, address) => launch,
                () = requested(&mut stop) => return false,
            };
            let began = Instant::now();
            let end = self
                .once(agent, pod, address, netns, launch, &mut stop)
                .await;
            let stopping = stop.borrow().is_some();
            let exit_code = end.exit_code;
            let again = !stopping && policy.restarts(exit_code);
            if !stopping && (exit_code != 0 || self.must_run_on(policy)) {
                self.report_crash(agent, pod, &end);
            }
            if !again {
                self.change(|state| state.run = Run::Terminated(end));
                return exit_code == 0;
            }
            if began.elapsed() >= agent.config.timings.restart_backoff_reset {
                backoff = Duration::ZERO;
            }
            self.change(|state| {
                state.run = Run::Waiting {
                    reason: "CrashLoopBackOff",
                    message: Some(format!(
                        "back-off {backoff:?} restarting failed container={}",
                        self.spec.name
                    )),
                };
                state.last = Some(end);
                state.restarts += 1;
            });
            tokio::select! {
                () = sleep(backoff) => {}
                () = requested(&mut stop) => return false,
            }
            let timings = &agent.config.timings;
            backoff = (backoff * 2).clamp(timings.restart_backoff, timings.restart_backoff_limit);
        }
    }

    /// An init container that should end is never "always" restarted.
    fn policy(&self, pod: &core::Pod) -> RestartPolicy {
        match (self.slot, RestartPolicy::of(pod)) {
            (Slot::Init(_), RestartPolicy::Always) => RestartPolicy::OnFailure,
            (_, policy) => policy,
        }
    }

    fn must_run_on(&self, policy: RestartPolicy) -> bool {
        matches!(self.slot, Slot::Main(_)) && policy == RestartPolicy::Always
    }

    /// Retries until the container's configuration is complete. An image that does not exist never will, nor what this
    /// node can't do: then this waits until the Pod is stopped.
    async fn prepared(&self, agent: &NodeAgent, pod: &core::Pod, address: Ipv4Addr) -> Launch {
        let timings = &agent.config.timings;
        let mut pause = timings.source_poll;
        loop {
            let refusal = match launch::prepare(agent, pod, &self.spec, address).await {
                Ok(launch) => return launch,
                Err(refusal) => refusal,
            };
            let message = Some(refusal.to_string());
            let reason = refusal.reason();
            self.change(|state| {
                state.run = Run::Waiting {
                    reason,
                    message: message.clone(),
                }
            });
            match refusal {
                Refusal::Config(SourceError::Missing(_) | SourceError::Api { .. }) => {
                    sleep(pause).await
                }
                Refusal::Image(_) => {
                    sleep(timings.restart_backoff).await;
                    self.change(|state| {
                        state.run = Run::Waiting {
                            reason: "ImagePullBackOff",
                            message,
                        }
                    });
                    std::future::pending().await
                }
                Refusal::Config(SourceError::Invalid(_)) | Refusal::Program(_) => {
                    std::future::pending().await
                }
            }
            pause = (pause * 2).min(timings.probe_poll_limit);
        }
    }

    /// One run, from start to end.
    async fn once(
        &self,
        agent: &NodeAgent,
        pod: &core::Pod,
        address: Ipv4Addr,
        netns: &Netns<'_>,
        launch: Launch,
        stop: &mut Stop,
    ) -> Termination {
        let id = format!("embedded://{}", uuid::Uuid::new_v4().simple());
        let log = self.open_log(agent, pod);
        let started_at = Timestamp::now();
        let failed = |message: String| Termination {
            exit_code: START_ERROR,
            signal: None,
            reason: "StartError",
            message: Some(message),
            started_at: None,
            finished_at: Timestamp::now(),
            id: Some(id.clone()),
        };
        let (running, copies) = match self.start(agent, pod, netns, launch, &log).await {
            Ok(started) => started,
            Err(error) => {
                log.close();
                return failed(error.to_string());
            }
        };
        *lock(&self.running) = Some(Arc::clone(&running));
        let probed = self.spec.startup_probe.is_some();
        self.change(|state| {
            state.id = Some(id.clone());
            state.run = Run::Running { since: started_at };
            state.started = !probed;
            state.ready = !probed && self.spec.readiness_probe.is_none();
        });

        let (exit, message) = self
            .attend(agent, pod, address, &running.process, stop)
            .await;
        // The PID namespace is gone with its PID 1, so the pipes end too.
        copies.join_all().await;
        log.close();
        *lock(&self.running) = None;
        self.change(|state| (state.started, state.ready) = (false, false));
        let reason = if exit.status() == 0 {
            "Completed"
        } else {
            "Error"
        };
        let (exit_code, signal, finished_at) = (exit.status(), exit.signal, Timestamp::now());
        Termination {
            exit_code,
            signal,
            reason,
            message,
            started_at: Some(started_at),
            finished_at,
            id: Some(id),
        }
    }

    async fn start(
        &self,
        agent: &NodeAgent,
        pod: &core::Pod,
        netns: &Netns<'_>,
        mut launch: Launch,
        log: &Arc<Log>,
    ) -> Result<(Arc<Running>, JoinSet<()>), crate::sandbox::Error> {
        for (name, _) in &launch.root.empty_dirs {
            agent.spawner.create_empty_dir(name).await?;
        }
        let (stdout, stdout_end) = session::output_pipe()?;
        let (stderr, stderr_end) = session::output_pipe()?;
        let stdio = [session::null()?, stdout_end, stderr_end];
        let process = agent
            .spawner
            .start_container(launch.clone(), netns.fd, stdio)
            .await?;
        let mut copies = JoinSet::new();
        copies.spawn(Arc::clone(log).copy(stdout));
        copies.spawn(Arc::clone(log).copy(stderr));
        tracing::debug!(
            pod = pod.name_any(),
            container = self.name(),
            pid = process.pid(),
            "started"
        );
        launch.root = RootSpec::default();
        Ok((Arc::new(Running { process, launch }), copies))
    }

    /// Waits for the end, which a failed probe or the deletion of the Pod may bring about.
    async fn attend(
        &self,
        agent: &NodeAgent,
        pod: &core::Pod,
        address: Ipv4Addr,
        process: &Process,
        stop: &mut Stop,
    ) -> (Exit, Option<String>) {
        let reason = tokio::select! {
            exit = process.wait() => return (exit, None),
            () = requested(stop) => None,
            reason = probe::watch(agent, self, &self.spec, address) => Some(reason),
        };
        process.signal(Signal::SIGTERM);
        let own_deadline = reason.as_ref().map(|_| Instant::now() + grace(pod));
        let exit = loop {
            let deadline = [own_deadline, *stop.borrow_and_update()]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                exit = process.wait() => break exit,
                () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await } => {
                    process.signal(Signal::SIGKILL);
                    break process.wait().await;
                }
                // The deadline may come nearer.
                Ok(()) = stop.changed() => {}
            }
        };
        (exit, reason)
    }

    fn open_log(&self, agent: &NodeAgent, pod: &core::Pod) -> Arc<Log> {
        let mut logs = lock(&self.logs);
        if logs.file.is_none()
            && let Some(directory) = &agent.config.log_dir
        {
            let name = format!(
                "{}_{}_{}.log",
                pod.namespace().unwrap_or_default(),
                pod.name_any(),
                self.name()
            );
            let path = directory.join(name);
            match OpenOptions::new().append(true).create(true).open(&path) {
                Ok(file) => logs.file = Some(Arc::new(file)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "container log is not written")
                }
            }
        }
        let log = Log::new(logs.file.clone());
        logs.previous = logs.current.replace(Arc::clone(&log));
        log
    }

    fn report_crash(&self, agent: &NodeAgent, pod: &core::Pod, end: &Termination) {
        let output = lock(&self.logs)
            .current
            .as_ref()
            .map(|log| log.tail(CRASH_OUTPUT))
            .unwrap_or_default();
        let mut restart_count = 0;
        self.change(|state| restart_count = state.restarts);
        agent.crashed(Crash {
            at: end.finished_at,
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            container: self.spec.name.clone(),
            exit_code: end.exit_code,
            restart_count,
            message: end.message.clone(),
            output,
        });
    }
}

/// The Pod's network namespace.
pub(super) struct Netns<'a> {
    pub(super) fd: std::os::fd::BorrowedFd<'a>,
}

/// Resolves once the Pod must end.
pub(super) async fn requested(stop: &mut Stop) {
    // A Pod that nobody looks after any more must end as well.
    let _ = stop.wait_for(Option::is_some).await;
}

pub(super) fn grace(pod: &core::Pod) -> Duration {
    let seconds = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(30),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
