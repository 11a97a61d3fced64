//! Packets as evidence: pcapng files written as things happen.
//!
//! Owns: two files, their interfaces, their bound. `pod-side.pcapng` has one interface per pod and holds
//! what the pod sent and received, before any address is translated; `outside.pcapng` holds what passed
//! between the gateway and the internet. Format: pcapng (IETF draft-ietf-opsawg-pcapng), raw IP packets,
//! nanosecond timestamps, direction in each packet's flags as the named interface sees it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

pub const POD_SIDE: &str = "pod-side.pcapng";
pub const OUTSIDE: &str = "outside.pcapng";
/// Bytes per file: a pod that floods must not fill the disk. Far above what a scenario sends.
pub const DEFAULT_LIMIT: u64 = 256 << 20;
/// Exponent of the timestamps' unit: nanoseconds.
const NANOSECONDS: u8 = 9;
const BUFFER: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
#[error("cannot write capture {path}: {source}")]
pub struct Error {
    path: String,
    source: pcap_file::PcapError,
}

/// As the interface sees it: a pod's packet is outbound on the pod's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// Completeness of a capture. `skipped` packets are missing from the files: evidence of absence needs zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    pub written: u64,
    pub skipped: u64,
    pub error: Option<String>,
}

/// Interface number inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface(u32);

/// One pcapng file.
pub struct Capture {
    writer: PcapNgWriter<BufWriter<File>>,
    interfaces: u32,
    bytes: u64,
    limit: u64,
    dirty: bool,
    status: Status,
}

impl Capture {
    pub fn create(path: &Path, limit: u64) -> Result<Self, Error> {
        let writer = File::create(path)
            .map_err(pcap_file::PcapError::IoError)
            .and_then(|file| PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file)))
            .map_err(|source| Error {
                path: path.display().to_string(),
                source,
            })?;
        Ok(Self {
            writer,
            interfaces: 0,
            bytes: 0,
            limit,
            dirty: true,
            status: Status::default(),
        })
    }

    pub fn interface(&mut self, name: &str) -> Interface {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        let result = self.writer.write_pcapng_block(block);
        self.dirty = true;
        if let Err(error) = result {
            self.fail(&error);
        }
        self.interfaces += 1;
        Interface(self.interfaces - 1)
    }

    pub fn packet(
        &mut self,
        at: jiff::Timestamp,
        interface: Interface,
        direction: Direction,
        packet: &[u8],
    ) {
        if self.status.error.is_some() || self.bytes >= self.limit {
            self.status.skipped += 1;
            return;
        }
        // Epoch nanoseconds fit until the year 2554; before 1970 no packet was captured.
        let nanoseconds = u64::try_from(at.as_nanosecond()).unwrap_or(0);
        let block = EnhancedPacketBlock {
            interface_id: interface.0,
            timestamp: Duration::from_nanos(nanoseconds),
            original_len: packet.len() as u32,
            data: Cow::Borrowed(packet),
            // epb_flags, bits 0 and 1: 01 inbound, 10 outbound.
            options: vec![EnhancedPacketOption::Flags(match direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            })],
        };
        self.dirty = true;
        match self.writer.write_pcapng_block(block) {
            Ok(_) => {
                self.status.written += 1;
                self.bytes += packet.len() as u64;
            }
            Err(error) => {
                self.status.skipped += 1;
                self.fail(&error);
            }
        }
    }

    /// Hands everything so far to the operating system; cheap when there is nothing new.
    pub fn flush(&mut self) -> &Status {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = self.writer.get_mut().flush()
        {
            self.fail(&pcap_file::PcapError::IoError(error));
        }
        &self.status
    }

    fn fail(&mut self, error: &pcap_file::PcapError) {
        if self.status.error.is_none() {
            tracing::error!(%error, "capture is incomplete from here on");
            self.status.error = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn what_is_flushed_can_be_read_while_the_capture_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POD_SIDE);
        let mut capture = Capture::create(&path, 250).unwrap();
        let interface = capture.interface("pod-10.244.0.10");
        let at: jiff::Timestamp = "2026-02-03T04:05:06.123456789Z".parse().unwrap();
        for _ in 0..3 {
            capture.packet(at, interface, Direction::Outbound, &[0x45; 201]);
        }
        assert_eq!(
            *capture.flush(),
            Status {
                written: 2,
                skipped: 1,
                error: None
            }
        );

        let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                packets.push((packet.timestamp, packet.data.to_vec(), packet.options.len()));
            }
        }
        let expected = Duration::from_nanos(at.as_nanosecond() as u64);
        assert_eq!(packets, vec![(expected, vec![0x45; 201], 1); 2]);
        assert_eq!(reader.interfaces().len(), 1);
    }
}
