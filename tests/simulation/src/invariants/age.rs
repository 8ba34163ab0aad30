//! Nothing is trained on that is older than the limit, or made with parameters that do not exist yet.

use super::holds;
use crate::truth::Violation;

pub(crate) fn young(id: u64, made: u64, trained: u64, limit: Option<u64>) -> Result<(), Violation> {
    holds(made <= trained, "age", || {
        format!("unroll {id} of version {made} is trained on at {trained}: a negative lag")
    })?;
    let lag = trained - made;
    holds(limit.is_none_or(|limit| lag <= limit), "age", || {
        format!("unroll {id} is trained on with a lag of {lag}, beyond {limit:?}")
    })
}
