//! The program as its users meet it: bad input, an unfit machine, crashes, hangs and interrupts, by exit code and text.

#![allow(clippy::unwrap_used)]

#[path = "support/project.rs"]
mod project;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use project::{Project, descendant_running, finish};

#[rstest::rstest]
#[case::unknown_flag(&["run", "--nonsense"], "--nonsense")]
#[case::unknown_fault(&["run", "--fault", "no-such-fault"], "scenarios/faults.yaml has: ")]
#[case::empty_selection(&["run", "--tags", "@EGR-99"], "no scenario matches")]
#[case::no_such_profile(&["run", "--profile", "nothing"], "features/nothing")]
fn a_wrong_command_line_is_exit_2(#[case] arguments: &[&str], #[case] says: &str) {
    let (code, text) = Project::new().run(arguments);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(says), "{text}");
}

#[rstest::rstest]
#[case::feature(
    "features/egress/default-deny.feature",
    "    Then the control passes",
    "    Tehn the control passes",
    "default-deny.feature:15:22: not valid Gherkin"
)]
#[case::step(
    "features/egress/default-deny.feature",
    "When as a control, the pod of \"weather\" requests",
    "When as a control, the pod of \"weather\" begs for",
    "begs for"
)]
#[case::tag("features/egress/default-deny.feature", "@EGR-13", "@EGR-77", "EGR-77")]
#[case::manifest(
    "scenarios/servers/weather.yaml",
    "runtime: containerized",
    "runtime: magic",
    "weather.yaml:"
)]
#[case::internet(
    "scenarios/internet.yaml",
    "role: ehr",
    "role: oracle",
    "internet.yaml:"
)]
fn a_broken_file_is_named_and_is_exit_2(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] says: &str,
) {
    let project = Project::new();
    project.edit(file, from, to);
    let (code, text) = project.run(&["run"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(says), "{text}");
    assert!(
        !project.0.path().join("containment-results").exists(),
        "nothing may have run"
    );
}

#[test]
fn a_machine_without_tun_is_exit_2_with_the_remedy() {
    let project = Project::new();
    let mut command = project.command(&["run"]);
    let hide_tun = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        mount(
            Some("none"),
            "/dev/net",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
        Ok(())
    };
    // Between fork and exec only system calls are made.
    #[expect(
        unsafe_code,
        reason = "the child hides a device from itself before it becomes the program"
    )]
    unsafe {
        command.pre_exec(hide_tun);
    }
    let (code, text) = finish(command);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/dev/net/tun"), "{text}");
}

#[test]
fn without_node_the_npx_scenarios_are_not_testable_in_words() {
    let project = Project::new();
    let mut command = project.command(&["run", "--tags", "@npx"]);
    command.env("PATH", "");
    let (code, text) = finish(command);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("2 not-testable"), "{text}");
    assert!(text.contains("no program node in PATH"), "{text}");
    assert!(!text.contains("passed"), "{text}");
}

#[test]
fn a_crashed_fixture_is_exit_70_and_leaves_its_evidence() {
    let project = Project::new();
    // The fixture refuses to start with a base that is none.
    project.edit(
        "scenarios/servers/ehr-sync.yaml",
        "https://fhir.stolaf-hospital.test",
        "mailto:nobody",
    );
    let (code, text) = project.run(&["run", "--tags", "@flagship", "--timeout", "20"]);
    assert_eq!(code, Some(70), "{text}");
    assert!(text.contains("HARNESS-ERROR"), "{text}");
    let events = std::fs::read_to_string(project.evidence()[0].join("events.jsonl")).unwrap();
    assert!(
        events.contains("is no base URL"),
        "the fixture's last words are missing:\n{events}"
    );
}

