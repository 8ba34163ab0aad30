//! The actor-critic network: multi-layer perceptrons with a linear head for the policy and one for the value.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    nn::Linear,
    tensor::{Device, Tensor, TensorData, activation},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::spec::{Activation, EncoderSpec, NetworkSpec};

/// Gain of the policy head: nearly equal probabilities at the start, so that early data explore.
const POLICY_HEAD_GAIN: f64 = 0.01;
/// Gain of the value head.
const VALUE_HEAD_GAIN: f64 = 1.0;

/// A policy over discrete actions and a state value, with separate torsos or one torso for both.
///
/// The order of the fields is the order of the parameters in a flat buffer; see [`super::layout`].
#[derive(Module, Debug)]
pub struct ActorCritic {
    /// Hidden layers of the policy, and of the value too if there is no value torso of its own.
    policy_torso: Vec<Linear>,
    /// Hidden layers of the value; empty if the torso is shared.
    value_torso: Vec<Linear>,
    policy_head: Linear,
    value_head: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    shared_torso: bool,
}

impl ActorCritic {
    /// A network with orthogonal weights and zero biases, the same for the same `seed` on every device: the
    /// matrices are made on the host.
    ///
    /// Gains are sqrt(2) (ReLU) or 5/3 (tanh) for hidden layers, 0.01 for the policy head and 1 for the value head.
    #[must_use]
    pub fn new(spec: &NetworkSpec, seed: u64, device: &Device) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        let policy_torso = torso(spec, &mut rng, device);
        let value_torso = if spec.shared_torso {
            Vec::new()
        } else {
            torso(spec, &mut rng, device)
        };
        let width = hidden_sizes(spec)
            .last()
            .copied()
            .unwrap_or(spec.observation.len());
        Self {
            policy_torso,
            value_torso,
            policy_head: linear(
                width,
                spec.distribution_len(),
                POLICY_HEAD_GAIN,
                &mut rng,
                device,
            ),
            value_head: linear(width, 1, VALUE_HEAD_GAIN, &mut rng, device),
            activation: spec.activation,
            shared_torso: spec.shared_torso,
        }
    }

    /// Logits [N, A] and values `[N]` of observations [N, O].
    #[must_use]
    pub fn forward(&self, observations: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let policy_features = self.hidden(&self.policy_torso, observations.clone());
        let value_features = if self.shared_torso {
            policy_features.clone()
        } else {
            self.hidden(&self.value_torso, observations)
        };
        (
            self.policy_head.forward(policy_features),
            self.value_of(value_features),
        )
    }

    /// Logits [N, A] of observations [N, O]; the value is not computed.
    #[must_use]
    pub fn policy(&self, observations: Tensor<2>) -> Tensor<2> {
        self.policy_head
            .forward(self.hidden(&self.policy_torso, observations))
    }

    /// Values `[N]` of observations [N, O]; the policy head is not computed.
    #[must_use]
    pub fn value(&self, observations: Tensor<2>) -> Tensor<1> {
        let torso = if self.shared_torso {
            &self.policy_torso
        } else {
            &self.value_torso
        };
        self.value_of(self.hidden(torso, observations))
    }

    /// Ids of the parameters that only the value depends on, for a learning rate of their own.
    #[must_use]
    pub fn value_parameter_ids(&self) -> Vec<ParamId> {
        let mut ids = ParameterIds::default();
        self.value_torso.visit(&mut ids);
        self.value_head.visit(&mut ids);
        ids.0
    }

    /// Ids of all other parameters: those of the policy, and of the torso if it is shared.
    #[must_use]
    pub fn policy_parameter_ids(&self) -> Vec<ParamId> {
        let mut ids = ParameterIds::default();
        self.policy_torso.visit(&mut ids);
        self.policy_head.visit(&mut ids);
        ids.0
    }

    fn hidden(&self, layers: &[Linear], observations: Tensor<2>) -> Tensor<2> {
        layers.iter().fold(observations, |input, layer| {
            let output = layer.forward(input);
            match self.activation {
                Activation::Relu => activation::relu(output),
                Activation::Tanh => activation::tanh(output),
            }
        })
    }

    fn value_of(&self, features: Tensor<2>) -> Tensor<1> {
        self.value_head.forward(features).squeeze_dim(1)
    }
}

/// Widths of the fully connected layers.
pub(super) fn hidden_sizes(spec: &NetworkSpec) -> &[usize] {
    match &spec.encoder {
        EncoderSpec::Mlp { hidden_sizes }
        | EncoderSpec::MinatarConv { hidden_sizes, .. }
        | EncoderSpec::NatureConv { hidden_sizes, .. }
        | EncoderSpec::ImpalaResnet { hidden_sizes, .. } => hidden_sizes,
        EncoderSpec::Custom { .. } => &[],
    }
}

