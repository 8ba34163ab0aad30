//! Fully connected layers.

use burn::tensor::{Tensor, module::linear};

use super::{Encoder, EncoderParameters, ParameterShape, activate, gain};
use crate::spec::{Activation, ObservationSpec};

/// Fully connected layers, each followed by an activation.
pub(super) struct Mlp {
    hidden_sizes: Vec<usize>,
    activation: Activation,
}

impl Mlp {
    pub(super) fn new(hidden_sizes: Vec<usize>, activation: Activation) -> Self {
        Self {
            hidden_sizes,
            activation,
        }
    }

    /// The layers' parameters on top of `inputs` features, named `{prefix}{layer}.weight` and `.bias`.
    pub(super) fn layers(&self, prefix: &str, inputs: usize) -> Vec<ParameterShape> {
        let mut shapes = Vec::with_capacity(2 * self.hidden_sizes.len());
        let mut width = inputs;
        for (index, &hidden) in self.hidden_sizes.iter().enumerate() {
            let name = format!("{prefix}{index}");
            shapes.extend(ParameterShape::linear(
                &name,
                width,
                hidden,
                gain(self.activation),
            ));
            width = hidden;
        }
        shapes
    }

    /// Features after the last layer, on top of `inputs` features.
    pub(super) fn width(&self, inputs: usize) -> usize {
        self.hidden_sizes.last().copied().unwrap_or(inputs)
    }

    /// Numbers kept of one input: those of each layer before and after its activation.
    pub(super) fn kept(&self) -> usize {
        let sizes = self.hidden_sizes.iter();
        sizes.fold(0, |sum, &size| sum.saturating_add(size.saturating_mul(2)))
    }

    /// All layers one after the other; the parameters of the first are at `first` of the list.
    pub(super) fn apply(
        &self,
        features: Tensor<2>,
        parameters: &EncoderParameters,
        first: usize,
    ) -> Tensor<2> {
        (0..self.hidden_sizes.len()).fold(features, |input, layer| {
            let weight = parameters.at(first + 2 * layer);
            let bias = parameters.at(first + 2 * layer + 1);
            activate(self.activation, linear(input, weight, Some(bias)))
        })
    }

    /// One sentence about a layer that cannot be.
    pub(super) fn fault_of_sizes(&self) -> Option<String> {
        self.hidden_sizes
            .contains(&0)
            .then(|| "a hidden size is 0, but a layer needs at least 1 unit".to_owned())
    }
}

impl Encoder for Mlp {
    fn fault(&self, _observation: &ObservationSpec) -> Option<String> {
        self.fault_of_sizes()
    }

    fn parameters(&self, observation: &ObservationSpec) -> Vec<ParameterShape> {
        self.layers("", observation.len())
    }

    fn output_len(&self, observation: &ObservationSpec) -> usize {
        self.width(observation.len())
    }

    fn kept_len(&self, _observation: &ObservationSpec) -> usize {
        self.kept()
    }

    fn forward(
        &self,
        observations: Tensor<2>,
        _observation: &ObservationSpec,
        parameters: &EncoderParameters,
    ) -> Tensor<2> {
        self.apply(observations, parameters, 0)
    }
}
