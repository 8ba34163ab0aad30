//! Why a learner stops before its work is done.

use std::{io, net::SocketAddr, path::PathBuf};

use springbok_common::policy::ParametersError;

use crate::{
    checkpoint::store::StoreError,
    device::{DeviceError, DeviceFailed},
    ledger::LedgerViolation,
    trainer::update::{StateFault, UpdateFault},
};

/// Why a learner stops before its work is done.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// The chosen device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The chosen device stopped working.
    #[error(transparent)]
    DeviceFailed(#[from] DeviceFailed),
    /// Several updates in a row were rolled back.
    #[error(
        "{updates} updates in a row were rolled back: {fault}; lower the learning rates or check the environment's rewards"
    )]
    NonFinite {
        /// Updates in a row.
        updates: u32,
        /// What was wrong with the last of them.
        fault: UpdateFault,
    },
    /// The trainer's thread ended without a result.
    #[error("the trainer stopped unexpectedly; the log above says where")]
    TrainerDied,
    /// The thread that acts for the actors ended.
    #[error(
        "the thread that acts for the actors stopped unexpectedly; the log above says where; --resume goes on from the last \
         checkpoint"
    )]
    InferenceDied,
    /// The trainer did not come to an end after it was told to.
    #[error("the trainer did not stop within {seconds} s")]
    TrainerStuck {
        /// Seconds waited.
        seconds: u64,
    },
    /// In lock-step, an actor is gone.
    #[error(
        "an actor is gone, and in lock-step no other can take its place without changing the course of the run; start it \
         again, or leave out `run.deterministic`"
    )]
    LockStep,
    /// The trained policy could not be encoded.
    #[error("the trained policy could not be encoded")]
    Policy(#[from] ParametersError),
    /// The gRPC service ended by itself.
    #[error("the gRPC service failed")]
    Service(#[from] tonic::transport::Error),
    /// The address to be watched at could not be taken.
    #[error(
        "cannot listen on {address} (`telemetry.http`): {source}; choose another port, or port 0 for any free one"
    )]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread or socket could not be set up.
    #[error("the learner could not start")]
    Start(#[source] io::Error),
    /// The books do not balance.
    #[error(transparent)]
    Ledger(#[from] LedgerViolation),
    /// Checkpoints could not be written or read.
    #[error(
        "{failures} checkpoints in a row failed: {source}; free space on the disk or mend it, then --resume"
    )]
    Checkpoint {
        /// How many.
        failures: u32,
        /// What was wrong with the last of them.
        source: StoreError,
    },
    /// There is nothing to resume from.
    #[error("there is no checkpoint in {} that can be used, so nothing to resume from; start a new run", folder.display())]
    NoCheckpoint {
        /// Where they should be.
        folder: PathBuf,
    },
    /// It is not known which life of the learner this would be.
    #[error("{} cannot be used: {cause}; put back the file that belongs to the run, or start a new one", path.display())]
    Life {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A checkpoint does not fit the configuration, or cannot be taken.
    #[error(transparent)]
    State(#[from] StateFault),
    /// A result could not be written.
    #[error("{} could not be written: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl LearnerError {
    /// Exit status of the process: 64 for a device or an address that cannot be had, or a checkpoint of another network, 74 for output and
    /// checkpoints, 70 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Device(_) | Self::State(_) | Self::Http { .. } => 64,
            Self::Output { .. }
            | Self::Checkpoint { .. }
            | Self::NoCheckpoint { .. }
            | Self::Life { .. } => 74,
            _ => 70,
        }
    }
}
