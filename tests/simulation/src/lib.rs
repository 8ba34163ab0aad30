//! The real service and the real client on a simulated network, under faults that one seed decides.
//!
//! One thread, a simulated network and a simulated time (turmoil). The learner's service, books, queue, gate and
//! publisher and the actor's client and session are the real ones; the trainer and whoever makes unrolls are tasks of
//! this crate. [`simulate`] runs one seed: first a time of faults, then one without, in which everything has to recover.
//! What may never happen is in [`invariants`], one file for each.
#![forbid(unsafe_code)]

mod actor;
mod chance;
mod counted;
mod disk;
pub mod invariants;
mod keys;
mod learner;
mod network;
mod plan;
mod planted;
mod readers;
mod run;
mod slow;
mod stranger;
mod trainer;
mod truth;
mod work;

pub use self::{
    planted::Planted,
    readers::{Readers, Received, Seen, look_at},
    run::{Outcome, simulate},
    slow::Reading,
    truth::Violation,
};
