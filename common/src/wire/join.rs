//! The terms on which an actor joins.

use std::num::{NonZeroU32, NonZeroU64};

use springbok_proto::v1;

use super::{WireError, bad_field};
use crate::{
    config::{InferencePlace, ObservationEncoding, Refresh},
    ids::RunId,
    spec::{NetworkSpec, RolloutShape, SpecFingerprint},
    version::LearnerEpoch,
};

/// Largest message that a configuration may allow: messages are buffered whole, one for each actor.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Longest description of a network that is read, in bytes.
const NETWORK_BYTES_MAX: usize = 64 * 1024;

/// What the learner tells a joining actor, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinTerms {
    /// The training run.
    pub run_id: RunId,
    /// The life of the learner.
    pub epoch: LearnerEpoch,
    /// Place of the actor among all; seeds it.
    pub actor_index: u32,
    /// Registered name of the environment.
    pub environment_id: String,
    /// Its options, a TOML table.
    pub environment_options: String,
    /// The network that plays it.
    pub network: NetworkSpec,
    /// T and K.
    pub rollout: RolloutShape,
    /// Seed of the run.
    pub seed: u64,
    /// What the actor must compute too.
    pub fingerprint: SpecFingerprint,
    /// Unrolls that may be sent and not acknowledged.
    pub outbox_unrolls: usize,
    /// Largest message either side accepts.
    pub message_bytes_max: usize,
    /// In lock-step, the unrolls that are made with each snapshot that arrives; `None` for as many as there is time for.
    pub unrolls_per_snapshot: Option<NonZeroU32>,
    /// In lock-step, the versions between two at which all environments begin anew; `None` if they never do.
    pub life_versions: Option<NonZeroU64>,
    /// When newer parameters are taken up.
    pub refresh: Refresh,
    /// Who chooses the actions.
    pub inference: InferencePlace,
    /// How observations travel.
    pub observations: ObservationEncoding,
}

/// `terms` for the wire.
#[must_use]
pub fn join_reply(terms: &JoinTerms) -> v1::JoinReply {
    v1::JoinReply {
        run_id: terms.run_id.to_bytes().to_vec().into(),
        learner_epoch: terms.epoch.0,
        actor_index: terms.actor_index,
        environment_id: terms.environment_id.clone(),
        environment_options: terms.environment_options.clone(),
        // Numbers, strings and lists always have a JSON form.
        network: serde_json::to_string(&terms.network).unwrap_or_default(),
        unroll_length: saturate(terms.rollout.unroll_length),
        environments: saturate(terms.rollout.environments),
        seed: terms.seed,
        spec_fingerprint: terms.fingerprint.0,
        outbox_unrolls: saturate(terms.outbox_unrolls),
        message_bytes_max: saturate(terms.message_bytes_max),
        unrolls_per_snapshot: terms.unrolls_per_snapshot.map_or(0, NonZeroU32::get),
        life_versions: terms.life_versions.map_or(0, NonZeroU64::get),
        refresh_each_step: terms.refresh == Refresh::Step,
        central_inference: terms.inference == InferencePlace::Central,
        observation_encoding: match terms.observations {
            ObservationEncoding::Auto => v1::ObservationEncoding::Auto,
            ObservationEncoding::Raw => v1::ObservationEncoding::Raw,
            ObservationEncoding::Zstd => v1::ObservationEncoding::Zstd,
        }
        .into(),
    }
}

