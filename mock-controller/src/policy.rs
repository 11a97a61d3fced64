//! The policy model: what a firewall administrator configures, and the immutable [`Snapshot`] a gateway enforces.
//!
//! Owns evaluation order and match semantics as `reference/aviatrix-dcf.md` sections 2 and 7 give them: ordered lists,
//! first match wins, a WebGroup rule whose name does not match is skipped and evaluation goes on across lists, one
//! default action at the end. Pure: values in, verdict out. It must not know packets, sockets, clocks or Kubernetes.

mod flow;
mod snapshot;

pub use flow::{Action, Application, FirstPacket, FiveTuple, Protocol, Verdict};
pub use snapshot::{Evaluation, Snapshot};
