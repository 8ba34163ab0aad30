//! Parameters that an actor loads are, bit for bit, those that the learner made.

use super::holds;
use crate::{truth::Violation, work::Task};

pub(crate) fn whole(task: &Task, payload: &[u8], life: u32, version: u64) -> Result<(), Violation> {
    holds(
        payload == task.parameters(life, version),
        "snapshots",
        || format!("what was loaded as version {version} of life {life} is something else"),
    )
}
