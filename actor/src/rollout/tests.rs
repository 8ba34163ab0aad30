//! What an unroll holds, and what becomes of one when things fail.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use springbok_common::{
    arrays::{ActionsMut, ActionsRef, ElementsMut, ElementsRef},
    policy::{ActorCritic, export_flat, layout_fingerprint},
    spec::{Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec, RolloutShape},
    unroll::{EpisodeSummary, Served},
    version::LearnerEpoch,
};

use super::*;
use crate::{
    environment::{Environment, Frame, Registry, Step},
    vector::SyncVector,
};

const LIMIT: u32 = 4;
const T: usize = 10;
const K: usize = 3;

/// Shows [index, episode, step]; the reward is 10 * index + step. Number 0 ends only by the limit of 4 steps,
/// number 1 terminates at step 3, number 2 at step 4, together with the limit.
struct Scripted {
    spec: EnvironmentSpec,
    index: u32,
    episode: u32,
    step: u32,
}

impl Scripted {
    fn show(&self, mut observation: ElementsMut<'_>) {
        let shown = [self.index as f32, self.episode as f32, self.step as f32];
        observation.f32().copy_from_slice(&shown);
    }
}

impl Environment for Scripted {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, _seed: Option<u64>, observation: ElementsMut<'_>) {
        self.episode += 1;
        self.step = 0;
        self.show(observation);
    }

    fn step(&mut self, _action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
        self.step += 1;
        self.show(observation);
        let terminated = matches!((self.index, self.step), (1, 3) | (2, 4));
        Step {
            reward: (10 * self.index + self.step) as f32,
            outcome: StepOutcome::from_flags(terminated, false),
        }
    }
}

fn agreement() -> Agreement {
    let environment = EnvironmentSpec::new(
        "Scripted",
        ObservationSpec::floats([3], [0.0, 100.0]),
        ActionSpec::Discrete(2),
    )
    .with_steps_max(LIMIT);
    Agreement {
        network: NetworkSpec::mlp(&environment, vec![8], Activation::Relu, true),
        environment,
        rollout: RolloutShape {
            unroll_length: T,
            environments: K,
        },
    }
}

fn scripted_vector(agreement: &Agreement) -> SyncVector {
    let spec = agreement.environment.clone();
    let made = Arc::new(AtomicU32::new(0));
    let mut registry = Registry::new();
    registry.register("Scripted", "for tests", move |_: &toml::Table| {
        Ok(Scripted {
            spec: spec.clone(),
            index: made.fetch_add(1, Ordering::Relaxed),
            episode: 0,
            step: 0,
        })
    });
    SyncVector::new(&registry, "Scripted", &toml::Table::new(), K, 1).unwrap()
}

fn rollout(agreement: &Agreement) -> Rollout {
    let environments = scripted_vector(agreement);
    let inference = Inference::new(&agreement.network, K, 2);
    Rollout::new(agreement.clone(), Box::new(environments), inference)
}

fn snapshot(agreement: &Agreement, version: u64) -> ParameterSnapshot {
    let device = burn::tensor::Device::flex();
    let policy = ActorCritic::new(&agreement.network, version, &device);
    let layout = layout_fingerprint(&agreement.network);
    let version = PolicyVersion(version);
    ParameterSnapshot::seal(LearnerEpoch(2), version, layout, export_flat(&policy))
}

fn order(sequence: u64) -> Order {
    Order {
        run_id: RunId::from_bytes(&[3; 16]).unwrap(),
        sequence: UnrollSequence(sequence),
        blocked: Duration::from_micros(77),
        served: Served::default(),
    }
}

/// Parameters that arrive before certain steps.
struct Arriving(Vec<(usize, ParameterSnapshot)>, usize);

impl Between for Arriving {
    fn stops(&mut self) -> bool {
        self.1 += 1;
        false
    }

    fn newer(&mut self) -> Option<ParameterSnapshot> {
        let step = self.1 - 1;
        let due = self.0.iter().find(|(before, _)| *before == step);
        due.map(|(_, snapshot)| snapshot.clone())
    }
}

