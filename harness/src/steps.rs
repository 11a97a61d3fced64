//! Step definitions, one file per concern. A step parses, calls the lab or the judge, and returns.
//!
//! | module | steps about |
//! |---|---|
//! | [`system`] | the state of the world before anything happens |
//! | [`toolcall`] | an agent's call, the record, the compromised dependency |
//! | [`authoring`] | what the orchestrator accepts from users, and generates |
//! | [`egress`] | requests out of a Pod and what becomes of them |
//! | [`dns`] | data in the labels of names |
//! | [`package`] | servers that npx fetches when their Pod starts |
//! | [`condition`] | prerequisites of the platform, and that a missing one is named |
//! | [`platform`] | the platform's design on the firewall's controller, and canaries |
//! | [`question`] | open questions, whose answers are recorded |
//! | [`tiers`] | permits before and behind the servers' own policies |
//! | [`update`] | a server's list that changes while its Pod runs |
//! | [`lifecycle`] | Pods replaced, servers deleted, parts of the system stopped and started |
//! | [`lists`] | lists of many names, and policies that follow each update |
//! | [`load`] | one server's load |
//! | [`burst`] | servers that start together |
//! | [`replacement`] | policies replaced under load |
//! | [`restart`] | the gateway restarted under load |
//! | [`blind`] | a policy controller whose sources are out of reach |
//! | [`catalog`] | catalog entries, servers made from them, multi-user servers |
//! | [`trespass`] | servers that use the orchestrator against their own lists |
//! | [`tamper`] | policy objects written, edited and deleted by hand |

pub mod authoring;
pub mod blind;
pub mod burst;
pub mod catalog;
pub mod condition;
pub mod dns;
pub mod egress;
pub mod ipv6;
pub mod lifecycle;
pub mod lists;
pub mod load;
pub mod package;
pub mod platform;
pub mod question;
pub mod replacement;
pub mod restart;
pub mod system;
pub mod table;
pub mod tamper;
pub mod tiers;
pub mod toolcall;
pub mod trespass;
pub mod update;
mod verdict;
