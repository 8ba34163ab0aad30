//! What an actor and its learner must agree on before a single float is sent: spaces, network, fingerprint.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// What an environment shows and takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Registered name, such as `CartPole-v1`.
    pub id: String,
    /// Shape and bounds of one observation.
    pub observation: ObservationSpec,
    /// The actions that may be taken.
    pub action: ActionSpec,
    /// Steps after which an episode is truncated; `None` if the environment ends by itself.
    pub episode_steps_max: Option<u32>,
}

/// Shape and bounds of one observation of 32-bit floats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationSpec {
    /// Extent of each axis, without time and batch.
    pub shape: Vec<usize>,
    /// Lowest and highest value of any element; infinite where there is no bound (`null` in JSON).
    #[serde(with = "bounds")]
    pub bounds: [f32; 2],
}

/// JSON has no infinity: a missing bound is `null` there.
mod bounds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bounds: &[f32; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bounds
            .map(|bound| bound.is_finite().then_some(bound))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[f32; 2], D::Error> {
        let [low, high] = <[Option<f32>; 2]>::deserialize(deserializer)?;
        Ok([
            low.unwrap_or(f32::NEG_INFINITY),
            high.unwrap_or(f32::INFINITY),
        ])
    }
}

impl ObservationSpec {
    /// Elements in one observation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether an observation has no element at all; no valid environment has such.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The actions an environment takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionSpec {
    /// One of `n` actions, numbered from 0.
    Discrete(u32),
}

impl ActionSpec {
    /// Number of logits that a policy over these actions has.
    #[must_use]
    pub fn logits(&self) -> usize {
        match self {
            Self::Discrete(n) => *n as usize,
        }
    }
}

impl fmt::Display for ActionSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete(n) => write!(formatter, "Discrete({n})"),
        }
    }
}

impl fmt::Display for ObservationSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.bounds;
        write!(formatter, "Box({low}..{high}, {:?}, float32)", self.shape)
    }
}

/// The activation function between the layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0): several times faster than tanh on the CPU.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// The network: a multi-layer perceptron torso (one for the policy and one for the value, or a shared one)
/// with a linear policy head and a linear value head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Elements in one observation.
    pub observation_len: usize,
    /// Number of policy logits.
    pub logits: usize,
    /// Width of each hidden layer.
    pub hidden_sizes: Vec<usize>,
    /// Activation after each hidden layer.
    pub activation: Activation,
    /// Whether policy and value share one torso.
    pub shared_torso: bool,
}

impl NetworkSpec {
    /// Number of trainable parameters, weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let mut torso = 0;
        let mut width = self.observation_len;
        for &hidden in &self.hidden_sizes {
            torso += (width + 1) * hidden;
            width = hidden;
        }
        let torsos = if self.shared_torso { 1 } else { 2 };
        torsos * torso + (width + 1) * (self.logits + 1)
    }
}

/// Revision of the wire protocol; a learner and an actor of different revisions do not talk.
pub const PROTOCOL_REVISION: u32 = 1;

/// All that must be equal on both sides: 64 bits over the canonical encoding of both specifications, the shape of
/// an unroll and the protocol revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpecFingerprint(pub u64);

impl SpecFingerprint {
    /// Fingerprint of what `rollout`, `environment` and `network` say.
    #[must_use]
    pub fn of(environment: &EnvironmentSpec, network: &NetworkSpec, rollout: RolloutShape) -> Self {
        let agreed = (PROTOCOL_REVISION, environment, network, rollout);
        // Encoding plain integers, floats, strings and lists into memory cannot fail; an empty encoding would
        // still be equal on both sides and be caught by the length checks of each message.
        let bytes =
            bincode::serde::encode_to_vec(agreed, bincode::config::standard()).unwrap_or_default();
        Self(xxh3_64(&bytes))
    }
}

impl fmt::Display for SpecFingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Extent of one unroll: T steps of K environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutShape {
    /// Steps of each environment in one unroll: T.
    pub unroll_length: usize,
    /// Environments stepped together by one actor: K.
    pub environments: usize,
}

impl RolloutShape {
    /// Environment steps in one unroll: T * K.
    #[must_use]
    pub fn steps(self) -> usize {
        self.unroll_length * self.environments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed() -> (EnvironmentSpec, NetworkSpec, RolloutShape) {
        let environment = EnvironmentSpec {
            id: "Catch".into(),
            observation: ObservationSpec {
                shape: vec![10, 5],
                bounds: [0.0, 1.0],
            },
            action: ActionSpec::Discrete(3),
            episode_steps_max: None,
        };
        let network = NetworkSpec {
            observation_len: 50,
            logits: 3,
            hidden_sizes: vec![4, 5],
            activation: Activation::Relu,
            shared_torso: false,
        };
        let rollout = RolloutShape {
            unroll_length: 8,
            environments: 4,
        };
        (environment, network, rollout)
    }

    #[test]
    fn fingerprint_sees_every_part() {
        let (environment, network, rollout) = agreed();
        let original = SpecFingerprint::of(&environment, &network, rollout);
        assert_eq!(
            original,
            SpecFingerprint::of(&environment, &network, rollout)
        );

        let mut other = environment.clone();
        other.observation.shape = vec![5, 10];
        assert_ne!(original, SpecFingerprint::of(&other, &network, rollout));
        let mut wider = network.clone();
        wider.hidden_sizes[0] += 1;
        assert_ne!(original, SpecFingerprint::of(&environment, &wider, rollout));
        let longer = RolloutShape {
            unroll_length: 9,
            ..rollout
        };
        assert_ne!(
            original,
            SpecFingerprint::of(&environment, &network, longer)
        );
    }

    #[test]
    fn missing_bounds_survive_json() {
        let (mut environment, _, _) = agreed();
        environment.observation.bounds = [f32::NEG_INFINITY, 2.5];
        let json = serde_json::to_string(&environment).unwrap();
        let back: EnvironmentSpec = serde_json::from_str(&json).unwrap();
        assert_eq!(back, environment);
    }

    #[test]
    fn parameters_are_counted_by_hand() {
        let (_, mut network, _) = agreed();
        let torso = 51 * 4 + 5 * 5;
        assert_eq!(network.parameters(), 2 * torso + 6 * 4);
        network.shared_torso = true;
        assert_eq!(network.parameters(), torso + 6 * 4);
    }
}
