//! Finds the program that a command names, the way a shell would, inside the new root.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::spec::Launch;
use super::syscall;

/// What execve gets: the first of `PATH` that can be executed, or the name itself when it holds a slash.
pub(super) fn find(launch: &Launch) -> io::Result<CString> {
    let name = launch.argv.first().filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command given"))?;
    if name.contains('/') {
        return syscall::c_string(name.as_str());
    }
    let path = launch
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value.as_str());
    path.split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{name}` is not in PATH={path}"),
            )
        })
        .and_then(|found| syscall::c_string(found.as_os_str().as_bytes()))
}
