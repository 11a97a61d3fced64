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
    #[error(
        "this kernel has no IPv6 in a new network namespace ({0}): boot without ipv6.disable=1, or load the module \
         (modprobe ipv6)"
    )]
    NoIpv6(String),
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
        let socket = match address {
            SocketAddr::V4(_) => self.tcp_socket()?,
            SocketAddr::V6(_) => self.run(TcpSocket::new_v6)??,
        };
        socket.connect(address).await
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

/// Whether a new namespace of this machine can have IPv6.
///
/// # Errors
/// [`Error::NoIpv6`] when it can't, or what keeps namespaces from being made at all.
pub fn ipv6_preflight() -> Result<(), Error> {
    NetNs::create(|| container_sysctls(Families::DualStack)).map(drop)
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

/// Applies to devices made from then on in the namespace of the thread that writes it.
const DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// The address families of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    #[default]
    Ipv4,
    DualStack,
}

/// Settings of the namespace that the calling thread is in. Each is a convenience that containers have
/// too; a read-only `/proc/sys` is no reason to fail.
pub(crate) fn container_sysctls(families: Families) -> Result<(), Error> {
    const SETTINGS: [(&str, &str); 3] = [
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
    match families {
        Families::Ipv4 => {
            // No address, no router solicitation, no multicast report on devices made from now on: captures stay
            // free of noise. `lo` exists already and keeps ::1.
            if let Err(error) = fs::write(DISABLE_IPV6, "1") {
                tracing::debug!(%error, "IPv6 left at its default");
            }
            Ok(())
        }
        Families::DualStack => enable_ipv6(),
    }
}

/// Without a link-local address, which nobody on these links would answer, a device asks for no router and reports no
/// multicast group: captures stay free of noise here too.
fn enable_ipv6() -> Result<(), Error> {
    if let Err(error) = fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1") {
        tracing::debug!(%error, "devices get link-local addresses");
    }
    let written = fs::write(DISABLE_IPV6, "0");
    // A read-only `/proc/sys` may well have it enabled.
    match fs::read_to_string(DISABLE_IPV6) {
        Ok(value) if value.trim() == "0" => Ok(()),
        Ok(_) => Err(Error::NoIpv6(format!(
            "net.ipv6.conf.default.disable_ipv6 stays 1: {}",
            written
                .err()
                .map_or_else(String::new, |error| error.to_string())
        ))),
        Err(error) => Err(Error::NoIpv6(format!("{DISABLE_IPV6}: {error}"))),
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
