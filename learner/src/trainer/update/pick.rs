//! Which rows the minibatches take, and what they bring with them.

use burn::tensor::{Int, Tensor};
use springbok_common::{config::AdvantageNormalisation, spec::CoreSpec};

use super::{
    Material, Targets, Updater,
    arrival::{DeviceNumbers, NUMBERS, Numbers},
    forward::Evaluation,
    staged::{upload_indices, upload_numbers},
};
use crate::algorithm::{normalise::normalise, on_device};

/// Which rows a minibatch takes, on the host.
pub(super) struct Choice {
    /// The N rows t * B + b that are learnt from.
    pub(super) rows: Vec<usize>,
    pub(super) sequence: Option<ChosenSequence>,
}

/// With a memory: whole columns, time-major.
pub(super) struct ChosenSequence {
    pub(super) columns: Vec<usize>,
    /// Rows t * B + b of all steps of these columns.
    steps: Vec<usize>,
    /// Which of `steps` are learnt from, if not all are.
    selection: Option<Vec<usize>>,
}

/// The same on the device.
pub(super) struct Indices {
    pub(super) rows: Tensor<1, Int>,
    pub(super) sequence: Option<SequenceIndices>,
}

pub(super) struct SequenceIndices {
    pub(super) columns: Tensor<1, Int>,
    pub(super) steps: Tensor<1, Int>,
    pub(super) selection: Option<Tensor<1, Int>>,
}

/// What a minibatch will take from its batch when its turn comes.
pub(super) struct Pick {
    pub(super) choice: Choice,
    pub(super) indices: Indices,
    /// [NUMBERS * N].
    pub(super) numbers: Tensor<1>,
}

impl Choice {
    /// All row numbers in the order of [`Self::indices`].
    fn parts(&self) -> impl Iterator<Item = &[usize]> {
        let sequence = self.sequence.iter().flat_map(|sequence| {
            let selection = sequence.selection.as_deref().unwrap_or_default();
            [&sequence.columns[..], &sequence.steps, selection]
        });
        std::iter::once(self.rows.as_slice()).chain(sequence)
    }

    fn len(&self) -> usize {
        self.parts().map(<[usize]>::len).sum()
    }

    /// Finds the row numbers among those that went up, from `next` on.
    fn indices(&self, uploaded: &Tensor<1, Int>, mut next: usize) -> Indices {
        let mut cut = |part: &[usize]| {
            let own = uploaded.clone().narrow(0, next, part.len());
            next += part.len();
            own
        };
        Indices {
            rows: cut(&self.rows),
            sequence: self.sequence.as_ref().map(|sequence| SequenceIndices {
                columns: cut(&sequence.columns),
                steps: cut(&sequence.steps),
                selection: sequence.selection.as_deref().map(cut),
            }),
        }
    }
}

impl Updater {
    /// The rows that are learnt from, and what the network is run over for them, of the rows or columns `units`.
    pub(super) fn choose(&self, material: &Material<'_>, units: &[usize]) -> Choice {
        if self.network.core == CoreSpec::None {
            return Choice {
                rows: units.to_vec(),
                sequence: None,
            };
        }
        let batch = material.batch;
        let steps: Vec<usize> = (0..batch.t)
            .flat_map(|t| units.iter().map(move |&column| t * batch.columns + column))
            .collect();
        let learnt: Vec<usize> = (0..steps.len())
            .filter(|&index| material.learnable[steps[index]])
            .collect();
        Choice {
            rows: learnt.iter().map(|&index| steps[index]).collect(),
            sequence: Some(ChosenSequence {
                columns: units.to_vec(),
                selection: (learnt.len() < steps.len()).then_some(learnt),
                steps,
            }),
        }
    }

    /// The row numbers of one choice alone on the device.
    pub(super) fn upload_choice(&self, choice: &Choice) -> Indices {
        let indices: Vec<usize> = choice.parts().flatten().copied().collect();
        choice.indices(&upload_indices(&indices, &self.device), 0)
    }

