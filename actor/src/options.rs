//! What an actor is started with, what it reports at the end, and how it fails.

use std::{fmt, sync::Arc, time::Duration};

use springbok_common::{credentials::CredentialsError, spec::SpecFingerprint, wire::WireError};

use crate::{
    environment::{EnvironmentError, Registry},
    python::PythonSettings,
    rollout::RolloutError,
    security::Security,
};

/// What an actor is started with; everything else comes from its learner.
#[derive(Clone)]
pub struct ActorOptions {
    /// Where the learner listens, such as `http://127.0.0.1:5555`, or `unix:/path` on this machine.
    pub learner: String,
    /// Place of this actor among those of its launcher; `None`: the learner picks the next free one.
    pub index: Option<u32>,
    /// The environment that the learner must train; `None`: whatever it trains.
    pub environment_id: Option<String>,
    /// The environments that can be built here.
    pub registry: Arc<Registry>,
    /// How Python environments are run on this machine.
    pub python: PythonSettings,
    /// How long to try to reach the learner, at the start and after each loss; zero: for ever.
    pub learner_wait_max: Duration,
    /// How long one step of built-in environments may take; Python environments have a limit of their own.
    pub step_max: Duration,
    /// Bytes of parameters that may be on their way: the windows of HTTP/2.
    pub window_bytes: usize,
    /// What it trusts and shows.
    pub security: Security,
}

impl fmt::Debug for ActorOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ActorOptions")
            .field("learner", &self.learner)
            .field("index", &self.index)
            .field("environment_id", &self.environment_id)
            .field("python", &self.python)
            .field("learner_wait_max", &self.learner_wait_max)
            .finish_non_exhaustive()
    }
}

/// What an actor did, told at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ActorReport {
    /// Unrolls completed.
    pub unrolls: u64,
    /// Environment steps in them.
    pub steps: u64,
    /// Unrolls that the learner refused.
    pub rejected: u64,
    /// Unrolls thrown away here, because the learner they were made for was restarted.
    pub dropped: u64,
    /// Streams opened after the first.
    pub reconnects: u64,
    /// Parameter snapshots that arrived damaged or did not fit, and were not used.
    pub snapshots_refused: u64,
}

/// Why an actor ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// Nobody answered for too long.
    #[error("no learner answered at {url} within {waited_s} s: {cause}")]
    LearnerUnavailable {
        /// Where it was looked for.
        url: String,
        /// How long, in seconds.
        waited_s: u64,
        /// The last failure.
        cause: String,
    },
    /// The learner's address cannot be understood.
    #[error("{url:?} is not the URL of a learner, such as http://127.0.0.1:5555: {cause}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A certificate, key or token cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The learner does not want this actor.
    #[error("the learner at {url} refuses this actor: {cause}")]
    Refused {
        /// The learner.
        url: String,
        /// The learner's sentence.
        cause: String,
    },
    /// The two cannot speak TLS with each other.
    #[error("no TLS with the learner at {url}: {cause}")]
    Tls {
        /// The learner.
        url: String,
        /// What is wrong, and the way out.
        cause: String,
    },
    /// The options that the learner sent for the environment are not a TOML table.
    #[error("the learner's options for environment {id} are not TOML: {cause}")]
    EnvironmentOptions {
        /// Registered name.
        id: String,
        /// What is wrong with them.
        cause: String,
    },
    /// The environment cannot be built here.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Both sides mean different things by the same name.
    #[error(
        "environment {id} or the network differs between this actor (fingerprint {here}) and the learner at {url} \
         (fingerprint {there}): run the same build and the same environment on both sides"
    )]
    Fingerprint {
        /// The learner.
        url: String,
        /// Registered name.
        id: String,
        /// Computed here.
        here: SpecFingerprint,
        /// The learner's.
        there: SpecFingerprint,
    },
    /// The learner's network cannot be built here.
    #[error("the learner's network cannot be built here: {0}")]
    Network(String),
    /// The learner sent something outside the protocol.
    #[error("the learner at {url} broke the protocol: {cause}")]
    Protocol {
        /// The learner.
        url: String,
        /// What it sent.
        cause: WireError,
    },
    /// Making unrolls failed.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// An environment hangs; only the end of the process ends it.
    #[error(
        "a step of environment {id} has not returned within {seconds} s (actor.step_deadline_s_max): it hangs, or is \
         slower than that limit allows"
    )]
    Hung {
        /// Registered name.
        id: String,
        /// The limit.
        seconds: u64,
    },
    /// The rollout thread could not be started or died without a word.
    #[error("the rollout thread {0}")]
    RolloutThread(String),
}

impl ActorError {
    /// The process exit code: 64 configuration, 69 no learner, 70 internal.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::LearnerUnavailable { .. } => 69,
            Self::Address { .. }
            | Self::Credentials(_)
            | Self::Refused { .. }
            | Self::Tls { .. }
            | Self::EnvironmentOptions { .. }
            | Self::Environment(_)
            | Self::Network(_)
            | Self::Fingerprint { .. } => 64,
            Self::Protocol { .. }
            | Self::Rollout(_)
            | Self::Hung { .. }
            | Self::RolloutThread(_) => 70,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_learner_is_one_clear_sentence() {
        let error = ActorError::LearnerUnavailable {
            url: "http://127.0.0.1:9".into(),
            waited_s: 600,
            cause: "connection refused".into(),
        };
        assert_eq!(error.exit_code(), 69);
        assert_eq!(
            error.to_string(),
            "no learner answered at http://127.0.0.1:9 within 600 s: connection refused"
        );
    }
}
