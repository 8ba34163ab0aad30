//! The learner's opinion of a batch, and how a batch gets onto the device.

use burn::{
    module::Module,
    tensor::{Bool, Device, Int, Tensor, TensorData},
};
use springbok_common::{
    arrays::{ActionsRef, ElementsRef},
    policy::{ActionTensor, ActorCritic, Distribution, Sequence},
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
    /// V of all observation rows.
    pub(super) values: Vec<f32>,
    /// log pi of the taken actions [T, B] under the target network, if there is one.
    pub(super) target_log_probs: Option<Vec<f32>>,
    /// Parameters of the distributions [T * B, P], on the device, if a divergence from them is penalised.
    pub(super) parameters: Option<Tensor<2>>,
}

impl Evaluation {
    /// log pi of the taken actions [T, B] under the policy that losses and targets take for the proximal one.
    pub(super) fn anchor(&self) -> &[f32] {
        self.target_log_probs.as_deref().unwrap_or(&self.log_probs)
    }
}

impl Updater {
    /// One pass without gradients over all observation rows, and one read-back; as much again for a target network.
    pub(super) fn evaluate(&self, batch: &Batch) -> Evaluation {
        let steps = batch.steps();
        let (parameters, values) = self.pass(&self.learnt.model.valid(), batch);
        let taken = self.taken(batch, parameters.clone());
        let mut log_probs = read(Tensor::cat(vec![taken, values], 0));
        let values = log_probs.split_off(steps.min(log_probs.len()));
        let of_target = |target| read(self.taken(batch, self.pass(target, batch).0));
        Evaluation {
            log_probs,
            values,
            target_log_probs: self.learnt.memory.target.as_ref().map(of_target),
            parameters: self.config.penalty.map(|_| parameters),
        }
    }

    /// log pi of the taken actions [T * B] for distributions with these parameters [T * B, P].
    fn taken(&self, batch: &Batch, parameters: Tensor<2>) -> Tensor<1> {
        let steps = batch.steps();
        let mask = upload_mask(&batch.action_masks, steps, &self.device);
        let actions = upload_actions(batch.actions.as_ref(), steps, &self.device);
        Distribution::new(&self.actions, parameters, mask).log_prob(actions)
    }

    /// Parameters of the distributions [T * B, P] and V of all observation rows by `model`, which tracks no gradients.
    pub(super) fn pass(&self, model: &ActorCritic, batch: &Batch) -> (Tensor<2>, Tensor<1>) {
        let (parameters, values) = if self.network.core == CoreSpec::None {
            self.pass_rows(model, batch)
        } else {
            self.pass_sequence(model, batch)
        };
        (parameters.narrow(0, 0, batch.steps()), values)
    }

    /// Without memory each row stands for itself.
    fn pass_rows(&self, model: &ActorCritic, batch: &Batch) -> (Tensor<2>, Tensor<1>) {
        let (rows, len) = (batch.observation_rows(), self.network.observation.len());
        let mut parts = Vec::new();
        for first in (0..rows).step_by(EVALUATION_ROWS_MAX) {
            let own = EVALUATION_ROWS_MAX.min(rows - first);
            let observations = batch.observations.slice(first * len..(first + own) * len);
            parts.push(model.forward(upload(observations, own, &self.device)));
        }
        let (parameters, values): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (Tensor::cat(parameters, 0), Tensor::cat(values, 0))
    }

    /// With a memory the bootstrap states are one more step, and each final state follows the step that reached it,
    /// with the memory from before the reset.
    fn pass_sequence(&self, model: &ActorCritic, batch: &Batch) -> (Tensor<2>, Tensor<1>) {
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
            return (unrolled.parameters, unrolled.values);
        }
        let finals = batch.final_rows.len();
        let reached = batch.observations.slice(rows * len..(rows + finals) * len);
        let reached = upload(reached, finals, &self.device);
        let from = upload_indices(&batch.final_rows, &self.device);
        let states = unrolled.states.map(|states| states.select(0, from));
        let values = model.values_after(reached, states);
        (
            unrolled.parameters,
            Tensor::cat(vec![unrolled.values, values], 0),
        )
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

/// The values of a tensor on the host; NaN where they cannot be had, so that the update is undone.
pub(super) fn read(tensor: Tensor<1>) -> Vec<f32> {
    let length = tensor.shape().num_elements();
    tensor
        .into_data()
        .try_into_vec()
        .unwrap_or_else(|_| vec![f32::NAN; length])
}
