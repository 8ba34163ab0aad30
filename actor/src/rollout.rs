//! Filling one unroll: T steps of K environments under one parameter snapshot, or under newer ones as they come.

use std::time::{Duration, Instant};

use springbok_common::{
    arrays::{Actions, Elements},
    ids::{RunId, UnrollSequence},
    policy::ParametersError,
    reject::RejectReason,
    snapshot::ParameterSnapshot,
    spec::ActionSpec,
    step::StepOutcome,
    unroll::{Agreement, Served, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    version::PolicyVersion,
};

use crate::{
    acting::{Choices, Line, Player, Remote},
    environment::EnvironmentError,
    inference::{Inference, InferenceError},
    pulse::Pulse,
    vector::{StepSink, VectorEnvironment},
};

/// Why an unroll cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A verified snapshot could not be loaded.
    #[error("the parameters of version {version} cannot be loaded: {cause}")]
    Parameters {
        /// Version of the snapshot.
        version: PolicyVersion,
        /// Why.
        cause: ParametersError,
    },
    /// The policy gave no action.
    #[error("version {version} of the policy cannot act: {cause}")]
    Inference {
        /// Version of the policy.
        version: PolicyVersion,
        /// Why.
        cause: InferenceError,
    },
    /// The unroll breaks its own rules; the learner would refuse it, so it is not sent.
    #[error("environment {id} made an invalid unroll: {reason}")]
    Invalid {
        /// Registered name.
        id: String,
        /// The first rule that is broken.
        reason: RejectReason,
    },
    /// The environments failed and could not be begun anew.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// No snapshot was loaded before the first step.
    #[error("an unroll was begun before any parameters were loaded")]
    NoParameters,
    /// The learner, which chooses the actions, is gone, perhaps for a while.
    #[error("the learner does not choose actions any more")]
    LineLost,
}

/// Which unroll to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The training run whose parameters are loaded.
    pub run_id: RunId,
    /// Number of the unroll within the actor's life.
    pub sequence: UnrollSequence,
    /// How long it had to wait for a place in the outbox.
    pub blocked: Duration,
    /// How the learner served the parameters that are loaded.
    pub served: Served,
}

/// What is asked before each step of an unroll.
pub trait Between {
    /// Whether the unroll in the making is to be given up.
    fn stops(&mut self) -> bool;

    /// Parameters that the steps from now on are to be made with, if there are newer ones of the same life of the learner.
    fn newer(&mut self) -> Option<ParameterSnapshot> {
        None
    }
}

impl<F: FnMut() -> bool> Between for F {
    fn stops(&mut self) -> bool {
        self()
    }
}

/// K environments and the policy that plays them.
pub struct Rollout {
    agreement: Agreement,
    environments: Box<dyn VectorEnvironment>,
    player: Player,
    /// How the learner served what made the first step, and when that arrived, if the learner chose.
    begun_with: Option<(Served, Instant)>,
    /// [K, A]: the drawn actions within the bounds of the environment.
    bounded_actions: Actions,
    inferring: Duration,
    stepping: Duration,
    pulse: Pulse,
}

impl Rollout {
    /// Joins environments and a policy that fit `agreement`.
    #[must_use]
    pub fn new(
        agreement: Agreement,
        environments: Box<dyn VectorEnvironment>,
        inference: Inference,
    ) -> Self {
        let player = Player::Own(Box::new(inference), None);
        Self::played_by(player, agreement, environments)
    }

    /// Joins environments that fit `agreement` with a learner that chooses their actions.
    #[must_use]
    pub fn central(agreement: Agreement, environments: Box<dyn VectorEnvironment>) -> Self {
        let player = Player::Learner(Box::new(Remote::new(&agreement)));
        Self::played_by(player, agreement, environments)
    }

    fn played_by(
        player: Player,
        agreement: Agreement,
        environments: Box<dyn VectorEnvironment>,
    ) -> Self {
        Self {
            agreement,
            environments,
            player,
            begun_with: None,
            bounded_actions: Actions::default(),
            inferring: Duration::ZERO,
            stepping: Duration::ZERO,
            pulse: Pulse::default(),
        }
    }