#[derive(Default)]
struct ParameterIds(Vec<ParamId>);

impl ModuleVisitor for ParameterIds {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.push(parameter.id);
    }
}

fn torso(spec: &NetworkSpec, rng: &mut Pcg64, device: &Device) -> Vec<Linear> {
    let gain = match spec.activation {
        Activation::Relu => 2.0_f64.sqrt(),
        Activation::Tanh => 5.0 / 3.0,
    };
    let mut width = spec.observation.len();
    let mut layers = Vec::with_capacity(hidden_sizes(spec).len());
    for &hidden in hidden_sizes(spec) {
        layers.push(linear(width, hidden, gain, rng, device));
        width = hidden;
    }
    layers
}

/// y = x W + b with W [inputs, outputs] orthogonal times `gain` and b zero.
fn linear(inputs: usize, outputs: usize, gain: f64, rng: &mut Pcg64, device: &Device) -> Linear {
    let weights = orthogonal(inputs, outputs, gain, rng);
    let weight = Tensor::<2>::from_data(TensorData::new(weights, [inputs, outputs]), device);
    Linear {
        weight: Param::from_tensor(weight),
        bias: Some(Param::from_tensor(Tensor::<1>::zeros([outputs], device))),
    }
}

/// A matrix [rows, columns], row-major, whose shorter side is a set of orthogonal vectors of length `gain`:
/// normal random vectors made orthogonal one after the other (Saxe et al. 2014).
fn orthogonal(rows: usize, columns: usize, gain: f64, rng: &mut Pcg64) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| standard_normal(rng)).collect();
        // The second pass removes what rounding left of the first.
        for _ in 0..2 {
            for earlier in &vectors {
                let overlap = dot(earlier, &vector);
                for (element, other) in vector.iter_mut().zip(earlier) {
                    *element -= overlap * other;
                }
            }
        }
        let norm = dot(&vector, &vector).sqrt();
        // A draw that lies within the others' span is drawn again.
        if norm > 1e-9 {
            vector.iter_mut().for_each(|element| *element /= norm);
            vectors.push(vector);
        }
    }
    let element = |row: usize, column: usize| {
        if rows <= columns {
            vectors[row][column]
        } else {
            vectors[column][row]
        }
    };
    (0..rows * columns)
        .map(|flat| (gain * element(flat / columns, flat % columns)) as f32)
        .collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// One draw from N(0, 1) (Box and Muller 1958).
fn standard_normal(rng: &mut Pcg64) -> f64 {
    // 1 - u lies in (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ActionSpec, EnvironmentSpec, ObservationSpec};

    #[test]
    fn initial_matrices_are_orthogonal() {
        for (rows, columns) in [(4, 7), (7, 4), (5, 5), (3, 1)] {
            let matrix = orthogonal(rows, columns, 2.0, &mut Pcg64::seed_from_u64(3));
            let at = |row: usize, column: usize| f64::from(matrix[row * columns + column]);
            let count = rows.min(columns);
            for left in 0..count {
                for right in 0..count {
                    let product: f64 = if rows <= columns {
                        (0..columns).map(|k| at(left, k) * at(right, k)).sum()
                    } else {
                        (0..rows).map(|k| at(k, left) * at(k, right)).sum()
                    };
                    let expected = if left == right { 4.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-5, "{rows}x{columns}");
                }
            }
        }
    }

    #[test]
    fn parts_agree_with_the_whole() {
        for shared_torso in [false, true] {
            let environment = EnvironmentSpec::new(
                "E",
                ObservationSpec::floats([3], [-1.0, 1.0]),
                ActionSpec::Discrete(2),
            );
            let spec = NetworkSpec::mlp(&environment, vec![8, 4], Activation::Tanh, shared_torso);
            let network = ActorCritic::new(&spec, 7, &Device::flex());
            let observations =
                Tensor::<2>::from_data([[0.5_f32, -1.0, 2.0], [1.0, 0.0, -3.0]], &Device::flex());
            let (logits, values) = network.forward(observations.clone());
            assert_eq!(
                logits.into_data(),
                network.policy(observations.clone()).into_data()
            );
            assert_eq!(values.into_data(), network.value(observations).into_data());
            let value_only = if shared_torso { 2 } else { 6 };
            assert_eq!(network.value_parameter_ids().len(), value_only);
            assert_eq!(network.policy_parameter_ids().len(), 6);
        }
    }
}
