//! The parameters that an actor loads never go back, neither to an older version nor to an earlier life of the learner.

use super::holds;
use crate::truth::{Loaded, Violation};

pub(crate) fn forwards(before: Option<Loaded>, now: Loaded) -> Result<(), Violation> {
    holds(
        before.is_none_or(|before| before <= now),
        "versions",
        || format!("(epoch, version) {now:?} is loaded after {before:?}"),
    )
}
