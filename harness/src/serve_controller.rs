//! `containment serve controller`: the fake Aviatrix controller alone, for people who want to try Terraform, scripts or
//! the vendor's tools against it.
//!
//! No gateway is connected, so nothing is filtered; what is configured is still checked and compiled, and clusters that
//! are registered with a kubeconfig are watched. What the controller is and is not, `mock_controller` says.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mock_controller::api::server::Server;
use mock_controller::api::{Api, ApiConfig, Credentials};
use mock_controller::controller::{Controller, ControllerConfig, GatewayLink};
use mock_controller::policy::Snapshot;
use mock_controller::store::Store;
use tokio_util::sync::CancellationToken;

/// What `--help` teaches.
pub const AFTER_HELP: &str = r#"What it is:
  A fake. It keeps everything in memory, filters nothing, and must never stand where a real
  controller should. Objects, features, rules, Kubernetes clusters, remote syslog, accounts and the
  minimal spoke gateway behave as the vendor's Terraform provider expects; anything else is answered
  with HTTP status 501 and its name, and logged. Groups of clouds, sites, feeds and URLs are kept
  and match nothing, with a warning. Each call is one line on standard error; what is configured is
  printed at the start and at the end.

Terraform, with AVIATRIX_USERNAME and AVIATRIX_PASSWORD set or username and password in the block:
  provider "aviatrix" {
    controller_ip           = "127.0.0.1:8443"
    verify_ssl_certificate  = true
    path_to_ca_certificate  = "/tmp/controller-ca.pem"
    skip_version_validation = true # or start it with the provider's version: --controller-version
  }

curl:
  curl --cacert /tmp/controller-ca.pem https://127.0.0.1:8443/v1/api \
    -d action=login -d username=admin -d password=containment
  curl --cacert /tmp/controller-ca.pem \
    "https://127.0.0.1:8443/v2/api?action=list_version_info&CID=<CID>"
  curl --cacert /tmp/controller-ca.pem -H "Authorization: cid <CID>" \
    https://127.0.0.1:8443/v2.5/api/app-domains

Examples:
  containment serve controller --ca-file /tmp/controller-ca.pem
  containment serve controller --listen 127.0.0.1:0 --controller-version 9.0.10
  containment serve controller --session-lifetime 5        see a client log in again"#;

/// Command line and environment of `containment serve controller`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "CONTAINMENT_CONTROLLER_LISTEN",
        default_value = "127.0.0.1:8443"
    )]
    pub listen: String,
    /// Version that the controller says it has. It decides which features there are, and the provider wants its own
    /// major and minor version.
    #[arg(
        long,
        value_name = "VERSION",
        env = "CONTAINMENT_CONTROLLER_VERSION",
        default_value = "8.2.0"
    )]
    pub controller_version: String,
    /// The one user. The provider reads the same variable.
    #[arg(
        long,
        value_name = "NAME",
        env = "AVIATRIX_USERNAME",
        default_value = "admin"
    )]
    pub username: String,
    /// Its password, printed at the start unless it comes from the environment. The provider reads the same variable.
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "AVIATRIX_PASSWORD",
        default_value = "containment",
        hide_env_values = true
    )]
    pub password: String,
    /// Seconds after its login when a session expires.
    #[arg(long, value_name = "SECONDS", env = "CONTAINMENT_CONTROLLER_SESSION_LIFETIME", default_value_t = 3600,
        value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub session_lifetime: u64,
    /// Where to write the certificate authority, as PEM. It is made anew at each start.
    #[arg(long, value_name = "FILE", env = "CONTAINMENT_CONTROLLER_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Host names and addresses that the certificate covers, besides localhost and the one listened on (repeatable, or
    /// separated by commas).
    #[arg(
        long = "name",
        value_name = "NAME",
        env = "CONTAINMENT_CONTROLLER_NAMES",
        value_delimiter = ','
    )]
    pub names: Vec<String>,
    /// Attachment points to have besides the vendor's own, as `test-attachment-point` of the provider's tests
    /// (repeatable, or separated by commas).
    #[arg(
        long = "attachment-point",
        value_name = "NAME",
        env = "CONTAINMENT_CONTROLLER_ATTACHMENT_POINTS",
        value_delimiter = ','
    )]
    pub attachment_points: Vec<String>,
}

