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

#[cfg(test)]
mod tests {
    use crate::config::tests::only_fault;

    #[test]
    fn each_value_out_of_range_is_named_with_a_way_out() {
        for (set, value, way_out) in [
            ("checkpoint.keep_last=1", "is 1", "use 2 or more"),
            ("checkpoint.interval_s=0", "is 0", "between 1 and"),
            ("checkpoint.interval_updates=0", "is 0", "\"none\""),
            ("checkpoint.restarts_max=70000", "is 70000", "lower it"),
        ] {
            let fault = only_fault(&[set]);
            assert!(fault.contains(value) && fault.contains(way_out), "{fault}");
        }
    }
}
