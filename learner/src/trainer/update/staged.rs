//! What crosses between host and device. Each array of a batch goes up once, and minibatches are picked from it there.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use burn::tensor::{
    Bool, DType, Device, ExecutionError, Int, Tensor, TensorCreationOptions, TensorData,
    Transaction, kind::Basic, read_sync,
};
use springbok_common::{
    arrays::{ActionsRef, ElementsRef},
    policy::ActionTensor,
    spec::CoreSpec,
};

use super::Updater;
use crate::trainer::batch::{Batch, Extent};

/// The arrays of a batch on the device. The tensors are constants: no gradient is asked for.
pub struct Staged {
    pub(super) extent: Extent,
    observations: Observations,
    /// [T * B, A].
    pub(super) actions: ActionTensor,
    /// [T * B, M], 1 or 0; `None` without masks. Not of booleans, because the processor's backend forgets that they are
    /// when it selects some.
    mask: Option<Tensor<2, Int>>,
    /// `None` without memory.
    pub(super) memory: Option<StagedMemory>,
    /// `None` where the host makes the targets.
    pub(super) course: Option<StagedCourse>,
}

/// How the steps of a batch follow each other.
pub(super) struct StagedCourse {
    /// `[T * B]`: which observation row each step reached, before any reset; any where no value comes after the step.
    pub(super) reached: Tensor<1, Int>,
    /// [T, B]: whether no value comes after the step.
    pub(super) is_final: Tensor<2, Bool>,
    /// [T, B]: whether nothing flows back into the step from the next row.
    pub(super) is_cut: Tensor<2, Bool>,
    /// `[T * B]`: 1 where there is something to learn from the row, 0 elsewhere.
    pub(super) learnable: Tensor<1>,
}

/// What only a network with memory reads.
pub(super) struct StagedMemory {
    /// Recurrent states [B, S] before the first step of each column.
    pub(super) states: Tensor<2>,
    /// `[(T + 1) * B]`: 0 where the memory is reset before the step, 1 elsewhere.
    pub(super) keep: Tensor<1>,
    /// Rows t * B + b that final states follow; `None` if there are no final states.
    pub(super) final_rows: Option<Tensor<1, Int>>,
}

/// Observations [rows, O], raw.
#[derive(Clone)]
enum Observations {
    Floats(Tensor<2>),
    /// One byte for each.
    Bytes(Tensor<2, Int>),
    /// Four bytes in each integer [rows, O / 4], the first in the lowest bits: GPUs compute with no smaller ones.
    Words(Tensor<2, Int>),
}

impl Updater {
    /// Copies a batch to the device, for an update with it.
    #[must_use]
    pub fn stage(&self, batch: &Batch) -> Staged {
        let extent = batch.extent();
        let (steps, columns, device) = (extent.steps, extent.columns, &self.device);
        let memory = (self.network.core != CoreSpec::None).then(|| {
            let shape = [columns, self.network.state_len()];
            let finals = &batch.final_rows;
            StagedMemory {
                states: up(TensorData::new(batch.core_states.clone(), shape), device),
                keep: upload_numbers(batch.keep_memory(), device),
                final_rows: (!finals.is_empty()).then(|| upload_indices(finals, device)),
            }
        });
        let observations = batch.observations.slice(0..batch.observations.len());
        Staged {
            extent,
            observations: Observations::upload(observations, extent.observation_rows(), device),
            actions: upload_actions(batch.actions.as_ref(), steps, device),
            mask: upload_mask(&batch.action_masks, steps, device),
            memory,
            course: self
                .aims_on_device
                .then(|| StagedCourse::upload(batch, self.config.burn_in, device)),
        }
    }
}

