//! Nothing is trained on that was made for another life of the learner.

use super::holds;
use crate::truth::Violation;

pub(crate) fn same(id: u64, made: u32, trained: u32) -> Result<(), Violation> {
    holds(made == trained, "lives", || {
        format!("unroll {id} of life {made} is trained on in life {trained}")
    })
}
