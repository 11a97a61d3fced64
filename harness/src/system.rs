//! The running system, seen from outside: what is waited for.

pub mod await_;
