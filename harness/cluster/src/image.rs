//! Images: which program an image reference stands for. Owns reference matching and the list of shared
//! libraries a program needs; must not know pods.
//!
//! Not faithful: nothing is pulled and there are no layers. An image is a program on this machine plus the part of the
//! host's file system it may see. A reference that names no such program fails to pull, as on a real node.

mod library;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub use library::Error;

use crate::sandbox::{Bind, RootSpec};

/// Where the program of an image lies inside the container; first in `PATH`.
const PROGRAMS: &str = "/app/bin";
/// `PATH` of every container unless the image or the pod sets another.
pub const PATH: &str = "/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What [`RootFs::Host`] shows of the host, where it exists.
const HOST: [&str; 9] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ssl/openssl.cnf",
    "/etc/alternatives",
    "/etc/ld.so.cache",
];

/// A program that stands for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Host path of the program.
    pub exe: PathBuf,
    /// Default command. A first word without a slash is found as a link to the program, whatever that is called.
    pub entrypoint: Vec<String>,
    pub env: Vec<(String, String)>,
    pub root: RootFs,
}

/// What a container sees besides its program and the files of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFs {
    /// The shared libraries of the program, nothing else.
    Minimal,
    /// The host's programs and libraries, read-only.
    Host,
    /// The same, and these directories of the host where they are, read-only too.
    HostWith(Vec<PathBuf>),
}

/// The images a cluster knows.
#[derive(Debug, Default)]
pub struct Images {
    images: BTreeMap<String, Image>,
    /// Shared libraries, looked up once per program.
    libraries: Mutex<BTreeMap<PathBuf, Vec<PathBuf>>>,
}

/// The pull failure of an unknown reference; the text ends up in the pod's status.
#[derive(Debug, thiserror::Error)]
#[error("failed to pull image \"{reference}\": not found; this cluster knows {known}")]
pub struct UnknownImage {
    reference: String,
    known: String,
}

impl Images {
    pub fn new(images: BTreeMap<String, Image>) -> Self {
        Self {
            images,
            libraries: Mutex::default(),
        }
    }

    /// The image of a reference: an exact match first, else the same repository with any tag or digest, provided
    /// that the known name carries none.
    pub fn resolve(&self, reference: &str) -> Result<&Image, UnknownImage> {
        let wanted = normalized(reference);
        let by_repository = || {
            let repository = repository(&wanted);
            self.images
                .iter()
                .find(|(name, _)| normalized(name) == repository)
        };
        let exact = self
            .images
            .iter()
            .find(|(name, _)| normalized(name) == wanted);
        exact
            .or_else(by_repository)
            .map(|(_, image)| image)
            .ok_or_else(|| {
                let known: Vec<_> = self.images.keys().map(String::as_str).collect();
                UnknownImage {
                    reference: reference.to_owned(),
                    known: if known.is_empty() {
                        "no image".to_owned()
                    } else {
                        known.join(", ")
                    },
                }
            })
    }

    /// The root of a container of this image, before the pod's own files.
    pub fn root(&self, image: &Image) -> Result<RootSpec, Error> {
        let mut root = RootSpec::default();
        let name = image.exe.file_name().ok_or_else(|| Error::NotAProgram {
            exe: image.exe.clone(),
        })?;
        let program = Path::new(PROGRAMS).join(name);
        root.binds.push(Bind {
            source: image.exe.clone(),
            target: program.clone(),
        });
        let alias = image
            .entrypoint
            .first()
            .filter(|word| !word.contains('/') && name != word.as_str());
        if let Some(alias) = alias {
            root.links.push((Path::new(PROGRAMS).join(alias), program));
        }
        match &image.root {
            RootFs::Minimal => {
                for library in self.libraries(&image.exe)? {
                    root.binds.push(Bind {
                        source: library.clone(),
                        target: library,
                    });
                }
            }
            RootFs::Host => host_directories(&mut root),
            RootFs::HostWith(directories) => {
                host_directories(&mut root);
                // What lies below one of the host's directories is there already, and can't be mounted into it.
                let more = directories
                    .iter()
                    .filter(|directory| !HOST.iter().any(|known| directory.starts_with(known)));
                root.binds.extend(more.map(|directory| Bind {
                    source: directory.clone(),
                    target: directory.clone(),
                }));
            }
        }
        Ok(root)
    }

