//! Builds a container's root from nothing and moves into it. Runs as PID 1 of the new namespaces.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, chdir, chown, pivot_root};

use super::spec::{Failure, RootSpec, Step as _};
use super::syscall;

/// Device nodes of a container (OCI runtime specification, "Default Devices"), less the terminals.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Bounds what one container can write to memory through its file systems.
const TMPFS_OPTIONS: &str = "mode=1777,size=64m,nr_inodes=16k";

/// The mount point of every new root, inside the node's scratch directory. Each container mounts in its own namespace.
pub(super) const MOUNT_POINT: &str = "root";

/// Replaces the root of this process, which owns its mount namespace, by the one specified.
pub(super) fn enter(scratch: &Path, spec: &RootSpec) -> Result<(), Failure> {
    let root = scratch.join(MOUNT_POINT);
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None::<&str>,
    )
    .step(|| "making mounts private".into())?;
    tmpfs(&root, "mode=755,size=64m,nr_inodes=16k").step(|| "mounting the root".into())?;
    chdir(&root).step(|| "entering the root".into())?;

    // Our own files come first: once host directories are bound, a write below them would reach the host.
    directories(spec)?;
    for file in &spec.files {
        write_file(&file.path, file.mode, file.group, &file.contents)
            .step(|| format!("writing {}", file.path.display()))?;
    }
    for (path, target) in &spec.links {
        link(path, target).step(|| format!("linking {}", path.display()))?;
    }
    for bind in &spec.binds {
        bind_to(&bind.source, &bind.target).step(|| {
            format!(
                "binding {} to {}",
                bind.source.display(),
                bind.target.display()
            )
        })?;
    }
    syscall::restrict_tree(
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
    )
    .step(|| "making the root read-only (needs Linux 5.12 or newer)".into())?;

    // What stays writable, or needs other attributes, goes on top.
    for device in DEVICES {
        let host = Path::new("/dev").join(device);
        bind_to(&host, &host).step(|| format!("binding /dev/{device}"))?;
    }
    for directory in ["tmp", "dev/shm"] {
        tmpfs(Path::new(directory), TMPFS_OPTIONS).step(|| format!("mounting /{directory}"))?;
    }
    for (name, target) in &spec.empty_dirs {
        let volume = scratch.join(name);
        bind_to(&volume, target)
            .step(|| format!("mounting the emptyDir at {}", target.display()))?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>)
        .step(|| "mounting /proc".into())?;

    pivot_root(".", ".").step(|| "changing the root".into())?;
    umount2(".", MntFlags::MNT_DETACH).step(|| "detaching the old root".into())?;
    chdir("/").step(|| "entering the new root".into())
}

fn directories(spec: &RootSpec) -> Result<(), Failure> {
    let fixed = ["proc", "tmp", "dev/shm"].map(PathBuf::from);
    let volumes = spec.empty_dirs.iter().map(|(_, target)| target.clone());
    for directory in fixed.into_iter().chain(volumes) {
        create_directory(&directory).step(|| format!("creating /{}", directory.display()))?;
    }
    for device in DEVICES {
        write_file(&Path::new("/dev").join(device), 0o666, 0, b"")
            .step(|| format!("creating /dev/{device}"))?;
    }
    Ok(())
}

/// A path of the container relative to the working directory, which is its root. Parent components are refused:
/// they would leave it.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut relative = PathBuf::from(".");
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a path of a container must not contain `..`",
                ));
            }
        }
    }
    Ok(relative)
}

fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(inside(path)?)
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), create_directory)
}

fn write_file(path: &Path, mode: u32, group: u32, contents: &[u8]) -> io::Result<()> {
    create_parent(path)?;
    let relative = inside(path)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&relative)?;
    io::Write::write_all(&mut file, contents)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    if group != 0 {
        match chown(&relative, None, Some(Gid::from_raw(group))) {
            // The group is not mapped here: the nested user namespace makes the pod's user the owner instead.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn link(path: &Path, target: &Path) -> io::Result<()> {
    create_parent(path)?;
    std::os::unix::fs::symlink(target, inside(path)?)
}

fn bind_to(source: &Path, target: &Path) -> io::Result<()> {
    let place = inside(target)?;
    if fs::symlink_metadata(&place).is_err() {
        if source.is_dir() {
            create_directory(target)?;
        } else {
            write_file(target, 0o644, 0, b"")?;
        }
    }
    Ok(mount(
        Some(source),
        &place,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?)
}

fn tmpfs(target: &Path, options: &str) -> nix::Result<()> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/etc/hosts", Some("./etc/hosts"))]
    #[case("etc/./hosts", Some("./etc/hosts"))]
    #[case("/", Some("."))]
    #[case("/files/../../etc/shadow", None)]
    #[case("..", None)]
    fn paths_stay_inside(#[case] path: &str, #[case] expected: Option<&str>) {
        assert_eq!(inside(Path::new(path)).ok(), expected.map(PathBuf::from));
    }
}
