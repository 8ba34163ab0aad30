//! The actor: environments stepped together, batched inference, unrolls streamed to the learner.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod environment;
pub mod inference;
pub mod python;
pub mod rollout;
pub mod session;
pub mod vector;

mod client;
mod connect;
mod options;
mod worker;

pub use client::run;
pub use options::{ActorError, ActorOptions, ActorReport};
