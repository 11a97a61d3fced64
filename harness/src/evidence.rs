//! Evidence of one scenario: a folder that only ever grows, written as things happen.
//!
//! Owns the layout of that folder, the event types, and the readers that turn its files into
//! plain values for [`crate::judge`] and [`crate::report`]. It parses logs, captures and receipts
//! itself and knows neither the policy engine nor the cluster: the oracle is never the engine.
//!
//! | module          | owns                                                           |
//! |-----------------|----------------------------------------------------------------|
//! | [`event`]       | what can happen, as types                                      |
//! | [`folder`]      | names of the files                                             |
//! | [`recorder`]    | the writer, and waiting for something to be recorded           |
//! | [`index`]       | what waits ask for, without reading all events again           |
//! | [`gateway_log`] | the firewall vendor's two log record formats                   |
//! | [`capture`]     | packets out of pcapng files, also unfinished ones              |
//! | [`receipts`]    | what far ends saw, grouped by connection                       |
//! | [`observe`]     | a folder, read back as [`crate::judge::Observations`]          |
//! | [`digest`]      | SHA-256 digests and manifests                                  |

pub mod capture;
pub mod digest;
pub mod event;
pub mod folder;
pub mod gateway_log;
pub mod index;
pub mod observe;
pub mod receipts;
pub mod recorder;

pub use crate::facts::Measurement;
pub use capture::{Capture, Packet};
pub use event::{
    Event, PolicyObject, Recorded, RunFinished, RunStarted, ScenarioFinished, ScenarioStarted,
    StepFinished, StepOutcome, StepStarted, Suite, ToolCall,
};
pub use folder::Folder;
pub use gateway_log::{Action, GatewayLog, GatewayRecord};
pub use index::{Decision, Index};
pub use recorder::Recorder;

use std::path::PathBuf;

/// Evidence that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the folder.
    #[error("cannot {action} {}: {source}; check space and permissions of the output folder", path.display())]
    Io {
        /// `create`, `write`, `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of an event file.
    #[error("{}:{line}: not an event of this version: {message}", path.display())]
    Event {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Events are missing.
    #[error("{}:{line}: event {found} where {expected} was due; the file was edited or cut", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The number that was due.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// Something in an evidence folder that is neither a file nor a folder.
    #[error("{}: expected a plain file or a folder; links, pipes and devices are not followed", path.display())]
    NotPlain {
        /// Where.
        path: PathBuf,
    },
    /// A line of a manifest.
    #[error("{}:{line}: expected a SHA-256 digest in hex, two spaces and a file", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A capture file.
    #[error("{}: {message}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A file reached its bound.
    #[error("{} reached its bound of {bound} bytes; nothing after that is recorded", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The bound.
        bound: u64,
    },
}
