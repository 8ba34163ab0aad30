//! In lock-step each update consumes exactly the unrolls that its version asked for: as many of each actor, made with that
//! version. And when a version is reached nothing is under way, so that a checkpoint of it has all there is.

use std::collections::BTreeMap;

use super::holds;
use crate::truth::Violation;

/// `unrolls` are place and version of what is trained on at `version`.
pub(crate) fn exact(
    unrolls: &[(u32, u64)],
    version: u64,
    share: u32,
    actors: u32,
) -> Result<(), Violation> {
    let mut of_place: BTreeMap<u32, u32> = BTreeMap::new();
    for (place, _) in unrolls {
        *of_place.entry(*place).or_default() += 1;
    }
    let is_exact = unrolls.iter().all(|(_, made)| *made == version)
        && of_place.len() == actors as usize
        && of_place.values().all(|count| *count == share);
    holds(is_exact, "lockstep", || {
        format!(
            "{unrolls:?} (place, version) are trained on at {version}, not {share} of each of {actors}"
        )
    })
}

pub(crate) fn still(queued: u64) -> Result<(), Violation> {
    holds(queued == 0, "lockstep", || {
        format!("{queued} unrolls are under way when a version is reached")
    })
}
