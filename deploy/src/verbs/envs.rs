//! `springbok envs`: what can be played.

use serde::Serialize;
use springbok_actor::environment::Registry;

use crate::{exit::Failure, output};

/// One environment, for people or as JSON. Bounds without limit are left out, for JSON has no infinity.
#[derive(Serialize)]
struct Row {
    id: String,
    summary: String,
    observation: String,
    observation_shape: Vec<usize>,
    action: String,
    episode_steps_max: Option<u32>,
}

/// Lists every registered environment with its spaces.
pub(super) fn run(json: bool, registry: &Registry) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (id, summary) in registry.list() {
        let environment = registry
            .make(id, &toml::Table::new())
            .map_err(Failure::internal)?;
        let spec = environment.spec();
        rows.push(Row {
            id: id.to_owned(),
            summary: summary.to_owned(),
            observation: spec.observation.to_string(),
            observation_shape: spec.observation.shape.clone(),
            action: spec.action.to_string(),
            episode_steps_max: spec.episode_steps_max,
        });
    }
    if json {
        output::json(&rows);
        return Ok(());
    }
    for row in rows {
        let limit = row
            .episode_steps_max
            .map_or_else(String::new, |limit| format!(", at most {limit} steps"));
        output::line(&format!(
            "{}\n    {}\n    observation {}, action {}{limit}",
            row.id, row.summary, row.observation, row.action
        ));
    }
    Ok(())
}
