//! Volumes: which files a container's mounts put where.

use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};

use api_server::ApiServer;
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection,
};
use kube::ResourceExt as _;

use super::environment::field;
use super::source::{Data, Error, Kind, Sources};
use crate::sandbox::{FileSpec, RootSpec};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DEFAULT_MODE: u32 = 0o644;

/// Gathers the files of one container.
pub(super) struct Volumes<'a> {
    pub(super) pod: &'a Pod,
    pub(super) address: Ipv4Addr,
    pub(super) sources: &'a Sources<'a>,
    pub(super) api: &'a ApiServer,
    pub(super) fs_group: Option<u32>,
}

/// A file of a volume, before it is mounted anywhere.
struct Entry {
    path: PathBuf,
    mode: u32,
    contents: Vec<u8>,
}

impl Volumes<'_> {
    /// Adds every volume mount, and the service account's files unless something else is mounted there.
    pub(super) async fn mount(
        &self,
        container: &Container,
        root: &mut RootSpec,
    ) -> Result<(), Error> {
        let spec = self.pod.spec.as_ref();
        let volumes = spec
            .and_then(|spec| spec.volumes.as_deref())
            .unwrap_or_default();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or_else(|| {
                Error::Invalid(format!("volume mount \"{}\" names no volume", mount.name))
            })?;
            let target = Path::new(&mount.mount_path);
            let sub_path = inside(mount.sub_path.as_deref().unwrap_or_default())?;
            if volume.empty_dir.is_some() {
                let name = Path::new(&empty_dir(self.pod, &volume.name)).join(sub_path);
                root.empty_dirs
                    .push((name.to_string_lossy().into_owned(), target.to_owned()));
                continue;
            }
            for entry in self.entries(volume).await? {
                // With a subPath, only what lies below it; when it names a file, the mount path is that file.
                if let Ok(rest) = entry.path.strip_prefix(&sub_path) {
                    let path = if rest.as_os_str().is_empty() {
                        target.to_owned()
                    } else {
                        target.join(rest)
                    };
                    root.files.push(self.file(path, entry.mode, entry.contents));
                }
            }
        }
        let automatic = spec.and_then(|spec| spec.automount_service_account_token) != Some(false);
        let taken = container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.mount_path == SERVICE_ACCOUNT);
        if automatic && !taken {
            for entry in self.service_account() {
                root.files.push(self.file(
                    Path::new(SERVICE_ACCOUNT).join(entry.path),
                    entry.mode,
                    entry.contents,
                ));
            }
        }
        Ok(())
    }

    /// A Pod with an fsGroup can read its files through it, whatever the mode says of others.
    fn file(&self, path: PathBuf, mode: u32, contents: Vec<u8>) -> FileSpec {
        let mut file = FileSpec::new(path, mode, contents);
        if let Some(group) = self.fs_group {
            file.group = group;
            file.mode |= 0o440;
        }
        file
    }

    async fn entries(&self, volume: &Volume) -> Result<Vec<Entry>, Error> {
        let mode = |mode: Option<i32>| {
            mode.and_then(|mode| u32::try_from(mode).ok())
                .unwrap_or(DEFAULT_MODE)
        };
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            let data = self
                .sources
                .data(Kind::Secret, name, secret.optional == Some(true))
                .await?;
            select(
                data,
                secret.items.as_deref(),
                mode(secret.default_mode),
                secret.optional == Some(true),
            )
        } else if let Some(map) = &volume.config_map {
            let data = self
                .sources
                .data(Kind::ConfigMap, &map.name, map.optional == Some(true))
                .await?;
            select(
                data,
                map.items.as_deref(),
                mode(map.default_mode),
                map.optional == Some(true),
            )
        } else if let Some(downward) = &volume.downward_api {
            self.downward(downward.items.as_deref(), mode(downward.default_mode))
        } else if let Some(projected) = &volume.projected {
            let mut entries = Vec::new();
            for source in projected.sources.iter().flatten() {
                entries.extend(
                    self.projection(source, mode(projected.default_mode))
                        .await?,
                );
            }
            Ok(entries)
        } else {
            let kinds = "secret, configMap, downwardAPI, projected and emptyDir";
            Err(Error::Invalid(format!(
                "volume \"{}\": this node mounts {kinds} volumes only",
                volume.name
            )))
        }
    }

    async fn projection(&self, source: &VolumeProjection, mode: u32) -> Result<Vec<Entry>, Error> {
        if let Some(secret) = &source.secret {
            let optional = secret.optional == Some(true);
            let data = self
                .sources
                .data(Kind::Secret, &secret.name, optional)
                .await?;
            select(data, secret.items.as_deref(), mode, optional)
        } else if let Some(map) = &source.config_map {
            let optional = map.optional == Some(true);
            let data = self
                .sources
                .data(Kind::ConfigMap, &map.name, optional)
                .await?;
            select(data, map.items.as_deref(), mode, optional)
        } else if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref(), mode)
        } else if let Some(token) = &source.service_account_token {
            Ok(vec![Entry {
                path: inside(&token.path)?,
                mode,
                contents: self.token().into_bytes(),
            }])
        } else {
            let kinds = "secret, configMap, downwardAPI and serviceAccountToken";
            Err(Error::Invalid(format!(
                "this node projects {kinds} sources only"
            )))
        }
    }

    fn downward(
        &self,
        items: Option<&[DownwardAPIVolumeFile]>,
        mode: u32,
    ) -> Result<Vec<Entry>, Error> {
        let entry = |item: &DownwardAPIVolumeFile| {
            let reference = item.field_ref.as_ref();
            let reference = reference.ok_or_else(|| {
                Error::Invalid("this node's downward API knows fieldRef only".into())
            })?;
            let mode = item
                .mode
                .and_then(|mode| u32::try_from(mode).ok())
                .unwrap_or(mode);
            let contents = field(reference, self.pod, self.address)?.into_bytes();
            Ok(Entry {
                path: inside(&item.path)?,
                mode,
                contents,
            })
        };
        items.unwrap_or_default().iter().map(entry).collect()
    }

    fn service_account(&self) -> [Entry; 3] {
        let files = [
            ("token", self.token()),
            ("ca.crt", self.api.ca_pem().to_owned()),
            ("namespace", self.pod.namespace().unwrap_or_default()),
        ];
        files.map(|(name, contents)| Entry {
            path: name.into(),
            mode: DEFAULT_MODE,
            contents: contents.into_bytes(),
        })
    }

    fn token(&self) -> String {
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        self.api
            .issue_service_account_token(&self.pod.namespace().unwrap_or_default(), account)
    }
}

