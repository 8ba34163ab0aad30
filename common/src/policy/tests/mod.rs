//! What each network must fulfil, whatever its encoder, core and heads.

mod convolution;
mod distributions;
mod networks;
mod recurrent;
mod sampling;
mod statistics;

use std::sync::{Arc, Once};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData, module::linear},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::spec::{
    ActionSpec, Activation, CoreSpec, CriticSpec, EncoderSpec, EnvironmentSpec, ImageLayout,
    NetworkSpec, ObservationSpec, StdKind,
};

/// A program's own encoder: a scale for each element, one matrix, one offset of four axes.
struct Scaled;

/// Its features.
const SCALED_FEATURES: usize = 5;

impl Encoder for Scaled {
    fn parameters(&self, observation: &ObservationSpec) -> Vec<ParameterShape> {
        let inputs = observation.len();
        let gain = 1.0;
        vec![
            ParameterShape::new("scale", [1, 1, inputs], Initialisation::Constant(0.5)),
            ParameterShape::new(
                "mix.weight",
                [inputs, SCALED_FEATURES],
                Initialisation::Orthogonal { gain },
            ),
            ParameterShape::new("offset", [1, 1, 1, SCALED_FEATURES], Initialisation::Zeros),
        ]
    }

    fn output_len(&self, _observation: &ObservationSpec) -> usize {
        SCALED_FEATURES
    }

    fn forward(
        &self,
        observations: Tensor<2>,
        _observation: &ObservationSpec,
        parameters: &EncoderParameters,
    ) -> Tensor<2> {
        let scale = parameters.get::<3>("scale").squeeze_dim::<2>(0);
        let offset = parameters.get::<4>("offset").reshape([1, SCALED_FEATURES]);
        linear(observations * scale, parameters.get("mix.weight"), None) + offset
    }
}

fn register_scaled() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| register_encoder("scaled", Arc::new(Scaled)));
}

fn spec(observation: ObservationSpec, action: ActionSpec) -> NetworkSpec {
    let environment = EnvironmentSpec::new("E", observation, action);
    NetworkSpec::mlp(&environment, vec![7, 6], Activation::Tanh, false)
}

fn torques() -> ActionSpec {
    ActionSpec::Box {
        low: vec![-2.0, 0.0],
        high: vec![2.0, 10.0],
    }
}

/// Every encoder with every core and every head, with one torso and with two.
fn all_specs() -> Vec<NetworkSpec> {
    register_scaled();
    let hidden_sizes = vec![9];
    let encoders = [
        (
            EncoderSpec::Mlp {
                hidden_sizes: vec![7, 6],
            },
            vec![5],
        ),
        (
            EncoderSpec::Mlp {
                hidden_sizes: vec![],
            },
            vec![2, 2],
        ),
        (
            EncoderSpec::MinatarConv {
                layout: ImageLayout::ChannelsLast,
                hidden_sizes: hidden_sizes.clone(),
            },
            vec![5, 6, 2],
        ),
        (
            EncoderSpec::NatureConv {
                layout: ImageLayout::ChannelsFirst,
                hidden_sizes: vec![],
            },
            vec![1, 36, 36],
        ),
        (
            EncoderSpec::ImpalaResnet {
                layout: ImageLayout::ChannelsFirst,
                hidden_sizes,
            },
            vec![2, 6, 5],
        ),
        (
            EncoderSpec::Custom {
                name: "scaled".into(),
            },
            vec![4],
        ),
    ];
    let cores = [
        CoreSpec::None,
        CoreSpec::Lstm { size: 3 },
        CoreSpec::Gru { size: 4 },
    ];
    let actions = [
        (ActionSpec::Discrete(3), StdKind::StateIndependent),
        (
            ActionSpec::MultiDiscrete(vec![2, 3]),
            StdKind::StateIndependent,
        ),
        (torques(), StdKind::StateIndependent),
        (torques(), StdKind::StateDependent),
    ];
    let mut specs = Vec::new();
    for (encoder, shape) in &encoders {
        for core in cores {
            for (index, (action, std)) in actions.iter().enumerate() {
                for shared_torso in [false, true] {
                    let bounds = [f32::NEG_INFINITY, f32::INFINITY];
                    let observation = ObservationSpec::floats(shape.clone(), bounds);
                    let mut spec = spec(observation, action.clone());
                    spec.encoder = encoder.clone();
                    spec.core = core;
                    spec.gaussian.std = *std;
                    spec.shared_torso = shared_torso;
                    spec.normalise_observations = index % 2 == 0;
                    spec.popart = index > 1;
                    spec.critic = match action {
                        ActionSpec::Discrete(_) => CriticSpec::Q,
                        _ => CriticSpec::V,
                    };
                    spec.auxiliary_value = index > 0 && !shared_torso;
                    specs.push(spec);
                }
            }
        }
    }
    specs
}

fn device() -> Device {
    Device::flex()
}

/// Normal-looking numbers.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut generator = Pcg64::seed_from_u64(seed);
    (0..len)
        .map(|_| generator.random_range(-1.5..1.5))
        .collect()
}

fn matrix(values: &[f32], columns: usize) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / columns, columns]);
    Tensor::from_data(data, &device())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().as_slice::<f32>().unwrap().to_vec()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}: length");
    for (index, (g, e)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * e.abs().max(1.0);
        assert!(
            (g - e).abs() <= allowed,
            "{name}[{index}]: {g} instead of {e}"
        );
    }
}

/// All parameters of a network by name, in f64.
fn parameters_of(network: &ActorCritic) -> Vec<(String, Vec<f64>)> {
    struct Values(Vec<Vec<f64>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let values = host(parameter.val().without_autodiff());
            self.0.push(values.into_iter().map(f64::from).collect());
        }
    }
    let mut values = Values(Vec::new());
    network.visit(&mut values);
    let names = layout(network.spec()).into_iter().map(|entry| entry.0);
    names.zip(values.0).collect()
}

fn parameter(network: &ActorCritic, name: &str) -> Vec<f64> {
    let mut all = parameters_of(network).into_iter();
    all.find(|(own, _)| own == name)
        .unwrap_or_else(|| panic!("no parameter {name}"))
        .1
}

/// The network with random numbers instead of zeros in biases and the like, so that no mistake hides behind them.
fn shaken(spec: &NetworkSpec, seed: u64) -> ActorCritic {
    let network = ActorCritic::new(spec, seed, &device());
    let mut flat = Vec::new();
    let noise = random(parameter_count(spec), seed + 100);
    let mut noise = noise.into_iter();
    for (name, values) in parameters_of(&network) {
        for value in values {
            let shift = noise.next().unwrap() * 0.1;
            let value = if name.starts_with("value_std") || name.starts_with("observation_inv") {
                1.0 + shift.abs()
            } else {
                value as f32 + shift
            };
            flat.extend(value.to_le_bytes());
        }
    }
    import_flat(network, &flat).unwrap()
}
