//! The path of a graphics processor: it trains as the processor does, and a run outlives the device.
//!
//! `SPRINGBOK_TEST_GPU=any` runs it on the best adapter, `SPRINGBOK_TEST_GPU=mesa` only on Mesa's driver that imitates one
//! on the processor. It is one test, because a process has each device once, and Mesa takes a second to compile a kernel.
#![allow(
    clippy::print_stdout,
    reason = "how long each part took, and how near the numbers came"
)]

use std::time::{Duration, Instant};

use burn::optim::GradientsParams;
use serde_json::Value;
use springbok_common::spec::{ActionSpec, EnvironmentSpec, RolloutShape};

use super::{
    golden_step::{batch, check_arrival, check_steps, material, plan, updater},
    *,
};
use crate::{
    algorithm::{gradient::flatten, on_device},
    device::Chosen,
    golden,
    race::settled,
};

/// Which adapter: `any` or `mesa`.
const VARIABLE: &str = "SPRINGBOK_TEST_GPU";
/// Name of Mesa's imitation.
const MESA: &str = "llvmpipe";

/// Relative L2 distance of gradients. A sum of N numbers in f32 is off by about sqrt(N) 2^-24 when its order changes, and
/// there are a few hundred between an observation and its gradient: 1e-6; ten times that leaves room for other
/// implementations of exp and tanh.
const GRADIENT_TOLERANCE: f64 = 1e-5;
/// The same of parameters after two updates of two optimiser steps each. Adam divides a gradient by its own size, so each
/// step passes the relative error on, times a step size of 1e-2 against parameters near 1.
const PARAMETER_TOLERANCE: f64 = 1e-5;
/// Updates after which no more memory may be taken, and those that may take none.
const SETTLING: u32 = 100;
const SETTLED: u32 = 200;

#[test]
fn a_gpu_trains_as_the_processor_does_until_it_is_lost() {
    let Some(wanted) = std::env::var_os(VARIABLE) else {
        return;
    };
    let (device, name, lose) = device::losable();
    assert!(wanted != "mesa" || name.contains(MESA), "{name}");
    println!("on {name}");
    let case = &golden::cases("learner_step")[0];
    timed("golden learner_step", || {
        check_arrival("gpu", case, &device, true);
        check_steps("gpu", case, &plan(case), &device, 1, true);
    });
    timed("golden targets", || on_device::tests::check_golden(&device));
    timed("gradients", || same_gradients(case, &device));
    let mut trained = timed("two updates", || two_updates(case, &device));
    timed("the next batch meanwhile", || meanwhile(case, &device));
    let agreement = agreement(case, &trained);
    timed("a rehearsal", || rehearse(&agreement, &mut trained));
    timed("a race", || lost_race(&agreement, &device, &name));
    timed("memory", || memory_stays(case, &mut trained));
    let state = trained.state();
    lose();
    timed("lost", || {
        let batch = batch(case);
        let update = || trained.update(&batch, 1.0);
        let failed = device::guard(&device, &name, update).unwrap_err();
        println!("{failed}");
        assert_eq!(failed.device, name);
    });
    // On the processor the run goes on from its last checkpoint.
    let mut resumed = updater(case, &Device::flex());
    resumed.restore(state).unwrap();
    resumed.update(&batch(case), 1.0).unwrap();
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    let took: Duration = begun.elapsed();
    println!("{what}: {:.1} s", took.as_secs_f64());
    result
}

/// Relative L2 distance of `got` from `expected`.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let squares = |numbers: &mut dyn Iterator<Item = f64>| -> f64 { numbers.map(|x| x * x).sum() };
    let pairs = got.iter().zip(expected);
    let off = squares(&mut pairs.map(|(got, expected)| f64::from(*got) - f64::from(*expected)));
    (off / squares(&mut expected.iter().copied().map(f64::from))).sqrt()
}

/// The gradient of the policy's loss, the squared values and the entropy by all parameters `[P]`.
fn gradients(case: &Value, device: &Device) -> Vec<f32> {
    let (batch, updater) = (batch(case), updater(case, device));
    let material = material(&updater, &batch);
    let arrival = updater.arrival(&material);
    let picks = updater.pick(&material, &arrival.numbers(), &plan(case)[0]);
    let minibatch = updater.gather(&material, &arrival, &picks[0], Tracking::Gradients);
    let model = &updater.learnt.model;
    let outputs = minibatch.input.clone().run(model);
    let terms = updater.policy_terms(&minibatch, outputs.parameters);
    let loss = terms.loss + outputs.values.square().mean() - terms.entropy.mul_scalar(0.1);
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    staged::read(flatten(model, &gradients, |_| true).unwrap())
}

