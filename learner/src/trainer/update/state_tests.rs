//! An updater that was restored goes on bit for bit as the one that was not; and nothing of its state is there in vain.

use springbok_common::{
    ids::ActorId,
    spec::{ActionSpec, EnvironmentSpec, RolloutShape},
};

use super::{
    scripted::{COLUMNS, T, batch, updater},
    state::{LearntState, UpdaterState},
    *,
};
use crate::checkpoint::format::{self, Header};

/// Updates before and after the checkpoint.
const BEFORE: u64 = 4;
const ALL: u64 = 8;

const ACTIONS: ActionSpec = ActionSpec::Discrete(3);

/// What a checkpoint could forget.
type Forgets = fn(&mut LearntState, &LearntState);

fn train(updater: &mut Updater, numbers: std::ops::Range<u64>) {
    let actor = ActorId::from_bytes(&[7; 16]).unwrap();
    for number in numbers {
        let mut batch = batch(updater, number, 0.05);
        batch.actors = vec![actor];
        let remaining = 1.0 - number as f64 / ALL as f64;
        updater.update(&batch, remaining).unwrap();
    }
}

fn checkpointed(sets: &[&str]) -> (UpdaterState, Bytes) {
    let mut whole = updater(ACTIONS, sets);
    train(&mut whole, 0..BEFORE);
    whole.begin_lives();
    let state = whole.state();
    train(&mut whole, BEFORE..ALL);
    (state, whole.parameters())
}

/// Through the file's form.
fn resumed(sets: &[&str], state: &UpdaterState) -> Bytes {
    let header = Header {
        epoch: 1,
        version: BEFORE,
        mean_return: None,
    };
    let bytes = format::encode(&header, state).unwrap();
    let (_, state) = format::decode::<UpdaterState>(&bytes).unwrap();
    let mut restored = updater(ACTIONS, sets);
    restored.restore(state).unwrap();
    train(&mut restored, BEFORE..ALL);
    restored.parameters()
}

/// A name, settings, and parts of the state that matter under them.
type Case = (
    &'static str,
    Vec<&'static str>,
    Vec<(&'static str, Forgets)>,
);

/// Everything that is in a state, with settings under which it matters.
fn cases() -> Vec<Case> {
    vec![
        (
            "optimiser and shuffling",
            vec![],
            vec![
                ("optimiser", |own, fresh| {
                    own.optimiser = fresh.optimiser.clone();
                }),
                ("shuffling", |own, fresh| {
                    own.shuffling = fresh.shuffling.clone()
                }),
            ],
        ),
        (
            "memory and statistics",
            vec![
                "policy.core=lstm",
                "policy.popart=true",
                "policy.normalise_observations=true",
                "algorithm.normalise_rewards=true",
            ],
            vec![("statistics", |own, fresh| {
                own.statistics = fresh.statistics.clone();
            })],
        ),
        (
            "target network",
            vec![
                "algorithm.ratio=target_network",
                "algorithm.target_refresh_updates=3",
            ],
            vec![
                ("target network", |own, fresh| {
                    own.target = fresh.target.clone()
                }),
                ("updates", |own, fresh| own.updates = fresh.updates),
            ],
        ),
        (
            "penalty",
            vec!["algorithm.objective=kl_penalty", "algorithm.kl_target=1e-7"],
            vec![("weight of the penalty", |own, fresh| own.beta = fresh.beta)],
        ),
        (
            "phases",
            vec!["algorithm.objective=ppg", "algorithm.ppg_policy_updates=3"],
            vec![("phase", |own, fresh| own.phase = fresh.phase.clone())],
        ),
    ]
}

#[test]
fn a_restored_updater_goes_on_bit_for_bit() {
    for (name, sets, _) in cases() {
        let (state, expected) = checkpointed(&sets);
        assert!(resumed(&sets, &state) == expected, "{name}");
    }
}

#[test]
fn whatever_is_forgotten_shows() {
    for (_, sets, parts) in cases() {
        let (state, expected) = checkpointed(&sets);
        let fresh = updater(ACTIONS, &sets).state();
        for (part, forget) in parts {
            let mut forgetful = state.clone();
            forget(
                forgetful.learnt.as_mut().unwrap(),
                fresh.learnt.as_ref().unwrap(),
            );
            assert!(resumed(&sets, &forgetful) != expected, "{part}");
        }
    }
}

#[test]
fn the_state_of_another_network_or_objective_is_refused_and_changes_nothing() {
    let (state, _) = checkpointed(&["policy.core=lstm"]);
    let (phased, _) = checkpointed(&["algorithm.objective=ppg"]);
    let parameters = UpdaterState::of_parameters(Bytes::new());
    let mut other = updater(ACTIONS, &[]);
    let before = other.parameters();
    for state in [state, phased, parameters] {
        other.restore(state).unwrap_err();
        assert_eq!(other.parameters(), before);
    }
}

#[test]
fn an_update_that_fails_leaves_no_trace() {
    for (name, sets, _) in cases() {
        let (_, expected) = checkpointed(&sets);
        let mut troubled = updater(ACTIONS, &sets);
        for number in 0..ALL {
            if number == BEFORE {
                troubled.begin_lives();
            }
            let mut broken = batch(&troubled, 100 + number, 0.05);
            broken.rewards.fill(f32::NAN);
            let fault = troubled.update(&broken, 0.5).unwrap_err();
            assert!(matches!(fault, UpdateFault::NonFinite { .. }), "{fault}");
            train(&mut troubled, number..number + 1);
        }
        assert!(troubled.parameters() == expected, "{name}");
    }
}

#[test]
fn nothing_remains_of_a_rehearsal() {
    for (name, sets, _) in cases() {
        let (_, expected) = checkpointed(&sets);
        let mut rehearsed = updater(ACTIONS, &sets);
        let network = rehearsed.network.clone();
        let agreement = Agreement {
            environment: EnvironmentSpec::new("E", network.observation.clone(), ACTIONS),
            network,
            rollout: RolloutShape {
                unroll_length: T,
                environments: COLUMNS / 2,
            },
        };
        for number in 0..ALL {
            if number == BEFORE {
                rehearsed.begin_lives();
            }
            let metrics = rehearsed.rehearse(&agreement, 2).unwrap();
            assert!(metrics.optimiser_steps > 0, "{name}");
            train(&mut rehearsed, number..number + 1);
        }
        assert!(rehearsed.parameters() == expected, "{name}");
    }
}
