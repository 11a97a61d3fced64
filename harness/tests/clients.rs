//! Clients that no one here wrote, against `containment up`: kubectl, and client-go's shared informer.
//!
//! Where a client is not on the machine, its test says so on the standard error and shows nothing; with
//! `CONTAINMENT_REQUIRE_CLIENTS` set (as in continuous integration) that is a failure.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::Value;

/// `containment up` with one server, and the folder its kubeconfig is in.
struct Up {
    child: Child,
    folder: tempfile::TempDir,
    /// Keeps the pipe open: the program says its last word into it.
    output: BufReader<ChildStdout>,
}

impl Up {
    /// Returns once the program says that everything is ready.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_containment"))
            .args(["up", "--server", "weather", "--kubeconfig"])
            .arg(folder.path().join("kubeconfig"))
            .arg("--project-dir")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready after") {
            let read = output.read_line(&mut said).unwrap();
            assert_ne!(read, 0, "the cluster did not come up:\n{said}");
        }
        Self {
            child,
            folder,
            output,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Up {
    /// As a user ends it.
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let _ = self.output.read_to_string(&mut String::new());
        let _ = self.child.wait();
    }
}

/// Where a program is, or a word that the test shows nothing.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        absent(&format!("{program} is not on this machine"));
    }
    found
}

#[expect(
    clippy::print_stderr,
    reason = "a test that proves nothing must say so"
)]
fn absent(why: &str) {
    assert!(
        std::env::var_os("CONTAINMENT_REQUIRE_CLIENTS").is_none(),
        "{why}, and CONTAINMENT_REQUIRE_CLIENTS is set"
    );
    eprintln!("NOT TESTED: {why}");
}

struct Kubectl {
    up: Up,
    program: PathBuf,
}

impl Kubectl {
    /// Output of a command that must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        self.feed(arguments, "")
    }

    fn feed(&self, arguments: &[&str], input: &str) -> String {
        let mut command = self.up.command(&self.program);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed: {out}{err}"
        );
        out
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: visitor, labels: {app: visitor}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'containment.test/idle:1.0.0'}
";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: idlers}
spec:
  replicas: 2
  selector: {matchLabels: {app: idlers}}
  template:
    metadata: {labels: {app: idlers}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'containment.test/idle:1.0.0'}
";

/// What the README shows, and what anyone does next.
#[test]
fn kubectl_looks_around_in_a_running_system() {
    let Some(program) = find("kubectl") else {
        return;
    };
    let kubectl = Kubectl {
        up: Up::start(),
        program,
    };
    let everything = kubectl.run(&["get", "pods,deployments,firewallpolicies", "-A"]);
    for word in [
        "obot-system",
        "obot-mcp",
        "firewallpolicy",
        "1/1",
        "Running",
    ] {
        assert!(everything.contains(word), "no {word} in\n{everything}");
    }
    let name = kubectl.run(&["-n", "obot-mcp", "get", "deploy", "-o", "name"]);
    let server = name.trim();
    let available = ["-n", "obot-mcp", "wait", "--for=condition=Available"];
    kubectl.run(&[&available[..], &["--timeout=20s", server]].concat());
    let described = kubectl.run(&["-n", "obot-mcp", "describe", server]);
    assert!(described.contains("fetcher:1.0.0"), "{described}");
    let described = kubectl.run(&["-n", "obot-mcp", "describe", "pods"]);
    assert!(described.contains("Node:"), "{described}");
    let log = kubectl.run(&["-n", "obot-mcp", "logs", server]);
    assert!(!log.trim().is_empty(), "the server wrote nothing");

    let probe = |host: &str| {
        let exec = ["-n", "obot-mcp", "exec", server, "--"];
        let probe = [
            "containment",
            "probe",
            "tls",
            "--port",
            "443",
            "--host",
            host,
        ];
        let lines = kubectl.run(&[&exec[..], &probe].concat());
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        last["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(probe("api.weather-service.test"), "completed");
    assert_eq!(probe("collect.pkg-telemetry.test"), "closed");
}

#[test]
fn kubectl_makes_watches_and_removes_workloads() {
    let Some(program) = find("kubectl") else {
        return;
    };
    let kubectl = Kubectl {
        up: Up::start(),
        program,
    };
    let mut watch = kubectl.up.command(&kubectl.program);
    let mut watch = watch
        .args(["get", "pods", "--watch", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut until = |word: &str| {
        let mut lines = Vec::new();
        for line in seen.by_ref() {
            let line = line.unwrap();
            if line.starts_with("visitor") && line.contains(word) {
                return;
            }
            lines.push(line);
        }
        panic!("the watch never showed {word:?}: {lines:?}");
    };

    assert_eq!(
        kubectl.feed(&["apply", "-f", "-"], POD),
        "pod/visitor created\n"
    );
    assert_eq!(
        kubectl.feed(&["apply", "-f", "-"], POD),
        "pod/visitor unchanged\n"
    );
    kubectl.run(&[
        "wait",
        "--for=condition=Ready",
        "pod/visitor",
        "--timeout=20s",
    ]);
    until("Running");
    // Returns when the Pod is gone, which kubectl learns from a watch of its own.
    kubectl.run(&["delete", "pod", "visitor", "--timeout=20s"]);
    until("Terminating");
    watch.kill().unwrap();
    watch.wait().unwrap();

    kubectl.feed(&["apply", "-f", "-"], DEPLOYMENT);
    let status = ["rollout", "status", "deploy/idlers", "--timeout=30s"];
    let rolled_out = "deployment \"idlers\" successfully rolled out";
    assert!(kubectl.run(&status).contains(rolled_out));
    kubectl.run(&["rollout", "restart", "deploy/idlers"]);
    assert!(kubectl.run(&status).contains(rolled_out));
    let history = kubectl.run(&["rollout", "history", "deploy/idlers"]);
    assert!(history.contains('2'), "{history}");
    kubectl.run(&["scale", "deploy/idlers", "--replicas=1"]);
    assert!(kubectl.run(&status).contains(rolled_out));
    kubectl.run(&["delete", "deploy", "idlers", "--timeout=20s"]);
    kubectl.run(&[
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app=idlers",
        "--timeout=20s",
    ]);
}

/// The program in `clients/informer`, built once. None when its modules can't be had; anything else that goes wrong fails.
fn informer(go: &Path) -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build_informer(go)).clone()
}

fn build_informer(go: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/informer");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(go);
        command
            .args(arguments)
            .current_dir(&source)
            .env("GOFLAGS", "-mod=readonly");
        command.output().unwrap()
    };
    let modules = run(&["mod", "download"]);
    if !modules.status.success() {
        let why = text(&modules.stderr);
        absent(&format!("client-go's modules can't be had: {}", why.trim()));
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("informer");
    let built = run(&["build", "-o", program.to_str().unwrap(), "."]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    Some(program)
}

/// The lines of one kind that the informer said.
fn said<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["say"] == kind).collect()
}

/// A request in short: `list`, `list at N`, `watch at N`, `stream` (a watch that begins with the present state).
fn short(request: &Value) -> &'static str {
    let anew = matches!(request["resourceVersion"].as_str(), Some("" | "0"));
    match (
        request["verb"].as_str(),
        request["sendInitialEvents"].as_str(),
    ) {
        (Some("watch"), Some("true")) => "stream",
        (Some("watch"), _) => "watch at N",
        (Some("list"), _) if anew => "list",
        (Some("list"), _) => "list at N",
        other => panic!("an unknown request {other:?}"),
    }
}