#[test]
fn a_scenario_that_hangs_is_cut_and_says_what_it_waited_for() {
    let project = Project::new();
    project.edit(
        "scenarios/servers/ehr-sync.yaml",
        "containment.test/ehr-sync:1.0.0",
        "containment.test/no-such-image:1",
    );
    let (code, text) = project.run(&["run", "--tags", "@flagship", "--timeout", "2"]);
    assert_eq!(code, Some(70), "{text}");
    assert!(
        text.contains("the server \"ehr-sync\" to be launched"),
        "{text}"
    );
}

#[test]
fn an_interrupt_is_exit_130() {
    let project = Project::new();
    let mut command = project.command(&["run"]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .env("CI", "true")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("RUN"), "{first}");
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
}

/// The orchestrator is killed from outside as soon as its process is there.
#[test]
fn a_killed_orchestrator_is_exit_70_and_is_named() {
    let project = Project::new();
    let mut child = project
        .command(&["run", "--tags", "@flagship"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let orchestrator = loop {
        if let Some(pid) = descendant_running(child.id(), "serve\0obot") {
            break pid;
        }
        assert!(Instant::now() < deadline, "no orchestrator was started");
        std::thread::yield_now();
    };
    kill(
        Pid::from_raw(orchestrator.try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(70), "{text}");
    assert!(text.contains("obot-system/obot-"), "{text}");
}

#[test]
fn the_help_teaches() {
    let (code, text) = Project::new().run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "Exit codes:",
        "Examples:",
        "run",
        "up",
        "list",
        "bench",
        "faults",
        "doctor",
    ] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}

#[test]
fn the_list_names_scenarios_and_open_requirements() {
    let (code, text) = Project::new().run(&["list"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Compromised dependency blocked while EHR egress passes  [EGR-01 EGR-02 EGR-03 EGR-04 EGR-05 EGR-06 EGR-48]"), "{text}");
    assert!(text.contains("\nruntime: "), "{text}");
    assert!(
        text.contains("not testable in the embedded environment: "),
        "{text}"
    );
}

#[test]
fn the_doctor_names_gaps_and_remedies() {
    let project = Project::new();
    let mut command = project.command(&["doctor"]);
    command
        .env("PATH", "/nowhere")
        .env_remove("KUBECONFIG")
        .env("HOME", "/nowhere");
    let (code, text) = finish(command);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "✓ namespaces and TUN",
        "- kubectl: no kubectl on the PATH",
        "remedy install Node.js",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

/// `up` until it says where its kubeconfig is, and then Ctrl-C: what the file was like meanwhile, and its path.
fn up(arguments: &[&str]) -> (PathBuf, u32, String) {
    let temporary = tempfile::tempdir().unwrap();
    let project = Project::new();
    let mut child = project
        .command(&[&["up"], arguments].concat())
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let path = lines
        .by_ref()
        .find_map(|line| Some(PathBuf::from(line.unwrap().split_once("KUBECONFIG=")?.1)));
    let path = path.expect("it says where its kubeconfig is");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let text = std::fs::read_to_string(&path).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    (path, mode, text)
}

#[test]
fn the_kubeconfig_of_up_is_private_and_gone_with_it() {
    let (path, mode, text) = up(&[]);
    assert!(text.contains("token"), "{text}");
    assert_eq!(mode, 0o600);
    assert!(!path.parent().unwrap().exists(), "{}", path.display());
}

#[test]
fn a_kubeconfig_of_the_user_is_merged_into_and_is_as_before_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let before = "apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster:\n    server: https://prod.test\n\
        users: []\ncontexts:\n- name: prod\n  context:\n    cluster: prod\n    user: me\ncurrent-context: prod\n";
    std::fs::write(&path, before).unwrap();
    let (_, mode, text) = up(&["--kubeconfig", path.to_str().unwrap()]);
    assert_eq!(mode, 0o600);
    for word in ["https://prod.test", "current-context: containment"] {
        assert!(text.contains(word), "{text}");
    }
    let parsed = |text: &str| serde_yaml::from_str::<serde_yaml::Value>(text).unwrap();
    let after = std::fs::read_to_string(&path).unwrap();
    assert_eq!(parsed(&after), parsed(before));
}