    /// Goes on with these environments and this policy, which have seen nothing yet; parameters are to be loaded again.
    pub fn begin_anew(&mut self, environments: Box<dyn VectorEnvironment>, inference: Inference) {
        self.environments = environments;
        self.player = Player::Own(Box::new(inference), None);
    }

    /// Tells whether a step goes on for too long.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Uses these parameters from the next step on, and stamps their version on it. What the policy remembers stays.
    ///
    /// # Errors
    /// The snapshot does not fit the network; the parameters and the stamp stay as they were.
    pub fn load(&mut self, snapshot: &ParameterSnapshot) -> Result<(), RolloutError> {
        let Player::Own(inference, loaded) = &mut self.player else {
            return Ok(());
        };
        let stamp = (snapshot.epoch(), snapshot.version());
        if *loaded == Some(stamp) {
            return Ok(());
        }
        inference
            .load(snapshot.payload())
            .map_err(|cause| RolloutError::Parameters {
                version: snapshot.version(),
                cause,
            })?;
        *loaded = Some(stamp);
        Ok(())
    }

    /// Has actions chosen over `line` from the next step on, if the learner chooses.
    pub fn connect(&mut self, line: Line) {
        if let Player::Learner(remote) = &mut self.player {
            remote.connect(line);
        }
    }

    /// When that which made the first step of the last unroll had arrived, if the learner chose.
    #[must_use]
    pub fn begun_with(&self) -> Option<Instant> {
        self.begun_with.map(|(_, received)| received)
    }

