//! A learner holds the newest snapshot, and at most one more for each stream of parameters: what `config check` prints.

use springbok_common::config::streams_of_a_kind_max;

use super::holds;
use crate::truth::Violation;

pub(crate) fn bounded(held: usize, actors: u32) -> Result<(), Violation> {
    let most = 1 + streams_of_a_kind_max(actors as usize);
    holds(held <= most, "memory", || {
        format!("{held} snapshots are held, more than {most}")
    })
}
