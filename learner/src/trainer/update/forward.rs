//! The learner's opinion of a batch, and how a batch gets onto the device.

use burn::{
    module::Module,
    tensor::{Bool, Device, Int, Tensor, TensorData},
};
use springbok_common::{
    arrays::{ActionsRef, ElementsRef},
    policy::{ActionTensor, ActorCritic, Distribution, Sequence, Unrolled},
    spec::CoreSpec,
};

use super::Updater;
use crate::trainer::batch::Batch;

/// Observations that are evaluated at one time: a bound on the memory that a convolution takes.
const EVALUATION_ROWS_MAX: usize = 4096;

/// The learner's opinion of a batch.
pub(super) struct Evaluation {
    /// log pi of the taken actions [T, B].
    pub(super) log_probs: Vec<f32>,
    /// V of all observation rows; of a critic of actions, the mean of its values under the policy.
    pub(super) values: Vec<f32>,
    /// Q of the taken actions [T, B], of a critic of actions.
    pub(super) taken_values: Option<Vec<f32>>,
    /// log pi of the taken actions [T, B] under the target network, if there is one.
    pub(super) target_log_probs: Option<Vec<f32>>,
    /// Parameters of the distributions [T * B, P], on the device, if a divergence from them is penalised.
    pub(super) parameters: Option<Tensor<2>>,
}

/// What a network says about a batch, on the device.
pub(super) struct Pass {
    /// Parameters of the distributions [T * B, P].
    pub(super) parameters: Tensor<2>,
    /// V of all observation rows.
    pub(super) values: Tensor<1>,
    /// Q of all actions [T * B, A], of a critic of actions.
    pub(super) action_values: Option<Tensor<2>>,
}

impl Evaluation {
    /// log pi of the taken actions [T, B] under the policy that losses and targets take for the proximal one.
    pub(super) fn anchor(&self) -> &[f32] {
        self.target_log_probs.as_deref().unwrap_or(&self.log_probs)
    }

    /// What the critic predicted for the first `steps` rows [T, B]: V, or Q of the taken actions.
    pub(super) fn predictions(&self, steps: usize) -> &[f32] {
        self.taken_values
            .as_deref()
            .unwrap_or(&self.values[..steps])
    }
}

impl Updater {
    /// One pass without gradients over all observation rows, and one read-back; as much again for a target network.
    pub(super) fn evaluate(&self, batch: &Batch) -> Evaluation {
        let steps = batch.steps();
        let pass = self.pass(&self.learnt.model.valid(), batch);
        let taken = self.taken(batch, pass.parameters.clone());
        let chosen = |values| of_actions(values, self.upload_taken(batch));
        let taken_values = pass.action_values.map(chosen);
        let has_taken_values = taken_values.is_some();
        let parts = [Some(taken), taken_values, Some(pass.values)];
        let mut log_probs = read(Tensor::cat(parts.into_iter().flatten().collect(), 0));
        let mut values = log_probs.split_off(steps.min(log_probs.len()));
        let taken_values = has_taken_values.then(|| {
            let later = values.split_off(steps.min(values.len()));
            std::mem::replace(&mut values, later)
        });
        let of_target = |target| read(self.taken(batch, self.pass(target, batch).parameters));
        Evaluation {
            log_probs,
            values,
            taken_values,
            target_log_probs: self.learnt.memory.target.as_ref().map(of_target),
            parameters: self.config.penalty.map(|_| pass.parameters),
        }
    }

    /// log pi of the taken actions [T * B] for distributions with these parameters [T * B, P].
    fn taken(&self, batch: &Batch, parameters: Tensor<2>) -> Tensor<1> {
        let steps = batch.steps();
        let mask = upload_mask(&batch.action_masks, steps, &self.device);
        let distribution = Distribution::new(&self.actions, parameters, mask);
        distribution.log_prob(self.upload_taken(batch))
    }

    /// The taken actions [T * B, A].
    fn upload_taken(&self, batch: &Batch) -> ActionTensor {
        upload_actions(batch.actions.as_ref(), batch.steps(), &self.device)
    }

