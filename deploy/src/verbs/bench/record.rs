//! `springbok bench record`: unrolls of the configured environment, played by the initial policy, in a file.

use std::{fs, path::Path, sync::Arc};

use springbok_actor::environment::Registry;
use springbok_common::recording::{Recording, read_recording, write_recording};

use super::{Suite, runner::Pace, subject::Subject};
use crate::{cli::Layers, exit::Failure, output, verbs::config};

/// Records `unrolls` unrolls to `path`.
///
/// # Errors
/// The environments fail, or the file cannot be written.
pub(in crate::verbs) fn run(
    layers: &Layers,
    path: &Path,
    unrolls: usize,
    registry: &Arc<Registry>,
) -> Result<(), Failure> {
    let (config, environment) = config::playable(layers, registry)?;
    let suite = Suite::default();
    let pace = Pace::of(&suite);
    let registry = Arc::clone(registry);
    let subject = Subject::new(config, environment, registry, pace, &suite, layers)?;
    let recording = Recording {
        unrolls: subject.unrolls(unrolls)?,
        agreement: subject.agreement,
    };
    let bytes = write_recording(&recording).map_err(Failure::usage)?;
    springbok_learner::output::write_whole(path, &bytes).map_err(Failure::files)?;
    output::line(&format!(
        "{} unrolls of {} steps of {} in {} bytes: {}",
        unrolls,
        recording.agreement.rollout.steps(),
        recording.agreement.environment.id,
        bytes.len(),
        path.display()
    ));
    Ok(())
}

/// The recording at `path`, if its unrolls are of the kind that `subject` trains on.
///
/// # Errors
/// It cannot be read, or was made with another environment, network or shape.
pub(super) fn read(path: &Path, subject: &Subject) -> Result<Recording, Failure> {
    let shown = path.display();
    let bytes = fs::read(path)
        .map_err(|error| Failure::files(format!("cannot read the recording {shown}: {error}")))?;
    let recording = read_recording(&bytes).map_err(|error| {
        Failure::usage(format!("the recording {shown} cannot be used: {error}"))
    })?;
    if recording.agreement.fingerprint() != subject.agreement.fingerprint() {
        return Err(Failure::usage(format!(
            "the recording {shown} is of {} with another environment, network or shape of unrolls than configured; record \
             it again with this configuration",
            recording.agreement.environment.id
        )));
    }
    let needed = subject.config.learner.batch_unrolls;
    if recording.unrolls.len() < needed {
        let got = recording.unrolls.len();
        return Err(Failure::usage(format!(
            "the recording {shown} has {got} unrolls, but a batch takes {needed}; record more with --unrolls"
        )));
    }
    Ok(recording)
}