#[test]
fn parameters_that_arrive_in_flight_make_exactly_the_steps_that_say_so() {
    let mut agreement = agreement();
    agreement.network.core = CoreSpec::Gru { size: 4 };
    let (old, new) = (snapshot(&agreement, 5), snapshot(&agreement, 9));
    let mut changed = rollout(&agreement);
    changed.load(&old).unwrap();
    // What comes before the first step has been loaded already.
    let mut arriving = Arriving(vec![(0, new.clone()), (4, new.clone())], 0);
    let unroll = changed.fill(order(1), None, &mut arriving).unwrap();
    let unroll = unroll.unwrap();
    let versions: Vec<u64> = unroll.parts().step_versions.iter().map(|v| v.0).collect();
    assert_eq!(versions, [5, 5, 5, 5, 9, 9, 9, 9, 9, 9]);
    assert_eq!(unroll.header().version, PolicyVersion(5));

    // A policy that is shown the same and changes its parameters there, and nothing else, says the same: memory goes on.
    let mut reference = Inference::new(&agreement.network, K, 2);
    reference.load(old.payload()).unwrap();
    let parts = unroll.parts();
    for t in 0..T {
        if t == 4 {
            reference.load(new.payload()).unwrap();
        }
        let rows = t * K..(t + 1) * K;
        let (mut actions, mut log_probs) = ([0; K], [0.0; K]);
        let shown = parts.observations.slice(rows.start * 3..rows.end * 3);
        reference
            .act(
                shown,
                &[],
                ActionsMut::Indices(&mut actions),
                &mut log_probs,
            )
            .unwrap();
        assert_eq!(log_probs, parts.behaviour_log_probs[rows.clone()]);
        reference.forget_where(&parts.outcomes[rows]);
    }

    // The next unroll begins with what was loaded last.
    let next = changed.fill(order(2), Some(unroll.into_parts()), &mut || false);
    let next = next.unwrap().unwrap();
    assert_eq!(next.header().version, PolicyVersion(9));
    assert!(next.parts().step_versions.is_empty());
}

#[test]
fn an_unroll_holds_exactly_what_the_environments_did() {
    let agreement = agreement();
    let mut rollout = rollout(&agreement);
    rollout.load(&snapshot(&agreement, 5)).unwrap();
    let unroll = rollout
        .fill(order(1), None, &mut || false)
        .unwrap()
        .unwrap();
    let parts = unroll.parts();

    let lengths = [LIMIT, 3, LIMIT];
    let mut finals = Vec::new();
    for t in 0..T {
        for (k, length) in lengths.into_iter().enumerate() {
            let row = t * K + k;
            let (episode, step) = (1 + t as u32 / length, t as u32 % length);
            let before = [k as f32, episode as f32, step as f32];
            assert_eq!(
                parts.observations.slice(row * 3..row * 3 + 3),
                ElementsRef::F32(&before)
            );
            assert_eq!(parts.rewards[row], (10 * k as u32 + step + 1) as f32);
            let outcome = match (k, step + 1 == length) {
                (_, false) => StepOutcome::Continued,
                (0, true) => StepOutcome::Truncated,
                (_, true) => StepOutcome::Terminated,
            };
            assert_eq!(parts.outcomes[row], outcome);
            if outcome == StepOutcome::Truncated {
                finals.push((row as u32, [k as f32, episode as f32, LIMIT as f32]));
            }
        }
    }
    let (rows, last): (Vec<_>, Vec<_>) = finals.into_iter().unzip();
    assert_eq!(parts.final_rows, rows);
    assert_eq!(parts.final_observations, Elements::F32(last.concat()));
    let bootstraps = [0.0, 3.0, 2.0, 1.0, 4.0, 1.0, 2.0, 3.0, 2.0];
    assert_eq!(
        parts.bootstrap_observations,
        Elements::F32(bootstraps.to_vec())
    );
    let summary = |episode_return, length| EpisodeSummary {
        episode_return,
        length,
    };
    assert_eq!(
        parts.episodes,
        [
            summary(36.0, 3),
            summary(10.0, 4),
            summary(90.0, 4),
            summary(36.0, 3),
            summary(10.0, 4),
            summary(90.0, 4),
            summary(36.0, 3),
        ]
    );
}

#[test]
fn the_stamp_is_what_was_loaded_and_unrolls_join_without_a_seam() {
    let agreement = agreement();
    let mut rollout = rollout(&agreement);
    let begun_too_early = rollout.fill(order(1), None, &mut || false);
    assert!(matches!(begun_too_early, Err(RolloutError::NoParameters)));

    rollout.load(&snapshot(&agreement, 5)).unwrap();
    let first = rollout
        .fill(order(1), None, &mut || false)
        .unwrap()
        .unwrap();
    let misfit = Bytes::from_static(&[0; 4]);
    let misfit = ParameterSnapshot::seal(LearnerEpoch(2), PolicyVersion(6), 0, misfit);
    assert!(rollout.load(&misfit).is_err());
    assert_eq!(first.header().version, PolicyVersion(5));
    assert_eq!(first.header().epoch, LearnerEpoch(2));
    let timing = first.parts().timing;
    assert!(timing.environment_us + timing.inference_us <= timing.rollout_us);
    assert_eq!(timing.blocked_us, 77);

    let bootstraps = first.parts().bootstrap_observations.clone();
    let second = rollout
        .fill(order(2), Some(first.into_parts()), &mut || false)
        .unwrap()
        .unwrap();
    assert_eq!(
        second.header().version,
        PolicyVersion(5),
        "the misfit left no trace"
    );
    assert_eq!(second.header().sequence, UnrollSequence(2));
    assert_eq!(
        second.parts().observations.slice(0..K * 3),
        bootstraps.as_ref()
    );

    rollout.load(&snapshot(&agreement, 9)).unwrap();
    let third = rollout
        .fill(order(3), None, &mut || false)
        .unwrap()
        .unwrap();
    assert_eq!(third.header().version, PolicyVersion(9));
}

