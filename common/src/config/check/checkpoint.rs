//! Faults of the section `[checkpoint]`.

use super::{COUNT_MAX, Config, Faults, SECONDS_MAX};
use crate::config::setting::NONE;

/// Updates between two checkpoints: beyond use, and far below overflow.
const INTERVAL_UPDATES_MAX: u64 = 1_000_000_000;

impl Config {
    pub(super) fn checkpoint_faults(&self, faults: &mut Faults) {
        let checkpoint = &self.checkpoint;
        if let Some(seconds) = checkpoint.interval_s {
            faults.duration("checkpoint.interval_s", seconds, 1, SECONDS_MAX);
        }
        if let Some(updates) = checkpoint.interval_updates {
            faults.unless((1..=INTERVAL_UPDATES_MAX).contains(&updates), || {
                format!(
                    "`checkpoint.interval_updates` is {updates}, but must lie between 1 and {INTERVAL_UPDATES_MAX}; use \
                     \"{NONE}\" for no such interval"
                )
            });
        }
        let kept = checkpoint.keep_last;
        faults.unless((2..=COUNT_MAX).contains(&kept), || {
            format!(
                "`checkpoint.keep_last` is {kept}, but must lie between 2 and {COUNT_MAX}, so that one is left if the newest \
                 is damaged; use 2 or more"
            )
        });
        faults.at_most(
            "checkpoint.restarts_max",
            checkpoint.restarts_max,
            COUNT_MAX as u64,
        );
    }
}
