//! The learner: admission, ledger, queue, V-trace targets and clipped-PPO updates, publisher.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod admission;
pub mod algorithm;
pub mod books;
pub mod cadence;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod gate;
#[cfg(test)]
mod golden;
pub mod governor;
pub mod inference;
pub mod lag;
pub mod ledger;
pub mod metrics;
pub mod monitor;
pub mod network;
pub mod output;
pub mod pacing;
pub mod publisher;
pub mod quarantine;
pub mod queue;
pub mod race;
pub mod reservoir;
pub mod roster;
mod run;
#[cfg(test)]
mod run_tests;
mod security;
pub mod service;
#[cfg(test)]
mod simulation;
pub mod steered;
pub mod summary;
#[cfg(test)]
mod testing;
mod time;
pub mod traced;
pub mod traffic;
pub mod trainer;
pub mod verdict;
pub mod watchdog;

use std::sync::Arc;

pub use self::{
    error::LearnerError,
    run::{LearnerOptions, PolicyDescription, run},
    security::Security,
    service::LocalListener,
    summary::{LearnerEvent, Progress, Summary},
};

/// Hears of a learner's events, on whatever thread they happen; it should be quick.
pub type EventSink = Arc<dyn Fn(LearnerEvent) + Send + Sync>;
