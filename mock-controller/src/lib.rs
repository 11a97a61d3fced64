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
//! | [`crd`] | FirewallPolicy and WebgroupPolicy: types and definitions | pure |
//! | [`store`] | what an administrator configured, in the vendor's wire form | pure |
//! | [`translate`] | store and cluster objects to policy and status | pure |
//! | [`controller`] | watches, pushes, status, events | IO: tokio, kube |
//! | [`syslog`] | the gateway's records on their way to remote syslog servers | IO: tokio |
//! | [`api`] | the vendor's HTTP API over the store | sans-IO, but for its server |
//! | [`fault`] | seeded faults, by name | pure |
//!
//! A policy object's way: `controller` sees it, `translate` makes rules and groups of it, `policy` compiles them, a
//! [`controller::GatewayLink`] carries the snapshot to `gateway`, whose `record`s name the rule by a uuid that
//! [`controller::Controller::describe_rule`] leads back to the object.
//!
//! # Faithful
//! Evaluation order and match semantics, the CRD schemas, names of mirrored objects, log formats, status and events, as
//! `reference/aviatrix-dcf.md` documents them. What that page marks unknown is a switch with a documented default
//! ([`policy::Switches`], [`gateway::Config`]), or a choice named in the header of its module.
//!
//! # Not faithful
//! No tunnels, no cloud inventory, no decryption, no IDS, no UI, no lag; TLS profiles are kept and change nothing.

pub mod api;
pub mod controller;
pub mod crd;
pub mod fault;
pub mod gateway;
pub mod policy;
pub mod record;
pub mod store;
pub mod syslog;
pub mod time;
pub mod translate;
