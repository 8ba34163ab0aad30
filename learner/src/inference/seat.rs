//! What the learner keeps of one actor's environments: what they draw their actions from, and what the policy remembers.

use rand::SeedableRng;
use rand_pcg::Pcg64;
use springbok_common::{
    seed::{actions_seed, actor_seed, mix_seed},
    step::StepOutcome,
    unroll::Agreement,
};

/// K generators and K memories, one for each environment, so that what one environment is dealt does not depend on how
/// many others share its batch. It travels with a request and comes back with the answer.
#[derive(Debug)]
pub struct Seat {
    pub(super) generators: Vec<Pcg64>,
    /// [K, S].
    pub(super) states: Vec<f32>,
}

impl Seat {
    /// The seat of the actor at `place`, seeded as that actor would seed its own generators; each further `opening` of it
    /// draws other numbers.
    #[must_use]
    pub fn new(agreement: &Agreement, run_seed: u64, place: u32, opening: u64) -> Self {
        let environments = agreement.rollout.environments;
        let first = actions_seed(actor_seed(run_seed, place));
        let seed = match opening {
            0 => first,
            later => mix_seed(first, !later),
        };
        let generators =
            (0..environments as u64).map(|index| Pcg64::seed_from_u64(mix_seed(seed, index)));
        Self {
            generators: generators.collect(),
            states: vec![0.0; environments * agreement.network.state_len()],
        }
    }

    /// Forgets the environments whose next row belongs to another episode, `outcomes` `[K]`; all of them without a step
    /// before.
    pub(super) fn forget(&mut self, outcomes: &[StepOutcome]) {
        if outcomes.is_empty() {
            self.states.fill(0.0);
            return;
        }
        let len = self.states.len() / outcomes.len();
        if len == 0 {
            return;
        }
        for (state, outcome) in self.states.chunks_exact_mut(len).zip(outcomes) {
            if outcome.resets_memory() {
                state.fill(0.0);
            }
        }
    }
}
