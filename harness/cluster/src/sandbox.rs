//! The sandbox of one container: a real process in namespaces of its own, with a minimal read-only
//! root, no capabilities and no way to gain any.
//!
//! Owns the two re-exec entry points `pod-init` and `pod-exec` (this very binary, started again) and
//! the handles with which the node agent drives them. It knows processes, mounts and namespaces; it
//! must not know Kubernetes objects.
//!
//! How one container starts:
//! 1. The spawner, one thread that lives as long as the cluster (a parent-death signal follows the
//!    parent *thread*), starts `<helper> pod-init` with a socket as its standard input. The
//!    specification and every file descriptor travel over that socket, so nothing is inherited by accident.
//! 2. pod-init joins the pod's network namespace, opens a PID namespace and forks. It stays outside
//!    as the supervisor: it forwards signals, waits, and reports over the socket.
//! 3. The child, PID 1 inside, builds its root, moves into it, gives up everything and runs the image.
//!
//! Nothing survives the harness, whatever kills it: pod-init dies by its parent-death signal (and
//! by the end of the socket), PID 1 dies with pod-init, and the kernel kills a PID namespace together with
//! its PID 1. Mounts, emptyDir volumes included, live in mount namespaces that end with their processes.
//!
//! Faithful to a container runtime: separate network, mount, PID, IPC and UTS namespaces, uid and gid,
//! supplementary groups, empty capability sets, no_new_privs, read-only root, `/tmp` and `/dev/shm` writable.
//! Not faithful: no seccomp filter, no cgroup limits, no `/sys`; containers of one pod share the
//! network namespace only; a root file system is always read-only. Without real root, the user id of
//! the pod comes from a nested user namespace that maps just this one id, and supplementary groups stay out.

mod confine;
mod process;
mod program;
mod root;
mod spec;
mod supervisor;
mod syscall;

pub use process::{Exit, Process, Spawner};
pub use spec::{Bind, FileSpec, Launch, RootSpec};

use std::path::PathBuf;

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spawner could not give itself a private mount namespace.
    #[error(
        "can't prepare the node's mount namespace ({step}): {source}; run as root, or as a user that may create namespaces"
    )]
    Node {
        step: &'static str,
        source: std::io::Error,
    },
    /// The helper binary did not start.
    #[error("can't start `{} pod-init`: {source}; the helper must be a binary whose main calls sandbox::dispatch()", helper.display())]
    Helper {
        helper: PathBuf,
        source: std::io::Error,
    },
    /// A step between the helper's start and the image's first instruction failed.
    #[error("{step}: {message}")]
    Setup { step: String, message: String },
    /// Pipes or sockets of the harness itself.
    #[error("can't open the channel to the container: {0}")]
    Channel(#[from] std::io::Error),
    /// The helper ended without a word.
    #[error("the helper {} ended before it reported; does its main call sandbox::dispatch() first?", helper.display())]
    Silent { helper: PathBuf },
    /// The spawner is gone: the cluster shuts down.
    #[error("the cluster is shutting down, no container can start")]
    ShuttingDown,
}

/// Runs `pod-init` or `pod-exec` when that is what this process was started for, and then never returns.
///
/// Call it first in `main`, before any thread exists: namespaces can only be joined by a process with one thread.
pub fn dispatch() {
    let role = std::env::args_os().nth(1);
    let role = match role.as_ref().and_then(|role| role.to_str()) {
        Some("pod-init") => supervisor::Role::Init,
        Some("pod-exec") => supervisor::Role::Exec,
        _ => return,
    };
    supervisor::main(role)
}
