//! Plain data at the ground of everything that judges and reports: no IO, no formats, no imports from above.
//!
//! | module | owns |
//! |---|---|
//! | [`attempt`] | attempts of clients |
//! | [`call`] | calls to HTTP APIs inside the cluster |
//! | [`system`] | Pods, lists, rules, what nodes stopped |
//! | [`aspect`] | what is known about the attempt that a check is about |
//! | [`check`] | checks, their results and evidence lines, figures |
//! | [`outcome`] | what a check and a run come to |

pub mod aspect;
pub mod attempt;
pub mod call;
pub mod check;
pub mod outcome;
pub mod system;

pub use aspect::{About, Aspect, Name};
pub use attempt::{Attempt, ClientOutcome, ClientResult, Exchange, Judged, Protocol, Sent};
pub use call::ApiCall;
pub use check::{Bearing, Check, CheckResult, EvidenceLine, Measurement};
pub use outcome::{ExitCode, Outcome, Tally, exit_code};
pub use system::{ListFact, PodFact, RuleRef, StoppedOnNode};
