//! Places at which a learner can be made to die, so that a test can prove that a run survives it.
//!
//! They do nothing unless the environment variable `SPRINGBOK_ABORT_AT` names one of them, as `NAME` or `NAME:N` for the
//! N-th time that it is reached. All that it can do is end the very process that was started with it, at once and without
//! cleaning up, which whoever can set its environment can do anyway. It is no key of the configuration, so that no file
//! and no peer can ask for it.

use std::{
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that arms a place.
pub const VARIABLE: &str = "SPRINGBOK_ABORT_AT";

/// A place at which a process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A checkpoint is about to be written: nothing is on the disk yet.
    BeforeWrite,
    /// Half of it is written.
    MidWrite,
    /// It is written and not forced onto the disk.
    BeforeSync,
    /// It is complete under its temporary name.
    BeforeRename,
    /// It has its name.
    AfterRename,
    /// Its name is not forced onto the disk.
    BeforeDirectorySync,
    /// It is verified; older ones are still there.
    BeforePrune,
    /// An update has changed the parameters and nobody knows of it yet.
    MidUpdate,
}

/// All of them.
pub const FAILPOINTS: [Failpoint; 8] = [
    Failpoint::BeforeWrite,
    Failpoint::MidWrite,
    Failpoint::BeforeSync,
    Failpoint::BeforeRename,
    Failpoint::AfterRename,
    Failpoint::BeforeDirectorySync,
    Failpoint::BeforePrune,
    Failpoint::MidUpdate,
];

impl Failpoint {
    /// Its name in the variable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeWrite => "before-write",
            Self::MidWrite => "mid-write",
            Self::BeforeSync => "before-sync",
            Self::BeforeRename => "before-rename",
            Self::AfterRename => "after-rename",
            Self::BeforeDirectorySync => "before-directory-sync",
            Self::BeforePrune => "before-prune",
            Self::MidUpdate => "mid-update",
        }
    }

    /// Ends the process if this is the place and the time that the variable names.
    pub fn reach(self) {
        static ARMED: OnceLock<Option<(Failpoint, u64)>> = OnceLock::new();
        static REACHED: AtomicU64 = AtomicU64::new(0);
        let armed = ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
        if let Some((place, times)) = armed
            && *place == self
            && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *times
        {
            tracing::error!(place = self.name(), "{VARIABLE} ends this process");
            process::abort();
        }
    }
}

fn parse(text: &str) -> Option<(Failpoint, u64)> {
    let (name, times) = match text.split_once(':') {
        Some((name, times)) => (name, times.parse().ok()?),
        None => (text, 1),
    };
    let place = FAILPOINTS.into_iter().find(|place| place.name() == name)?;
    Some((place, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_arm_a_place() {
        for place in FAILPOINTS {
            assert_eq!(parse(place.name()), Some((place, 1)));
            assert_eq!(parse(&format!("{}:7", place.name())), Some((place, 7)));
        }
        for text in ["", "mid", "mid-write:", "mid-write:x", "MID-WRITE"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
