//! The fabric thread: the only IO and the only clock of the packet path.
//!
//! Owns: the devices, the loop over them, and what happens to a packet between the pure parts. Everything
//! else talks to it through [`Commands`], which take effect in the order they were sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use mock_controller::gateway::{Counters, Gateway, Side};
use mock_controller::policy::{FiveTuple, Snapshot};
use mock_controller::record::LogRecord;
use mock_controller::time::Now;
use tokio::sync::{mpsc, oneshot};

use super::captures::Captures;
use super::leak::{self, Leaks};
use super::{CaptureStatus, Error};
use crate::capture::{Direction, Interface};
use crate::fabric::impairment::Impairment;
use crate::fabric::{Drops, Fabric, Forward, Origin, Port, PortId};
use crate::fault::{ClusterFault, ClusterFaults};
use crate::node_stage::policy::PolicyTable;
use crate::node_stage::service::ServiceTable;
use crate::node_stage::{DropReason, NodeConfig};
use crate::tun::Tun;

const WAKER: Token = Token(usize::MAX);
/// Packets taken from one device before the others get their turn.
const BATCH: usize = 64;
/// Rounds over all devices that a flush waits for: a pod that floods must not hold it up for ever.
const DRAIN_ROUNDS: usize = 1024;
/// No IPv4 packet is longer, nor an IPv6 one on a link of this MTU.
const LONGEST_PACKET: usize = 65_535;

pub(super) enum Command {
    Attach {
        /// The first one names it in captures.
        addresses: Vec<IpAddr>,
        tun: Tun,
        reply: std_mpsc::SyncSender<Result<PortId, Error>>,
    },
    Detach(PortId),
    Services(ServiceTable),
    Policies(PolicyTable),
    Masquerade(bool),
    Impairments(Vec<Impairment>),
    SendAs {
        address: IpAddr,
        packet: Vec<u8>,
        reply: oneshot::Sender<bool>,
    },
    Policy {
        policy: Arc<Snapshot>,
        done: oneshot::Sender<()>,
    },
    RestartGateway(oneshot::Sender<()>),
    OutsideSource {
        flow: FiveTuple,
        reply: oneshot::Sender<Option<SocketAddr>>,
    },
    Counters(oneshot::Sender<Counters>),
    Drops(oneshot::Sender<Drops>),
    Barrier(oneshot::Sender<()>),
    Flush(oneshot::Sender<CaptureStatus>),
    Stop,
}

/// The way to the thread. Commands to a thread that has stopped are dropped.
#[derive(Clone)]
pub(super) struct Commands {
    queue: std_mpsc::Sender<Command>,
    waker: Arc<Waker>,
}

impl Commands {
    pub(super) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake the fabric thread");
        }
    }
}

pub(super) struct Parts {
    pub(super) node: NodeConfig,
    pub(super) node_tun: Tun,
    pub(super) node_addresses: Vec<IpAddr>,
    pub(super) internet_tun: Tun,
    pub(super) gateway: Gateway,
    pub(super) records: mpsc::UnboundedSender<LogRecord>,
    pub(super) capture_dir: Option<PathBuf>,
    pub(super) capture_limit: u64,
    pub(super) faults: ClusterFaults,
}

pub(super) struct Driver {
    poll: Poll,
    commands: std_mpsc::Receiver<Command>,
    clock: Clock,
    fabric: Fabric,
    gateway: Gateway,
    records: mpsc::UnboundedSender<LogRecord>,
    devices: BTreeMap<PortId, Device>,
    internet: PortId,
    faults: ClusterFaults,
    captures: Option<Captures>,
    /// Devices that may have packets: readiness is reported once per arrival.
    ready: BTreeSet<PortId>,
    buffer: Vec<u8>,
    closers: Closers,
    leaks: Leaks,
}

struct Device {
    tun: Tun,
    /// Pods have one, in the pod-side capture.
    interface: Option<Interface>,
}

struct Clock {
    origin: Instant,
}

/// Threads that close devices. The kernel takes some 30 ms to remove one, most of it waiting for others
/// to be done with it: too long for the fabric thread, and the same for many at once as for one.
#[derive(Default)]
struct Closers(Vec<JoinHandle<()>>);

