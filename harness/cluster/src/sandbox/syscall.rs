//! The few system calls that have no safe wrapper, each with the reason why the call is sound.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::unistd::{ForkResult, Pid};

/// Forks. The caller has one thread, so the child may allocate and lock as it likes.
#[expect(
    unsafe_code,
    reason = "fork is sound in a process with a single thread, which dispatch() guarantees"
)]
pub(super) fn fork() -> io::Result<ForkResult> {
    // SAFETY: pod-init and pod-exec never start a thread.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// A descriptor that refers to this process and no later one with the same number.
#[expect(unsafe_code, reason = "pidfd_open has no wrapper")]
pub(super) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; a non-negative result is a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd as RawFd))
        }
    }
}

/// Takes ownership of a descriptor that arrived in a control message or stands at a fixed number.
#[expect(unsafe_code, reason = "descriptors from the kernel arrive as numbers")]
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller received this number from the kernel as a descriptor of its own.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has execve close every descriptor from `first` on.
#[expect(unsafe_code, reason = "close_range has no wrapper")]
pub(super) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes three integers and closes nothing now.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
}

/// Makes `fd` the descriptor number `number`, which stays open in the image.
#[expect(
    unsafe_code,
    reason = "the target of dup2 is a fixed number, which OwnedFd cannot express"
)]
pub(super) fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: both are descriptor numbers; nobody owns 0, 1 and 2.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())
}

/// Makes the terminal on standard input the controlling one.
#[expect(unsafe_code, reason = "TIOCSCTTY has no wrapper")]
pub(super) fn take_terminal() -> io::Result<()> {
    // SAFETY: the ioctl takes an integer argument.
    check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into())
}

/// Drops the bounding and ambient sets; needs CAP_SETPCAP.
#[expect(unsafe_code, reason = "capability calls have no wrapper")]
pub(super) fn drop_capability_bounds() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: prctl with integer arguments.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            // Past the kernel's last capability.
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(error);
        }
    }
    // SAFETY: prctl with integer arguments.
    check(
        unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_CLEAR_ALL,
                0,
                0,
                0,
            )
        }
        .into(),
    )
}

/// Empties the effective, permitted and inheritable sets.
#[expect(unsafe_code, reason = "capset has no wrapper")]
pub(super) fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let sets = [0_u32; 6];
    // SAFETY: both arrays have the layout of version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })
}

/// Sets mount attributes on the whole tree below the working directory.
#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
pub(super) fn restrict_tree(attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let here = c"";
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path and the structure outlive the call, and the size is the structure's.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            here.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Restores default signal handling: Rust's start-up ignores SIGPIPE, and ignored signals survive execve.
#[expect(unsafe_code, reason = "signal dispositions are process-wide")]
pub(super) fn default_signals() {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// A path or argument for the kernel; one with a NUL byte is refused.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "contains a NUL byte"))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
