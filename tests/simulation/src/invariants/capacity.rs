//! Queue and outbox never hold more than their capacity. An actor begins an unroll only if the learner has settled all but
//! as many as fit: so this finds an acknowledgement that comes too early, too. And what the books have as queued is there:
//! in the queue, in the trainer's hands, or in those of a stream that waits for a place.

use springbok_common::config::streams_of_a_kind_max;

use super::holds;
use crate::{
    plan::Plan,
    truth::{Running, Violation},
};

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

/// A queue that evicts lets nobody wait.
pub(crate) fn accounted(running: &Running, plan: &Plan) -> Result<(), Violation> {
    let queued = running.books.lock().ledger.counts().queued;
    let waits = (running.queue.fill() * plan.queue_unrolls as f64).round() as u64;
    let at_doors = queued.checked_sub(waits + running.in_hand);
    let most = if plan.evicts {
        0
    } else {
        streams_of_a_kind_max(plan.actors as usize) as u64
    };
    holds(
        at_doors.is_some_and(|waiting| waiting <= most),
        "capacity",
        || {
            format!(
                "{queued} unrolls are counted as queued, but {waits} are in the queue, {} with the trainer, and at most \
                 {most} can wait for a place",
                running.in_hand
            )
        },
    )
}
