//! `containment up`: the whole system, left running for people and their tools.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::UpArgs;
use crate::evidence::Recorder;
use crate::kubeconfig::{self, Kubeconfig};
use crate::lab::{Lab, Setup};
use crate::run::{Error, RunContext};
use crate::waiting::Waiting;

/// Starts a cluster with the orchestrator, the policy controller, the firewall and the named servers, prints how to
/// reach it, and takes it down on Ctrl-C.
///
/// # Errors
/// When the machine can't run it or a part does not start.
pub async fn up(args: &UpArgs, binary: PathBuf) -> Result<(), Error> {
    Kubeconfig::check(args.kubeconfig.as_deref()).map_err(unwritten)?;
    let context = Arc::new(RunContext::interactive(
        args.project_dir.as_deref(),
        binary,
        "up",
    )?);
    let recorder = Recorder::create(context.folder.clone())?;
    let setup = Setup {
        default_action_denies: true,
        ..Setup::default()
    };
    say("starting a cluster ...")?;
    let began = std::time::Instant::now();
    let mut lab = Lab::start(&context, &setup, &recorder, &Waiting::default()).await?;
    for name in &args.servers {
        let manifest = context.project.server(name)?;
        let server = lab.run_server(name, &manifest).await?;
        lab.await_enforced(name).await?;
        say(&format!(
            "server {name} runs as {}/{}",
            crate::lab::RUNTIME_NAMESPACE,
            server.pod
        ))?;
    }
    let (asked, home) = (args.kubeconfig.as_deref(), &context.folder);
    let kubeconfig = Kubeconfig::write(asked, home, &lab.kubeconfig()).map_err(unwritten)?;
    let token = context.folder.join("orchestrator-token");
    if let Some(own) = lab.orchestrator().token() {
        write_secret(&token, own.reveal())
            .map_err(|error| Error::Setup(format!("cannot write {}: {error}", token.display())))?;
        say(&format!(
            "bearer token of the orchestrator's owner: {}",
            token.display()
        ))?;
    }
    say(&format!(
        "ready after {:.2} s

  export KUBECONFIG={}

Orchestrator: {}
Evidence:     {}
Ctrl-C takes it down.",
        began.elapsed().as_secs_f64(),
        kubeconfig.path().display(),
        lab.orchestrator().base(),
        context.folder.display(),
    ))?;
    fixtures::shutdown_signal().await;
    say("taking the cluster down ...")?;
    let removed = kubeconfig.remove().map_err(unwritten);
    // The cluster that it belongs to is gone: a file that could not be removed opens nothing.
    drop(std::fs::remove_file(&token));
    lab.finish().await;
    removed
}

fn unwritten(error: kubeconfig::Error) -> Error {
    Error::Setup(error.to_string())
}

/// Writes a file that its owner alone may read.
fn write_secret(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn say(text: &str) -> Result<(), Error> {
    writeln!(anstream::stdout(), "{text}")
        .map_err(|error| Error::Setup(format!("cannot write: {error}")))
}