    /// Makes one unroll under the loaded parameters, in the buffers of `reuse` if given. `between` is asked before each
    /// step; once it says so, the unroll is abandoned and the answer is `None`, or it goes on with other parameters.
    ///
    /// If the environments fail, what was made so far is thrown away, they begin anew, and so does the unroll.
    ///
    /// # Errors
    /// No parameters were loaded, the policy failed or is lost, the unroll is invalid, or the environments fail for good.
    pub fn fill(
        &mut self,
        order: Order,
        mut reuse: Option<UnrollParts>,
        between: &mut dyn Between,
    ) -> Result<Option<Unroll>, RolloutError> {
        loop {
            let mut parts = self.lend_buffers(self.header(order)?, reuse.take());
            match self.play(order, &mut parts, between) {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    return Unroll::new(parts, &self.agreement)
                        .map(Some)
                        .map_err(|reason| self.invalid(reason));
                }
                Err(RolloutError::Environment(failure @ EnvironmentError::Failed { .. })) => {
                    tracing::warn!(%failure, "the unroll in the making is thrown away");
                    self.environments.restart()?;
                    self.player.forget_all();
                    reuse = Some(parts);
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn header(&self, order: Order) -> Result<UnrollHeader, RolloutError> {
        Ok(UnrollHeader {
            run_id: order.run_id,
            epoch: self.player.epoch().ok_or(RolloutError::NoParameters)?,
            sequence: order.sequence,
            // Known when the first step is made.
            version: PolicyVersion::default(),
        })
    }

    fn invalid(&self, reason: RejectReason) -> RolloutError {
        RolloutError::Invalid {
            id: self.agreement.environment.id.clone(),
            reason,
        }
    }

    /// T steps of all environments; `false` if `between` ended them early.
    fn play(
        &mut self,
        order: Order,
        parts: &mut UnrollParts,
        between: &mut dyn Between,
    ) -> Result<bool, RolloutError> {
        (self.inferring, self.stepping) = (Duration::ZERO, Duration::ZERO);
        let begun = Instant::now();
        self.begun_with = None;
        for t in 0..self.agreement.rollout.unroll_length {
            if between.stops() {
                return Ok(false);
            }
            // Those of the first step have just been loaded, and the unroll says how they were served.
            if t > 0
                && let Some(newer) = between.newer()
            {
                self.load(&newer)?;
            }
            self.step(t, parts)?;
        }
        if parts.step_versions.last() == Some(&parts.header.version) {
            parts.step_versions.clear();
        }
        parts
            .bootstrap_observations
            .extend(self.environments.observations());
        parts.timing = UnrollTiming {
            rollout_us: micros(begun.elapsed()),
            outbox_us: 0,
            environment_us: micros(self.stepping),
            inference_us: micros(self.inferring),
            blocked_us: micros(order.blocked),
            held_us: 0,
            served: self.begun_with.map_or(order.served, |(served, _)| served),
        };
        Ok(true)
    }

    /// Step `t` of all K environments: act at the current observations, then let the environments answer.
    fn step(&mut self, t: usize, parts: &mut UnrollParts) -> Result<(), RolloutError> {
        let columns = self.agreement.rollout.environments;
        let rows = t * columns..(t + 1) * columns;
        let action_len = self.agreement.environment.action.len();
        let numbers = rows.start * action_len..rows.end * action_len;

        let acting = Instant::now();
        let observations = self.environments.observations();
        let masks = self.environments.action_masks();
        parts.observations.extend(observations);
        parts.action_masks.extend_from_slice(masks);
        let mut all = parts.actions.as_mut();
        let choices = Choices {
            actions: all.slice(numbers.clone()),
            log_probs: &mut parts.behaviour_log_probs[rows.clone()],
            states: (t == 0).then_some(&mut parts.core_states),
        };
        let made = self.player.act(observations, masks, choices)?;
        parts.step_versions.push(made.version);
        if t == 0 {
            parts.header.version = made.version;
            self.begun_with = made.served;
        }
        let drawn = parts.actions.slice(numbers);
        let bounded = self.player.bound(drawn, &mut self.bounded_actions);
        self.inferring += acting.elapsed();

        let stepping = Instant::now();
        let (final_rows, finals) = (&mut parts.final_rows, &mut parts.final_observations);
        let first_row = rows.start;
        let outcomes = &mut parts.outcomes[rows.clone()];
        self.pulse.beat();
        let stepped = self.environments.step(
            bounded,
            &mut StepSink {
                rewards: &mut parts.rewards[rows],
                outcomes,
                on_truncated: &mut |environment, final_observation| {
                    // An unroll has far fewer than 2^32 steps: the configuration bounds its bytes.
                    final_rows.push((first_row + environment) as u32);
                    finals.extend(final_observation);
                },
                episodes: &mut parts.episodes,
            },
        );
        self.pulse.rest();
        stepped?;
        self.player.stepped(outcomes);
        self.stepping += stepping.elapsed();
        Ok(())
    }

    /// Empty buffers of the right size, without allocating where `reuse` has them already.
    fn lend_buffers(&self, header: UnrollHeader, reuse: Option<UnrollParts>) -> UnrollParts {
        let rows = self.agreement.rollout.steps();
        let environment = &self.agreement.environment;
        let element = environment.observation.element;
        let mut parts = reuse.unwrap_or_else(|| UnrollParts {
            header,
            step_versions: Vec::with_capacity(self.agreement.rollout.unroll_length),
            observations: Elements::with_capacity(element, rows * environment.observation.len()),
            bootstrap_observations: Elements::with_capacity(element, 0),
            actions: no_actions(&environment.action),
            action_masks: Vec::new(),
            rewards: Vec::new(),
            behaviour_log_probs: Vec::new(),
            outcomes: Vec::new(),
            final_rows: Vec::new(),
            final_observations: Elements::with_capacity(element, 0),
            core_states: Vec::new(),
            episodes: Vec::new(),
            timing: UnrollTiming::default(),
        });
        parts.header = header;
        parts.step_versions.clear();
        parts.observations.clear_as(element);
        parts.bootstrap_observations.clear_as(element);
        parts.final_observations.clear_as(element);
        parts.final_rows.clear();
        parts.action_masks.clear();
        parts.core_states.clear();
        parts.episodes.clear();
        match &mut parts.actions {
            Actions::Indices(indices) => indices.resize(rows * environment.action.len(), 0),
            Actions::Values(values) => values.resize(rows * environment.action.len(), 0.0),
        }
        parts.rewards.resize(rows, 0.0);
        parts.behaviour_log_probs.resize(rows, 0.0);
        parts.outcomes.resize(rows, StepOutcome::Continued);
        parts
    }
}

/// An empty buffer for actions of that kind.
fn no_actions(action: &ActionSpec) -> Actions {
    match action {
        ActionSpec::Box { .. } => Actions::Values(Vec::new()),
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => Actions::Indices(Vec::new()),
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
