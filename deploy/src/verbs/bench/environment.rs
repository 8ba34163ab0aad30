//! The environments alone: K of them stepped as an actor does, beside the same environments without anything around
//! them. Those in Python are compared with their own vector in plain Python.

use std::time::Duration;

use springbok_actor::{
    environment::Environment,
    python::{PythonVector, is_python},
    vector::{SyncVector, VectorEnvironment},
};
use springbok_common::arrays::{Actions, Elements};

use super::{
    stage::{Cases, Stage, repeat},
    stepping::{play, table},
    subject::Subject,
};
use crate::exit::Failure;

/// Pictures as large as Atari's.
const PICTURES: &str = "observation_shape = [4, 84, 84]\nelement = \"uint8\"";

/// The configured environment; with time for it, all that are built in, too.
pub(super) fn cases(subject: &Subject) -> Cases {
    let environment = &subject.config.environment;
    let mut cases: Vec<Box<dyn Stage>> = Vec::new();
    if is_python(&environment.id) {
        cases.push(Box::new(InPython::new(subject)?));
    } else {
        cases.push(Box::new(BuiltIn::new(
            subject,
            &environment.id,
            &environment.options,
            "",
        )?));
    }
    if subject.pace.is_quick {
        return Ok(cases);
    }
    let none = toml::Table::new();
    for (id, _) in subject.registry.list() {
        if id != environment.id {
            cases.push(Box::new(BuiltIn::new(subject, id, &none, "")?));
        }
    }
    let pictures: toml::Table = PICTURES.parse().map_err(Failure::internal)?;
    if let Ok(case) = BuiltIn::new(subject, "Synthetic", &pictures, " 4x84x84 bytes") {
        cases.push(Box::new(case));
    }
    Ok(cases)
}

/// Environments of this process.
struct BuiltIn {
    name: String,
    vector: SyncVector,
    table: Vec<Actions>,
    bare: Vec<Box<dyn Environment>>,
    row: Elements,
}

impl BuiltIn {
    fn new(
        subject: &Subject,
        id: &str,
        options: &toml::Table,
        note: &str,
    ) -> Result<Self, Failure> {
        let (count, seed) = (
            subject.agreement.rollout.environments,
            subject.config.run.seed,
        );
        let vector =
            SyncVector::new(&subject.registry, id, options, count, seed).map_err(Failure::usage)?;
        let spec = vector.spec().clone();
        let mut row = Elements::zeros(spec.observation.element, spec.observation.len());
        let mut bare = (0..count)
            .map(|_| subject.registry.make(id, options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Failure::usage)?;
        for environment in &mut bare {
            environment.reset(Some(seed), row.as_mut());
        }
        Ok(Self {
            name: format!("{id}{note}"),
            table: table(&spec, count),
            vector,
            bare,
            row,
        })
    }
}

impl Stage for BuiltIn {
    fn case(&self) -> String {
        self.name.clone()
    }

    fn unit(&self) -> &'static str {
        "steps/s"
    }

    fn against(&self) -> &'static str {
        "each environment stepped into one row"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let count = play(&mut self.vector, &self.table, slice)?;
        Ok(count.steps as f64 / count.seconds)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        let (bare, row, table) = (&mut self.bare, &mut self.row, &self.table);
        let action_len = self.vector.spec().action.len();
        repeat(slice, || {
            for actions in table {
                for (k, environment) in bare.iter_mut().enumerate() {
                    let own = k * action_len..(k + 1) * action_len;
                    let step = environment.step(actions.slice(own), row.as_mut());
                    if step.outcome.is_end() {
                        environment.reset(None, row.as_mut());
                    }
                }
            }
            Ok((table.len() * bare.len()) as f64)
        })
    }
}

/// Environments of a Python process.
struct InPython {
    vector: Box<dyn VectorEnvironment>,
    bare: PythonVector,
    table: Vec<Actions>,
}

impl InPython {
    fn new(subject: &Subject) -> Result<Self, Failure> {
        let environment = &subject.config.environment;
        let vector = subject.vector()?;
        let bare = PythonVector::new(
            &environment.id,
            &environment.options,
            &subject.python(),
            subject.agreement.rollout.environments,
            subject.config.run.seed,
        )
        .map_err(Failure::usage)?;
        let table = table(vector.spec(), vector.environments());
        Ok(Self {
            vector,
            bare,
            table,
        })
    }
}

impl Stage for InPython {
    fn case(&self) -> String {
        self.vector.spec().id.clone()
    }

    fn unit(&self) -> &'static str {
        "rows/s"
    }

    fn against(&self) -> &'static str {
        "the same vector in plain Python"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let count = play(self.vector.as_mut(), &self.table, slice)?;
        Ok(count.rows as f64 / count.seconds)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        let alone = self
            .bare
            .bare_loop(&self.table, slice)
            .map_err(Failure::internal)?;
        Ok(alone.steps as f64 / alone.seconds)
    }
}
