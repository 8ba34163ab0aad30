//! Which life of the learner this is: `learner.json` in the run directory, on the disk before anyone is served.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use springbok_common::{ids::RunId, version::LearnerEpoch};

use crate::{error::LearnerError, output::write_whole};

/// Its name in the run directory.
const FILE: &str = "learner.json";

/// A life of a run's learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The training run.
    pub run_id: RunId,
    /// The life: 1 for the first.
    pub epoch: LearnerEpoch,
}

impl Life {
    /// The first life of a new run, written down.
    ///
    /// # Errors
    /// [`LearnerError::Output`].
    pub fn begin(directory: &Path) -> Result<Self, LearnerError> {
        let life = Self {
            run_id: RunId::random(),
            epoch: LearnerEpoch::FIRST,
        };
        life.write(directory)?;
        Ok(life)
    }

    /// The life after all that the run has had, written down: after the one in the file, which may have ended before it
    /// wrote a checkpoint, and after that of the checkpoint.
    ///
    /// # Errors
    /// [`LearnerError::Life`] if the file is damaged or another run's, [`LearnerError::Output`] if it cannot be written.
    pub fn next(directory: &Path, checkpoint: Self) -> Result<Self, LearnerError> {
        let path = directory.join(FILE);
        let fault = |cause: String| LearnerError::Life {
            path: path.clone(),
            cause,
        };
        let last = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => checkpoint,
            Err(error) => return Err(fault(error.to_string())),
        };
        if last.run_id != checkpoint.run_id {
            return Err(fault(format!(
                "it belongs to run {}, and the checkpoint to run {}",
                last.run_id, checkpoint.run_id
            )));
        }
        let newest = last.epoch.max(checkpoint.epoch);
        let epoch = newest.0.checked_add(1);
        let life = Self {
            run_id: last.run_id,
            epoch: LearnerEpoch(epoch.ok_or_else(|| fault("all epochs are used up".to_owned()))?),
        };
        life.write(directory)?;
        Ok(life)
    }

    fn write(self, directory: &Path) -> Result<(), LearnerError> {
        let path = directory.join(FILE);
        let text = serde_json::to_vec(&self)
            .map_err(|error| crate::output::failed(&path, error.into()))?;
        write_whole(&path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lives_share_an_epoch_even_if_one_left_no_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let first = Life::begin(directory.path()).unwrap();
        let epochs: Vec<u32> = (0..3)
            .map(|_| Life::next(directory.path(), first).unwrap().epoch.0)
            .collect();
        assert_eq!(epochs, [2, 3, 4]);
        // The file is lost: the checkpoint knows better than nothing.
        fs::remove_file(directory.path().join(FILE)).unwrap();
        let old = Life {
            epoch: LearnerEpoch(7),
            ..first
        };
        assert_eq!(Life::next(directory.path(), old).unwrap().epoch.0, 8);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_no_guess() {
        let directory = tempfile::tempdir().unwrap();
        let first = Life::begin(directory.path()).unwrap();
        let foreign = Life {
            run_id: RunId::random(),
            ..first
        };
        for _ in 0..2 {
            let error = Life::next(directory.path(), foreign).unwrap_err();
            assert_eq!(error.exit_code(), 74);
            fs::write(directory.path().join(FILE), "{").unwrap();
        }
    }
}
