//! Network namespaces, made and entered without disturbing the rest of the process.
//!
//! Owns: creating a namespace, running a closure in one, sockets created inside one, and the check that
//! this machine allows all that. Knows nothing of TUN devices, pods or addresses.
//!
//! `unshare` and `setns` move a single thread, so both happen in a short-lived thread of their own. What
//! it leaves behind is a descriptor that keeps the namespace alive: when the last one closes, and no
//! process is left inside, the kernel removes the namespace with its devices. A socket belongs to the
//! namespace it was created in, whichever thread uses it later.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::net::{TcpSocket, TcpStream};

use crate::tun;

/// Why this machine cannot hold the embedded cluster, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot create a network namespace ({0}): run as root, or allow user namespaces for this user \
         (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later also \
         kernel.apparmor_restrict_unprivileged_userns=0; in a container add CAP_SYS_ADMIN)"
    )]
    Namespace(#[source] io::Error),
    #[error(
        "cannot create a user namespace ({0}): run as root, or allow user namespaces for this user \
         (sysctl user.max_user_namespaces=10000 and kernel.unprivileged_userns_clone=1)"
    )]
    UserNamespace(#[source] io::Error),
    #[error(
        "/dev/net/tun does not exist: load the module (modprobe tun), or create the device \
         (mkdir -p /dev/net && mknod /dev/net/tun c 10 200); in a container pass --device /dev/net/tun"
    )]
    TunMissing,
    #[error(
        "/dev/net/tun cannot be opened ({0}): run as root, or let this user open it (chmod 0666 /dev/net/tun)"
    )]
    TunDenied(#[source] io::Error),
    #[error(
        "cannot create a TUN device ({0}): CAP_NET_ADMIN is missing inside the namespace; run as root"
    )]
    TunDevice(#[source] io::Error),
    #[error("cannot start a thread for a network namespace: {0}")]
    Thread(#[source] io::Error),
    #[error("cannot configure a network namespace: {0}")]
    Configure(#[from] tun::ConfigureError),
}

/// A network namespace that stays alive as long as a clone of this value does.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<OwnedFd>,
}

impl NetNs {
    /// Makes a namespace and runs `setup` inside it before anyone else can know of it.
    pub fn create<T: Send>(
        setup: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<(Self, T), Error> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace(errno.into()))?;
            let file = File::open("/proc/thread-self/ns/net").map_err(Error::Namespace)?;
            let value = setup()?;
            Ok((
                Self {
                    file: Arc::new(file.into()),
                },
                value,
            ))
        })
        .map_err(Error::Thread)?
    }

    /// Runs `work` in a thread that has entered this namespace. Descriptors it creates stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_thread(|| {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?
    }

    /// A TCP listener inside the namespace, non-blocking as tokio wants it.
    pub fn tcp_listener(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.run(|| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?
    }

    /// A UDP socket inside the namespace, non-blocking as tokio wants it.
    pub fn udp_socket(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.run(|| {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?
    }

    /// An unconnected IPv4 TCP socket inside the namespace.
    pub fn tcp_socket(&self) -> io::Result<TcpSocket> {
        self.run(TcpSocket::new_v4)?
    }

    /// Connects from inside the namespace.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.tcp_socket()?.connect(address).await
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Proves that namespaces and TUN devices work here, by making one of each and dropping it.
pub fn preflight() -> Result<(), Error> {
    NetNs::create(|| {
        tun::Tun::open(tun::DEVICE)?;
        Ok(())
    })
    .map(drop)
}

/// Without root, becomes root of a new user namespace, in which network namespaces may be made.
///
/// Must be called before the process has a second thread: the kernel refuses it afterwards. With root it
/// does nothing.
pub fn enter_user_namespace() -> Result<(), Error> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if user.is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| Error::UserNamespace(errno.into()))?;
    // An unprivileged process may map its group only after it gave up setgroups (user_namespaces(7)).
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write_proc("/proc/self/gid_map", &format!("0 {group} 1"))
}

fn write_proc(path: &str, line: &str) -> Result<(), Error> {
    // One write call, and no truncation: the kernel accepts a map once, whole.
    let write = || {
        io::Write::write_all(
            &mut OpenOptions::new().write(true).open(path)?,
            line.as_bytes(),
        )
    };
    write().map_err(Error::UserNamespace)
}

/// Settings of the namespace that the calling thread is in. Each is a convenience that containers have
/// too; a read-only `/proc/sys` is no reason to fail.
pub(crate) fn container_sysctls() {
    const SETTINGS: [(&str, &str); 4] = [
        // No address, no router solicitation, no multicast report on devices made from now on: the
        // cluster is IPv4 only, and captures stay free of noise. `lo` exists already and keeps ::1.
        ("ipv6/conf/default/disable_ipv6", "1"),
        // What container runtimes set: an unprivileged process may ping and listen below 1024. In a user
        // namespace with a single group the whole range is refused, and the first line stays in force.
        ("ipv4/ping_group_range", "0 0"),
        ("ipv4/ping_group_range", "0 2147483647"),
        ("ipv4/ip_unprivileged_port_start", "0"),
    ];
    for (name, value) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/net/{name}"), value) {
            tracing::debug!(name, %error, "sysctl left at its default");
        }
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        Ok(handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
