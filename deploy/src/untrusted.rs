//! What reads files and answers that other programs wrote, for tests that hand it nonsense. No part of the interface.

use std::{path::Path, sync::Arc};

use springbok_actor::environment::Registry;

use crate::{
    lab::{
        curve::{self, Curve},
        measured::Measured,
        plan, rows, store,
    },
    verbs,
};

/// `results.jsonl` as it would be written again, with its CSV; what is wrong with it otherwise.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn rows(text: &str) -> Result<(String, String), String> {
    let rows = rows::from_jsonl(text)?;
    let csv = rows::to_csv(&rows.iter().collect::<Vec<_>>());
    Ok((rows::to_jsonl(rows.iter()), csv))
}

/// Reads what a report reads of a run: points of its curve, keys of its configuration, and whether its summary is one.
#[must_use]
pub fn run_files(metrics: &str, config: &str, summary: &str) -> (usize, usize, bool) {
    let read = Curve::read(metrics);
    let _ = curve::spread(&[&read, &read]);
    let measured = Measured::read(summary);
    let keys = store::flat(config).len();
    (read.points.len(), keys, measured.is_ok())
}

/// Whether the text is an axis of a grid, or a named point of one.
#[must_use]
pub fn axis(text: &str) -> bool {
    plan::sweep(text).is_ok() || plan::variant(text).is_ok()
}

/// What a server at the address of a learner's page answered, in words; none if that is no status.
#[must_use]
pub fn status(answer: &[u8]) -> Option<String> {
    verbs::status_in_words(answer)
}

/// Whether a run directory has a policy that can be played.
#[must_use]
pub fn has_policy(run_directory: &Path) -> bool {
    verbs::has_policy(run_directory, &Arc::new(Registry::built_in()))
}
