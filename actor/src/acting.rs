//! Who chooses an actor's actions: a policy of its own, or the learner, which is shown what the environments show.

use std::time::Instant;

use springbok_common::{
    acting::{Acted, Observed, ObservedParts},
    arrays::{Actions, ActionsMut, ActionsRef, Elements, ElementsRef},
    policy::DistributionKind,
    reject::RejectReason,
    step::StepOutcome,
    unroll::{Agreement, Served},
    version::{LearnerEpoch, PolicyVersion},
};
use tokio::sync::{mpsc, oneshot};

use crate::{inference::Inference, rollout::RolloutError, session::LearnerLife};

/// K environments before a step, and where the answer goes; it is dropped when there will be none.
#[derive(Debug)]
pub struct Question {
    /// What the environments show.
    pub observed: Observed,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Reply>,
}

/// What the learner chose.
#[derive(Debug)]
pub struct Reply {
    /// The actions.
    pub acted: Acted,
    /// When they had arrived.
    pub received: Instant,
}

/// A line to the learner: its far end answers one question after the other, for as long as the connection lasts.
#[derive(Debug, Clone)]
pub struct Line {
    /// Who answers.
    pub life: LearnerLife,
    /// Where questions go.
    pub questions: mpsc::Sender<Question>,
}

/// What a step is made with.
pub(crate) struct Made {
    /// The version that chose.
    pub(crate) version: PolicyVersion,
    /// How the learner served it, and when that arrived, if the learner chose.
    pub(crate) served: Option<(Served, Instant)>,
}

/// Where a step's choices go.
pub(crate) struct Choices<'a> {
    /// [K, A].
    pub(crate) actions: ActionsMut<'a>,
    /// `[K]`.
    pub(crate) log_probs: &'a mut [f32],
    /// Takes the states [K, S] in which the step is taken, if they are wanted.
    pub(crate) states: Option<&'a mut Vec<f32>>,
}

/// Who chooses.
pub(crate) enum Player {
    /// A policy here, and the version of its parameters once there are any.
    Own(Box<Inference>, Option<(LearnerEpoch, PolicyVersion)>),
    /// The learner.
    Learner(Box<Remote>),
}

impl Player {
    /// The life of the learner whose policy chooses.
    pub(crate) fn epoch(&self) -> Option<LearnerEpoch> {
        match self {
            Self::Own(_, loaded) => loaded.map(|(epoch, _)| epoch),
            Self::Learner(remote) => remote.line.as_ref().map(|line| line.life.epoch),
        }
    }

    /// Chooses actions at `observations` [K, O], among those that `masks` [K, M] allow.
    ///
    /// # Errors
    /// There is no policy, it gives no action, or the line to it is lost.
    pub(crate) fn act(
        &mut self,
        observations: ElementsRef<'_>,
        masks: &[u8],
        choices: Choices<'_>,
    ) -> Result<Made, RolloutError> {
        match self {
            Self::Own(inference, loaded) => {
                let (_, version) = loaded.ok_or(RolloutError::NoParameters)?;
                if let Some(states) = choices.states {
                    states.extend_from_slice(inference.core_states());
                }
                inference
                    .act(observations, masks, choices.actions, choices.log_probs)
                    .map_err(|cause| RolloutError::Inference { version, cause })?;
                Ok(Made {
                    version,
                    served: None,
                })
            }
            Self::Learner(remote) => remote.act(observations, masks, choices),
        }
    }

    /// The drawn actions [K, A] as the environment takes them, in `bounded` if that changes anything.
    pub(crate) fn bound<'a>(
        &self,
        drawn: ActionsRef<'a>,
        bounded: &'a mut Actions,
    ) -> ActionsRef<'a> {
        match self {
            Self::Own(inference, _) => inference.bound(drawn, bounded),
            Self::Learner(remote) => remote.bound(drawn, bounded),
        }
    }

    /// How the last step ended, `outcomes` `[K]`.
    pub(crate) fn stepped(&mut self, outcomes: &[StepOutcome]) {
        match self {
            Self::Own(inference, _) => inference.forget_where(outcomes),
            Self::Learner(remote) => remote.outcomes.extend_from_slice(outcomes),
        }
    }

    /// The environments begin anew.
    pub(crate) fn forget_all(&mut self) {
        match self {
            Self::Own(inference, _) => inference.forget_all(),
            Self::Learner(remote) => remote.outcomes.clear(),
        }
    }
}