/// One informer lists and watches, one streams its first state; both lose the past and find back.
#[rstest]
#[case::list_and_watch("false", &["list", "watch at N", "watch at N", "list at N", "watch at N"])]
#[case::watch_list("true", &["stream", "watch at N", "stream"])]
fn an_informer_of_client_go_keeps_up(#[case] watch_list: &str, #[case] requests: &[&str]) {
    let Some(program) = find("go").and_then(|go| informer(&go)) else {
        return;
    };
    let up = Up::start();
    let output = up
        .command(&program)
        .env("KUBE_FEATURE_WatchListClient", watch_list)
        .output()
        .unwrap();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{all}");
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    let made: Vec<&str> = said(&lines, "request").into_iter().map(short).collect();
    assert_eq!(made[..requests.len()], *requests, "{all}");
    let watches = said(&lines, "request").into_iter();
    assert!(
        watches
            .filter(|request| request["verb"] == "watch")
            .all(|request| request["bookmarks"] == "true"),
        "{all}"
    );
    let end_of_initial = said(&lines, "bookmark")
        .into_iter()
        .filter(|bookmark| bookmark["initialEventsEnd"] == "true")
        .count();
    let streams = requests.iter().filter(|&&request| request == "stream");
    assert_eq!(end_of_initial, streams.count(), "{all}");

    // What it was told while it looked on, and what it found out afterwards.
    let events: Vec<&str> = said(&lines, "event")
        .into_iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    for event in [
        "add before",
        "add live",
        "update live",
        "add doomed",
        "delete live",
        "delete doomed",
        "add missed",
        "add after",
    ] {
        assert!(events.contains(&event), "no {event:?}: {all}");
    }
    let expired = said(&lines, "error");
    assert_eq!(expired.len(), 1, "{all}");
    assert_eq!(
        (&expired[0]["code"], &expired[0]["reason"]),
        (&410.into(), &"Expired".into())
    );
    let mut store: Vec<&str> = said(&lines, "store")[0]["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    store.sort_unstable();
    assert_eq!(
        store,
        ["after", "before", "kube-root-ca.crt", "missed"].map(|name| format!("default/{name}"))
    );
    let short = said(&lines, "short")[0];
    assert_eq!(short["events"], serde_json::json!(["BOOKMARK"]), "{all}");
    assert_eq!((&short["page"], &short["more"]), (&1.into(), &true.into()));
    for call in said(&lines, "ancient") {
        assert_eq!(call["expired"], true, "{all}");
    }
    assert_eq!(said(&lines, "ancient").len(), 2, "{all}");
}
