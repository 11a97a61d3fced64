//! Gives up every privilege and runs the image. The last code of ours in the container's process.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, execve, setgroups, setresgid, setresuid};

use super::spec::{Failure, Launch, Step as _};
use super::syscall;

const FILES: u64 = 65_536;
/// Per user id of the host, so shared by all pods that run with it.
const PROCESSES: u64 = 16_384;

/// Whether the pod's ids exist in the user namespace of this process; otherwise a nested one must provide them.
pub(super) fn ids_are_mapped(launch: &Launch) -> bool {
    let mapped = |map: &str, id: u32| {
        std::fs::read_to_string(map)
            .unwrap_or_default()
            .lines()
            .any(|line| {
                let mut fields = line
                    .split_whitespace()
                    .map(|field| field.parse::<u64>().unwrap_or(0));
                let (first, _, count) = (
                    fields.next().unwrap_or(0),
                    fields.next(),
                    fields.next().unwrap_or(0),
                );
                (first..first + count).contains(&u64::from(id))
            })
    };
    mapped("/proc/self/uid_map", launch.user) && mapped("/proc/self/gid_map", launch.group)
}

/// The pipes between the supervisor and the process it starts.
pub(super) struct Line {
    /// Ends when the supervisor is gone.
    pub(super) lifeline: OwnedFd,
    /// Takes a failure; closed by a successful execve.
    pub(super) report: OwnedFd,
}

/// Standard input, output and error of the image.
pub(super) type Stdio = [OwnedFd; 3];

/// Confines this process and becomes the image. Returns only on failure. `groups` is false in a nested user namespace.
pub(super) fn become_image(
    launch: &Launch,
    stdio: &Stdio,
    line: &Line,
    groups: bool,
) -> Result<std::convert::Infallible, Failure> {
    let argv = c_strings(launch.argv.iter().map(String::as_str))
        .step(|| "reading the arguments".into())?;
    let env = c_strings(
        launch
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}")),
    )
    .step(|| "reading the environment".into())?;
    let program = super::program::find(launch).step(|| "looking for the program".into())?;

    wire(launch, stdio).step(|| "connecting standard input and output".into())?;
    limits().step(|| "setting resource limits".into())?;
    umask(Mode::from_bits_truncate(0o022));
    give_up(launch, groups)?;

    // A change of credentials clears the parent-death signal, so it is set again here; and if the
    // supervisor died in between, the lifeline shows it.
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "setting the parent-death signal".into())?;
    if ended(line.lifeline.as_fd()) {
        return Err(Failure {
            step: "starting".into(),
            source: io::Error::other("the supervisor is gone"),
        });
    }
    let directory = launch.working_dir.as_deref().unwrap_or("/".as_ref());
    chdir(directory).step(|| format!("entering the working directory {}", directory.display()))?;
    syscall::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .step(|| "unblocking signals".into())?;
    execve(&program, &argv, &env).step(|| format!("running {}", program.to_string_lossy()))
}

/// Ids, capabilities and the promise never to gain any again.
fn give_up(launch: &Launch, groups: bool) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw(launch.user), Gid::from_raw(launch.group));
    syscall::drop_capability_bounds().step(|| "dropping the capability bounds".into())?;
    if groups {
        let groups: Vec<_> = launch
            .supplementary_groups
            .iter()
            .copied()
            .map(Gid::from_raw)
            .collect();
        setgroups(&groups).step(|| "setting the supplementary groups".into())?;
    }
    setresgid(group, group, group).step(|| format!("taking group {group}"))?;
    setresuid(user, user, user).step(|| format!("taking user {user}"))?;
    syscall::drop_capabilities().step(|| "dropping capabilities".into())?;
    prctl::set_no_new_privs().step(|| "setting no_new_privs".into())
}

/// Puts standard input, output and error in place and marks every other descriptor to be closed by execve.
fn wire(launch: &Launch, stdio: &Stdio) -> io::Result<()> {
    // None of the three stands at 0, 1 or 2: those were taken when they arrived.
    for (number, fd) in (0..).zip(stdio) {
        syscall::place(fd.as_fd(), number)?;
    }
    syscall::close_on_exec_from(3)?;
    if launch.terminal {
        syscall::take_terminal()?;
    }
    Ok(())
}

fn limits() -> nix::Result<()> {
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, FILES),
        (Resource::RLIMIT_NPROC, PROCESSES),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let limit = wanted.min(hard);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}

fn ended(lifeline: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(lifeline, PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    fds[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

fn c_strings<S: Into<Vec<u8>>>(texts: impl Iterator<Item = S>) -> io::Result<Vec<CString>> {
    texts.map(syscall::c_string).collect()
}
