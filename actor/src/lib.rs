//! The actor: environments stepped together, batched inference, unrolls streamed to the learner.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod acting;
pub mod environment;
pub mod inference;
pub mod python;
pub mod rollout;
pub mod session;
pub mod vector;
pub mod worker;
pub mod world;

mod client;
mod connect;
mod handshake;
mod lives;
mod options;
mod pulse;
mod security;
mod traced;

pub use client::{run, run_in};
pub use options::{ActorError, ActorOptions, ActorReport};
pub use security::Security;