impl StagedCourse {
    /// One upload.
    fn upload(batch: &Batch, burn_in: usize, device: &Device) -> Self {
        let (steps, shape) = (batch.steps(), [batch.t, batch.columns]);
        let outcomes = || batch.outcomes.iter();
        let numbers: Vec<i32> = batch
            .reached_rows()
            .into_iter()
            // A batch has far fewer than 2^31 rows: the configuration bounds it.
            .map(|row| row as i32)
            .chain(outcomes().map(|outcome| i32::from(!outcome.has_future())))
            .chain(outcomes().map(|outcome| i32::from(!outcome.continues())))
            .chain(batch.learnable(burn_in).into_iter().map(i32::from))
            .collect();
        let numbers: Tensor<1, Int> = up(TensorData::new(numbers, [4 * steps]), device);
        let part = |index: usize| numbers.clone().narrow(0, index * steps, steps);
        Self {
            reached: part(0),
            is_final: part(1).reshape(shape).bool(),
            is_cut: part(2).reshape(shape).bool(),
            learnable: part(3).float(),
        }
    }
}

impl Staged {
    /// Observations [count, O] of the rows from `first` on, as floats.
    pub(super) fn observations(&self, first: usize, count: usize) -> Tensor<2> {
        self.observations.narrow(first, count).into_floats()
    }

    /// Observations [N, O] of the rows `indices` `[N]`, as floats.
    pub(super) fn picked_observations(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        self.observations.select(indices).into_floats()
    }

    /// Actions [N, A] of the steps `indices` `[N]`.
    pub(super) fn picked_actions(&self, indices: Tensor<1, Int>) -> ActionTensor {
        match self.actions.clone() {
            ActionTensor::Indices(actions) => ActionTensor::Indices(actions.select(0, indices)),
            ActionTensor::Values(actions) => ActionTensor::Values(actions.select(0, indices)),
        }
    }

    /// Masks [T * B, M], if there are any.
    pub(super) fn mask(&self) -> Option<Tensor<2, Bool>> {
        self.mask.clone().map(Tensor::bool)
    }

    /// Masks [N, M] of the steps `indices` `[N]`, if there are any.
    pub(super) fn picked_mask(&self, indices: Tensor<1, Int>) -> Option<Tensor<2, Bool>> {
        let mask = self.mask.clone();
        mask.map(|mask| mask.select(0, indices).bool())
    }
}

impl Observations {
    fn upload(elements: ElementsRef<'_>, rows: usize, device: &Device) -> Self {
        let len = elements.len() / rows.max(1);
        let on_host = *device == Device::flex();
        match elements {
            ElementsRef::U8(bytes) if on_host => {
                let data = TensorData::new(bytes.to_vec(), [rows, len]);
                Self::Bytes(up(data, (device, DType::U8)))
            }
            ElementsRef::U8(bytes) if len.is_multiple_of(4) => {
                Self::Words(up(words(bytes, [rows, len / 4]), device))
            }
            elements => Self::Floats(up(TensorData::new(elements.to_f32(), [rows, len]), device)),
        }
    }

    fn narrow(&self, first: usize, count: usize) -> Self {
        match self.clone() {
            Self::Floats(rows) => Self::Floats(rows.narrow(0, first, count)),
            Self::Bytes(rows) => Self::Bytes(rows.narrow(0, first, count)),
            Self::Words(rows) => Self::Words(rows.narrow(0, first, count)),
        }
    }

    fn select(&self, indices: Tensor<1, Int>) -> Self {
        match self.clone() {
            Self::Floats(rows) => Self::Floats(rows.select(0, indices)),
            Self::Bytes(rows) => Self::Bytes(rows.select(0, indices)),
            Self::Words(rows) => Self::Words(rows.select(0, indices)),
        }
    }

    fn into_floats(self) -> Tensor<2> {
        match self {
            Self::Floats(rows) => rows,
            Self::Bytes(rows) => rows.float(),
            Self::Words(packed) => {
                let [rows, words] = packed.dims();
                let byte = |index: i32| {
                    packed
                        .clone()
                        .bitwise_right_shift_scalar(8 * index)
                        .bitwise_and_scalar(0xff)
                        .float()
                        .reshape([rows, words, 1])
                };
                let bytes: Tensor<3> = Tensor::cat((0..4).map(byte).collect(), 2);
                bytes.reshape([rows, 4 * words])
            }
        }
    }
}