impl Closers {
    fn close(&mut self, tun: Tun) {
        self.0.retain(|thread| !thread.is_finished());
        let thread = thread::Builder::new()
            .name("tun-closer".into())
            .spawn(move || drop(tun));
        match thread {
            Ok(thread) => self.0.push(thread),
            // The closure, and the device with it, was dropped right here.
            Err(error) => tracing::debug!(%error, "no thread to close a device"),
        }
    }
}

/// Waits, so that nothing is left once the fabric thread has ended.
impl Drop for Driver {
    fn drop(&mut self) {
        while let Some((_, device)) = self.devices.pop_first() {
            self.closers.close(device.tun);
        }
        for thread in self.closers.0.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Clock {
    fn now(&self) -> Now {
        Now {
            monotonic: self.origin.elapsed(),
            wall: jiff::Timestamp::now(),
        }
    }
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Result<(Commands, Self), Error> {
        let poll = Poll::new().map_err(Error::Poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(Error::Poll)?);
        let (queue, commands) = std_mpsc::channel();
        let mut fabric = Fabric::new(parts.node);
        let node = fabric.attach(Port::Node, &parts.node_addresses)?;
        let internet = fabric.attach(Port::Internet, &[])?;
        let stops = parts.faults.contains(&ClusterFault::CaptureStops);
        let mut driver = Self {
            poll,
            commands,
            clock: Clock {
                origin: Instant::now(),
            },
            fabric,
            gateway: parts.gateway,
            records: parts.records,
            devices: BTreeMap::new(),
            internet,
            faults: parts.faults,
            captures: parts
                .capture_dir
                .map(|folder| Captures::create(&folder, parts.capture_limit, stops))
                .transpose()?,
            ready: BTreeSet::new(),
            buffer: vec![0; LONGEST_PACKET],
            closers: Closers::default(),
            leaks: Leaks::default(),
        };
        driver.watch(node, parts.node_tun, None)?;
        driver.watch(internet, parts.internet_tun, None)?;
        Ok((Commands { queue, waker }, driver))
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = if self.ready.is_empty() {
                // Evidence reaches the disk before the thread rests, also if the harness is killed.
                if let Some(captures) = &mut self.captures {
                    captures.flush();
                }
                self.next_timeout()
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the fabric thread cannot poll its devices");
                    return;
                }
            }
            let arrivals = events.iter().filter(|event| event.token() != WAKER);
            self.ready
                .extend(arrivals.map(|event| PortId(event.token().0 as u32)));
            while let Ok(command) = self.commands.try_recv() {
                if self.obey(command).is_break() {
                    return;
                }
            }
            self.serve_ready();
            self.serve_timeouts();
        }
    }

