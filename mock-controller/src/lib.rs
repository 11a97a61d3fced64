//! A fake Aviatrix: it really evaluates policy, really stands inline and really writes the vendor's log, but only for
//! tests. **Never for production**: memory only, one process, no authentication worth the name, deliberate defects on
//! request.
//!
//! # Map
//! | module | owns | purity |
//! |---|---|---|
//! | [`policy`] | SmartGroups, WebGroups, rules, evaluation order, [`policy::Snapshot`] | pure |
//! | [`gateway`] | the inline engine: packets in, packets and records out | sans-IO, `now` is an argument |
//! | [`time`] | the `now` that engines are given | pure |
//! | [`record`] | log records in the vendor's two formats | pure |
//! | [`fault`] | seeded faults, by name | pure |
//!
//! # Faithful
//! Evaluation order and match semantics, the CRD schemas, names of mirrored objects, log formats, status and events, as
//! `reference/aviatrix-dcf.md` documents them. What that page marks unknown is a switch with a documented default.
//!
//! # Not faithful
//! No tunnels, no multi-cloud inventory, no decryption, no TLS profiles, no IDS, no UI; one gateway enforces all.

pub mod crd;
pub mod fault;
pub mod gateway;
pub mod policy;
pub mod record;
pub mod time;
