//! TUN devices: packets of a namespace as reads and writes on a descriptor.
//!
//! Owns: opening a device in the calling thread's namespace, moving packets, and giving the namespace its
//! addresses and its default route over netlink. Knows nothing of who uses it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::netns::Error;

/// Name of the only device that every namespace has beside `lo`.
pub const DEVICE: &str = "eth0";
pub const MTU: u32 = 1500;
/// Packets that the device holds for us before it drops: enough for a burst of small datagrams.
const QUEUE: u32 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    #[error("no device {0} in the namespace: {1}")]
    Device(&'static str, #[source] nix::Error),
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
    #[error("netlink: {what}: {source}")]
    Netlink {
        what: &'static str,
        source: rtnetlink::Error,
    },
}

/// The harness's end of a TUN device. Dropping it removes the device.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Creates the device in the namespace of the calling thread.
    pub fn open(name: &str) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::TunMissing,
                _ => Error::TunDenied(error),
            })?;
        create_device(&file, name).map_err(Error::TunDevice)?;
        Ok(Self { file })
    }

    /// Reads one packet; `WouldBlock` when none waits.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Hands one packet to the namespace. The kernel takes it or refuses it, it never blocks.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(drop)
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[expect(
    unsafe_code,
    reason = "TUNSETIFF takes a pointer to an ifreq, which no safe wrapper offers"
)]
fn create_device(file: &File, name: &str) -> io::Result<()> {
    mod request {
        // TUNSETIFF is _IOW('T', 202, int) though it reads an ifreq (linux/if_tun.h), hence "bad".
        nix::ioctl_write_ptr_bad!(
            set_interface,
            nix::request_code_write!(b'T', 202, size_of::<nix::libc::c_int>()),
            nix::libc::ifreq
        );
    }
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel reads a C string.
    for (slot, byte) in interface.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *slot = byte as libc::c_char;
    }
    interface.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open and the pointer is valid for the duration of the call.
    unsafe { request::set_interface(file.as_raw_fd(), &interface) }?;
    Ok(())
}

/// Brings `lo` and the device up, with these addresses and a default route of each family out of the device.
///
/// Works on the namespace of the calling thread and needs no runtime around it.
pub(crate) fn configure(addresses: &[IpAddr]) -> Result<(), ConfigureError> {
    let index = |name: &'static str| {
        nix::net::if_::if_nametoindex(name).map_err(|errno| ConfigureError::Device(name, errno))
    };
    let (loopback, device) = (index("lo")?, index(DEVICE)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let driver = tokio::spawn(connection);
        let result = request_all(&handle, loopback, device, addresses).await;
        driver.abort();
        result
    })
}

async fn request_all(
    handle: &Handle,
    loopback: u32,
    device: u32,
    addresses: &[IpAddr],
) -> Result<(), ConfigureError> {
    let failed = |what| move |source| ConfigureError::Netlink { what, source };
    let lo = LinkUnspec::new_with_index(loopback).up().build();
    let eth = LinkUnspec::new_with_index(device)
        .mtu(MTU)
        .txqueuelen(QUEUE)
        .up()
        .build();
    futures::try_join!(
        handle.link().set(lo).execute(),
        handle.link().set(eth).execute()
    )
    .map_err(failed("cannot bring devices up"))?;
    futures::future::try_join_all(addresses.iter().map(|address| {
        handle
            .address()
            .add(device, *address, if address.is_ipv4() { 32 } else { 128 })
            .execute()
    }))
    .await
    .map_err(failed("cannot add an address"))?;
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .output_interface(device)
        .scope(RouteScope::Link);
    if let Some(first) = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }) {
        route = route.pref_source(first);
    }
    handle
        .route()
        .add(route.build())
        .execute()
        .await
        .map_err(failed("cannot add the default route"))?;
    if !addresses.iter().any(IpAddr::is_ipv6) {
        return Ok(());
    }
    let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(device);
    handle
        .route()
        .add(route.build())
        .execute()
        .await
        .map_err(failed("cannot add the default route of IPv6"))
}
