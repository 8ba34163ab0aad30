//! Queue and outbox never hold more than their capacity. An actor begins an unroll only if the learner has settled all but
//! as many as fit: so this finds an acknowledgement that comes too early, too.

use super::holds;
use crate::truth::{Running, Violation};

pub(crate) fn outbox(begun: u64, settled: u64, capacity: usize) -> Result<(), Violation> {
    holds(
        begun <= settled.saturating_add(capacity as u64),
        "capacity",
        || {
            format!(
                "unroll {begun} is begun although only {settled} are settled and the outbox holds {capacity}"
            )
        },
    )
}

pub(crate) fn queue(running: &Running) -> Result<(), Violation> {
    let fill = running.queue.fill();
    holds(fill <= 1.0, "capacity", || {
        format!("the queue is {fill} full")
    })
}
