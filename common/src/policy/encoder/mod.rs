//! The part of a network that turns observations into features: the built-in encoders and those of a program's own.

mod convolution;
mod mlp;
mod parameters;
mod registry;

use std::sync::Arc;

use burn::tensor::{Tensor, activation};
pub use parameters::{EncoderParameters, Initialisation, ParameterShape};
pub use registry::register_encoder;

pub(super) use self::registry::registered_names;
use self::{
    convolution::{Convolutions, Stack},
    mlp::Mlp,
    registry::registered,
};
use crate::spec::{Activation, EncoderSpec, NetworkSpec, ObservationSpec};

/// Features out of observations: what [`register_encoder`] takes, and what the built-in encoders are.
///
/// The parameters belong to the network, not to the encoder: they are initialised, trained, sent and stored like all
/// others, and the policy's torso and the value's have their own. An encoder only says which it wants and what it does
/// with them.
pub trait Encoder: Send + Sync {
    /// Why it cannot encode such observations, in one sentence; `None` if it can.
    fn fault(&self, observation: &ObservationSpec) -> Option<String> {
        let _ = observation;
        None
    }

    /// Its parameters for such observations, in the order of the flat buffer. Their names are unique.
    fn parameters(&self, observation: &ObservationSpec) -> Vec<ParameterShape>;

    /// Features of one observation: F.
    fn output_len(&self, observation: &ObservationSpec) -> usize;

    /// Numbers that [`Self::forward`] keeps of one observation until the backward pass, about; an estimate of the device's
    /// memory is made of it. If an encoder does not say: those that it gives.
    fn kept_len(&self, observation: &ObservationSpec) -> usize {
        self.output_len(observation)
    }

    /// Features [N, F] of observations [N, O], which are scaled or normalised already; each row is one observation of
    /// shape [`ObservationSpec::shape`], row-major. Gradients flow through whatever it does with tensors.
    fn forward(
        &self,
        observations: Tensor<2>,
        observation: &ObservationSpec,
        parameters: &EncoderParameters,
    ) -> Tensor<2>;
}

/// The encoder that `spec` names; `None` if it is one of the program's own that is not registered.
pub(super) fn resolve(spec: &NetworkSpec) -> Option<Arc<dyn Encoder>> {
    let activation = spec.activation;
    let convolutions = |stack, layout, hidden_sizes: &Vec<usize>| -> Arc<dyn Encoder> {
        Arc::new(Convolutions::new(
            stack,
            layout,
            hidden_sizes.clone(),
            activation,
        ))
    };
    Some(match &spec.encoder {
        EncoderSpec::Mlp { hidden_sizes } => Arc::new(Mlp::new(hidden_sizes.clone(), activation)),
        EncoderSpec::MinatarConv {
            layout,
            hidden_sizes,
        } => convolutions(Stack::Minatar, *layout, hidden_sizes),
        EncoderSpec::NatureConv {
            layout,
            hidden_sizes,
        } => convolutions(Stack::Nature, *layout, hidden_sizes),
        EncoderSpec::ImpalaResnet {
            layout,
            hidden_sizes,
        } => convolutions(Stack::Impala, *layout, hidden_sizes),
        EncoderSpec::Custom { name } => registered(name)?,
    })
}

/// The features are the observation itself: an encoder without parameters.
pub(super) fn identity() -> Arc<dyn Encoder> {
    Arc::new(Mlp::new(Vec::new(), Activation::Relu))
}

/// What an activation function does to a tensor.
pub(super) fn activate<const D: usize>(kind: Activation, input: Tensor<D>) -> Tensor<D> {
    match kind {
        Activation::Relu => activation::relu(input),
        Activation::Tanh => activation::tanh(input),
    }
}

/// The gain that keeps the size of signals through a layer with this activation (He et al. 2015; `calculate_gain` of
/// PyTorch).
pub(super) fn gain(activation: Activation) -> f64 {
    match activation {
        Activation::Relu => std::f64::consts::SQRT_2,
        Activation::Tanh => 5.0 / 3.0,
    }
}
