//! The learner: admission, ledger, queue, V-trace targets and clipped-PPO updates, publisher.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod algorithm;
pub mod device;
pub mod trainer;
#[cfg(test)]
mod golden;
