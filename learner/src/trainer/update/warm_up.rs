//! A rehearsal before the first update: what a device compiles when it is first asked for is then ready.

use std::{
    mem,
    time::{Duration, Instant},
};

use springbok_common::{
    arrays::{Actions, Elements},
    ids::ActorId,
    spec::ActionSpec,
    step::StepOutcome,
    unroll::Agreement,
};

use super::{UpdateFault, UpdateMetrics, Updater};
use crate::{device, trainer::batch::Batch};

impl Updater {
    /// Makes an update of the configured size, of which nothing remains, if the device compiles kernels: the first update
    /// and whoever waits for the learner would wait for them otherwise. An auxiliary phase is not rehearsed.
    pub fn warm_up(&mut self, agreement: &Agreement, unrolls: usize) {
        if device::is_processor(&self.device) {
            return;
        }
        let begun = Instant::now();
        let outcome = self.rehearse(agreement, unrolls);
        let seconds = begun.elapsed().as_secs_f64();
        match outcome {
            Ok(_) => tracing::info!(seconds, "the device is warm"),
            Err(fault) => tracing::warn!(seconds, %fault, "the device is only half warm"),
        }
    }

    /// How long an update of the configured size takes, of which nothing remains.
    ///
    /// # Errors
    /// Those of [`Updater::update`].
    pub fn rehearsal_time(
        &mut self,
        agreement: &Agreement,
        unrolls: usize,
    ) -> Result<Duration, UpdateFault> {
        let begun = Instant::now();
        self.rehearse(agreement, unrolls)?;
        Ok(begun.elapsed())
    }

    /// An update of nothing; the state is afterwards what it was before.
    ///
    /// # Errors
    /// Those of [`Updater::update`].
    pub(super) fn rehearse(
        &mut self,
        agreement: &Agreement,
        unrolls: usize,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let before = (self.learnt.clone(), self.rng.clone());
        let parameters = mem::take(&mut self.parameters);
        let outcome = self.update(&blank(agreement, unrolls), 1.0);
        (self.learnt, self.rng) = before;
        self.parameters = parameters;
        outcome
    }
}

/// A batch of the size of `unrolls` unrolls in which nothing happens, but that one step is truncated.
fn blank(agreement: &Agreement, unrolls: usize) -> Batch {
    let (rollout, environment) = (agreement.rollout, &agreement.environment);
    let columns = rollout.environments * unrolls;
    let steps = rollout.unroll_length * columns;
    let observation = &environment.observation;
    let rows = steps + columns + 1;
    let mut outcomes = vec![StepOutcome::Continued; steps];
    outcomes[steps - 1] = StepOutcome::Truncated;
    Batch {
        t: rollout.unroll_length,
        columns,
        observations: Elements::zeros(observation.element, rows * observation.len()),
        actions: match &environment.action {
            ActionSpec::Box { low, .. } => Actions::Values(vec![0.0; steps * low.len()]),
            discrete => Actions::Indices(vec![0; steps * discrete.len()]),
        },
        action_masks: vec![1; steps * environment.mask_len()],
        rewards: vec![0.0; steps],
        behaviour_log_probs: vec![0.0; steps],
        outcomes,
        final_rows: vec![steps - 1],
        core_states: vec![0.0; columns * agreement.network.state_len()],
        lags: vec![0; columns],
        actors: vec![ActorId::random(); unrolls],
        ..Batch::default()
    }
}