/// The configuration bounds all of these far below 2^32.
fn saturate(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Checks a learner's reply.
///
/// # Errors
/// [`WireError::Field`] for the first field outside the protocol.
pub fn join_terms(reply: v1::JoinReply) -> Result<JoinTerms, WireError> {
    let run_id =
        RunId::from_bytes(&reply.run_id).ok_or_else(|| bad_field("run_id", "not 16 bytes"))?;
    if reply.network.len() > NETWORK_BYTES_MAX {
        let problem = format!(
            "{} bytes, but at most {NETWORK_BYTES_MAX} are read",
            reply.network.len()
        );
        return Err(bad_field("network", problem));
    }
    let network: NetworkSpec = serde_json::from_str(&reply.network)
        .map_err(|error| bad_field("network", error.to_string()))?;
    let rollout = RolloutShape {
        unroll_length: positive("unroll_length", reply.unroll_length)?,
        environments: positive("environments", reply.environments)?,
    };
    let message_bytes_max = positive("message_bytes_max", reply.message_bytes_max)?;
    check_sizes(&network, rollout, message_bytes_max)?;
    Ok(JoinTerms {
        run_id,
        epoch: LearnerEpoch(reply.learner_epoch),
        actor_index: reply.actor_index,
        environment_id: reply.environment_id,
        environment_options: reply.environment_options,
        network,
        rollout,
        seed: reply.seed,
        fingerprint: SpecFingerprint(reply.spec_fingerprint),
        outbox_unrolls: positive("outbox_unrolls", reply.outbox_unrolls)?,
        message_bytes_max,
        unrolls_per_snapshot: NonZeroU32::new(reply.unrolls_per_snapshot),
        life_versions: NonZeroU64::new(reply.life_versions),
        refresh: if reply.refresh_each_step {
            Refresh::Step
        } else {
            Refresh::Unroll
        },
        inference: if reply.central_inference {
            InferencePlace::Central
        } else {
            InferencePlace::Local
        },
        observations: observations(reply.observation_encoding)?,
    })
}

fn observations(encoding: i32) -> Result<ObservationEncoding, WireError> {
    match v1::ObservationEncoding::try_from(encoding) {
        Ok(v1::ObservationEncoding::Auto) => Ok(ObservationEncoding::Auto),
        Ok(v1::ObservationEncoding::Raw) => Ok(ObservationEncoding::Raw),
        Ok(v1::ObservationEncoding::Zstd) => Ok(ObservationEncoding::Zstd),
        Err(_) => Err(bad_field(
            "observation_encoding",
            format!("{encoding}, but only 0 (auto), 1 (raw) and 2 (zstd) are known"),
        )),
    }
}

/// An actor makes room for an unroll when it joins: for no larger one than it may send.
fn check_sizes(
    network: &NetworkSpec,
    rollout: RolloutShape,
    message_bytes_max: usize,
) -> Result<(), WireError> {
    if message_bytes_max > MESSAGE_BYTES_MAX {
        let problem = format!("{message_bytes_max}, but must be at most {MESSAGE_BYTES_MAX}");
        return Err(bad_field("message_bytes_max", problem));
    }
    let steps = rollout.steps();
    let bytes = steps.saturating_mul(network.observation.row_bytes().max(1));
    if bytes > message_bytes_max {
        let problem = format!(
            "{}: {steps} observations have {bytes} bytes, but a message at most {message_bytes_max}",
            rollout.unroll_length
        );
        return Err(bad_field("unroll_length", problem));
    }
    Ok(())
}

fn positive(field: &'static str, value: u32) -> Result<usize, WireError> {
    match value {
        0 => Err(bad_field(field, "0, but must be at least 1")),
        value => Ok(value as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec};

    #[test]
    fn terms_survive_the_wire_and_nonsense_is_refused() {
        let environment = EnvironmentSpec::new(
            "E",
            ObservationSpec::floats([4], [f32::NEG_INFINITY, f32::INFINITY]),
            ActionSpec::Discrete(2),
        );
        let network = NetworkSpec::mlp(&environment, vec![64, 32], Activation::Tanh, true);
        let terms = JoinTerms {
            run_id: RunId::random(),
            epoch: LearnerEpoch(3),
            actor_index: 7,
            environment_id: "CartPole-v1".into(),
            environment_options: "x = 1".into(),
            network,
            rollout: RolloutShape {
                unroll_length: 32,
                environments: 16,
            },
            seed: u64::MAX,
            fingerprint: SpecFingerprint(42),
            outbox_unrolls: 2,
            message_bytes_max: 1 << 20,
            unrolls_per_snapshot: NonZeroU32::new(3),
            life_versions: NonZeroU64::new(50),
            refresh: Refresh::Step,
            inference: InferencePlace::Central,
            observations: ObservationEncoding::Zstd,
        };
        let reply = join_reply(&terms);
        assert_eq!(join_terms(reply.clone()).unwrap(), terms);
        let zero = v1::JoinReply {
            environments: 0,
            ..reply.clone()
        };
        assert!(join_terms(zero).is_err());
        for network in ["{}".to_owned(), " ".repeat(NETWORK_BYTES_MAX + 1)] {
            let garbled = v1::JoinReply {
                network,
                ..reply.clone()
            };
            assert!(join_terms(garbled).is_err());
        }
        // An unroll of 2^62 steps could never be sent, and an actor would make room for it.
        let endless = v1::JoinReply {
            unroll_length: 1 << 31,
            environments: 1 << 31,
            ..reply.clone()
        };
        assert!(join_terms(endless).is_err());
        let unknown = v1::JoinReply {
            observation_encoding: 3,
            ..reply.clone()
        };
        assert!(join_terms(unknown).is_err());
        let unlimited = v1::JoinReply {
            message_bytes_max: u32::MAX,
            ..reply.clone()
        };
        assert!(join_terms(unlimited).is_err());
        let short = v1::JoinReply {
            run_id: vec![1, 2, 3].into(),
            ..reply
        };
        assert!(join_terms(short).is_err());
    }
}
