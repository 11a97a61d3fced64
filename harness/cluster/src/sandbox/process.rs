//! The harness's side: the spawner thread, and a handle on each process that runs in a sandbox.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as StdStdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::spec::{Envelope, Launch, Status};
use super::supervisor::{DESCRIPTORS, Role};
use super::{Error, root, syscall};

/// Directories that exist on every Linux and rarely hold anything an image needs. In the spawner's private mount
/// namespace one of them becomes the scratch directory; nobody else sees that.
const SCRATCH: [&str; 4] = ["/dev/shm", "/mnt", "/media", "/srv"];
/// Bounds all emptyDir volumes of a node together.
const SCRATCH_OPTIONS: &str = "mode=755,size=512m,nr_inodes=128k";
/// Longest report of a helper; longer is not one.
const STATUS_LIMIT: usize = 16 * 1024;

/// Starts processes in sandboxes. One per cluster; dropping it and every [`Process`] ends the thread, and
/// the end of the thread kills what it started.
#[derive(Debug)]
pub struct Spawner {
    /// None after the shutdown.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    helper: PathBuf,
    scratch: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal, when one killed it.
    pub signal: Option<i32>,
}

/// A running process. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedWriteHalf,
    exit: watch::Receiver<Option<Exit>>,
}

enum Request {
    Start {
        role: Role,
        socket: OwnedFd,
        reply: oneshot::Sender<io::Result<Child>>,
    },
    EmptyDir(String, oneshot::Sender<io::Result<()>>),
    RemoveEmptyDir(String),
    Reap(Child),
}

impl Spawner {
    /// Starts the thread. `helper` is a binary whose main calls [`super::dispatch`].
    pub fn start(helper: PathBuf) -> Result<Self, Error> {
        let (requests, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let program = helper.clone();
        let thread = std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                let scratch = prepare_node();
                let failed = scratch.is_err();
                let directory = scratch.as_ref().ok().cloned();
                let _ = ready.send(scratch);
                if let (false, Some(directory)) = (failed, directory) {
                    serve(&program, &directory, &inbox);
                }
            })
            .map_err(|source| Error::Node {
                step: "starting the spawner thread",
                source,
            })?;
        let scratch = started.recv().map_err(|_| Error::ShuttingDown)??;
        Ok(Self {
            requests: Mutex::new(Some(requests)),
            helper,
            scratch,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs `launch` in a sandbox of its own, in the given network namespace. Returns once the image runs.
    pub async fn start_container(
        &self,
        launch: Launch,
        netns: BorrowedFd<'_>,
        stdio: [OwnedFd; 3],
    ) -> Result<Process, Error> {
        self.run(Role::Init, launch, netns, stdio).await
    }

    /// Runs `launch` beside `process`, in its namespaces and with the same confinement.
    pub async fn exec(
        &self,
        process: &Process,
        launch: Launch,
        stdio: [OwnedFd; 3],
    ) -> Result<Process, Error> {
        self.run(Role::Exec, launch, process.pidfd.as_fd(), stdio)
            .await
    }

    /// Creates the emptyDir volume `name`, which containers then mount by that name. Repeating it is harmless.
    pub async fn create_empty_dir(&self, name: &str) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::EmptyDir(name.to_owned(), reply))?;
        Ok(answer.await.map_err(|_| Error::ShuttingDown)??)
    }

    /// Removes an emptyDir volume with its contents.
    pub fn remove_empty_dir(&self, name: &str) {
        let _ = self.send(Request::RemoveEmptyDir(name.to_owned()));
    }

    /// Starts nothing more and waits until every process is reaped. All [`Process`] values must be dropped or on their way
    /// to be.
    pub async fn shutdown(&self) {
        drop(lock(&self.requests).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        let requests = lock(&self.requests);
        requests
            .as_ref()
            .and_then(|requests| requests.send(request).ok())
            .ok_or(Error::ShuttingDown)
    }

    async fn run(
        &self,
        role: Role,
        launch: Launch,
        namespace: BorrowedFd<'_>,
        stdio: [OwnedFd; 3],
    ) -> Result<Process, Error> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let envelope = Envelope {
            harness: std::process::id(),
            scratch: self.scratch.clone(),
            launch,
        };
        send_envelope(&ours, &envelope, namespace, &stdio)?;
        drop((envelope, stdio));

        let (reply, answer) = oneshot::channel();
        let request = Request::Start {
            role,
            socket: theirs.into(),
            reply,
        };
        self.send(request)?;
        let requests = lock(&self.requests).clone().ok_or(Error::ShuttingDown)?;
        let child = answer
            .await
            .map_err(|_| Error::ShuttingDown)?
            .map_err(|source| Error::Helper {
                helper: self.helper.clone(),
                source,
            })?;
        let reaper = Reaper {
            child: Some(child),
            requests,
        };

        ours.set_nonblocking(true)?;
        let (reader, control) = UnixStream::from_std(ours)?.into_split();
        let mut reports = Reports {
            reader,
            buffer: Vec::new(),
            pidfd: None,
        };
        match reports.next().await? {
            Some(Status::Started { pid }) => {
                let pidfd = reports.pidfd.take().ok_or_else(|| Error::Silent {
                    helper: self.helper.clone(),
                })?;
                let (exit_sender, exit) = watch::channel(None);
                tokio::spawn(watch_exit(reports, reaper, exit_sender));
                Ok(Process {
                    pid,
                    pidfd,
                    control,
                    exit,
                })
            }
            Some(Status::Failed { step, message }) => Err(Error::Setup { step, message }),
            Some(Status::Exited { .. }) | None => Err(Error::Silent {
                helper: self.helper.clone(),
            }),
        }
    }
}

