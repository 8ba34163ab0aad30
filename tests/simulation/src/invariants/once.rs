//! Every unroll is trained on at most once, and never again after a restore that contains it.

use super::holds;
use crate::truth::Violation;

pub(crate) fn only(id: u64, fresh: bool) -> Result<(), Violation> {
    holds(fresh, "once", || format!("unroll {id} is trained on again"))
}
