//! `pod-init` and `pod-exec`: one process outside the container that starts it, forwards signals to it,
//! waits for it and reports over the socket on its standard input. It has one thread and holds no mount.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getppid, pipe2, setsid};

use super::confine::{self, Line, Stdio};
use super::spec::{Envelope, Failure, Status, Step as _};
use super::{root, syscall};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Builds a sandbox and runs PID 1 in it.
    Init,
    /// Runs one more process in a sandbox that exists.
    Exec,
}

/// Number of descriptors in the first message: specification, namespace, standard input, output, error.
pub(super) const DESCRIPTORS: usize = 5;
/// What the child writes to ask for its user namespace to be mapped; a failure never starts with it.
const MAP_ME: u8 = 0;

pub(super) fn main(role: Role) -> ! {
    // The socket is standard input, and stays open for as long as this process lives.
    let control = ManuallyDrop::new(syscall::own(0));
    let outcome = run(role, &control);
    if let Err(failure) = outcome {
        let status = Status::Failed {
            step: failure.step,
            message: failure.source.to_string(),
        };
        let _ = send(&control, &status, None);
        std::process::exit(1);
    }
    std::process::exit(0)
}

fn run(role: Role, control: &OwnedFd) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "setting the parent-death signal".into())?;
    let (envelope, namespace, stdio) =
        receive(control).step(|| "reading the specification".into())?;
    if getppid().as_raw() as u32 != envelope.harness {
        // The harness died before the parent-death signal was in place.
        std::process::exit(1);
    }
    match role {
        Role::Init => {
            setns(&namespace, CloneFlags::CLONE_NEWNET)
                .step(|| "joining the pod's network namespace".into())?;
            unshare(CloneFlags::CLONE_NEWPID).step(|| "creating a PID namespace".into())?;
        }
        Role::Exec => {
            let all = CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS;
            setns(&namespace, all).step(|| "joining the container's namespaces".into())?;
        }
    }
    let nested = role == Role::Init && !confine::ids_are_mapped(&envelope.launch);
    let (lifeline, lifeline_write) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(|| "opening a pipe".into())?;
    let (report_read, report) =
        pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(|| "opening a pipe".into())?;

    match syscall::fork().step(|| "forking".into())? {
        ForkResult::Child => {
            drop((lifeline_write, report_read));
            let line = Line { lifeline, report };
            let Err(failure) = child(role, nested, &envelope, &namespace, &stdio, &line);
            let text = format!("{}\0{}", failure.step, failure.source);
            let _ = File::from(line.report).write_all(text.as_bytes());
            std::process::exit(1)
        }
        ForkResult::Parent { child } => {
            drop((lifeline, report, stdio, namespace));
            let pidfd = syscall::pidfd_open(child).step(|| "watching the container".into())?;
            if let Err(failure) = await_image(child, report_read, &lifeline_write, &envelope) {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
                return Err(failure);
            }
            let started = Status::Started {
                pid: child.as_raw(),
            };
            send(control, &started, Some(&pidfd)).step(|| "reporting the start".into())?;
            let exited =
                supervise(child, &pidfd, control).step(|| "waiting for the container".into())?;
            send(control, &exited, None).step(|| "reporting the end".into())
        }
    }
}

/// The other side of the fork: PID 1 of the container, or a process beside it.
fn child(
    role: Role,
    nested: bool,
    envelope: &Envelope,
    namespace: &OwnedFd,
    stdio: &Stdio,
    line: &Line,
) -> Result<Infallible, Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "setting the parent-death signal".into())?;
    setsid().step(|| "starting a session".into())?;
    let launch = &envelope.launch;
    let mut in_nested = nested;
    match role {
        Role::Init => {
            let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
            unshare(own).step(|| "creating mount, IPC and UTS namespaces".into())?;
            nix::unistd::sethostname(&launch.hostname).step(|| "setting the host name".into())?;
            root::enter(&envelope.scratch, &launch.root)?;
            if nested {
                unshare(CloneFlags::CLONE_NEWUSER)
                    .step(|| "creating the pod's user namespace".into())?;
                ask_for_map(line).step(|| "mapping the pod's user".into())?;
            }
        }
        // The container's user namespace comes last: the other namespaces belong to the one outside. Joining
        // the namespace one is already in is refused, which is the case with real root.
        Role::Exec => match setns(namespace, CloneFlags::CLONE_NEWUSER) {
            Ok(()) => in_nested = true,
            Err(Errno::EINVAL) => {}
            Err(error) => return Err(error).step(|| "joining the pod's user namespace".into()),
        },
    }
    confine::become_image(launch, stdio, line, !in_nested)
}