/// The learner as a policy. It keeps generators and memories; here is only how the last step ended.
pub struct Remote {
    agreement: Agreement,
    distribution: DistributionKind,
    line: Option<Line>,
    /// `[K]`; empty if there was no step that is remembered at the other end.
    outcomes: Vec<StepOutcome>,
}

impl Remote {
    /// A policy that has no line yet.
    #[must_use]
    pub fn new(agreement: &Agreement) -> Self {
        Self {
            distribution: DistributionKind::of(&agreement.network),
            agreement: agreement.clone(),
            line: None,
            outcomes: Vec::new(),
        }
    }

    /// Asks over `line` from now on. At the other end of a new one nothing is remembered.
    pub(crate) fn connect(&mut self, line: Line) {
        let same = |old: &Line| old.questions.same_channel(&line.questions);
        if !self.line.as_ref().is_some_and(same) {
            self.outcomes.clear();
            self.line = Some(line);
        }
    }

    fn act(
        &mut self,
        observations: ElementsRef<'_>,
        masks: &[u8],
        choices: Choices<'_>,
    ) -> Result<Made, RolloutError> {
        let line = self.line.as_ref().ok_or(RolloutError::NoParameters)?;
        let wants_states = choices.states.is_some();
        let observed = self.observed(observations, masks, wants_states);
        let observed = observed.map_err(|reason| RolloutError::Invalid {
            id: self.agreement.environment.id.clone(),
            reason,
        })?;
        let (answer, answered) = oneshot::channel();
        line.questions
            .blocking_send(Question { observed, answer })
            .map_err(|_| RolloutError::LineLost)?;
        let Reply { acted, received } = answered
            .blocking_recv()
            .map_err(|_| RolloutError::LineLost)?;
        self.outcomes.clear();
        let parts = acted.parts();
        copy(parts.actions.as_ref(), choices.actions);
        choices.log_probs.copy_from_slice(&parts.log_probs);
        if let Some(states) = choices.states {
            states.extend_from_slice(&parts.states);
        }
        Ok(Made {
            version: acted.version(),
            served: Some((parts.served, received)),
        })
    }

    fn observed(
        &self,
        observations: ElementsRef<'_>,
        masks: &[u8],
        wants_states: bool,
    ) -> Result<Observed, RejectReason> {
        let element = self.agreement.environment.observation.element;
        let mut shown = Elements::with_capacity(element, observations.len());
        shown.extend(observations);
        let parts = ObservedParts {
            observations: shown,
            action_masks: masks.to_vec(),
            outcomes: self.outcomes.clone(),
            wants_states,
        };
        Observed::new(parts, &self.agreement)
    }

    fn bound<'a>(&self, drawn: ActionsRef<'a>, bounded: &'a mut Actions) -> ActionsRef<'a> {
        let ActionsRef::Values(values) = drawn else {
            return drawn;
        };
        bounded.clear();
        bounded.extend(drawn);
        let len = self.agreement.environment.action.len();
        for first in (0..values.len()).step_by(len) {
            let own = first..first + len;
            let mut row = bounded.as_mut();
            self.distribution
                .to_environment_action(drawn.slice(own.clone()), &mut row.slice(own));
        }
        bounded.as_ref()
    }
}

/// Copies `from` to `to`: both are actions [K, A] of one specification, which was checked.
fn copy(from: ActionsRef<'_>, to: ActionsMut<'_>) {
    match (from, to) {
        (ActionsRef::Indices(from), ActionsMut::Indices(to)) => to.copy_from_slice(from),
        (ActionsRef::Values(from), ActionsMut::Values(to)) => to.copy_from_slice(from),
        (ActionsRef::Indices(_), ActionsMut::Values(_))
        | (ActionsRef::Values(_), ActionsMut::Indices(_)) => {}
    }
}
