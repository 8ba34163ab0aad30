//! A policy that plays a vector of environments.

use springbok_actor::{
    environment::Frame,
    inference::Inference,
    vector::{StepSink, VectorEnvironment},
};
use springbok_common::{
    arrays::Actions, spec::ActionSpec, step::StepOutcome, unroll::EpisodeSummary,
};

use crate::exit::Failure;

/// How actions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The most probable one.
    Greedy,
    /// As while training.
    Sampled,
}

/// A policy, K environments, and what passes between them.
pub(super) struct Player {
    vector: Box<dyn VectorEnvironment>,
    inference: Inference,
    way: Way,
    drawn: Actions,
    bounded: Actions,
    log_probs: Vec<f32>,
    rewards: Vec<f32>,
    outcomes: Vec<StepOutcome>,
    ended: Vec<EpisodeSummary>,
}

impl Player {
    /// `inference` is for as many environments as `vector` has.
    pub(super) fn new(vector: Box<dyn VectorEnvironment>, inference: Inference, way: Way) -> Self {
        let environments = vector.environments();
        let numbers = environments * vector.spec().action.len();
        let drawn = match vector.spec().action {
            ActionSpec::Box { .. } => Actions::Values(vec![0.0; numbers]),
            ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => {
                Actions::Indices(vec![0; numbers])
            }
        };
        Self {
            vector,
            inference,
            way,
            drawn,
            bounded: Actions::default(),
            log_probs: vec![0.0; environments],
            rewards: vec![0.0; environments],
            outcomes: vec![StepOutcome::Continued; environments],
            ended: Vec::new(),
        }
    }

    /// Takes one step everywhere; gives the environments whose episode ended at it, in ascending order.
    ///
    /// # Errors
    /// Exit 70 if an environment fails, 74 if the policy gives numbers that are not finite.
    pub(super) fn step(
        &mut self,
    ) -> Result<impl Iterator<Item = (usize, EpisodeSummary)> + '_, Failure> {
        let (shown, masks) = (self.vector.observations(), self.vector.action_masks());
        let drawn = self.drawn.as_mut();
        let chosen = match self.way {
            Way::Greedy => self.inference.act_greedily(shown, masks, drawn),
            Way::Sampled => self.inference.act(shown, masks, drawn, &mut self.log_probs),
        };
        chosen.map_err(|error| Failure::files(format!("the policy is unusable: {error}")))?;
        self.ended.clear();
        let actions = self.inference.bound(self.drawn.as_ref(), &mut self.bounded);
        self.vector
            .step(
                actions,
                &mut StepSink {
                    rewards: &mut self.rewards,
                    outcomes: &mut self.outcomes,
                    on_truncated: &mut |_, _| {},
                    episodes: &mut self.ended,
                },
            )
            .map_err(Failure::internal)?;
        self.inference.forget_where(&self.outcomes);
        let ends = self.outcomes.iter().enumerate();
        let ends = ends.filter(|(_, outcome)| outcome.is_end());
        Ok(ends
            .map(|(environment, _)| environment)
            .zip(self.ended.iter().copied()))
    }

    /// Reward of the last step of the first environment, and whether it was a step: void rows are none.
    pub(super) fn last_reward(&self) -> (f32, bool) {
        let reward = self.rewards.first().copied().unwrap_or(0.0);
        let outcome = self.outcomes.first().copied().unwrap_or_default();
        (reward, outcome.is_step())
    }

    /// Draws the first environment as it is now; after the end of an episode, as the next one begins.
    ///
    /// # Errors
    /// Exit 64 if it cannot be watched; exit 70 if it fails.
    pub(super) fn draw(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        let drawn = self.vector.render(0, frame).map_err(Failure::internal)?;
        if !drawn || frame.width * frame.height == 0 {
            return Err(Failure::usage(format!(
                "{} draws no pictures, so it can be neither watched nor recorded; play it without --watch and --record",
                self.vector.spec().id
            )));
        }
        Ok(())
    }
}
