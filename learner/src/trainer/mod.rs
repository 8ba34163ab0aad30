//! The trainer.

pub mod batch;
pub mod update;