    fn obey(&mut self, command: Command) -> std::ops::ControlFlow<()> {
        // Whoever asked may have stopped waiting: answers that nobody takes are no error.
        match command {
            Command::Attach {
                addresses,
                tun,
                reply,
            } => {
                let _ = reply.send(self.attach(&addresses, tun));
            }
            Command::Detach(port) => self.detach(port),
            Command::Services(table) => self.fabric.node_mut().set_services(table),
            Command::Policies(table) => self.fabric.node_mut().set_policies(table),
            Command::Masquerade(on) => self.fabric.node_mut().set_masquerade(on),
            Command::Impairments(rules) => self.fabric.impairments_mut().set(rules),
            Command::SendAs {
                address,
                mut packet,
                reply,
            } => {
                let port = self.fabric.port_behind(address);
                if let Some(port) = port {
                    self.accept(port, &mut packet);
                }
                let _ = reply.send(port.is_some());
            }
            Command::Policy { policy, done } => {
                let now = self.clock.now();
                self.gateway.set_policy(now, policy);
                self.serve_gateway(now);
                let _ = done.send(());
            }
            Command::RestartGateway(done) => {
                self.gateway.restart(self.clock.now());
                let _ = done.send(());
            }
            Command::OutsideSource { flow, reply } => {
                let _ = reply.send(self.gateway.outside_source(&flow));
            }
            Command::Counters(reply) => {
                self.drain();
                let _ = reply.send(self.gateway.counters().clone());
            }
            Command::Drops(reply) => {
                self.drain();
                let _ = reply.send(self.fabric.drops().clone());
            }
            Command::Barrier(reply) => {
                let _ = reply.send(());
            }
            Command::Flush(reply) => {
                self.drain();
                let status = self.captures.as_mut().map(Captures::flush);
                let _ = reply.send(status.unwrap_or_default());
            }
            Command::Stop => {
                if let Some(captures) = &mut self.captures {
                    captures.flush();
                }
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn attach(&mut self, addresses: &[IpAddr], tun: Tun) -> Result<PortId, Error> {
        let port = self.fabric.attach(Port::Pod, addresses)?;
        let name = addresses.first().map(|address| format!("pod-{address}"));
        let interface = self
            .captures
            .as_mut()
            .zip(name)
            .map(|(captures, name)| captures.pod_side.interface(&name));
        if let Err(error) = self.watch(port, tun, interface) {
            self.fabric.detach(port);
            return Err(error);
        }
        Ok(port)
    }

    fn watch(&mut self, port: PortId, tun: Tun, interface: Option<Interface>) -> Result<(), Error> {
        self.poll
            .registry()
            .register(
                &mut SourceFd(&tun.as_raw_fd()),
                Token(port.0 as usize),
                Interest::READABLE,
            )
            .map_err(Error::Poll)?;
        self.devices.insert(port, Device { tun, interface });
        Ok(())
    }

    fn detach(&mut self, port: PortId) {
        // What the pod sent before it went is evidence too.
        while self.receive(port) {}
        self.fabric.detach(port);
        self.ready.remove(&port);
        if let Some(device) = self.devices.remove(&port) {
            // The closer may take a while: until then the poll must not speak of it.
            if let Err(error) = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&device.tun.as_raw_fd()))
            {
                tracing::warn!(?port, %error, "cannot stop watching a device");
            }
            self.closers.close(device.tun);
        }
    }

    fn serve_ready(&mut self) {
        let round: Vec<PortId> = self.ready.iter().copied().collect();
        for port in round {
            if !self.receive(port) {
                self.ready.remove(&port);
            }
        }
    }

    /// Takes in whatever the namespaces have sent so far, whether or not the poll has reported it.
    fn drain(&mut self) {
        self.ready.extend(self.devices.keys());
        for _ in 0..DRAIN_ROUNDS {
            if self.ready.is_empty() {
                return;
            }
            self.serve_ready();
        }
    }

    /// Forwards up to a batch of packets from one device; false when it has no more.
    fn receive(&mut self, port: PortId) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut more = true;
        for _ in 0..BATCH {
            let Some(device) = self.devices.get(&port) else {
                more = false;
                break;
            };
            match device.tun.receive(&mut buffer) {
                Ok(length) => self.accept(port, &mut buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        tracing::warn!(?port, %error, "cannot read from a device");
                    }
                    more = false;
                    break;
                }
            }
        }
        self.buffer = buffer;
        more
    }

    fn accept(&mut self, port: PortId, packet: &mut [u8]) {
        let now = self.clock.now();
        if let Some(captures) = &mut self.captures {
            let interface = self.devices.get(&port).and_then(|device| device.interface);
            if port == self.internet {
                captures.outside(now.wall, Direction::Inbound, packet);
            } else if let Some(interface) = interface {
                captures
                    .pod_side
                    .packet(now.wall, interface, Direction::Outbound, packet);
            }
        }
        let forward = self
            .fabric
            .handle(now.monotonic, Origin::Port(port), packet);
        self.follow(now, Origin::Port(port), forward, packet);
    }

    fn follow(&mut self, now: Now, from: Origin, forward: Forward, packet: &[u8]) {
        match forward {
            Forward::Deliver(port) => self.deliver(now, port, packet),
            Forward::Leave if self.bypasses_gateway(packet) => {
                if let Some(captures) = &mut self.captures {
                    captures.outside(now.wall, Direction::Outbound, packet);
                }
                self.deliver(now, self.internet, packet);
            }
            Forward::Leave => {
                if let (Some(answer), Origin::Port(port)) =
                    (leak::answer(&self.faults, packet), from)
                {
                    self.deliver(now, port, &answer);
                }
                self.gateway.handle_inside(now, packet);
                self.serve_gateway(now);
            }
            Forward::Enter => match self.comes_back_around_gateway(packet) {
                Some(port) => self.deliver(now, port, packet),
                None => {
                    self.gateway.handle_outside(now, packet);
                    self.serve_gateway(now);
                }
            },
            Forward::Answer(answer) => {
                if let Origin::Port(port) = from {
                    self.deliver(now, port, &answer);
                }
            }
            Forward::Held | Forward::Dropped => {}
        }
    }

    /// Whether a seeded fault leads this IPv4 packet around the gateway.
    fn bypasses_gateway(&self, packet: &[u8]) -> bool {
        const ICMP: u8 = 1;
        const UDP: u8 = 17;
        let fault = match packet.get(9) {
            _ if self.faults.is_empty() => return false,
            Some(_) if self.faults.contains(&ClusterFault::GatewayBypassed) => {
                return packet[0] >> 4 == 4;
            }
            Some(&UDP) => ClusterFault::UdpBypassesGateway,
            Some(&ICMP) => ClusterFault::IcmpBypassesGateway,
            _ => return false,
        };
        packet[0] >> 4 == 4 && self.faults.contains(&fault)
    }

    /// Where the answer to a packet goes that a seeded fault led around the gateway with its own source address.
    fn comes_back_around_gateway(&self, packet: &[u8]) -> Option<PortId> {
        if !self.faults.contains(&ClusterFault::GatewayBypassed) {
            return None;
        }
        let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        self.fabric.port_behind(IpAddr::from(destination))
    }

    fn serve_gateway(&mut self, now: Now) {
        while let Some(mut transmit) = self.gateway.poll_transmit() {
            match transmit.side {
                Side::Outside => {
                    if let Some(captures) = &mut self.captures {
                        captures.outside(now.wall, Direction::Outbound, &transmit.packet);
                    }
                    self.deliver(now, self.internet, &transmit.packet);
                }
                Side::Inside => {
                    let packet = &mut transmit.packet;
                    let forward = self.fabric.handle(now.monotonic, Origin::Gateway, packet);
                    if let Forward::Deliver(port) = forward {
                        self.deliver(now, port, packet);
                    }
                }
            }
        }
        while let Some(record) = self.gateway.poll_record() {
            self.leaks.logged(&self.faults, now.monotonic, &record);
            // Without a reader the log goes nowhere, as with a gateway that has no collector.
            let _ = self.records.send(record);
        }
        self.serve_leaks(now);
    }

    fn serve_leaks(&mut self, now: Now) {
        while let Some(leak) = self.leaks.poll(now.monotonic) {
            if let (Some(captures), true) = (&mut self.captures, leak.captured) {
                captures.outside(now.wall, Direction::Outbound, &leak.packet);
            }
            self.deliver(now, self.internet, &leak.packet);
        }
    }

    fn deliver(&mut self, now: Now, port: PortId, packet: &[u8]) {
        let Some(device) = self.devices.get(&port) else {
            return;
        };
        if let (Some(captures), Some(interface)) = (&mut self.captures, device.interface) {
            captures
                .pod_side
                .packet(now.wall, interface, Direction::Inbound, packet);
        }
        if let Err(error) = device.tun.send(packet) {
            tracing::debug!(?port, %error, "a device refused a packet");
            self.fabric.note(now.monotonic, None, DropReason::Device);
        }
    }

    fn serve_timeouts(&mut self) {
        let now = self.clock.now();
        if self
            .gateway
            .poll_timeout()
            .is_some_and(|at| at <= now.monotonic)
        {
            self.gateway.handle_timeout(now);
            self.serve_gateway(now);
        }
        self.serve_leaks(now);
        while let Some((from, mut packet)) = self.fabric.poll_delayed(now.monotonic) {
            let forward = self.fabric.handle_delayed(now.monotonic, from, &mut packet);
            self.follow(now, from, forward, &packet);
        }
        if self
            .fabric
            .poll_timeout()
            .is_some_and(|at| at <= now.monotonic)
        {
            self.fabric.handle_timeout(now.monotonic);
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let at = [
            self.gateway.poll_timeout(),
            self.fabric.poll_timeout(),
            self.leaks.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()?;
        Some(at.saturating_sub(self.clock.origin.elapsed()))
    }
}