#[test]
fn a_stopped_unroll_is_abandoned() {
    let agreement = agreement();
    let mut rollout = rollout(&agreement);
    rollout.load(&snapshot(&agreement, 0)).unwrap();
    assert_eq!(rollout.fill(order(1), None, &mut || true).unwrap(), None);
}

/// Environments that fail at the steps `fails`, counted from the first of all; they can begin anew `restarts` times.
struct Failing {
    inner: SyncVector,
    steps: u32,
    fails: Vec<u32>,
    restarts: u32,
}

impl VectorEnvironment for Failing {
    fn spec(&self) -> &EnvironmentSpec {
        self.inner.spec()
    }

    fn environments(&self) -> usize {
        self.inner.environments()
    }

    fn observations(&self) -> ElementsRef<'_> {
        self.inner.observations()
    }

    fn action_masks(&self) -> &[u8] {
        self.inner.action_masks()
    }

    fn step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), EnvironmentError> {
        self.steps += 1;
        self.inner.step(actions, sink)?;
        if self.fails.contains(&self.steps) {
            return Err(failed("it fell over"));
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), EnvironmentError> {
        self.restarts = self
            .restarts
            .checked_sub(1)
            .ok_or_else(|| failed("too often"))?;
        self.inner.restart()
    }

    fn render(
        &mut self,
        _environment: usize,
        _frame: &mut Frame,
    ) -> Result<bool, EnvironmentError> {
        Ok(false)
    }
}

fn failed(reason: &str) -> EnvironmentError {
    EnvironmentError::Failed {
        environment: "Scripted".into(),
        reason: reason.into(),
    }
}

fn failing(agreement: &Agreement, fails: Vec<u32>, restarts: u32) -> Rollout {
    let environments = Failing {
        inner: scripted_vector(agreement),
        steps: 0,
        fails,
        restarts,
    };
    let inference = Inference::new(&agreement.network, K, 2);
    let mut rollout = Rollout::new(agreement.clone(), Box::new(environments), inference);
    rollout.load(&snapshot(agreement, 5)).unwrap();
    rollout
}

#[test]
fn a_failing_environment_costs_only_the_unroll_in_the_making() {
    let mut agreement = agreement();
    agreement.network.core = CoreSpec::Gru { size: 4 };
    // In the middle of the second unroll, and again three steps after the new beginning.
    let mut rollout = failing(&agreement, vec![15, 18], 2);
    let first = rollout
        .fill(order(1), None, &mut || false)
        .unwrap()
        .unwrap();
    assert!(first.parts().core_states.iter().all(|state| *state == 0.0));
    let second = rollout
        .fill(order(2), Some(first.into_parts()), &mut || false)
        .unwrap()
        .unwrap();
    assert_eq!(second.header().sequence, UnrollSequence(2));
    let parts = second.parts();
    assert!(
        parts.core_states.iter().all(|state| *state == 0.0),
        "memory begins anew with the episodes"
    );
    // Environment 0: number 0, step 0 of an episode; nothing of the two failed attempts is left.
    let begun = parts.observations.slice(0..3).to_f32();
    assert_eq!((begun[0], begun[2]), (0.0, 0.0));
    assert_eq!(parts.final_rows.len(), 2);
    assert_eq!(parts.episodes.len(), 7);
    let third = rollout
        .fill(order(3), None, &mut || false)
        .unwrap()
        .unwrap();
    assert!(third.parts().core_states.iter().any(|state| *state != 0.0));
}

#[test]
fn an_environment_that_fails_for_good_ends_the_actor_with_its_reason() {
    let agreement = agreement();
    let mut rollout = failing(&agreement, vec![2, 4], 1);
    let ended = rollout.fill(order(1), None, &mut || false).unwrap_err();
    assert_eq!(
        ended.to_string(),
        "environment `Scripted` failed: too often"
    );
}
