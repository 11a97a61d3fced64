//! Plain data at the ground of everything that judges and reports: no IO, no formats, no imports from above.
//!
//! | module | owns |
//! |---|---|
//! | [`aspect`] | what is known about the attempt that a check is about |

pub mod aspect;

pub use aspect::{About, Aspect, Name};
