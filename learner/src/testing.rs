//! Small things that several tests need.

use springbok_common::{
    ids::{RunId, UnrollSequence},
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec, RolloutShape},
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    version::{LearnerEpoch, PolicyVersion},
};

/// Four steps of two environments with three numbers to see and two actions.
pub(crate) fn agreement() -> Agreement {
    Agreement {
        environment: EnvironmentSpec {
            id: "Test-v0".into(),
            observation: ObservationSpec {
                shape: vec![3],
                bounds: [-1.0, 1.0],
            },
            action: ActionSpec::Discrete(2),
            episode_steps_max: None,
        },
        network: NetworkSpec {
            observation_len: 3,
            logits: 2,
            hidden_sizes: vec![4],
            activation: Activation::Relu,
            shared_torso: false,
        },
        rollout: RolloutShape {
            unroll_length: 4,
            environments: 2,
        },
    }
}

/// A good unroll of version 0 of an unknown run, with one truncated step and one episode of return 1.
pub(crate) fn unroll(agreement: &Agreement, sequence: u64) -> Unroll {
    let rows = agreement.rollout.steps();
    let mut outcomes = vec![StepOutcome::Continued; rows];
    outcomes[5] = StepOutcome::Truncated;
    let parts = UnrollParts {
        header: UnrollHeader {
            run_id: RunId::from_bytes(&[7; 16]).unwrap(),
            epoch: LearnerEpoch::FIRST,
            sequence: UnrollSequence(sequence),
            version: PolicyVersion(0),
        },
        observations: vec![0.5; rows * 3],
        bootstrap_observations: vec![0.25; 2 * 3],
        actions: vec![1; rows],
        rewards: vec![1.0; rows],
        behaviour_log_probs: vec![-0.7; rows],
        outcomes,
        final_rows: vec![5],
        final_observations: vec![0.0; 3],
        episodes: vec![EpisodeSummary {
            episode_return: 1.0,
            length: 3,
        }],
        timing: UnrollTiming {
            rollout_us: 100,
            blocked_us: 100,
            ..UnrollTiming::default()
        },
    };
    Unroll::new(parts, agreement).unwrap()
}
