//! `containment doctor`: what this machine can run, and what to do about each gap.
//!
//! It looks and never changes anything. Tools are looked for on the PATH and asked for their version; the embedded tier is
//! asked by its own preflight, so that this and a run can't disagree.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anstyle::{AnsiColor, Style};

use crate::outcome::ExitCode;

const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// The thing.
    name: &'static str,
    /// What it is for.
    needed_for: &'static str,
    /// Whether the default tier is lost without it.
    vital: bool,
    /// What there is, or what is wrong and what mends it.
    state: Result<String, Gap>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gap {
    wrong: String,
    remedy: String,
}

/// Prints what this machine can run. Must be called before the process has threads: without root it makes a user
/// namespace first, as a run does. The exit code is 0 when the embedded tier can run, and 2 when not.
pub fn doctor() -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    let findings = examine(embedded(root));
    let text = render(&findings);
    // A closed terminal changes nothing about the machine.
    let _ = anstream::stdout().write_all(text.as_bytes());
    if findings.iter().any(|one| one.vital && one.state.is_err()) {
        ExitCode::Usage
    } else {
        ExitCode::Conformant
    }
}

fn examine(embedded: Result<String, Gap>) -> Vec<Finding> {
    let finding = |name, needed_for, vital, state| Finding {
        name,
        needed_for,
        vital,
        state,
    };
    vec![
        finding(
            "namespaces and TUN",
            "the embedded tier, which is the default",
            true,
            embedded,
        ),
        finding("IPv6", "scenarios about IPv6", false, ipv6()),
        finding(
            "Node.js and npm",
            "scenarios with npx servers (@npx)",
            false,
            tools(
                &["node", "npm", "npx"],
                "install Node.js 20 or later with npm, and have them on the PATH",
            ),
        ),
        finding(
            "kubectl",
            "looking around in `containment up`, and tests of real clients",
            false,
            tool(
                "kubectl",
                &["version", "--client"],
                "install kubectl 1.30 or later",
            ),
        ),
        finding(
            "Go",
            "tests with an informer of client-go",
            false,
            tool("go", &["version"], "install Go 1.25 or later"),
        ),
        finding(
            "kube-apiserver and etcd",
            "the comparison of the API server double with a real one",
            false,
            envtest(),
        ),
        finding("Docker", "the kind tier", false, docker()),
        finding(
            "kind",
            "the kind tier",
            false,
            tool("kind", &["version"], "install kind 0.29 or later"),
        ),
        finding(
            "helm",
            "installing real charts on the kind and existing tiers",
            false,
            tool("helm", &["version", "--short"], "install Helm 3"),
        ),
        finding("kubeconfig", "the existing tier", false, kubeconfig()),
    ]
}

fn gap(wrong: impl Into<String>, remedy: impl Into<String>) -> Gap {
    Gap {
        wrong: wrong.into(),
        remedy: remedy.into(),
    }
}

/// The tier's own answer.
fn embedded(root: bool) -> Result<String, Gap> {
    const REMEDY: &str = "run as root, or allow unprivileged user namespaces and make /dev/net/tun accessible to your account";
    crate::tier::embedded::enter_user_namespace()
        .map_err(|error| gap(error.to_string(), REMEDY))?;
    crate::tier::embedded::preflight().map_err(|error| gap(error.to_string(), REMEDY))?;
    Ok(if root {
        "as root"
    } else {
        "in a user namespace"
    }
    .to_owned())
}

fn ipv6() -> Result<String, Gap> {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    match disabled.as_deref().map(str::trim) {
        Ok("0") => Ok("on in new network namespaces".to_owned()),
        Ok(_) => Err(gap(
            "new network namespaces have it off",
            "sysctl net.ipv6.conf.default.disable_ipv6=0",
        )),
        Err(_) => Err(gap(
            "this kernel has none",
            "boot a kernel with IPv6, without ipv6.disable=1",
        )),
    }
}

fn tools(names: &[&str], remedy: &str) -> Result<String, Gap> {
    let versions: Result<Vec<String>, Gap> = names
        .iter()
        .map(|&name| tool(name, &["--version"], remedy).map(|version| format!("{name} {version}")))
        .collect();
    versions.map(|versions| versions.join(", "))
}