fn ask_for_map(line: &Line) -> io::Result<()> {
    nix::unistd::write(&line.report, &[MAP_ME])?;
    let mut answer = [0];
    match nix::unistd::read(&line.lifeline, &mut answer)? {
        1 => Ok(()),
        _ => Err(io::Error::other("the supervisor is gone")),
    }
}

/// Returns once the image runs: a successful execve closes the report pipe without a word.
fn await_image(
    child: Pid,
    report: OwnedFd,
    lifeline: &OwnedFd,
    envelope: &Envelope,
) -> Result<(), Failure> {
    let mut report = File::from(report);
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let length = report
            .read(&mut buffer)
            .step(|| "waiting for the image".into())?;
        match &buffer[..length] {
            [] => break,
            [MAP_ME] => {
                map_user(child, envelope).step(|| "mapping the pod's user".into())?;
                nix::unistd::write(lifeline, &[1]).step(|| "mapping the pod's user".into())?;
            }
            more => text.extend_from_slice(more),
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text);
    let (step, message) = text.split_once('\0').unwrap_or(("starting", &text));
    Err(Failure {
        step: step.to_owned(),
        source: io::Error::other(message.to_owned()),
    })
}

/// Lets the pod's one user and group stand for the only ids that this process has.
fn map_user(child: Pid, envelope: &Envelope) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(format!("/proc/{child}/{file}"), text);
    write("setgroups", "deny".into())?;
    write(
        "uid_map",
        format!("{} {} 1", envelope.launch.user, nix::unistd::geteuid()),
    )?;
    write(
        "gid_map",
        format!("{} {} 1", envelope.launch.group, nix::unistd::getegid()),
    )
}

/// Forwards signals until the container ends; the end of the socket kills it.
fn supervise(child: Pid, pidfd: &OwnedFd, control: &OwnedFd) -> io::Result<Status> {
    let mut listening = true;
    loop {
        let interest = if listening {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        };
        let mut fds = [
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(control.as_fd(), interest),
        ];
        match poll(&mut fds[..if listening { 2 } else { 1 }], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].any().unwrap_or(false) {
            return match waitpid(child, None)? {
                WaitStatus::Exited(_, code) => Ok(Status::Exited {
                    code: Some(code),
                    signal: None,
                }),
                WaitStatus::Signaled(_, signal, _) => Ok(Status::Exited {
                    code: None,
                    signal: Some(signal as i32),
                }),
                other => Err(io::Error::other(format!("unexpected {other:?}"))),
            };
        }
        if listening && fds[1].any().unwrap_or(false) {
            let mut signals = [0; 16];
            let length = nix::unistd::read(control, &mut signals)?;
            for &number in &signals[..length] {
                if let Ok(signal) = Signal::try_from(i32::from(number)) {
                    let _ = kill(child, signal);
                }
            }
            if length == 0 {
                listening = false;
                let _ = kill(child, Signal::SIGKILL);
            }
        }
    }
}

/// The first message: one byte, and the descriptors that belong to it.
fn receive(control: &OwnedFd) -> io::Result<(Envelope, OwnedFd, Stdio)> {
    let mut space = nix::cmsg_space!([i32; DESCRIPTORS]);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(
        control.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            fds.extend(numbers.into_iter().map(syscall::own));
        }
    }
    let [specification, namespace, stdin, stdout, stderr]: [OwnedFd; DESCRIPTORS] = fds
        .try_into()
        .map_err(|_| io::Error::other("the first message lacks descriptors"))?;
    let mut bytes = Vec::new();
    File::from(specification).read_to_end(&mut bytes)?;
    Ok((Envelope::read(&bytes)?, namespace, [stdin, stdout, stderr]))
}

fn send(control: &OwnedFd, status: &Status, fd: Option<&OwnedFd>) -> io::Result<()> {
    let mut line = serde_json::to_vec(status)?;
    line.push(b'\n');
    let fds: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(
        control.as_raw_fd(),
        &[io::IoSlice::new(&line)],
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}