/// Four bytes in each integer, the first in the lowest bits.
fn words(bytes: &[u8], shape: [usize; 2]) -> TensorData {
    let (words, _) = bytes.as_chunks::<4>();
    let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
    TensorData::new(words, shape)
}

/// Actions [rows, A].
fn upload_actions(actions: ActionsRef<'_>, rows: usize, device: &Device) -> ActionTensor {
    let shape = [rows, actions.len() / rows.max(1)];
    match actions {
        ActionsRef::Indices(indices) => {
            // Discrete actions number far fewer than 2^31.
            let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
            ActionTensor::Indices(up(TensorData::new(indices, shape), device))
        }
        ActionsRef::Values(values) => {
            ActionTensor::Values(up(TensorData::new(values.to_vec(), shape), device))
        }
    }
}

/// Action masks [rows, M]; `None` if there are none.
fn upload_mask(masks: &[u8], rows: usize, device: &Device) -> Option<Tensor<2, Int>> {
    (!masks.is_empty()).then(|| {
        let allowed: Vec<i32> = masks.iter().copied().map(i32::from).collect();
        let shape = [rows, masks.len() / rows.max(1)];
        up(TensorData::new(allowed, shape), device)
    })
}

/// Row numbers `[N]`.
pub(super) fn upload_indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    // A batch has far fewer than 2^31 rows: the configuration bounds it.
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let shape = [rows.len()];
    up(TensorData::new(rows, shape), device)
}

/// One number for each row `[N]`.
pub(super) fn upload_numbers(numbers: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [numbers.len()];
    up(TensorData::new(numbers, shape), device)
}

/// The one way up.
pub(super) fn up<const D: usize, K: Basic>(
    data: TensorData,
    options: impl Into<TensorCreationOptions>,
) -> Tensor<D, K> {
    #[cfg(test)]
    crossings::count(|crossings| crossings.up += 1);
    Tensor::from_data(data, options)
}

/// What was read back, from which lists are taken in the order in which they were put together.
pub(super) struct Cut {
    numbers: Vec<f32>,
    next: usize,
}

impl Cut {
    pub(super) fn of(numbers: Vec<f32>) -> Self {
        Self { numbers, next: 0 }
    }

    /// The next list, which is that of `tensor`.
    pub(super) fn list(&mut self, tensor: &Tensor<1>) -> Vec<f32> {
        self.numbers(tensor.shape().num_elements())
    }

    /// The next so many numbers.
    pub(super) fn numbers(&mut self, count: usize) -> Vec<f32> {
        let first = self.next;
        self.next += count;
        // A reading has the length of what was asked for, whatever became of the device.
        self.numbers[first..self.next].to_vec()
    }
}

/// The one way back, which waits for the device.
pub(super) fn read(tensor: Tensor<1>) -> Vec<f32> {
    Reading::begin(tensor).finish()
}

type Answer = Result<Vec<TensorData>, ExecutionError>;

/// Numbers on their way back. The device has been told to send them; what it is told after that comes after them.
pub(super) struct Reading {
    length: usize,
    state: ReadingState,
}

enum ReadingState {
    Arrived(Answer),
    Awaited(Pin<Box<dyn Future<Output = Answer>>>),
}

