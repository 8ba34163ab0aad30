//! Small things that several tests need.

use std::time::Duration;

use springbok_common::{
    arrays::{Actions, Elements},
    ids::{RunId, UnrollSequence},
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec, RolloutShape},
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    version::{LearnerEpoch, PolicyVersion},
};

use crate::{
    inference::{Desk, batcher::BatchRules},
    publisher::Publications,
};

/// Four steps of two environments with three numbers to see and two actions.
pub(crate) fn agreement() -> Agreement {
    let environment = EnvironmentSpec::new(
        "Test-v0",
        ObservationSpec::floats([3], [-1.0, 1.0]),
        ActionSpec::Discrete(2),
    );
    Agreement {
        network: NetworkSpec::mlp(&environment, vec![4], Activation::Relu, false),
        environment,
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
        step_versions: Vec::new(),
        observations: Elements::F32(vec![0.5; rows * 3]),
        bootstrap_observations: Elements::F32(vec![0.25; 2 * 3]),
        actions: Actions::Indices(vec![1; rows]),
        action_masks: Vec::new(),
        core_states: Vec::new(),
        rewards: vec![1.0; rows],
        behaviour_log_probs: vec![-0.7; rows],
        outcomes,
        final_rows: vec![5],
        final_observations: Elements::F32(vec![0.0; 3]),
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

/// Where actions are chosen at once, with what is published.
pub(crate) fn desk(agreement: &Agreement, publications: Publications) -> Desk {
    let rules = BatchRules {
        rows_max: 64,
        deadline: Duration::ZERO,
    };
    let device = (burn::tensor::Device::flex(), "cpu".to_owned());
    let opened = Desk::start(&agreement.network, device, rules, 64, publications).unwrap();
    opened.desk
}

/// What the code under test logs on this thread, in words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl Heard {
    /// Listens until the value is dropped.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(self.clone())
    }

    /// How often `text` was said.
    pub(crate) fn count(&self, text: &str) -> usize {
        let said = self.0.lock().unwrap();
        said.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until `text` has been said.
    pub(crate) async fn wait_for(&self, text: &str) {
        while self.count(text) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("springbok")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Words(String);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().unwrap().push(words.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
