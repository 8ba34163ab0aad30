//! The time of the asynchronous edge.

use std::time::Instant;

/// Now, as the runtime has it: a simulated runtime has a time of its own. Outside a runtime it is the computer's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
