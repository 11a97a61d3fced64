//! The engine as a whole, between two peers on a virtual clock.

#![allow(clippy::unwrap_used)]

mod deny;
mod filter;
pub(super) mod hello;
mod ipv6;
mod logging;
mod peer;
mod permit;
mod refused;
mod restart;
mod seeded;
mod shares;
mod strict;
mod world;
