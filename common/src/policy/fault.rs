//! What a network specification must fulfil.

use super::{
    encoder::{self, registered_names},
    parameters::{PARAMETERS_MAX, parameter_count},
};
use crate::{
    arrays::ElementType,
    spec::{ActionSpec, CoreSpec, CriticSpec, EncoderSpec, NetworkSpec, ObservationSpec},
};

/// Parameters that an encoder of a program's own may ask for have 1 to this many axes.
const PARAMETER_AXES_MAX: usize = 4;
/// No layer has more inputs or outputs, and products of two such numbers do not overflow.
const EXTENT_MAX: usize = 1 << 28;

impl NetworkSpec {
    /// Why there is no such network, in one sentence; `None` if there is.
    ///
    /// An encoder of the program's own must be registered in this process.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.extent_fault()
            .or_else(|| self.observation_fault())
            .or_else(|| self.action_fault())
            .or_else(|| self.head_fault())
            .or_else(|| self.encoder_fault())
            .or_else(|| match self.core {
                CoreSpec::Lstm { size: 0 } | CoreSpec::Gru { size: 0 } => Some(
                    "the size of the recurrent core is 0, but it needs at least 1 unit".to_owned(),
                ),
                _ => None,
            })
            .or_else(|| self.count_fault())
    }

    /// A description may come from another process: first of all its numbers must be such that others can be computed
    /// from them.
    fn extent_fault(&self) -> Option<String> {
        let hidden = match &self.encoder {
            EncoderSpec::Mlp { hidden_sizes }
            | EncoderSpec::MinatarConv { hidden_sizes, .. }
            | EncoderSpec::NatureConv { hidden_sizes, .. }
            | EncoderSpec::ImpalaResnet { hidden_sizes, .. } => hidden_sizes.as_slice(),
            EncoderSpec::Custom { .. } => &[],
        };
        let core = match self.core {
            CoreSpec::None => 0,
            CoreSpec::Lstm { size } | CoreSpec::Gru { size } => size,
        };
        let extents = [
            ("elements of an observation", self.observation.len()),
            ("choices of an action", self.action.choices()),
            ("numbers of an action", self.action.len()),
            (
                "units of a hidden layer",
                hidden.iter().copied().max().unwrap_or(0),
            ),
            ("units of the recurrent core", core),
        ];
        let too_large = extents.into_iter().find(|(_, n)| *n > EXTENT_MAX);
        too_large.map(|(what, n)| format!("{n} {what} are more than {EXTENT_MAX}: make it smaller"))
    }

    fn count_fault(&self) -> Option<String> {
        let count = parameter_count(self) as u64;
        (count > PARAMETERS_MAX).then(|| {
            format!(
                "it has {count} parameters, but at most {PARAMETERS_MAX} are allowed: make its layers or the observation \
                 smaller"
            )
        })
    }

    fn observation_fault(&self) -> Option<String> {
        let ObservationSpec {
            shape,
            element,
            bounds: [_, high],
            ..
        } = &self.observation;
        if self.observation.is_empty() {
            return Some(format!(
                "an observation of shape {shape:?} has no element: a network needs at least one"
            ));
        }
        match element {
            ElementType::U8 if !(*high > 0.0 && high.is_finite()) => Some(format!(
                "the highest value of a uint8 observation is {high}, but it must lie in 1 to 255"
            )),
            _ => None,
        }
    }

    fn action_fault(&self) -> Option<String> {
        let gaussian = self.gaussian;
        match &self.action {
            empty if empty.is_empty() => {
                Some("an action without a number: a policy needs at least one".to_owned())
            }
            ActionSpec::Box { low, high } if low.len() != high.len() => Some(format!(
                "a continuous action has {} lower and {} upper bounds, but needs as many of both",
                low.len(),
                high.len()
            )),
            ActionSpec::Box { low, high } => {
                let mut bounds = low.iter().zip(high);
                if let Some((low, high)) = bounds.clone().find(|(low, high)| !low.lt(high)) {
                    return Some(format!(
                        "a continuous action lies between {low} and {high}: the lower bound must be below the upper one"
                    ));
                }
                if !gaussian.log_std_initial.is_finite() {
                    return Some(format!(
                        "log_std_initial is {}, but it must be finite",
                        gaussian.log_std_initial
                    ));
                }
                let infinite = bounds.find(|(low, high)| !(low.is_finite() && high.is_finite()));
                infinite.filter(|_| gaussian.squash).map(|(low, high)| {
                    format!(
                        "squash needs finite bounds, but a continuous action lies between {low} and {high}: turn it off"
                    )
                })
            }
            discrete => discrete.heads().contains(&0).then(|| {
                "a discrete action has 0 choices, but a policy needs at least one".to_owned()
            }),
        }
    }

    fn head_fault(&self) -> Option<String> {
        if self.critic == CriticSpec::Q && !matches!(self.action, ActionSpec::Discrete(_)) {
            return Some(format!(
                "a critic of actions has an output for each choice of one discrete action, but there is {}: use the critic \
                 \"vtrace\", \"gae\" or \"n_step\"",
                self.action
            ));
        }
        (self.auxiliary_value && self.shared_torso).then(|| {
            "the second value head teaches the policy's torso what the value's knows, but both share one torso: use \
             separate torsos"
                .to_owned()
        })
    }

    fn encoder_fault(&self) -> Option<String> {
        let Some(encoder) = encoder::resolve(self) else {
            let EncoderSpec::Custom { name } = &self.encoder else {
                return None;
            };
            return Some(format!(
                "no encoder is registered as {name}, only {:?}: register it before the command line is run",
                registered_names()
            ));
        };
        if let Some(fault) = encoder.fault(&self.observation) {
            return Some(fault);
        }
        if encoder.output_len(&self.observation) == 0 {
            return Some(
                "the encoder gives no features, but the heads need at least one".to_owned(),
            );
        }
        let mut names = Vec::new();
        for parameter in encoder.parameters(&self.observation) {
            let (name, shape) = (&parameter.name, &parameter.shape);
            if !(1..=PARAMETER_AXES_MAX).contains(&shape.len()) || shape.contains(&0) {
                return Some(format!(
                    "the encoder's parameter {name} has shape {shape:?}, but it needs 1 to {PARAMETER_AXES_MAX} axes and \
                     an element"
                ));
            }
            if names.contains(name) {
                return Some(format!(
                    "the encoder has two parameters called {name}: names must be unique"
                ));
            }
            names.push(parameter.name);
        }
        None
    }
}
