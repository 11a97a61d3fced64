//! Step definitions, one file per concern. A step parses, calls the lab or the judge, and returns.
//!
//! | module | steps about |
//! |---|---|
//! | [`system`] | the state of the world before anything happens |
//! | [`toolcall`] | an agent's call, the record, the compromised dependency |
//! | [`egress`] | requests out of a Pod and what becomes of them |
//! | [`tiers`] | permits before and behind the servers' own policies |
//! | [`update`] | a server's list that changes while its Pod runs |

pub mod egress;
pub mod system;
pub mod tiers;
pub mod toolcall;
pub mod update;
mod verdict;
