//! The vocabulary that actors and learner share: versions, ids, specifications, unrolls, snapshots and verdicts; the
//! networks; the wire encoding; the configuration. Constructors hold the invariants.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod acting;
pub mod arrays;
pub mod ids;
pub mod injection;
pub mod reject;
pub mod seed;
pub mod snapshot;
pub mod spec;
pub mod step;
pub mod unroll;
pub mod version;

pub mod backoff;
pub mod coding;
pub mod config;
pub mod credentials;
pub mod policy;
pub mod recording;
pub mod telemetry;
pub mod trace;
pub mod wire;
