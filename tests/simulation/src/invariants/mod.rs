//! What may never happen, one file each; and what must happen once the faults are over.

pub(crate) mod accounts;
pub(crate) mod age;
pub(crate) mod capacity;
pub(crate) mod drain;
pub(crate) mod durable;
pub(crate) mod fresh;
pub(crate) mod guarded;
pub(crate) mod ledger;
pub(crate) mod liveness;
pub(crate) mod lives;
pub(crate) mod lockstep;
pub(crate) mod memory;
pub(crate) mod once;
pub(crate) mod snapshots;
pub(crate) mod versions;

use crate::truth::Violation;

/// Holds, or a violation of `invariant` that `seen` describes.
fn holds(
    condition: bool,
    invariant: &'static str,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if condition {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            seen: seen(),
        })
    }
}
