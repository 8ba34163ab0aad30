//! The learner's opinion of a batch.

use burn::{module::Module, tensor::Tensor};
use rayon::prelude::*;
use springbok_common::{
    config::EVALUATION_ROWS_MAX,
    policy::{ActionTensor, ActorCritic, Distribution, Sequence, Unrolled},
};

use super::{
    Updater,
    staged::{Cut, Staged, StagedMemory, read},
};
use crate::trainer::batch::Extent;

/// The learner's opinion of a batch, in lists `A` of one number each.
pub(super) struct Evaluation<A = Vec<f32>> {
    /// log pi of the taken actions [T, B].
    pub(super) log_probs: A,
    /// V of all observation rows; of a critic of actions, the mean of its values under the policy.
    pub(super) values: A,
    /// Q of the taken actions [T, B], of a critic of actions.
    pub(super) taken_values: Option<A>,
    /// log pi of the taken actions [T, B] under the target network, if there is one.
    pub(super) target_log_probs: Option<A>,
    /// Parameters of the distributions [T * B, P], on the device, if a divergence from them is penalised.
    pub(super) parameters: Option<Tensor<2>>,
}

/// The same where it was computed.
pub(super) type EvaluationTensors = Evaluation<Tensor<1>>;

/// What a network says about a batch, on the device.
pub(super) struct Pass {
    /// Parameters of the distributions [T * B, P].
    pub(super) parameters: Tensor<2>,
    /// V of all observation rows.
    pub(super) values: Tensor<1>,
    /// Q of all actions [T * B, A], of a critic of actions.
    pub(super) action_values: Option<Tensor<2>>,
}

impl<A> Evaluation<A> {
    /// log pi of the taken actions [T, B] under the policy that losses and targets take for the proximal one.
    pub(super) fn anchor(&self) -> &A {
        self.target_log_probs.as_ref().unwrap_or(&self.log_probs)
    }
}

impl Evaluation {
    /// What the critic predicted for the first `steps` rows [T, B]: V, or Q of the taken actions.
    pub(super) fn predictions(&self, steps: usize) -> &[f32] {
        self.taken_values
            .as_deref()
            .unwrap_or(&self.values[..steps])
    }
}

impl EvaluationTensors {
    /// What the critic predicted for the first `steps` rows [T, B]: V, or Q of the taken actions.
    pub(super) fn predictions(&self, steps: usize) -> Tensor<1> {
        let values = || self.values.clone().narrow(0, 0, steps);
        self.taken_values.clone().unwrap_or_else(values)
    }

    /// All of its lists, for one read-back.
    pub(super) fn lists(&self) -> impl Iterator<Item = Tensor<1>> {
        let always = [Some(&self.log_probs), Some(&self.values)];
        let sometimes = [self.taken_values.as_ref(), self.target_log_probs.as_ref()];
        always.into_iter().chain(sometimes).flatten().cloned()
    }

    /// The same on the host, out of what was read back.
    pub(super) fn on_host(&self, cut: &mut Cut) -> Evaluation {
        let mut own = |list: &Tensor<1>| cut.list(list);
        Evaluation {
            log_probs: own(&self.log_probs),
            values: own(&self.values),
            taken_values: self.taken_values.as_ref().map(&mut own),
            target_log_probs: self.target_log_probs.as_ref().map(&mut own),
            parameters: self.parameters.clone(),
        }
    }
}

impl Updater {
    /// The opinion of the network, and one read-back.
    pub(super) fn evaluate(&self, staged: &Staged) -> Evaluation {
        let evaluation = self.evaluation_tensors(staged);
        let numbers = read(Tensor::cat(evaluation.lists().collect(), 0));
        evaluation.on_host(&mut Cut::of(numbers))
    }

