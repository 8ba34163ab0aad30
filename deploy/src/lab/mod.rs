//! The laboratory: a grid of training runs, what came of each, and the report with its plots.
//!
//! `plan`, `preset`, `measured`, `curve`, `rows` and `report` are pure: text and numbers in, text and numbers out.
//! `store` reads and writes the files, `schedule` runs the processes, and `progress` shows how far they are.

pub(crate) mod curve;
pub(crate) mod measured;
pub(crate) mod plan;
pub(crate) mod preset;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod schedule;
pub(crate) mod store;

/// The key for which `lag` is short on the command line: lag that is made on purpose.
pub(crate) const LAG_KEY: &str = "lag.inject";
/// The key that says who acts.
pub(crate) const INFERENCE_KEY: &str = "actor.inference";
/// Name of the axis that named variants make.
pub(crate) const VARIANT: &str = "variant";

/// A key as it is written where space is short: its last word; `lag` for [`LAG_KEY`].
#[must_use]
pub(crate) fn short_key(key: &str) -> &str {
    if key == LAG_KEY {
        return "lag";
    }
    key.rsplit('.').next().unwrap_or(key)
}
