//! A learner that is started again goes on from the newest checkpoint that was said to be safe, or a later one.

use super::holds;
use crate::truth::Violation;

pub(crate) fn kept(restored: u64, safe: u64) -> Result<(), Violation> {
    holds(restored >= safe, "durable", || {
        format!("version {safe} was safe, but {restored} was restored")
    })
}
