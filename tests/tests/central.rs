//! The promise: where the learner acts for its actors, everything else stays as it is, and what they sample is new.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use burn::tensor::Device;
use rustix::process::Signal;
use serde_json::Value;
use springbok_actor::inference::Inference;
use springbok_common::{
    acting::{Observed, ObservedParts},
    arrays::{Actions, Elements},
    policy::{ActorCritic, export_flat, layout_fingerprint},
    seed::{actions_seed, actor_seed},
    spec::{
        ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec,
        RolloutShape,
    },
    step::StepOutcome,
    unroll::Agreement,
    version::{LearnerEpoch, PolicyVersion},
};
use springbok_learner::{
    inference::{Desk, Opened, Seat, batcher::BatchRules},
    publisher::Publisher,
};
use springbok_tests::{assert_ledger_closes, send, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const TRAINING_MAX: Duration = Duration::from_secs(540);
const K: usize = 3;
const SEED: u64 = 5;

/// Masked choices, and a memory.
fn agreement() -> Agreement {
    let shown = ObservationSpec::floats([2], [-1.0, 1.0]);
    let environment = EnvironmentSpec::new("Test", shown, ActionSpec::MultiDiscrete(vec![3, 2]))
        .with_action_mask();
    let mut network = NetworkSpec::mlp(&environment, vec![8], Activation::Tanh, false);
    network.core = CoreSpec::Gru { size: 4 };
    Agreement {
        environment,
        network,
        rollout: RolloutShape {
            unroll_length: 4,
            environments: K,
        },
    }
}

/// What the environments of an actor at `place` show before step `step`, and how the step before ended.
fn shown(place: u32, step: usize) -> (Vec<f32>, Vec<u8>, Vec<StepOutcome>) {
    let number = |index: usize| (place as f32 + 1.7 * step as f32 + 0.9 * index as f32).sin();
    let observations = (0..2 * K).map(number).collect();
    let outcomes = (0..K).map(|environment| {
        if (step + environment).is_multiple_of(3) {
            StepOutcome::Terminated
        } else {
            StepOutcome::Continued
        }
    });
    let outcomes = outcomes.filter(|_| step > 0).collect();
    (observations, [1, 0, 1, 1, 1].repeat(K), outcomes)
}

/// What the learner answers equals what the actor's own policy of the same version would have done, memory, chance and
/// versions included, whoever shares a pass with it.
#[test]
fn the_learner_acts_as_the_actors_own_policy_of_the_same_version_would() {
    let agreement = agreement();
    let parameters = |version: u64| {
        let policy = ActorCritic::new(&agreement.network, version, &Device::flex());
        export_flat(&policy)
    };
    let layout = layout_fingerprint(&agreement.network);
    let (publisher, publications) = Publisher::new(LearnerEpoch::FIRST, layout, 0);
    publisher.publish(PolicyVersion(0), parameters(0));
    let rules = BatchRules {
        rows_max: 64,
        deadline: Duration::from_secs(3600),
    };
    let device = (Device::flex(), "cpu".to_owned());
    let Opened { desk, meter, .. } =
        Desk::start(&agreement.network, device, rules, 8, publications).unwrap();
    let mut lines: Vec<_> = (0..2)
        .map(|place| desk.line(Seat::new(&agreement, SEED, place, 0)))
        .collect();
    let mut own: Vec<_> = (0..2)
        .map(|place| {
            let seed = actions_seed(actor_seed(SEED, place));
            Inference::new(&agreement.network, K, seed)
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for step in 0..7 {
        // New parameters in the middle: memory goes on.
        let version = if step < 4 { 0 } else { 1 };
        if step == 4 {
            publisher.publish(PolicyVersion(1), parameters(1));
        }
        let ask = |place: u32| {
            let (observations, action_masks, outcomes) = shown(place, step);
            let parts = ObservedParts {
                observations: Elements::F32(observations),
                action_masks,
                outcomes,
                wants_states: true,
            };
            Observed::new(parts, &agreement).unwrap()
        };
        let [one, other] = lines.as_mut_slice() else {
            panic!("two lines");
        };
        let now = Instant::now();
        let answers = runtime.block_on(async {
            let both = tokio::join!(one.ask(ask(0), now), other.ask(ask(1), now));
            [both.0.unwrap(), both.1.unwrap()]
        });
        for ((place, policy), answer) in (0..).zip(&mut own).zip(&answers) {
            let (observations, masks, outcomes) = shown(place, step);
            policy.load(&parameters(version)).unwrap();
            policy.forget_where(&outcomes);
            close(policy.core_states(), &answer.states);
            let mut actions = Actions::Indices(vec![0; 2 * K]);
            let mut log_probs = vec![0.0; K];
            let observations = Elements::F32(observations);
            policy
                .act(
                    observations.as_ref(),
                    &masks,
                    actions.as_mut(),
                    &mut log_probs,
                )
                .unwrap();
            assert_eq!(answer.served.newest, PolicyVersion(version));
            assert_eq!(answer.actions, actions, "step {step}");
            close(&log_probs, &answer.log_probs);
        }
    }
    // Nobody waited an hour: with both in it a batch is complete.
    let summary = meter.summary().unwrap();
    assert_eq!((summary.batches, summary.rows), (7, 7 * 2 * K as u64));
}

fn close(one: &[f32], other: &[f32]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
}

fn number(summary: &Value, group: &str, key: &str) -> f64 {
    summary[group][key].as_f64().unwrap()
}

#[test]
fn cartpole_is_learned_by_actors_without_parameters() {
    let arguments = [
        "--inference",
        "central",
        "--stop-return",
        "400",
        "--seed",
        "1",
    ];
    let trained = train(BINARY, &arguments).wait(TRAINING_MAX);
    trained.assert_done();
    let summary = trained.summary();
    assert!(
        summary["return_best_100"].as_f64().unwrap() >= 400.0,
        "{summary}"
    );
    assert_ledger_closes(&summary);
    assert_eq!(summary["ledger"]["rejected"], 0, "{summary}");
    // Each step was sampled with the newest parameters; the moments between the first step and the last are interpolated.
    assert!(number(&summary, "lag_causes", "publish") < 1.0, "{summary}");
    // What was stored is what the learner computes for the same version.
    assert_eq!(summary["alarms"]["log_probs_disagree"], 0, "{summary}");
    let rows = number(&summary, "inference", "rows");
    assert!(
        rows >= number(&summary, "ledger", "produced") * 512.0,
        "{summary}"
    );
    assert!(
        number(&summary, "network", "received_bytes") > rows * 16.0,
        "{summary}"
    );
}

/// With parameters that hardly change, what was stored and what the learner computes from the stored states differ by
/// rounding alone, however old it is. A memory that was lost, or begun elsewhere, would show.
#[test]
fn memory_is_kept_by_the_learner_from_step_to_step_and_unroll_to_unroll() {
    let arguments = [
        "--env",
        "RepeatPrevious",
        "--inference",
        "central",
        "--total-steps",
        "20000",
        "--set",
        "policy.core=gru",
        "--set",
        "actor.unroll_length=16",
        "--set",
        "algorithm.policy_learning_rate=1e-12",
        "--set",
        "algorithm.value_learning_rate=1e-12",
    ];
    let trained = train(BINARY, &arguments).wait(TRAINING_MAX);
    trained.assert_done();
    assert_ledger_closes(&trained.summary());
    let metrics = std::fs::read_to_string(trained.run_directory().join("metrics.jsonl")).unwrap();
    let rows = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let rows: Vec<Value> = rows.collect();
    assert!(rows.len() > 10);
    for row in rows {
        let lost = 1.0 - row["health/ess"].as_f64().unwrap();
        assert!(lost < 1e-8, "{lost}: {row}");
    }
}

#[test]
fn actors_and_a_learner_that_are_killed_come_again_and_the_ledger_closes() {
    let mut run = train(
        BINARY,
        &[
            "--inference",
            "central",
            "--total-steps",
            "200000",
            "--set",
            "checkpoint.interval_updates=5",
            "--set",
            "learner.update_delay_ms=40",
        ],
    );
    run.program.wait_for("steps/s", TRAINING_MAX);
    send(run.pids("actor-0")[0], Signal::KILL);
    run.program
        .wait_for("actor 0 ended unexpectedly", Duration::from_secs(60));
    run.program.wait_for("steps/s", TRAINING_MAX);
    send(run.pids("learner")[0], Signal::KILL);
    let trained = run.wait(TRAINING_MAX);
    trained.assert_done();
    let summary = trained.summary();
    assert_eq!(summary["epoch"], 2, "{summary}");
    assert_ledger_closes(&summary);
}
