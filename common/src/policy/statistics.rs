//! Statistics that travel with the parameters but no optimiser moves: those of observations and of returns.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Tensor, TensorData},
};

use super::{
    encoder::{Initialisation, ParameterShape},
    initialise::Initialiser,
    network::ActorCritic,
};

/// Bound of a normalised observation, in standard deviations (as in OpenAI Baselines' `VecNormalize`).
const CLIP_STDS: f32 = 10.0;

/// Running mean and scale of each element of an observation.
#[derive(Module, Debug)]
pub(super) struct ObservationStatistics {
    /// `[O]`.
    mean: Param<Tensor<1>>,
    /// `[O]`: 1 / standard deviation.
    inv_std: Param<Tensor<1>>,
}

/// Running mean and scale of returns (PopArt; van Hasselt et al. 2016, arXiv 1602.07714).
#[derive(Module, Debug)]
pub(super) struct ValueStatistics {
    /// `[1]`.
    mean: Param<Tensor<1>>,
    /// `[1]`.
    std: Param<Tensor<1>>,
}

/// Names of all of them in the layout. No other parameter has a name of the network itself: those of its parts have theirs
/// in front.
const NAMES: [&str; 4] = [OBSERVATION_MEAN, OBSERVATION_INV_STD, VALUE_MEAN, VALUE_STD];
const OBSERVATION_MEAN: &str = "observation_mean";
const OBSERVATION_INV_STD: &str = "observation_inv_std";
const VALUE_MEAN: &str = "value_mean";
const VALUE_STD: &str = "value_std";

/// Whether the parameter of this name is a statistic.
pub(super) fn is_statistic(name: &str) -> bool {
    NAMES.contains(&name)
}

impl ObservationStatistics {
    /// Statistics of nothing yet, which only multiply by `scale`.
    pub(super) fn new(len: usize, scale: f32, initialiser: &Initialiser) -> Self {
        Self {
            mean: initialiser.statistic(len, 0.0),
            inv_std: initialiser.statistic(len, scale),
        }
    }

    pub(super) fn shapes(len: usize, scale: f32) -> [ParameterShape; 2] {
        [
            ParameterShape::new(OBSERVATION_MEAN, [len], Initialisation::Zeros),
            ParameterShape::new(OBSERVATION_INV_STD, [len], Initialisation::Constant(scale)),
        ]
    }

    /// (x - mean) / std within 10 standard deviations, for observations [N, O].
    pub(super) fn normalised(&self, observations: Tensor<2>) -> Tensor<2> {
        let centred = observations - self.mean.val().unsqueeze();
        (centred * self.inv_std.val().unsqueeze()).clamp(-CLIP_STDS, CLIP_STDS)
    }
}

impl ValueStatistics {
    pub(super) fn new(initialiser: &Initialiser) -> Self {
        Self {
            mean: initialiser.statistic(1, 0.0),
            std: initialiser.statistic(1, 1.0),
        }
    }

    pub(super) fn shapes() -> [ParameterShape; 2] {
        [
            ParameterShape::new(VALUE_MEAN, [1], Initialisation::Zeros),
            ParameterShape::new(VALUE_STD, [1], Initialisation::Constant(1.0)),
        ]
    }

    /// std * output + mean, for outputs [N, C].
    pub(super) fn unnormalised(&self, outputs: Tensor<2>) -> Tensor<2> {
        outputs * self.std.val().unsqueeze() + self.mean.val().unsqueeze()
    }
}

impl ActorCritic {
    /// The network with other statistics of its observations: `mean` `[O]` and `inv_std` `[O]`, which is 1 / standard
    /// deviation. Without effect on a network that does not normalise observations.
    #[must_use]
    pub fn with_observation_statistics(mut self, mean: &[f32], inv_std: &[f32]) -> Self {
        if let Some(statistics) = &mut self.observation_statistics {
            statistics.mean = replaced(&statistics.mean, mean);
            statistics.inv_std = replaced(&statistics.inv_std, inv_std);
        }
        self
    }

    /// Mean `[O]` and 1 / standard deviation `[O]` of observations; `None` if the network does not normalise them.
    /// Waits for the device.
    #[must_use]
    pub fn observation_statistics(&self) -> Option<(Vec<f32>, Vec<f32>)> {
        let statistics = self.observation_statistics.as_ref()?;
        Some((host(&statistics.mean)?, host(&statistics.inv_std)?))
    }

    /// The network with other statistics of returns, whose values are what they were: the value heads are rescaled by
    /// w' = w s / s' and b' = (s b + m - m') / s' (PopArt; van Hasselt et al. 2016, eq. 8).
    ///
    /// Without effect on a network that does not normalise values. `std` is positive.
    #[must_use]
    pub fn with_value_statistics(mut self, mean: f32, std: f32) -> Self {
        if let Some(statistics) = &mut self.value_statistics {
            let old_mean = statistics.mean.val().without_autodiff();
            let old_std = statistics.std.val().without_autodiff();
            let rescaled = |head: &Linear| {
                let bias = head.bias.as_ref().map(|bias| {
                    let outputs = bias.val().without_autodiff() * old_std.clone();
                    let shifted = (outputs + old_mean.clone()).sub_scalar(mean);
                    updated(bias, shifted.div_scalar(std))
                });
                let weight = head.weight.val().without_autodiff();
                let weight = weight * old_std.clone().div_scalar(std).unsqueeze();
                Linear {
                    weight: updated(&head.weight, weight),
                    bias,
                }
            };
            let heads = [
                Some(&mut self.value_head),
                self.auxiliary_value_head.as_mut(),
            ];
            for head in heads.into_iter().flatten() {
                *head = rescaled(head);
            }
            statistics.mean = replaced(&statistics.mean, &[mean]);
            statistics.std = replaced(&statistics.std, &[std]);
        }
        self
    }

    /// Mean and standard deviation of returns; `None` if the network does not normalise values. Waits for the device.
    #[must_use]
    pub fn value_statistics(&self) -> Option<(f32, f32)> {
        let statistics = self.value_statistics.as_ref()?;
        let (mean, std) = (host(&statistics.mean)?, host(&statistics.std)?);
        Some((*mean.first()?, *std.first()?))
    }
}

/// The parameter with other values; device, id and whether it is trained stay as they are. Values of another length
/// are a mistake in the calling code and leave it unchanged.
fn replaced(parameter: &Param<Tensor<1>>, values: &[f32]) -> Param<Tensor<1>> {
    let shape = parameter.lazy_shape();
    debug_assert_eq!(shape.num_elements(), values.len());
    if shape.num_elements() != values.len() {
        return parameter.clone();
    }
    let data = TensorData::new(values.to_vec(), shape);
    let device = parameter.lazy_device();
    let tensor = Tensor::from_data(data, &device);
    parameter.clone().transform_for_load(tensor, parameter.id)
}

/// The parameter with the values of a tensor without gradient tracking.
fn updated<const D: usize>(parameter: &Param<Tensor<D>>, tensor: Tensor<D>) -> Param<Tensor<D>> {
    let tensor = if parameter.val().is_autodiff() {
        tensor.autodiff()
    } else {
        tensor
    };
    parameter.clone().transform_for_load(tensor, parameter.id)
}

fn host(parameter: &Param<Tensor<1>>) -> Option<Vec<f32>> {
    let data = parameter.val().without_autodiff().into_data();
    data.as_slice::<f32>().ok().map(<[f32]>::to_vec)
}
