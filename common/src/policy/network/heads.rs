//! The heads: parameters of distributions out of the policy's features, values out of the critic's; and the layout of
//! all parameters.

use burn::{nn::Linear, tensor::Tensor};

use super::{ActorCritic, Plan};
use crate::{
    policy::{
        categorical,
        encoder::{Initialisation, ParameterShape},
        recurrent,
        statistics::{ObservationStatistics, ValueStatistics},
    },
    spec::{ActionSpec, CriticSpec, NetworkSpec, StdKind},
};

/// Gain of the policy head: nearly equal probabilities at the start, so that early data explore.
pub(super) const POLICY_HEAD_GAIN: f64 = 0.01;
/// Gain of the value heads.
pub(super) const VALUE_HEAD_GAIN: f64 = 1.0;
/// Range of a log standard deviation that the network computes (Haarnoja et al. 2018 use [-20, 2]; below -5 the
/// density is so peaked that ratios of probabilities lose their meaning in f32).
const LOG_STD_RANGE: [f32; 2] = [-5.0, 2.0];

/// What the critic says of N states.
pub(super) struct Critic {
    /// `[N]`.
    pub(super) values: Tensor<1>,
    /// [N, A], if it estimates the values of actions.
    pub(super) action_values: Option<Tensor<2>>,
}

impl ActorCritic {
    /// Parameters of the distributions [N, P] out of features [N, F].
    pub(super) fn distribution_parameters(&self, features: Tensor<2>) -> Tensor<2> {
        let outputs = self.policy_head.forward(features);
        let spec = &self.plan.spec;
        let ActionSpec::Box { low, .. } = &spec.action else {
            return outputs;
        };
        let ([rows, _], dimensions) = (outputs.dims(), low.len());
        let (means, log_stds) = match &self.log_std {
            Some(log_std) => {
                let log_stds = log_std.val().unsqueeze::<2>();
                (outputs, log_stds.expand([rows, dimensions]))
            }
            None => {
                let [least, most] = LOG_STD_RANGE;
                let deviation = outputs.clone().narrow(1, dimensions, dimensions);
                let log_stds = deviation.add_scalar(spec.gaussian.log_std_initial);
                (
                    outputs.narrow(1, 0, dimensions),
                    log_stds.clamp(least, most),
                )
            }
        };
        Tensor::cat(vec![means, log_stds], 1)
    }

    /// Values in units of the return out of the critic's features [N, F]; a critic of actions needs the `parameters`
    /// [N, P] of the policy for those of the states.
    pub(super) fn critic(&self, parameters: &Tensor<2>, features: Tensor<2>) -> Critic {
        if self.plan.spec.critic == CriticSpec::V {
            return Critic {
                values: self.state_values(&self.value_head, features),
                action_values: None,
            };
        }
        let action_values = self.in_units(self.value_head.forward(features));
        let log_probs = categorical::log_probs(parameters.clone(), None);
        Critic {
            values: categorical::expectation(log_probs, action_values.clone()),
            action_values: Some(action_values),
        }
    }

    /// Values `[N]` in units of the return by `head`, which has one output, out of features [N, F].
    pub(super) fn state_values(&self, head: &Linear, features: Tensor<2>) -> Tensor<1> {
        self.in_units(head.forward(features)).squeeze_dim(1)
    }

    /// Outputs [N, C] of a value head in units of the return.
    fn in_units(&self, outputs: Tensor<2>) -> Tensor<2> {
        match &self.value_statistics {
            Some(statistics) => statistics.unnormalised(outputs),
            None => outputs,
        }
    }
}

/// Outputs of the policy head.
pub(super) fn policy_outputs(spec: &NetworkSpec) -> usize {
    match (&spec.action, spec.gaussian.std) {
        (ActionSpec::Box { low, .. }, StdKind::StateIndependent) => low.len(),
        _ => spec.distribution_len(),
    }
}

/// The logarithms of the standard deviations as a parameter, if they are one.
pub(super) fn log_std_shape(spec: &NetworkSpec) -> Option<ParameterShape> {
    match (&spec.action, spec.gaussian.std) {
        (ActionSpec::Box { low, .. }, StdKind::StateIndependent) => Some(ParameterShape::new(
            "log_std",
            [low.len()],
            Initialisation::Constant(spec.gaussian.log_std_initial),
        )),
        _ => None,
    }
}

/// Names and shapes of all parameters in the order in which they are visited.
pub(in crate::policy) fn parameter_shapes(spec: &NetworkSpec) -> Vec<ParameterShape> {
    let plan = Plan::new(spec);
    let mut shapes = Vec::new();
    if spec.normalise_observations {
        let scale = plan.scale.unwrap_or(1.0);
        shapes.extend(ObservationStatistics::shapes(spec.observation.len(), scale));
    }
    let torsos: &[&str] = if spec.shared_torso {
        &["torso"]
    } else {
        &["policy_torso", "value_torso"]
    };
    let inputs = plan.encoder.output_len(&spec.observation);
    for torso in torsos {
        let encoder = plan.encoder.parameters(&spec.observation);
        let core = recurrent::shapes(spec.core, inputs);
        shapes.extend(encoder.into_iter().chain(core).map(|mut shape| {
            shape.name = format!("{torso}.{}", shape.name);
            shape
        }));
    }
    let (width, outputs) = (plan.features(), policy_outputs(spec));
    let head = |name, outputs, gain| ParameterShape::linear(name, width, outputs, gain);
    shapes.extend(head("policy_head", outputs, POLICY_HEAD_GAIN));
    shapes.extend(log_std_shape(spec));
    let critic = match spec.critic {
        CriticSpec::V => "value_head",
        CriticSpec::Q => "action_value_head",
    };
    shapes.extend(head(critic, spec.critic_len(), VALUE_HEAD_GAIN));
    if spec.popart {
        shapes.extend(ValueStatistics::shapes());
    }
    if spec.auxiliary_value {
        shapes.extend(head("auxiliary_value_head", 1, VALUE_HEAD_GAIN));
    }
    shapes
}
