//! `exec`: one more process in a running container, with its streams as messages.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use api_server::{ExecOptions, ExecOutput, ExecSession, KubeletError};
use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::container::Container;
use crate::sandbox::{Error, Launch, Process, RootSpec, Spawner};

/// Messages under way in either direction; more make the sender wait.
const QUEUE: usize = 32;
const CHUNK: usize = 16 * 1024;

/// Starts the command. What the kernel refuses to run shows as a message on standard error and exit code 126 or 127, as a
/// shell would.
pub(super) async fn start(
    spawner: &Spawner,
    container: &Container,
    options: ExecOptions,
) -> Result<ExecSession, KubeletError> {
    let running = container.running().ok_or_else(|| {
        KubeletError::BadRequest(format!("container {} is not running", container.name()))
    })?;
    let launch = Launch {
        argv: options.command.clone(),
        terminal: options.tty,
        root: RootSpec::default(),
        ..running.launch.clone()
    };
    let (stdin_sender, stdin) = mpsc::channel(QUEUE);
    let (output_sender, output) = mpsc::channel(QUEUE);
    let (streams, ends) = Streams::open(options.tty, options.stdin).map_err(internal)?;
    match spawner.exec(&running.process, launch, ends).await {
        Ok(process) => {
            let mut tasks = JoinSet::new();
            tasks.spawn(attend(process, streams, stdin, output_sender));
            Ok(ExecSession {
                stdin: stdin_sender,
                output,
                guard: Box::new(tasks),
            })
        }
        Err(Error::Setup { step, message }) => {
            // The queue is empty and holds more than two.
            let _ =
                output_sender.try_send(ExecOutput::Stderr(format!("{step}: {message}\n").into()));
            let _ = output_sender.try_send(ExecOutput::Exit(if step.starts_with("running") {
                126
            } else {
                127
            }));
            Ok(ExecSession {
                stdin: stdin_sender,
                output,
                guard: Box::new(()),
            })
        }
        Err(error) => Err(internal(error)),
    }
}

/// Runs a session to its end and drops what it prints.
pub(super) async fn exit_code(mut session: ExecSession) -> i32 {
    while let Some(output) = session.output.recv().await {
        if let ExecOutput::Exit(code) = output {
            return code;
        }
    }
    -1
}

fn internal(error: impl std::fmt::Display) -> KubeletError {
    KubeletError::Internal(error.to_string())
}

/// The harness's ends of the command's streams.
enum Streams {
    Pipes {
        stdin: Option<pipe::Sender>,
        stdout: pipe::Receiver,
        stderr: pipe::Receiver,
    },
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl Streams {
    fn open(terminal: bool, stdin: bool) -> io::Result<(Self, [OwnedFd; 3])> {
        if terminal {
            let pty = nix::pty::openpty(None, None)?;
            fcntl(pty.master.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let ends = [pty.slave.try_clone()?, pty.slave.try_clone()?, pty.slave];
            return Ok((Self::Terminal(Arc::new(register(pty.master)?)), ends));
        }
        let (stdin, stdin_end) = if stdin {
            let (sender, receiver) = pipe::pipe()?;
            (Some(sender), receiver.into_blocking_fd()?)
        } else {
            (None, null()?)
        };
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        Ok((
            Self::Pipes {
                stdin,
                stdout,
                stderr,
            },
            [stdin_end, stdout_end, stderr_end],
        ))
    }
}

#[expect(unsafe_code, reason = "AsyncFd wants a promise about its descriptor")]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// A pipe whose writing end goes to a container.
pub(super) fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (sender, receiver) = pipe::pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

/// Standard input of whoever has none.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}

/// Carries the streams until the command has ended and everything it wrote is delivered. Dropping this kills it.
async fn attend(
    process: Process,
    streams: Streams,
    stdin: mpsc::Receiver<Bytes>,
    output: mpsc::Sender<ExecOutput>,
) {
    match streams {
        Streams::Pipes {
            stdin: to,
            stdout,
            stderr,
        } => {
            let copies = async {
                tokio::join!(
                    read(stdout, ExecOutput::Stdout, &output),
                    read(stderr, ExecOutput::Stderr, &output),
                )
            };
            // Input that nobody reads any more must not hold the end up.
            tokio::select! {
                _ = copies => {}
                () = async { write(to, stdin).await; std::future::pending().await } => {}
            }
        }
        Streams::Terminal(master) => {
            let reading = read_terminal(Arc::clone(&master), &output);
            tokio::select! {
                () = reading => {}
                () = async { write_terminal(master, stdin).await; std::future::pending().await } => {}
            }
        }
    }
    let exit = process.wait().await;
    let _ = output.send(ExecOutput::Exit(exit.status())).await;
}

async fn read(
    mut from: pipe::Receiver,
    kind: fn(Bytes) -> ExecOutput,
    to: &mpsc::Sender<ExecOutput>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if to
            .send(kind(Bytes::copy_from_slice(&chunk[..length])))
            .await
            .is_err()
        {
            break;
        }
    }
}

async fn write(to: Option<pipe::Sender>, mut from: mpsc::Receiver<Bytes>) {
    let Some(mut to) = to else { return };
    while let Some(bytes) = from.recv().await {
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

async fn read_terminal(master: Arc<AsyncFd<OwnedFd>>, to: &mpsc::Sender<ExecOutput>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = |fd: &OwnedFd| Ok(nix::unistd::read(fd, &mut chunk)?);
        // EIO is how a terminal says that its last user is gone.
        match master.async_io(Interest::READABLE, read).await {
            Ok(length @ 1..) => {
                if to
                    .send(ExecOutput::Stdout(Bytes::copy_from_slice(&chunk[..length])))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}

async fn write_terminal(master: Arc<AsyncFd<OwnedFd>>, mut from: mpsc::Receiver<Bytes>) {
    while let Some(mut bytes) = from.recv().await {
        while !bytes.is_empty() {
            let write = |fd: &OwnedFd| Ok(nix::unistd::write(fd, &bytes)?);
            match master.async_io(Interest::WRITABLE, write).await {
                Ok(written) => drop(bytes.split_to(written)),
                Err(_) => return,
            }
        }
    }
    // End of input on a terminal is a character.
    let _ = nix::unistd::write(master.get_ref(), &[4]);
}