impl Reading {
    /// Asks the device for `tensor`, and does not wait.
    pub(super) fn begin(tensor: Tensor<1>) -> Self {
        #[cfg(test)]
        crossings::count(|crossings| crossings.back += 1);
        let length = tensor.shape().num_elements();
        // Of the ways to read a tensor only a transaction asks when it is first polled and not when it is awaited.
        let mut answer = Box::pin(Transaction::default().register(tensor).execute_async());
        let state = match answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => ReadingState::Arrived(answer),
            Poll::Pending => ReadingState::Awaited(answer),
        };
        Self { length, state }
    }

    /// Waits for the device. NaN where the numbers cannot be had, so that the update is undone.
    pub(super) fn finish(self) -> Vec<f32> {
        let answer = match self.state {
            ReadingState::Arrived(answer) => answer,
            ReadingState::Awaited(answer) => read_sync(answer),
        };
        let data = answer.ok().and_then(|mut data| data.pop());
        let numbers = data.and_then(|data| data.try_into_vec().ok());
        numbers.unwrap_or_else(|| vec![f32::NAN; self.length])
    }
}

/// How often something crossed on this thread.
#[cfg(test)]
pub(super) mod crossings {
    use std::cell::Cell;

    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(in crate::trainer::update) struct Crossings {
        pub(in crate::trainer::update) up: usize,
        pub(in crate::trainer::update) back: usize,
    }

    thread_local! {
        static CROSSINGS: Cell<Crossings> = Cell::default();
    }

    pub(super) fn count(add: impl FnOnce(&mut Crossings)) {
        let mut crossings = CROSSINGS.get();
        add(&mut crossings);
        CROSSINGS.set(crossings);
    }

    /// Those since the last time that it was asked.
    pub(in crate::trainer::update) fn take() -> Crossings {
        CROSSINGS.take()
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::{arrays::ElementsRef, spec::ActionSpec};

    use super::{
        super::scripted::{batch, updater},
        crossings::{self, Crossings},
        *,
    };

    /// Observations and actions go up once; with a memory its states, its ends and the places of final states do too. Each
    /// pass adds its row numbers and its numbers per row. What comes back is the learner's opinion and the result.
    #[test]
    fn each_array_of_a_batch_crosses_once() {
        let passes = 3;
        let epochs = format!("algorithm.epochs={passes}");
        for (core, arrays) in [("none", 2), ("gru", 5)] {
            let core = format!("policy.core={core}");
            let mut updater = updater(ActionSpec::Discrete(3), &[&epochs, &core]);
            let batch = batch(&updater, 1, 0.1);
            crossings::take();
            updater.update(&batch, 1.0).unwrap();
            let expected = Crossings {
                up: arrays + 2 * passes,
                back: 2,
            };
            assert_eq!(crossings::take(), expected, "{core}");
            // What is staged before does not cross again. The processor has no time for anything else.
            let staged = updater.stage(&batch);
            assert_eq!(crossings::take().up, arrays);
            let mut meanwhile = |_: &Updater| panic!("the processor does not wait");
            let outcome = updater.update_staged(&batch, staged, 1.0, &mut meanwhile);
            outcome.unwrap();
            assert_eq!(crossings::take().up, 2 * passes);
        }
    }

    #[test]
    fn bytes_that_travel_in_words_arrive_as_they_are() {
        let bytes: Vec<u8> = (0..=255).rev().cycle().take(3 * 100).collect();
        let device = Device::flex();
        let plain = Observations::upload(ElementsRef::U8(&bytes), 3, &device);
        assert!(matches!(plain, Observations::Bytes(_)));
        let packed = Observations::Words(up(words(&bytes, [3, 25]), &device));
        let expected: Vec<f32> = bytes.iter().copied().map(f32::from).collect();
        for observations in [plain, packed] {
            let read = |tensor: Tensor<2>| read(tensor.flatten(0, 1));
            assert_eq!(read(observations.clone().into_floats()), expected);
            let rows = upload_indices(&[2, 0], &device);
            let picked = read(observations.select(rows).into_floats());
            assert_eq!(picked[..100], expected[200..]);
            assert_eq!(picked[100..], expected[..100]);
            let narrowed = read(observations.narrow(1, 1).into_floats());
            assert_eq!(narrowed, expected[100..200]);
        }
    }
}