    /// One pass without gradients over all observation rows; as much again for a target network.
    pub(super) fn evaluation_tensors(&self, staged: &Staged) -> EvaluationTensors {
        let pass = self.pass(&self.learnt.model.valid(), staged);
        let taken = self.taken(staged, pass.parameters.clone());
        let chosen = |values| of_actions(values, staged.actions.clone());
        let of_target = |target| self.taken(staged, self.pass(target, staged).parameters);
        EvaluationTensors {
            log_probs: taken,
            values: pass.values,
            taken_values: pass.action_values.map(chosen),
            target_log_probs: self.learnt.memory.target.as_ref().map(of_target),
            parameters: self.config.penalty.map(|_| pass.parameters),
        }
    }

    /// log pi of the taken actions [T * B] for distributions with these parameters [T * B, P].
    fn taken(&self, staged: &Staged, parameters: Tensor<2>) -> Tensor<1> {
        let distribution = Distribution::new(&self.actions, parameters, staged.mask());
        distribution.log_prob(staged.actions.clone())
    }

    /// What `model`, which tracks no gradients, says about a batch.
    pub(super) fn pass(&self, model: &ActorCritic, staged: &Staged) -> Pass {
        let (outputs, finals) = match &staged.memory {
            None => (self.pass_rows(model, staged), None),
            Some(memory) => pass_sequence(model, staged, memory),
        };
        let of_steps = |tensor: Tensor<2>| tensor.narrow(0, 0, staged.extent.steps);
        Pass {
            parameters: of_steps(outputs.parameters),
            values: match finals {
                Some(finals) => Tensor::cat(vec![outputs.values, finals], 0),
                None => outputs.values,
            },
            action_values: outputs.action_values.map(of_steps),
        }
    }

    /// Without memory each row stands for itself.
    fn pass_rows(&self, model: &ActorCritic, staged: &Staged) -> Unrolled {
        let rows = staged.extent.observation_rows();
        let size = rows.div_ceil(self.parts);
        let size = size.clamp(1, (EVALUATION_ROWS_MAX / self.parts).max(1));
        let part = |first: usize| model.outputs(staged.observations(first, size.min(rows - first)));
        let others: Vec<usize> = (0..rows).step_by(size).skip(1).collect();
        let (first, others): (Unrolled, Vec<Unrolled>) = if self.parts == 1 {
            (part(0), others.into_iter().map(part).collect())
        } else {
            rayon::join(|| part(0), || others.into_par_iter().map(part).collect())
        };
        others.into_iter().fold(first, Unrolled::followed_by)
    }
}

/// With a memory the bootstrap states are one more step, and each final state follows the step that reached it, with the
/// memory from before the reset. Values of the final states come apart.
fn pass_sequence(
    model: &ActorCritic,
    staged: &Staged,
    memory: &StagedMemory,
) -> (Unrolled, Option<Tensor<1>>) {
    let Extent {
        t,
        columns,
        steps,
        finals,
    } = staged.extent;
    let rows = steps + columns;
    let unrolled = model.unroll(Sequence {
        observations: staged.observations(0, rows),
        length: t + 1,
        state: Some(memory.states.clone()),
        keep: Some(memory.keep.clone().reshape([t + 1, columns])),
        burn_in: 0,
    });
    let Some(from) = memory.final_rows.clone() else {
        return (unrolled, None);
    };
    let reached = staged.observations(rows, finals);
    let states = unrolled.states.clone();
    let states = states.map(|states| states.select(0, from));
    let values = model.values_after(reached, states);
    (unrolled, Some(values))
}

/// Of the values [N, A] of all actions those `[N]` of the taken ones; the first number counts where an action is several.
pub(super) fn of_actions(values: Tensor<2>, actions: ActionTensor) -> Tensor<1> {
    match actions {
        ActionTensor::Indices(indices) => values.gather(1, indices.narrow(1, 0, 1)).squeeze_dim(1),
        // No network has a critic of continuous actions.
        ActionTensor::Values(_) => values.narrow(1, 0, 1).squeeze_dim(1),
    }
}
