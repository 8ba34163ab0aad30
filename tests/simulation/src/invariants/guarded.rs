//! Nobody gets in with a token that was never valid, or is valid no more.

use super::holds;
use crate::truth::Violation;

/// A stranger was.
pub(crate) fn let_in() -> Result<(), Violation> {
    holds(false, "guarded", || {
        "somebody without a valid token was let in".to_owned()
    })
}