fn same_gradients(case: &Value, device: &Device) {
    let expected = gradients(case, &Device::flex());
    let off = distance(&gradients(case, device), &expected);
    println!("gradients: {off:.1e}");
    assert!(off <= GRADIENT_TOLERANCE, "{off}");
}

fn parameters(updater: &Updater) -> Vec<f32> {
    let (words, _) = updater.parameters.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn two_updates(case: &Value, device: &Device) -> Updater {
    let batch = batch(case);
    let (mut expected, mut got) = (updater(case, &Device::flex()), updater(case, device));
    for update in 1..=2 {
        let on_processor = expected.update(&batch, 1.0).unwrap();
        staged::crossings::take();
        let on_gpu = got.update(&batch, 1.0).unwrap();
        let crossings = staged::crossings::take();
        let off = distance(&parameters(&got), &parameters(&expected));
        println!("parameters after update {update}: {off:.1e}, {crossings:?}");
        assert_eq!(crossings.back, 1, "nothing waits in the middle");
        assert!(off <= PARAMETER_TOLERANCE, "{off}");
        let pairs = [
            (on_gpu.policy_loss, on_processor.policy_loss),
            (on_gpu.value_loss, on_processor.value_loss),
            (on_gpu.entropy, on_processor.entropy),
            (on_gpu.gradient_norm, on_processor.gradient_norm),
        ];
        for (got, expected) in pairs {
            assert!(
                (got - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                "{got} {expected}"
            );
        }
    }
    got
}

fn agreement(case: &Value, trained: &Updater) -> Agreement {
    let (network, batch) = (trained.network.clone(), batch(case));
    let action: ActionSpec = network.action.clone();
    Agreement {
        environment: EnvironmentSpec::new("Golden", network.observation.clone(), action),
        network,
        rollout: RolloutShape {
            unroll_length: batch.t,
            environments: batch.columns,
        },
    }
}

/// So small a network is faster on the processor, whatever GPU it is.
fn lost_race(agreement: &Agreement, device: &Device, name: &str) {
    let mut config = Config::default();
    config.learner.batch_unrolls = 1;
    let gpu = Chosen {
        device: device.clone(),
        name: name.to_owned(),
        reason: String::new(),
        is_guess: true,
    };
    let never = CancellationToken::new();
    config.run.deterministic = true;
    let kept = settled(gpu.clone(), &config, agreement, &never);
    assert_eq!(kept, gpu, "in lock-step there is no race");
    config.run.deterministic = false;
    let chosen = settled(gpu, &config, agreement, &never);
    println!("{}", chosen.reason);
    assert_eq!(
        (chosen.device, chosen.name.as_str()),
        (Device::flex(), "cpu")
    );
    assert!(chosen.reason.ends_with(name), "both were timed");
}

fn rehearse(agreement: &Agreement, trained: &mut Updater) {
    let before = (trained.parameters(), export_flat(&trained.learnt.model));
    trained.warm_up(agreement, 1);
    let after = (trained.parameters(), export_flat(&trained.learnt.model));
    assert!(before == after);
}

/// Batches that are staged while another is trained on teach the same, bit for bit, and cross as often.
fn meanwhile(case: &Value, device: &Device) {
    let batches = [0.0, 0.5, -0.5, 1.0].map(|shift: f32| {
        let mut batch = batch(case);
        batch.rewards.iter_mut().for_each(|reward| *reward += shift);
        batch
    });
    let (mut expected, mut got) = (updater(case, device), updater(case, device));
    let mut next = Some(got.stage(&batches[0]));
    for (index, batch) in batches.iter().enumerate() {
        staged::crossings::take();
        expected.update(batch, 1.0).unwrap();
        let apart = staged::crossings::take();
        let staged = next.take().unwrap();
        let following = &batches[(index + 1) % batches.len()];
        got.update_staged(batch, staged, 1.0, &mut |updater| {
            assert!(next.is_none(), "called once");
            next = Some(updater.stage(following));
        })
        .unwrap();
        assert_eq!(staged::crossings::take(), apart);
        assert!(got.parameters() == expected.parameters(), "batch {index}");
    }
}

/// Updates take no more memory once all of their buffers are there, also of the batch that comes next.
fn memory_stays(case: &Value, trained: &mut Updater) {
    let batch = batch(case);
    let mut next = Some(trained.stage(&batch));
    let mut train = |updates: u32| {
        for _ in 0..updates {
            let staged = next.take().unwrap();
            let mut stage = |updater: &Updater| next = Some(updater.stage(&batch));
            trained
                .update_staged(&batch, staged, 1.0, &mut stage)
                .unwrap();
        }
        trained.device_memory_bytes().unwrap()
    };
    let (settled, later) = (train(SETTLING), train(SETTLED));
    println!("{settled} bytes on the device, and later {later}");
    assert!(settled > 0);
    assert!(later <= settled, "{settled} {later}");
}
