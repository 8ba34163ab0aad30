//! What the tests of Python environments share.
#![allow(dead_code)]

use std::path::PathBuf;

use springbok_actor::{
    python::{PythonSettings, PythonVector},
    vector::{StepSink, VectorEnvironment as _},
};
use springbok_common::{
    arrays::{ActionsRef, ElementsRef},
    step::StepOutcome,
};

/// Names an interpreter that has numpy, Gymnasium and ale-py.
const INTERPRETER: &str = "SPRINGBOK_TEST_PYTHON";

/// The tests' own environments, in the interpreter of the tests or else in any: they need no package.
pub(crate) fn settings() -> PythonSettings {
    PythonSettings {
        interpreter: std::env::var(INTERPRETER).unwrap_or_else(|_| "python3".into()),
        modules: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/python")),
        ..PythonSettings::default()
    }
}

/// The same for tests that need packages; `None` where no interpreter that has them is named. CI names one.
pub(crate) fn settings_with_packages() -> Option<PythonSettings> {
    if std::env::var_os(INTERPRETER).is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{INTERPRETER} must name an interpreter with numpy, gymnasium and ale-py"
        );
        return None;
    }
    Some(settings())
}

/// A table of options from TOML.
pub(crate) fn options(text: &str) -> toml::Table {
    text.parse().unwrap()
}

pub(crate) fn vector(id: &str, text: &str, seeds: &[u32]) -> PythonVector {
    PythonVector::with_seeds(id, &options(text), &settings(), seeds.to_vec()).unwrap()
}

/// What one step gave.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) rewards: Vec<f32>,
    pub(crate) outcomes: Vec<StepOutcome>,
    /// Index and final observation of each truncated environment.
    pub(crate) finals: Vec<(usize, Vec<f32>)>,
    /// Return and length of each ended episode.
    pub(crate) episodes: Vec<(f64, u32)>,
    pub(crate) observations: Vec<f32>,
}

pub(crate) fn try_step(vector: &mut PythonVector, actions: ActionsRef<'_>) -> Result<Seen, String> {
    let count = vector.environments();
    let mut rewards = vec![f32::NAN; count];
    let mut outcomes = vec![StepOutcome::Void; count];
    let (mut finals, mut episodes) = (Vec::new(), Vec::new());
    let mut on_truncated = |index, row: ElementsRef<'_>| finals.push((index, row.to_f32()));
    let mut sink = StepSink {
        rewards: &mut rewards,
        outcomes: &mut outcomes,
        on_truncated: &mut on_truncated,
        episodes: &mut episodes,
    };
    vector
        .step(actions, &mut sink)
        .map_err(|error| error.to_string())?;
    Ok(Seen {
        rewards,
        outcomes,
        finals,
        episodes: episodes
            .iter()
            .map(|episode| (episode.episode_return, episode.length))
            .collect(),
        observations: vector.observations().to_f32(),
    })
}

pub(crate) fn step(vector: &mut PythonVector, actions: &[u32]) -> Seen {
    try_step(vector, ActionsRef::Indices(actions)).unwrap()
}
