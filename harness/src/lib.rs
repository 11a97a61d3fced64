//! `containment` proves or refutes one claim against a running system: *a compromised MCP server in Kubernetes cannot
//! carry data out.*
//!
//! A scenario's way from its sentence to its verdict:
//!
//! ```text
//! features/*.feature -> catalog -> steps -> lab -> tier (cluster, firewall, far ends)
//!                                    |        |
//!                                    |        +--> evidence (events, receipts, gateway log, captures)
//!                                    +--> judge <------+
//!                                           |
//!                                           +--> check results -> evidence -> report
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`cli`], [`program`] | the command line; from it to an exit code |
//! | [`facts`] | plain data that judge, evidence and report share |
//! | [`project`], [`catalog`], [`requirement`], [`claims`], [`fault`], [`scenario_data`] | the project's data, checked before anything runs |
//! | [`expected_failure`] | the list of failures that are known, each with a reason and a last day |
//! | [`run`], [`world`], [`steps`], [`console`], [`waiting`] | one run, one scenario, one step; progress; named waits |
//! | [`lab`] | the running system and what can be done with it; acts and records, never judges |
//! | [`tier`] | where clusters come from: one trait, three tenants |
//! | [`judge`] | expectation against observation; pure |
//! | [`evidence`] | the append-only folder of a scenario, its readers and parsers |
//! | [`fuzz`] | drawn policies and flows, compared with the model of the documented policy |
//! | [`report`], [`outcome`] | what a run came to, as a pure function of the evidence |
//! | [`detection`] | who tests the tests: seeded faults against scenarios |
//! | [`serve_controller`] | the fake controller alone, for people |
//! | [`doctor`] | what this machine can run |
//! | [`deadlines`] | every duration, with its reason |
//!
//! Invariants, each about something that is absent:
//! - [`judge`], [`evidence`] and [`report`] never use `mock_controller` or `cluster`: the oracle is never the engine.
//! - [`steps`] hold no waiting loops over time, no formats and no policy.
//! - Nothing outside [`tier`] knows which tier it runs on.
//! - No verdict is inferred from a client's timeout alone.

pub mod bench;
pub mod catalog;
pub mod claims;
pub mod cli;
pub mod console;
pub mod deadlines;
pub mod detection;
pub mod doctor;
pub mod evidence;
pub mod expected_failure;
pub mod facts;
pub mod fault;
pub mod fuzz;
pub mod judge;
pub mod kubeconfig;
pub mod lab;
pub mod listing;
pub mod program;
pub mod project;
pub mod report;
pub mod requirement;
pub mod run;
pub mod scenario_data;
pub mod serve_controller;
pub mod steps;
pub mod system;
pub mod tier;
pub mod up;
pub mod waiting;
pub mod world;

pub use facts::outcome;
