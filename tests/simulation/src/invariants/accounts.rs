//! The accounts agree with what happened: as much is trained as was trained, and as much produced as the actors' numbers
//! say; an acknowledged unroll is in them.

use springbok_common::ids::ActorId;

use super::holds;
use crate::truth::{Running, Violation};

pub(crate) fn agree<'a>(
    running: &Running,
    actors: impl Iterator<Item = &'a ActorId>,
) -> Result<(), Violation> {
    let books = running.books.lock();
    let (now, began) = (books.ledger.counts(), &running.began_with);
    let trained = now.trained.wrapping_sub(began.trained);
    holds(trained == running.trained_unrolls, "accounts", || {
        format!(
            "{trained} unrolls are counted as trained, but {} were",
            running.trained_unrolls
        )
    })?;
    let marks = actors.filter_map(|actor| books.roster.mark(*actor));
    let settled: u64 = marks.map(|mark| mark.0).sum();
    let produced = now.produced.wrapping_sub(began.produced);
    holds(produced == settled, "accounts", || {
        format!("{produced} unrolls are counted as produced, but the actors' numbers say {settled}")
    })
}