    fn libraries(&self, exe: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut known = self
            .libraries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(libraries) = known.get(exe) {
            return Ok(libraries.clone());
        }
        let libraries = library::of(exe)?;
        known.insert(exe.to_owned(), libraries.clone());
        Ok(libraries)
    }
}

/// Merged-usr systems have links for /bin and /lib: a link stays a link.
fn host_directories(root: &mut RootSpec) {
    for path in HOST.map(PathBuf::from) {
        if let Ok(target) = std::fs::read_link(&path) {
            root.links.push((path, target));
        } else if path.exists() {
            root.binds.push(Bind {
                source: path.clone(),
                target: path,
            });
        }
    }
}

/// Spells out what Docker leaves out: `busybox` is `docker.io/library/busybox`.
fn normalized(reference: &str) -> String {
    let (first, rest) = reference.split_once('/').unwrap_or(("", reference));
    let has_registry = first.contains(['.', ':']) || first == "localhost";
    match (has_registry, first) {
        (true, _) => reference.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{reference}"),
    }
}

/// A normalized reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn images(names: &[&str]) -> Images {
        let image = |name: &str| Image {
            exe: name.into(),
            entrypoint: Vec::new(),
            env: Vec::new(),
            root: RootFs::Host,
        };
        Images::new(
            names
                .iter()
                .map(|&name| (name.to_owned(), image(name)))
                .collect(),
        )
    }

    #[rstest]
    #[case::exact("ghcr.io/obot/wrapper:v1", Some("ghcr.io/obot/wrapper:v1"))]
    #[case::exact_before_repository("ghcr.io/obot/wrapper:v2", Some("ghcr.io/obot/wrapper"))]
    #[case::digest("ghcr.io/obot/wrapper@sha256:00", Some("ghcr.io/obot/wrapper"))]
    #[case::tag_and_digest("ghcr.io/obot/wrapper:v9@sha256:00", Some("ghcr.io/obot/wrapper"))]
    #[case::known_tag_is_strict("ghcr.io/obot/shim:v2", None)]
    #[case::registry_port("localhost:5000/mcp", Some("localhost:5000/mcp"))]
    #[case::registry_port_and_tag("localhost:5000/mcp:v1", Some("localhost:5000/mcp"))]
    #[case::docker_hub("docker.io/library/busybox:1", Some("busybox"))]
    #[case::docker_hub_user("docker.io/acme/server", Some("acme/server"))]
    #[case::prefix_is_no_match("ghcr.io/obot/wrapper-x", None)]
    #[case::empty("", None)]
    fn references(#[case] reference: &str, #[case] expected: Option<&str>) {
        let images = images(&[
            "ghcr.io/obot/wrapper:v1",
            "ghcr.io/obot/wrapper",
            "ghcr.io/obot/shim:v1",
            "localhost:5000/mcp",
            "busybox",
            "acme/server",
        ]);
        let found = images
            .resolve(reference)
            .ok()
            .map(|image| image.exe.to_str().unwrap());
        assert_eq!(found, expected);
    }

    #[test]
    fn directories_that_are_there_already_are_not_mounted_again() {
        let image = Image {
            exe: "/x".into(),
            entrypoint: Vec::new(),
            env: Vec::new(),
            root: RootFs::HostWith(vec!["/usr/lib/node".into(), "/opt/node".into()]),
        };
        let root = images(&[]).root(&image).unwrap();
        let mounted = |path: &str| root.binds.iter().any(|bind| bind.target == Path::new(path));
        assert!(mounted("/opt/node"));
        assert!(!mounted("/usr/lib/node"));
    }

    #[test]
    fn an_unknown_image_names_the_known_ones() {
        let error = images(&["a", "b"]).resolve("c:v1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to pull image \"c:v1\": not found; this cluster knows a, b"
        );
    }
}