/// Why the role can not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No listener, or no certificate.
    #[error("cannot start the fake controller: {0}")]
    Start(#[from] mock_controller::api::server::Error),
    /// Too many attachment points.
    #[error("cannot set up the fake controller: {0}")]
    Setup(#[from] mock_controller::store::Error),
    /// The authority's file.
    #[error("cannot write the certificate authority to {}: {source}; name a file in a folder that exists", path.display())]
    CaFile {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Standard output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When it cannot listen, or a name fits no certificate, or a file or standard output cannot be written.
pub async fn run(args: Args) -> Result<(), Error> {
    let controller = Arc::new(Controller::new(ControllerConfig::default()));
    controller.configure(|store| {
        let mut points = args.attachment_points.iter();
        points.try_for_each(|name| store.add_attachment_point(name))
    })?;
    let config = ApiConfig {
        version: args.controller_version.clone(),
        credentials: Credentials {
            username: args.username.clone(),
            password: args.password.clone(),
        },
        session_lifetime: Duration::from_secs(args.session_lifetime),
    };
    let api = Arc::new(Api::new(Arc::clone(&controller), config));
    let server = Server::start(api, &args.listen, &certificate_names(&args)).await?;
    if let Some(path) = &args.ca_file {
        std::fs::write(path, server.ca_pem()).map_err(|source| Error::CaFile {
            path: path.clone(),
            source,
        })?;
    }
    let introduction = introduction(&args, &server, &controller.read(state));
    writeln!(anstream::stdout(), "{introduction}")?;

    let cancel = CancellationToken::new();
    let compiling = tokio::spawn({
        let (controller, cancel) = (Arc::clone(&controller), cancel.clone());
        controller.run(Arc::new(NoGateway), cancel)
    });
    fixtures::shutdown_signal().await;
    tracing::info!("stopping");
    cancel.cancel();
    server.stop().await;
    let _ = compiling.await;
    let state = controller.read(state);
    writeln!(anstream::stdout(), "Gone with this process: {state}")?;
    Ok(())
}

/// Nothing enforces what is compiled; the log says what a gateway would have been given.
struct NoGateway;

impl GatewayLink for NoGateway {
    fn push(&self, policy: Arc<Snapshot>) -> BoxFuture<'static, ()> {
        tracing::info!(
            generation = policy.generation,
            "the policy compiles; no gateway is connected to enforce it"
        );
        Box::pin(std::future::ready(()))
    }
}

fn certificate_names(args: &Args) -> Vec<String> {
    let host = args.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let mut names = vec!["localhost", "127.0.0.1", "::1", host];
    names.extend(args.names.iter().map(String::as_str));
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

/// What is configured, in a line.
fn state(store: &Store) -> String {
    let lists = |key: &str| store.policies().filter(|list| !list[key].is_null()).count();
    let groups = store.app_domains().count() - Store::default().app_domains().count();
    let rules = store.policy_list()["policies"].as_array();
    let counted = [
        (groups, "groups"),
        (rules.map_or(0, Vec::len), "rules in the policy list"),
        (lists("policies"), "rulesets"),
        (lists("sub_policies"), "policy groups"),
        (store.kubernetes_clusters().len(), "Kubernetes clusters"),
        (store.remote_syslog().len(), "syslog servers"),
        (store.accounts().count(), "accounts"),
        (store.spoke_gateways().count(), "spoke gateways"),
    ];
    let said = |parts: Vec<String>, nothing: &str| match parts.as_slice() {
        [] => nothing.to_owned(),
        parts => parts.join(", "),
    };
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let objects = counted.map(|(count, what)| format!("{what} {count}"));
    let features = store.features_on().map(str::to_owned);
    format!(
        "{}; default action {}; features on: {}",
        said(objects.collect(), "empty"),
        store.default_action_rule()["action"]
            .as_str()
            .unwrap_or_default(),
        said(features.collect(), "none")
    )
}

fn introduction(args: &Args, server: &Server, state: &str) -> String {
    let authority = args.ca_file.as_ref().map_or_else(
        || "not written; --ca-file FILE writes it".to_owned(),
        |path| path.display().to_string(),
    );
    // A password of the environment is somebody's secret; the default and one on the command line are on show anyway.
    let password = if std::env::var_os("AVIATRIX_PASSWORD").is_some() {
        "as AVIATRIX_PASSWORD says"
    } else {
        &args.password
    };
    format!(
        "This is a FAKE Aviatrix controller: everything is in memory alone, no gateway is connected, never for production.\n\n  \
         address           {address}\n  \
         URL               https://{address}\n  \
         version           {version}\n  \
         username          {username}\n  \
         password          {password}\n  \
         sessions last     {lifetime} s\n  \
         authority         {authority}\n  \
         state             {state}\n\n\
         Calls are logged on standard error. Ctrl-C stops it.",
        address = server.address(),
        version = args.controller_version,
        username = args.username,
        lifetime = args.session_lifetime,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command, Role};
    use clap::Parser as _;

    fn args(options: &[&str]) -> Args {
        let command = ["containment", "serve", "controller"].iter().chain(options);
        let Some(Command::Serve(role)) = Cli::try_parse_from(command).unwrap().command else {
            panic!("another command")
        };
        match *role {
            Role::Controller(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case::default(&[], &["127.0.0.1", "::1", "localhost"])]
    #[case::named(&["--listen", "10.0.0.9:443", "--name", "a.test,b.test", "--name", "c.test"],
        &["10.0.0.9", "127.0.0.1", "::1", "a.test", "b.test", "c.test", "localhost"])]
    #[case::ipv6(&["--listen", "[::1]:8443"], &["127.0.0.1", "::1", "localhost"])]
    #[case::any(&["--listen", ":8443"], &["127.0.0.1", "::1", "localhost"])]
    fn the_certificate_covers_what_is_listened_on(
        #[case] options: &[&str],
        #[case] expected: &[&str],
    ) {
        assert_eq!(certificate_names(&args(options)), expected);
    }

    #[tokio::test]
    async fn the_introduction_says_how_to_get_in() {
        let args = args(&["--listen", "127.0.0.1:0", "--controller-version", "9.0.10"]);
        let controller = Arc::new(Controller::new(ControllerConfig::default()));
        let group = json!({"name": "g", "selector": {"any": [{"all": {"cidr": "10.0.0.0/8"}}]}});
        let created = controller.configure(|store| store.create_app_domain(group));
        created.unwrap();
        let api = Arc::new(Api::new(Arc::clone(&controller), ApiConfig::default()));
        let server = Server::start(api, &args.listen, &certificate_names(&args))
            .await
            .unwrap();
        let text = introduction(&args, &server, &controller.read(state));
        for expected in [
            "FAKE",
            "memory alone",
            &server.address().to_string(),
            "9.0.10",
            "admin",
            "--ca-file",
            "groups 1; default action PERMIT; features on: none",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        server.stop().await;
    }
}