    /// What `model`, which tracks no gradients, says about a batch.
    pub(super) fn pass(&self, model: &ActorCritic, batch: &Batch) -> Pass {
        let (outputs, finals) = if self.network.core == CoreSpec::None {
            (self.pass_rows(model, batch), None)
        } else {
            self.pass_sequence(model, batch)
        };
        let of_steps = |tensor: Tensor<2>| tensor.narrow(0, 0, batch.steps());
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
    fn pass_rows(&self, model: &ActorCritic, batch: &Batch) -> Unrolled {
        let (rows, len) = (batch.observation_rows(), self.network.observation.len());
        let part = |first: usize| {
            let own = EVALUATION_ROWS_MAX.min(rows - first);
            let observations = batch.observations.slice(first * len..(first + own) * len);
            model.outputs(upload(observations, own, &self.device))
        };
        let others = (0..rows).step_by(EVALUATION_ROWS_MAX).skip(1);
        others.fold(part(0), |before, first| before.followed_by(part(first)))
    }

    /// With a memory the bootstrap states are one more step, and each final state follows the step that reached it,
    /// with the memory from before the reset. Values of the final states come apart.
    fn pass_sequence(&self, model: &ActorCritic, batch: &Batch) -> (Unrolled, Option<Tensor<1>>) {
        let (steps, columns) = (batch.steps(), batch.columns);
        let (rows, len) = (steps + columns, self.network.observation.len());
        let observations = upload(batch.observations.slice(0..rows * len), rows, &self.device);
        let keep = TensorData::new(batch.keep_memory(), [batch.t + 1, columns]);
        let unrolled = model.unroll(Sequence {
            observations,
            length: batch.t + 1,
            state: Some(self.upload_states(&batch.core_states, columns)),
            keep: Some(Tensor::from_data(keep, &self.device)),
            burn_in: 0,
        });
        if batch.final_rows.is_empty() {
            return (unrolled, None);
        }
        let finals = batch.final_rows.len();
        let reached = batch.observations.slice(rows * len..(rows + finals) * len);
        let reached = upload(reached, finals, &self.device);
        let from = upload_indices(&batch.final_rows, &self.device);
        let states = unrolled.states.clone();
        let states = states.map(|states| states.select(0, from));
        let values = model.values_after(reached, states);
        (unrolled, Some(values))
    }

    /// Recurrent states [B, S].
    pub(super) fn upload_states(&self, states: &[f32], columns: usize) -> Tensor<2> {
        let shape = [columns, self.network.state_len()];
        Tensor::from_data(TensorData::new(states.to_vec(), shape), &self.device)
    }
}

/// Observations [rows, O] as floats on `device`. Bytes travel as bytes to another device than the processor: four in an
/// integer, taken apart there.
pub(super) fn upload(elements: ElementsRef<'_>, rows: usize, device: &Device) -> Tensor<2> {
    let len = elements.len() / rows.max(1);
    let on_host = device.clone().without_autodiff() == Device::flex();
    match elements {
        ElementsRef::U8(bytes) if !on_host && len.is_multiple_of(4) => {
            let (words, _) = bytes.as_chunks::<4>();
            let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
            let packed = TensorData::new(words, [rows, len / 4]);
            let packed = Tensor::<2, Int>::from_data(packed, device);
            let byte = |index: i32| {
                packed
                    .clone()
                    .bitwise_right_shift_scalar(8 * index)
                    .bitwise_and_scalar(0xff)
                    .float()
                    .reshape([rows, len / 4, 1])
            };
            let bytes: Tensor<3> = Tensor::cat((0..4).map(byte).collect(), 2);
            bytes.reshape([rows, len])
        }
        elements => Tensor::from_data(TensorData::new(elements.to_f32(), [rows, len]), device),
    }
}

/// Actions [rows, A].
pub(super) fn upload_actions(
    actions: ActionsRef<'_>,
    rows: usize,
    device: &Device,
) -> ActionTensor {
    let shape = [rows, actions.len() / rows.max(1)];
    match actions {
        ActionsRef::Indices(indices) => {
            // Discrete actions number far fewer than 2^31.
            let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
            ActionTensor::Indices(Tensor::from_data(TensorData::new(indices, shape), device))
        }
        ActionsRef::Values(values) => {
            let values = TensorData::new(values.to_vec(), shape);
            ActionTensor::Values(Tensor::from_data(values, device))
        }
    }
}

/// Action masks [rows, M]; `None` if there are none.
pub(super) fn upload_mask(masks: &[u8], rows: usize, device: &Device) -> Option<Tensor<2, Bool>> {
    (!masks.is_empty()).then(|| {
        let allowed: Vec<bool> = masks.iter().map(|&flag| flag != 0).collect();
        let shape = [rows, masks.len() / rows.max(1)];
        Tensor::from_data(TensorData::new(allowed, shape), device)
    })
}

/// Row numbers.
pub(super) fn upload_indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    // A batch has far fewer than 2^31 rows: the configuration bounds it.
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let shape = [rows.len()];
    Tensor::from_data(TensorData::new(rows, shape), device)
}

/// Of the values [N, A] of all actions those `[N]` of the taken ones; the first number counts where an action is several.
pub(super) fn of_actions(values: Tensor<2>, actions: ActionTensor) -> Tensor<1> {
    match actions {
        ActionTensor::Indices(indices) => values.gather(1, indices.narrow(1, 0, 1)).squeeze_dim(1),
        // No network has a critic of continuous actions.
        ActionTensor::Values(_) => values.narrow(1, 0, 1).squeeze_dim(1),
    }
}

/// The values of a tensor on the host; NaN where they cannot be had, so that the update is undone.
pub(super) fn read(tensor: Tensor<1>) -> Vec<f32> {
    let length = tensor.shape().num_elements();
    tensor
        .into_data()
        .try_into_vec()
        .unwrap_or_else(|_| vec![f32::NAN; length])
}