    /// What each of the minibatches of one pass takes, without those that there is nothing to learn from. One upload for all
    /// of them, and another if the numbers are on the host.
    pub(super) fn pick(
        &self,
        material: &Material<'_>,
        numbers: &Numbers<'_>,
        minibatches: &[Vec<usize>],
    ) -> Vec<Pick> {
        let choices = minibatches.iter().map(|units| self.choose(material, units));
        let choices: Vec<Choice> = choices.filter(|choice| !choice.rows.is_empty()).collect();
        if choices.is_empty() {
            return Vec::new();
        }
        let indices: Vec<usize> = choices
            .iter()
            .flat_map(Choice::parts)
            .flatten()
            .copied()
            .collect();
        let indices = upload_indices(&indices, &self.device);
        let mut next = 0;
        let indices: Vec<Indices> = choices
            .iter()
            .map(|choice| {
                let first = next;
                next += choice.len();
                choice.indices(&indices, first)
            })
            .collect();
        let numbers = match numbers {
            Numbers::Host(evaluation, targets) => {
                self.upload_picked(material, evaluation, targets, &choices)
            }
            Numbers::Device(numbers) => {
                let picked = |indices: &Indices| self.picked(numbers, &indices.rows);
                indices.iter().map(picked).collect()
            }
        };
        let picks = choices.into_iter().zip(indices).zip(numbers);
        let pick = |((choice, indices), numbers)| Pick {
            choice,
            indices,
            numbers,
        };
        picks.map(pick).collect()
    }

    /// The numbers of all choices, [NUMBERS * N] each, in one upload.
    fn upload_picked(
        &self,
        material: &Material<'_>,
        evaluation: &Evaluation,
        targets: &Targets,
        choices: &[Choice],
    ) -> Vec<Tensor<1>> {
        let numbers = choices.iter().flat_map(|choice| {
            let lists = self.picked_on_host(material, evaluation, targets, &choice.rows);
            lists.into_iter().flatten()
        });
        let numbers = upload_numbers(numbers.collect(), &self.device);
        let mut next = 0;
        let own = choices.iter().map(|choice| {
            let (first, count) = (next, NUMBERS * choice.rows.len());
            next += count;
            numbers.clone().narrow(0, first, count)
        });
        own.collect()
    }

    /// Those of the `rows` `[N]`, [NUMBERS * N].
    fn picked(&self, numbers: &DeviceNumbers, rows: &Tensor<1, Int>) -> Tensor<1> {
        let DeviceNumbers { all, weights } = numbers;
        let picked = all.clone().select(1, rows.clone());
        let [_, count] = picked.dims();
        let normalises = self.config.advantage_normalisation == AdvantageNormalisation::Minibatch;
        if !normalises && weights.is_none() {
            return picked.reshape([NUMBERS * count]);
        }
        let list = |index: usize| picked.clone().narrow(0, index, 1).reshape([count]);
        let mut advantages = list(2);
        if normalises {
            advantages = on_device::normalise(advantages, None).0;
        }
        // The surrogate is proportional to its advantage, so this weighs the gradient of each step.
        if let Some(weights) = weights {
            advantages = advantages * weights.clone().select(0, rows.clone());
        }
        Tensor::cat(vec![list(0), list(1), advantages, list(3), list(4)], 0)
    }

    /// What is one number for each of `rows`.
    fn picked_on_host(
        &self,
        material: &Material<'_>,
        evaluation: &Evaluation,
        targets: &Targets,
        rows: &[usize],
    ) -> [Vec<f32>; NUMBERS] {
        let batch = material.batch;
        let pick = |source: &[f32]| rows.iter().map(|&row| source[row]).collect::<Vec<_>>();
        let mut advantages = pick(&targets.advantages);
        if self.config.advantage_normalisation == AdvantageNormalisation::Minibatch {
            normalise(&mut advantages, None);
        }
        // The surrogate is proportional to its advantage, so this weighs the gradient of each step.
        if !batch.weights.is_empty() {
            for (advantage, weight) in advantages.iter_mut().zip(pick(&batch.weights)) {
                *advantage *= weight;
            }
        }
        [
            pick(&batch.behaviour_log_probs),
            pick(evaluation.anchor()),
            advantages,
            pick(evaluation.predictions(batch.steps())),
            pick(&targets.values),
        ]
    }
}