fn tool(name: &str, version: &[&str], remedy: &str) -> Result<String, Gap> {
    let path = on_path(name).ok_or_else(|| gap(format!("no {name} on the PATH"), remedy))?;
    first_line(&path, version).map_err(|why| gap(format!("{name} does not answer: {why}"), remedy))
}

fn docker() -> Result<String, Gap> {
    let remedy = "install Docker and start its engine";
    let path = on_path("docker").ok_or_else(|| gap("no docker on the PATH", remedy))?;
    let ask = ["version", "--format", "{{.Server.Version}}"];
    first_line(&path, &ask).map_err(|why| gap(format!("no engine answers: {why}"), remedy))
}

fn envtest() -> Result<String, Gap> {
    const REMEDY: &str = "set KUBEBUILDER_ASSETS to a folder that holds both, as `setup-envtest use -p path` prints it";
    let folder = std::env::var_os("KUBEBUILDER_ASSETS")
        .map(PathBuf::from)
        .ok_or_else(|| gap("KUBEBUILDER_ASSETS is not set", REMEDY))?;
    let missing: Vec<&str> = ["kube-apiserver", "etcd"]
        .into_iter()
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if missing.is_empty() {
        Ok(folder.display().to_string())
    } else {
        Err(gap(
            format!("{} lacks {}", folder.display(), missing.join(" and ")),
            REMEDY,
        ))
    }
}

fn kubeconfig() -> Result<String, Gap> {
    let config = kube::config::Kubeconfig::read().map_err(|error| {
        gap(
            error.to_string(),
            "set KUBECONFIG, or write ~/.kube/config (`aws eks update-kubeconfig`, `az aks get-credentials`)",
        )
    })?;
    config
        .current_context
        .map(|context| format!("context {context}"))
        .ok_or_else(|| {
            gap(
                "it names no current context",
                "kubectl config use-context <name>",
            )
        })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn first_line(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let line = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    if output.status.success() {
        Ok(line(&output.stdout))
    } else {
        Err(line(&output.stderr))
    }
}

fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (name, needed_for) = (finding.name, finding.needed_for);
        match &finding.state {
            Ok(found) => text.push_str(&format!("{GREEN}✓{GREEN:#} {name}: {found}\n")),
            Err(gap) => {
                let style = if finding.vital { RED } else { YELLOW };
                let mark = if finding.vital { "✗" } else { "-" };
                text.push_str(&format!(
                    "{style}{mark}{style:#} {name}: {}\n    {DIM}needed for{DIM:#} {needed_for}\n    {DIM}remedy{DIM:#} {}\n",
                    gap.wrong, gap.remedy
                ));
            }
        }
    }
    let vital = findings.iter().any(|one| one.vital && one.state.is_err());
    let gaps = findings.iter().filter(|one| one.state.is_err()).count();
    text.push_str(&match (vital, gaps) {
        (true, _) => format!("\n{RED}The embedded tier can't run here.{RED:#}\n"),
        (false, 0) => format!("\n{GREEN}Everything can run here.{GREEN:#}\n"),
        (false, _) => format!(
            "\n{GREEN}The embedded tier can run here.{GREEN:#} What needs something that is missing says not-testable, or that it did not run.\n"
        ),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_comes_with_what_it_costs_and_a_remedy() {
        let findings = [
            Finding {
                name: "kubectl",
                needed_for: "looking around",
                vital: false,
                state: Err(gap("no kubectl on the PATH", "install it")),
            },
            Finding {
                name: "Node.js",
                needed_for: "npx servers",
                vital: false,
                state: Ok("v20".to_owned()),
            },
        ];
        let plain = anstream::adapter::strip_str(&render(&findings)).to_string();
        insta::assert_snapshot!(plain, @"
        - kubectl: no kubectl on the PATH
            needed for looking around
            remedy install it
        ✓ Node.js: v20

        The embedded tier can run here. What needs something that is missing says not-testable, or that it did not run.
        ");
    }

    #[test]
    fn a_tool_that_is_not_there_is_a_gap() {
        let missing = tool("no-such-tool-anywhere", &["--version"], "get it");
        assert_eq!(
            missing,
            Err(gap("no no-such-tool-anywhere on the PATH", "get it"))
        );
        assert!(
            tool("false", &[], "x").is_err(),
            "a tool that fails is a gap"
        );
    }
}
