//! The functions in which the time goes, with criterion: `cargo bench -p springbok --bench hot --no-default-features`.
//! `springbok bench` says how far the stages around them are from their ceilings.
#![allow(clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use springbok_actor::{
    environment::{Registry, conformance::RandomActions},
    inference::Inference,
    rollout::{Order, Rollout},
    vector::{StepSink, SyncVector, VectorEnvironment as _},
};
use springbok_common::{
    arrays::Actions,
    config::Config,
    ids::{ActorId, RunId, UnrollSequence},
    policy::{ActorCritic, export_flat, layout_fingerprint},
    snapshot::ParameterSnapshot,
    step::StepOutcome,
    unroll::{Agreement, Served, Unroll},
    version::{LearnerEpoch, PolicyVersion},
    wire::{encode_unroll, message_bytes, unroll_of_bytes},
};
use springbok_learner::{
    algorithm::{
        returns::Transitions,
        vtrace::{VtraceConfig, vtrace},
    },
    trainer::batch::{Batch, Member},
};

/// CartPole-v1 under the default configuration.
struct Subject {
    config: Config,
    agreement: Agreement,
    registry: Registry,
}

impl Subject {
    fn new() -> Self {
        let (config, registry) = (Config::default(), Registry::built_in());
        let made = registry.make(&config.environment.id, &config.environment.options);
        let environment = made.unwrap().spec().clone();
        Self {
            agreement: Agreement {
                network: config.network(&environment),
                rollout: config.rollout(),
                environment,
            },
            config,
            registry,
        }
    }

    fn vector(&self) -> SyncVector {
        let environment = &self.config.environment;
        let columns = self.agreement.rollout.environments;
        SyncVector::new(
            &self.registry,
            &environment.id,
            &environment.options,
            columns,
            1,
        )
        .unwrap()
    }

    fn policy(&self) -> ActorCritic {
        ActorCritic::new(&self.agreement.network, 1, &Device::flex())
    }

    fn snapshot(&self) -> ParameterSnapshot {
        let layout = layout_fingerprint(&self.agreement.network);
        let payload = export_flat(&self.policy());
        ParameterSnapshot::seal(LearnerEpoch::FIRST, PolicyVersion(0), layout, payload)
    }

    fn inference(&self) -> Inference {
        let columns = self.agreement.rollout.environments;
        let mut inference = Inference::new(&self.agreement.network, columns, 1);
        inference.load(self.snapshot().payload()).unwrap();
        inference
    }

    fn unroll(&self) -> Unroll {
        let vector = Box::new(self.vector());
        let mut rollout = Rollout::new(self.agreement.clone(), vector, self.inference());
        rollout.load(&self.snapshot()).unwrap();
        let order = Order {
            run_id: RunId::random(),
            sequence: UnrollSequence::FIRST,
            blocked: Duration::ZERO,
            served: Served::default(),
        };
        rollout.fill(order, None, &mut || false).unwrap().unwrap()
    }
}

/// The actor's: a step of all environments, and of the policy.
fn actor(criterion: &mut Criterion) {
    let subject = Subject::new();
    let columns = subject.agreement.rollout.environments;
    let mut group = criterion.benchmark_group("actor");
    group.throughput(Throughput::Elements(columns as u64));

    let mut vector = subject.vector();
    let mut random = RandomActions::new(vector.spec(), 1);
    let mut actions = random.buffer();
    for _ in 0..columns {
        random.draw(&[], &mut actions);
    }
    let (mut rewards, mut episodes) = (vec![0.0; columns], Vec::new());
    let mut outcomes = vec![StepOutcome::Continued; columns];
    group.bench_function("CartPole-v1 step", |bencher| {
        bencher.iter(|| {
            episodes.clear();
            let mut sink = StepSink {
                rewards: &mut rewards,
                outcomes: &mut outcomes,
                on_truncated: &mut |_, row| {
                    black_box(row);
                },
                episodes: &mut episodes,
            };
            vector.step(actions.as_ref(), &mut sink).unwrap();
        });
    });

    let mut inference = subject.inference();
    let mut chosen = Actions::Indices(vec![0; columns]);
    let mut log_probs = vec![0.0; columns];
    group.bench_function("inference act", |bencher| {
        bencher.iter(|| {
            let observations = vector.observations();
            inference
                .act(observations, &[], chosen.as_mut(), &mut log_probs)
                .unwrap();
        });
    });
    group.finish();
}

/// An unroll on its way.
fn wire(criterion: &mut Criterion) {
    let subject = Subject::new();
    let (unroll, agreement) = (subject.unroll(), &subject.agreement);
    let bytes = message_bytes(&encode_unroll(&unroll));
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| message_bytes(&encode_unroll(black_box(&unroll))));
    });
    group.bench_function("decode and check", |bencher| {
        bencher.iter(|| unroll_of_bytes(black_box(&bytes).clone(), agreement).unwrap());
    });
    // The buffers go in and come out again.
    let mut parts = Some(unroll.into_parts());
    group.bench_function("Unroll::new", |bencher| {
        bencher.iter(|| {
            let checked = parts.take().map(|parts| Unroll::new(parts, agreement));
            parts = checked.map(|checked| checked.unwrap().into_parts());
        });
    });
    group.finish();
}

/// The learner's, without the network.
fn learner(criterion: &mut Criterion) {
    let subject = Subject::new();
    let (first, second) = (subject.unroll(), subject.unroll());
    let (version, actor) = (PolicyVersion(0), ActorId::random());
    let lag = version.lag_behind(version).unwrap();
    let members = [&first, &second].map(|unroll| Member { unroll, lag, actor });
    let mut batch = Batch::default();
    batch.assemble(&members, subject.agreement.rollout);
    let mut group = criterion.benchmark_group("learner");
    group.throughput(Throughput::Elements(batch.steps() as u64));

    let values = vec![0.5_f32; batch.steps()];
    let log_rhos = vec![0.01_f32; batch.steps()];
    let (rewards, outcomes) = (batch.rewards.clone(), batch.outcomes.clone());
    let transitions = Transitions {
        rewards: &rewards,
        values: &values,
        next_values: &values,
        outcomes: &outcomes,
        columns: batch.columns,
    };
    group.bench_function("V-trace", |bencher| {
        let config = VtraceConfig::default();
        bencher.iter(|| vtrace(black_box(&transitions), &log_rhos, &config));
    });
    group.bench_function("batch assembly", |bencher| {
        bencher.iter(|| batch.assemble(black_box(&members), subject.agreement.rollout));
    });
    group.finish();
}

/// Parameters on their way.
fn snapshot(criterion: &mut Criterion) {
    let subject = Subject::new();
    let (policy, snapshot) = (subject.policy(), subject.snapshot());
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Bytes(snapshot.payload().len() as u64));
    group.bench_function("export", |bencher| {
        bencher.iter(|| export_flat(black_box(&policy)));
    });
    let mut inference = subject.inference();
    group.bench_function("load", |bencher| {
        bencher.iter(|| inference.load(black_box(snapshot.payload())).unwrap());
    });
    group.finish();
}

criterion_group!(hot, actor, wire, learner, snapshot);
criterion_main!(hot);