/// Name of an emptyDir volume in the node's scratch directory.
pub(super) fn empty_dir(pod: &Pod, volume: &str) -> String {
    format!(
        "{}/{volume}",
        pod.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// All keys, or the listed ones under their paths.
fn select(
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Vec<Entry>, Error> {
    let mut data = data.unwrap_or_default();
    let Some(items) = items else {
        return data
            .into_iter()
            .map(|(key, contents)| {
                Ok(Entry {
                    path: inside(&key)?,
                    mode,
                    contents,
                })
            })
            .collect();
    };
    let mut entries = Vec::new();
    for item in items {
        let mode = item
            .mode
            .and_then(|mode| u32::try_from(mode).ok())
            .unwrap_or(mode);
        match data.remove(&item.key) {
            Some(contents) => entries.push(Entry {
                path: inside(&item.path)?,
                mode,
                contents,
            }),
            None if optional => {}
            None => {
                return Err(Error::Missing(format!(
                    "references non-existent key: {}",
                    item.key
                )));
            }
        }
    }
    Ok(entries)
}

/// A path that stays inside its volume.
fn inside(path: &str) -> Result<PathBuf, Error> {
    let stays = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if stays {
        Ok(path.into())
    } else {
        Err(Error::Invalid(format!("path {path:?} leaves its volume")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    fn item(key: &str, path: &str) -> KeyToPath {
        KeyToPath {
            key: key.into(),
            path: path.into(),
            mode: Some(0o400),
        }
    }

    #[rstest]
    #[case::all(None, false, Some(vec![("a", 0o644), ("b", 0o644)]))]
    #[case::listed(Some(vec![item("b", "x/y")]), false, Some(vec![("x/y", 0o400)]))]
    #[case::missing(Some(vec![item("c", "c")]), false, None)]
    #[case::missing_optional(Some(vec![item("c", "c")]), true, Some(vec![]))]
    #[case::leaving(Some(vec![item("a", "../etc/passwd")]), false, None)]
    #[case::absolute(Some(vec![item("a", "/etc/passwd")]), false, None)]
    fn keys_to_files(
        #[case] items: Option<Vec<KeyToPath>>,
        #[case] optional: bool,
        #[case] expected: Option<Vec<(&str, u32)>>,
    ) {
        let data = Data::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]);
        let entries = select(Some(data), items.as_deref(), DEFAULT_MODE, optional).ok();
        let entries = entries.as_ref().map(|entries| {
            entries
                .iter()
                .map(|entry| (entry.path.to_str().unwrap(), entry.mode))
                .collect::<Vec<_>>()
        });
        assert_eq!(entries, expected);
    }
}
