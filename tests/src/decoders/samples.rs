//! Good unrolls of three kinds, and what they fit.

use springbok_common::{
    arrays::{Actions, Elements},
    ids::{RunId, UnrollSequence},
    spec::{
        ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec,
        RolloutShape,
    },
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Served, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    version::{LearnerEpoch, PolicyVersion},
};

/// Of all that is made here.
pub(super) const RUN: [u8; 16] = [7; 16];

pub(super) fn run_id() -> RunId {
    RunId::from_bytes(&RUN).expect("16 bytes")
}

/// Plain numbers; bytes, masks and memory; continuous actions.
pub(super) fn agreements() -> [Agreement; 3] {
    let of = |environment: EnvironmentSpec, core| {
        let mut network = NetworkSpec::mlp(&environment, vec![4], Activation::Relu, true);
        network.core = core;
        Agreement {
            network,
            environment,
            rollout: RolloutShape {
                unroll_length: 3,
                environments: 2,
            },
        }
    };
    let floats = ObservationSpec::floats([2], [-1.0, 1.0]);
    let plain = EnvironmentSpec::new("Plain", floats.clone(), ActionSpec::Discrete(3));
    let heads = ActionSpec::MultiDiscrete(vec![3, 2]);
    let rich = EnvironmentSpec::new("Rich", ObservationSpec::bytes([2], 255), heads);
    let torque = ActionSpec::Box {
        low: vec![-1.0, 0.0],
        high: vec![1.0, f32::INFINITY],
    };
    [
        of(plain, CoreSpec::None),
        of(rich.with_action_mask(), CoreSpec::Gru { size: 3 }),
        of(
            EnvironmentSpec::new("Torque", floats, torque),
            CoreSpec::None,
        ),
    ]
}

/// The first of them, and what it fits.
pub(super) fn a_good_unroll() -> (Agreement, Unroll) {
    let [agreement, ..] = agreements();
    let unroll = good_unrolls(1).swap_remove(0);
    (agreement, unroll)
}

/// A good unroll for each of [`agreements`].
pub(super) fn good_unrolls(sequence: u64) -> Vec<Unroll> {
    let mut outcomes = vec![StepOutcome::Continued; 6];
    outcomes[1] = StepOutcome::Truncated;
    outcomes[2] = StepOutcome::Terminated;
    let plain = UnrollParts {
        header: UnrollHeader {
            run_id: run_id(),
            epoch: LearnerEpoch::FIRST,
            sequence: UnrollSequence(sequence),
            version: PolicyVersion(9),
        },
        step_versions: Vec::new(),
        observations: Elements::F32((0..12).map(|i| i as f32 / 12.0).collect()),
        bootstrap_observations: Elements::F32(vec![0.1, 0.2, 0.3, 0.4]),
        actions: Actions::Indices(vec![0, 1, 2, 0, 1, 2]),
        action_masks: Vec::new(),
        core_states: Vec::new(),
        rewards: vec![1.0; 6],
        behaviour_log_probs: vec![-1.1; 6],
        outcomes,
        final_rows: vec![1],
        final_observations: Elements::F32(vec![0.7, 0.8]),
        episodes: vec![EpisodeSummary {
            episode_return: 12.5,
            length: 9,
        }],
        timing: UnrollTiming {
            rollout_us: 5_000,
            outbox_us: 40,
            environment_us: 3_000,
            inference_us: 2_000,
            blocked_us: 1,
            held_us: 6_000,
            served: Served {
                newest: PolicyVersion(11),
                issued_us: 7_000_000,
            },
        },
    };
    let mut rich = plain.clone();
    rich.observations = Elements::U8((0..12).collect());
    rich.bootstrap_observations = Elements::U8(vec![9; 4]);
    rich.final_observations = Elements::U8(vec![7, 8]);
    rich.actions = Actions::Indices([0, 1].repeat(6));
    rich.action_masks = [1, 0, 1, 0, 1].repeat(6);
    rich.core_states = vec![0.5; 6];
    // A row after an end may be none.
    rich.outcomes[3] = StepOutcome::Void;
    let mut torque = plain.clone();
    torque.actions = Actions::Values(vec![2.5; 12]);
    torque.behaviour_log_probs = vec![3.0; 6];
    let parts = [plain, rich, torque].into_iter().zip(agreements());
    parts
        .map(|(parts, agreement)| Unroll::new(parts, &agreement).expect("a good unroll"))
        .collect()
}
