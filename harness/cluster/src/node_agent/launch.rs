//! From a container of a Pod to the process that its sandbox runs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt as _;

use super::NodeAgent;
use super::environment::Environment;
use super::source::{Error, Sources};
use super::volume::Volumes;
use crate::image::{Image, UnknownImage};
use crate::network::VPC_RESOLVER_ADDRESS;
use crate::sandbox::{FileSpec, Launch};

/// Images of real servers name a user of their own; the programs that stand for them get this one.
const DEFAULT_ID: u32 = 1000;
/// The kernel's limit for a host name, which the kubelet cuts to as well.
const HOSTNAME_LIMIT: usize = 63;

/// Why a container does not start, by the reason that its status shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Image(#[from] UnknownImage),
    #[error(transparent)]
    Config(#[from] Error),
    /// The image exists and its program doesn't.
    #[error(transparent)]
    Program(#[from] crate::image::Error),
}

impl Refusal {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Image(_) => "ErrImagePull",
            Self::Config(_) => "CreateContainerConfigError",
            Self::Program(_) => "CreateContainerError",
        }
    }
}

/// Puts together everything the container's process needs.
pub(super) async fn prepare(
    agent: &NodeAgent,
    pod: &Pod,
    container: &Container,
    address: Ipv4Addr,
) -> Result<Launch, Refusal> {
    let image = agent
        .images
        .resolve(container.image.as_deref().unwrap_or_default())?;
    let namespace = pod.namespace().unwrap_or_default();
    let sources = Sources::new(&agent.client, &namespace);
    let ids = Ids::of(pod, container)?;
    let hostname = hostname(pod);

    let environment = Environment::of(container, pod, address, &hostname, image, &sources).await?;
    let mut root = agent.images.root(image)?;
    root.files
        .extend(system_files(agent, pod, address, &hostname, &ids));
    let volumes = Volumes {
        pod,
        address,
        sources: &sources,
        api: &agent.api,
        fs_group: ids.fs_group,
    };
    volumes.mount(container, &mut root).await?;
    Ok(Launch {
        argv: command(container, image, &environment),
        env: environment.into_inner(),
        working_dir: container
            .working_dir
            .as_deref()
            .filter(|directory| !directory.is_empty())
            .map(PathBuf::from),
        hostname,
        user: ids.user,
        group: ids.group,
        supplementary_groups: ids.supplementary,
        terminal: false,
        root,
    })
}

/// `command` replaces the entrypoint and `args` follow it (Kubernetes documentation, "Define a Command and Arguments").
fn command(container: &Container, image: &Image, environment: &Environment) -> Vec<String> {
    let program = || {
        image
            .exe
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let given = container
        .command
        .as_deref()
        .filter(|command| !command.is_empty());
    let mut argv: Vec<_> = match given {
        Some(command) => command
            .iter()
            .map(|word| environment.expand(word))
            .collect(),
        None if image.entrypoint.is_empty() => program().into_iter().collect(),
        None => image.entrypoint.clone(),
    };
    argv.extend(
        container
            .args
            .iter()
            .flatten()
            .map(|word| environment.expand(word)),
    );
    argv
}

#[derive(Debug, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
    fs_group: Option<u32>,
    supplementary: Vec<u32>,
}

impl Ids {
    fn of(pod: &Pod, container: &Container) -> Result<Self, Error> {
        let of_pod = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref());
        let own = container.security_context.as_ref();
        let id = |own: Option<i64>, of_pod: Option<i64>| match own.or(of_pod) {
            None => Ok(DEFAULT_ID),
            Some(id) => {
                u32::try_from(id).map_err(|_| Error::Invalid(format!("id {id} is out of range")))
            }
        };
        let user = id(
            own.and_then(|own| own.run_as_user),
            of_pod.and_then(|pod| pod.run_as_user),
        )?;
        let group = id(
            own.and_then(|own| own.run_as_group),
            of_pod.and_then(|pod| pod.run_as_group),
        )?;
        let non_root = own
            .and_then(|own| own.run_as_non_root)
            .or(of_pod.and_then(|pod| pod.run_as_non_root));
        if non_root == Some(true) && user == 0 {
            return Err(Error::Invalid(
                "container's runAsUser breaks non-root policy".into(),
            ));
        }
        let fs_group = of_pod
            .and_then(|pod| pod.fs_group)
            .map(|group| id(Some(group), None))
            .transpose()?;
        let further = of_pod
            .and_then(|pod| pod.supplemental_groups.as_deref())
            .unwrap_or_default();
        let further = further
            .iter()
            .map(|&group| id(Some(group), None))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            user,
            group,
            fs_group,
            supplementary: fs_group.into_iter().chain(further).collect(),
        })
    }
}

fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .unwrap_or_else(|| pod.name_any());
    name.chars()
        .take(HOSTNAME_LIMIT)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_owned()
}

fn system_files(
    agent: &NodeAgent,
    pod: &Pod,
    address: Ipv4Addr,
    hostname: &str,
    ids: &Ids,
) -> Vec<FileSpec> {
    let spec = pod.spec.clone().unwrap_or_default();
    let aliases: String = spec
        .host_aliases
        .iter()
        .flatten()
        .map(|alias| {
            format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.as_deref().unwrap_or_default().join("\t")
            )
        })
        .collect();
    let passwd = format!(
        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\npod:x:{}:{}:pod:/tmp:/sbin/nologin\n",
        ids.user, ids.group
    );
    let group = format!("root:x:0:\nnogroup:x:65534:\npod:x:{}:\n", ids.group);
    let files = [
        ("/etc/hostname", format!("{hostname}\n")),
        (
            "/etc/hosts",
            format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{address}\t{hostname}\n{aliases}"),
        ),
        (
            "/etc/resolv.conf",
            resolver(agent, &spec, &pod.namespace().unwrap_or_default()),
        ),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
        ),
        ("/etc/passwd", passwd),
        ("/etc/group", group),
        (
            "/etc/ssl/certs/ca-certificates.crt",
            agent.config.trusted_roots_pem.clone(),
        ),
    ];
    files
        .map(|(path, text)| FileSpec::new(path, 0o644, text))
        .into()
}

/// `dnsPolicy` and `dnsConfig` (Kubernetes documentation, "DNS for Services and Pods").
fn resolver(agent: &NodeAgent, spec: &PodSpec, namespace: &str) -> String {
    let domain = &agent.config.cluster_domain;
    let (mut servers, mut searches, mut options) = match spec.dns_policy.as_deref() {
        Some("None") => (Vec::new(), Vec::new(), Vec::new()),
        Some("Default") => (
            vec![VPC_RESOLVER_ADDRESS.to_string()],
            Vec::new(),
            Vec::new(),
        ),
        _ => (
            vec![agent.config.cluster_dns.to_string()],
            vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            vec!["ndots:5".to_owned()],
        ),
    };
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            options.retain(|known| known.split(':').next() != Some(name));
            options.push(
                option
                    .value
                    .as_ref()
                    .map_or_else(|| name.to_owned(), |value| format!("{name}:{value}")),
            );
        }
    }
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    for (keyword, words) in [("search", searches), ("options", options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::RootFs;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::entrypoint(json!({}), &["serve", "mcp"])]
    #[case::arguments(json!({ "args": ["--port", "$(PORT)"] }), &["serve", "mcp", "--port", "8099"])]
    #[case::command(json!({ "command": ["other"] }), &["other"])]
    #[case::both(json!({ "command": ["other"], "args": ["x"] }), &["other", "x"])]
    fn commands(#[case] container: Value, #[case] expected: &[&str]) {
        let mut container = container;
        container["name"] = json!("mcp");
        let container: Container = serde_json::from_value(container).unwrap();
        let image = Image {
            exe: "/bin/x".into(),
            entrypoint: vec!["serve".into(), "mcp".into()],
            env: Vec::new(),
            root: RootFs::Minimal,
        };
        let environment = Environment::with("PORT", "8099");
        assert_eq!(command(&container, &image, &environment), expected);
    }

    #[rstest]
    #[case::default(json!({}), json!({}), Some((1000, 1000)))]
    #[case::pod(json!({ "runAsUser": 7, "runAsGroup": 8 }), json!({}), Some((7, 8)))]
    #[case::container_wins(json!({ "runAsUser": 7 }), json!({ "runAsUser": 9 }), Some((9, 1000)))]
    #[case::root(json!({}), json!({ "runAsUser": 0 }), Some((0, 1000)))]
    #[case::root_refused(json!({ "runAsNonRoot": true }), json!({ "runAsUser": 0 }), None)]
    #[case::out_of_range(json!({ "runAsUser": -1 }), json!({}), None)]
    fn ids(
        #[case] of_pod: Value,
        #[case] of_container: Value,
        #[case] expected: Option<(u32, u32)>,
    ) {
        let pod: Pod = serde_json::from_value(
            json!({ "spec": { "securityContext": of_pod, "containers": [] } }),
        )
        .unwrap();
        let container = json!({ "name": "mcp", "securityContext": of_container });
        let container: Container = serde_json::from_value(container).unwrap();
        assert_eq!(
            Ids::of(&pod, &container)
                .ok()
                .map(|ids| (ids.user, ids.group)),
            expected
        );
    }
}
