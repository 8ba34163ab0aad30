//! Exit codes, and the one sentence that goes with each failure.

use std::{fmt::Display, process::ExitCode};

/// How the process ends; the numbers are a contract with scripts and schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or drained after a signal.
    Done,
    /// The command line or the configuration is at fault.
    Usage,
    /// The trainer, or an actor again and again, failed.
    Internal,
    /// Files could not be read or written.
    Files,
    /// A second interrupt ended everything at once.
    Interrupted,
    /// What a library or a child process asks for, passed on: among others 69, a peer that stayed away too long.
    Passed(u8),
}

impl Exit {
    /// The number that the operating system sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Files => 74,
            Self::Interrupted => 130,
            Self::Passed(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb failed: an exit code, and a text for people (one sentence; a list only for configuration faults).
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// Shown on stderr after `springbok: `.
    pub(crate) text: String,
}

impl Failure {
    /// A failure of the command line or the configuration.
    pub(crate) fn usage(text: impl Display) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// A failure of this program.
    pub(crate) fn internal(text: impl Display) -> Self {
        Self::new(Exit::Internal, text)
    }

    /// A file that could not be read or written.
    pub(crate) fn files(text: impl Display) -> Self {
        Self::new(Exit::Files, text)
    }

    /// A failure with the exit code that a library chose, told with all its causes.
    pub(crate) fn caused(code: u8, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors quote their cause already.
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::new(Exit::Passed(code), text)
    }

    /// A failure with any exit code.
    pub(crate) fn new(exit: Exit, text: impl Display) -> Self {
        Self {
            exit,
            text: text.to_string(),
        }
    }
}
