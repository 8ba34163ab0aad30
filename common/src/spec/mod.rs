//! What an actor and its learner must agree on before a single number is sent: spaces, network, fingerprint.

mod environment;
mod network;

use std::fmt;

pub use environment::{ActionSpec, EnvironmentSpec, ObservationPart, ObservationSpec};
pub use network::{
    Activation, CoreSpec, CriticSpec, EncoderSpec, GaussianSpec, ImageLayout, NetworkSpec, StdKind,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Revision of the wire protocol; a learner and an actor of different revisions do not talk.
pub const PROTOCOL_REVISION: u32 = 3;

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
        let environment = EnvironmentSpec::new(
            "Catch",
            ObservationSpec::floats([10, 5], [0.0, 1.0]),
            ActionSpec::Discrete(3),
        );
        let network = NetworkSpec::mlp(&environment, vec![4, 5], Activation::Relu, false);
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
        let masked = environment.clone().with_action_mask();
        assert_ne!(original, SpecFingerprint::of(&masked, &network, rollout));
        let mut recurrent = network.clone();
        recurrent.core = CoreSpec::Lstm { size: 4 };
        assert_ne!(
            original,
            SpecFingerprint::of(&environment, &recurrent, rollout)
        );
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
        let (mut environment, mut network, _) = agreed();
        environment.observation.bounds = [f32::NEG_INFINITY, 2.5];
        network.observation.bounds = environment.observation.bounds;
        network.action = ActionSpec::Box {
            low: vec![-1.0, f32::NEG_INFINITY],
            high: vec![f32::INFINITY, 1.0],
        };
        let json = serde_json::to_string(&environment).unwrap();
        assert_eq!(
            serde_json::from_str::<EnvironmentSpec>(&json).unwrap(),
            environment
        );
        let json = serde_json::to_string(&network).unwrap();
        assert_eq!(serde_json::from_str::<NetworkSpec>(&json).unwrap(), network);
    }
}