impl Exit {
    /// What a shell and the kubelet show: the code, or 128 plus the signal.
    pub fn status(&self) -> i32 {
        self.code.unwrap_or_else(|| 128 + self.signal.unwrap_or(0))
    }
}

impl Process {
    /// The host's process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal; a process that has ended takes no notice.
    pub fn signal(&self, signal: Signal) {
        // One byte into an empty socket buffer: it fits, or the helper is gone.
        let _ = self.control.try_write(&[signal as u8]);
    }

    /// How the process ended, once it has.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let outcome = exit
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| *exit);
        outcome.unwrap_or(KILLED)
    }

    /// How the process ended, if it has.
    pub fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }
}

/// A helper that vanished took its container along: that is what a kill looks like.
const KILLED: Exit = Exit {
    code: None,
    signal: Some(Signal::SIGKILL as i32),
};

/// Reads reports until the helper ends, then publishes the outcome.
async fn watch_exit(mut reports: Reports, reaper: Reaper, exit: watch::Sender<Option<Exit>>) {
    let mut outcome = KILLED;
    while let Ok(Some(status)) = reports.next().await {
        if let Status::Exited { code, signal } = status {
            outcome = Exit { code, signal };
        }
    }
    drop(reaper);
    exit.send_replace(Some(outcome));
}

/// Has the spawner thread wait for the helper, so that no zombie stays.
struct Reaper {
    child: Option<Child>,
    requests: mpsc::Sender<Request>,
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = self.requests.send(Request::Reap(child));
        }
    }
}

struct Reports {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    pidfd: Option<OwnedFd>,
}

impl Reports {
    /// The next report; none when the helper is gone.
    async fn next(&mut self) -> io::Result<Option<Status>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.buffer.len() > STATUS_LIMIT {
                return Err(io::Error::other("the helper's report is too long"));
            }
            self.reader.readable().await?;
            let stream: &UnixStream = self.reader.as_ref();
            let (buffer, pidfd) = (&mut self.buffer, &mut self.pidfd);
            match stream.try_io(Interest::READABLE, || {
                receive(stream.as_raw_fd(), buffer, pidfd)
            }) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

fn receive(socket: RawFd, buffer: &mut Vec<u8>, pidfd: &mut Option<OwnedFd>) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut bytes = [0; 1024];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        socket,
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            *pidfd = numbers.into_iter().map(syscall::own).next();
        }
    }
    let length = message.bytes;
    buffer.extend_from_slice(&bytes[..length]);
    Ok(length)
}

fn send_envelope(
    to: &StdUnixStream,
    envelope: &Envelope,
    namespace: BorrowedFd<'_>,
    stdio: &[OwnedFd; 3],
) -> io::Result<()> {
    let mut specification = File::from(memfd_create(c"container", MFdFlags::MFD_CLOEXEC)?);
    envelope.write(&mut specification)?;
    specification.rewind()?;
    let fds: [RawFd; DESCRIPTORS] = [
        specification.as_raw_fd(),
        namespace.as_raw_fd(),
        stdio[0].as_raw_fd(),
        stdio[1].as_raw_fd(),
        stdio[2].as_raw_fd(),
    ];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(
        to.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &rights,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

/// Gives the calling thread a mount namespace of its own with an empty scratch directory in it.
fn prepare_node() -> Result<PathBuf, Error> {
    fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Node {
            step,
            source: source.into(),
        }
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare"))?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(failed("making mounts private"))?;
    let scratch = SCRATCH
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_dir());
    let scratch = scratch.ok_or_else(|| {
        failed("looking for /dev/shm or /mnt")(io::Error::from(io::ErrorKind::NotFound))
    })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        scratch,
        Some("tmpfs"),
        flags,
        Some(SCRATCH_OPTIONS),
    )
    .map_err(failed("mounting a tmpfs"))?;
    std::fs::create_dir(scratch.join(root::MOUNT_POINT))
        .map_err(failed("creating the mount point"))?;
    Ok(scratch.to_owned())
}

/// The spawner thread. It alone starts helpers, so their parent lives as long as the cluster.
fn serve(helper: &Path, scratch: &Path, inbox: &mpsc::Receiver<Request>) {
    while let Ok(request) = inbox.recv() {
        match request {
            Request::Start {
                role,
                socket,
                reply,
            } => {
                let role = match role {
                    Role::Init => "pod-init",
                    Role::Exec => "pod-exec",
                };
                let mut command = Command::new(helper);
                command.arg(role).stdin(socket).stdout(StdStdio::null());
                // A process group of its own: Ctrl-C at the terminal is for the harness, which then tears down in order.
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
                // Nobody waits any more: their end of the socket is closed, which ends the helper.
                if let Err(Ok(mut child)) = reply.send(command.spawn()) {
                    drop(command);
                    let _ = child.wait();
                }
            }
            Request::EmptyDir(name, reply) => {
                let _ = reply.send(empty_dir(&scratch.join(name)));
            }
            Request::RemoveEmptyDir(name) => {
                let _ = std::fs::remove_dir_all(scratch.join(name));
            }
            Request::Reap(mut child) => {
                let _ = child.wait();
            }
        }
    }
}

fn empty_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
