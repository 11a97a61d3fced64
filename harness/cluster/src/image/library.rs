//! The shared libraries of a program, as the program's own dynamic loader finds them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs whose libraries can't be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't read the program {} of an image: {source}", exe.display())]
    Unreadable { exe: PathBuf, source: io::Error },
    #[error("{} is not a 64-bit little-endian ELF program, so it can't stand for an image", exe.display())]
    NotAProgram { exe: PathBuf },
    #[error("the dynamic loader {} can't list the libraries of {}: {message}", loader.display(), exe.display())]
    Loader {
        loader: PathBuf,
        exe: PathBuf,
        message: String,
    },
}

/// Older C libraries resolve names with these, which they load only when asked to.
const NAME_SERVICE: [&str; 2] = ["libnss_files.so.2", "libnss_dns.so.2"];

/// Host paths of the loader and of every library; empty for a static program.
pub(super) fn of(exe: &Path) -> Result<Vec<PathBuf>, Error> {
    let header = fs::File::open(exe).and_then(|file| {
        let mut header = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, 64 * 1024), &mut header)?;
        Ok(header)
    });
    let header = header.map_err(|source| Error::Unreadable {
        exe: exe.to_owned(),
        source,
    })?;
    let Some(loader) = interpreter(&header).ok_or_else(|| Error::NotAProgram {
        exe: exe.to_owned(),
    })?
    else {
        return Ok(Vec::new());
    };
    let failed = |message: String| Error::Loader {
        loader: loader.clone(),
        exe: exe.to_owned(),
        message,
    };
    let output = Command::new(&loader)
        .arg("--list")
        .arg(exe)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let mut libraries = listed(&String::from_utf8_lossy(&output.stdout));
    if let Some(directory) = libraries
        .iter()
        .find(|path| path.ends_with("libc.so.6"))
        .and_then(|libc| libc.parent())
    {
        let found: Vec<_> = NAME_SERVICE
            .map(|name| directory.join(name))
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        libraries.extend(found);
    }
    libraries.push(loader);
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

/// Paths in lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f..)`.
fn listed(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let after = line
            .split_once("=>")
            .map_or(line, |(_, after)| after)
            .trim();
        after
            .split_once(" (")
            .map_or(after, |(path, _)| path)
            .to_owned()
    };
    text.lines()
        .map(path)
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// The program header PT_INTERP (ELF specification, "Program Header"): outer none when this is no program.
fn interpreter(elf: &[u8]) -> Option<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    // Class 64 bit, data little endian.
    if elf.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let entry = usize::try_from(table.checked_add(index * size)?).ok()?;
        if number(entry, 4)? == u64::from(PT_INTERP) {
            let (start, length) = (
                usize::try_from(number(entry + 8, 8)?).ok()?,
                usize::try_from(number(entry + 32, 8)?).ok()?,
            );
            let path = elf.get(start..start.checked_add(length)?)?;
            let path = path.split(|&byte| byte == 0).next()?;
            return Some(Some(PathBuf::from(std::ffi::OsStr::from_bytes(path))));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_very_program_needs_its_c_library() {
        let libraries = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().all(|path| path.exists()), "{libraries:?}");
        assert!(
            libraries
                .iter()
                .any(|path| path.to_string_lossy().contains("libc.")),
            "{libraries:?}"
        );
    }

    #[test]
    fn loader_output() {
        let text = "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\t/lib64/ld.so (0x2)\n\tstatically linked\n";
        assert_eq!(
            listed(text),
            ["/lib/libc.so.6", "/lib64/ld.so"].map(PathBuf::from)
        );
    }

    proptest::proptest! {
        #[test]
        fn headers_never_panic(mut bytes: Vec<u8>, real: bool) {
            if real {
                bytes.splice(0..0, [0x7f, b'E', b'L', b'F', 2, 1]);
            }
            let _ = interpreter(&bytes);
        }
    }
}
