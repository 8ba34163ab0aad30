//! Whole updates with the objective "ppg".

use springbok_common::{policy::layout, spec::ActionSpec};

use super::*;
use crate::trainer::update::scripted::{COLUMNS, T, batch, material, parameters, updater};

const UPDATES: u64 = 3;

fn updaters(sets: &[&str]) -> Vec<Updater> {
    let torques = ActionSpec::Box {
        low: vec![-2.0],
        high: vec![2.0],
    };
    let cases: [(ActionSpec, &[&str]); 3] = [
        (ActionSpec::Discrete(4), &[]),
        (torques, &["policy.popart=true"]),
        (
            ActionSpec::MultiDiscrete(vec![2, 3]),
            &["policy.core=gru", "policy.core_size=5"],
        ),
    ];
    let objective: &[&str] = &["algorithm.objective=ppg", "algorithm.epochs=1"];
    cases
        .into_iter()
        .map(|(action, more)| sharp(updater(action, &[objective, sets, more].concat())))
        .collect()
}

/// The updater with a policy that depends on its torso: at the start its head is nearly 0.
fn sharp(mut updater: Updater) -> Updater {
    let mut flat = parameters(&updater).into_iter();
    let mut bytes = Vec::new();
    for (name, shape) in layout(&updater.network) {
        let factor = if name == "policy_head.weight" {
            50.0
        } else {
            1.0
        };
        for parameter in flat.by_ref().take(shape.iter().product()) {
            bytes.extend((factor * parameter).to_le_bytes());
        }
    }
    updater.load_parameters(&bytes).unwrap();
    updater
}

/// Loss of the second value head on the targets of a batch of `updater`'s.
fn auxiliary_loss_of(updater: &Updater, batch: &Batch, targets: &[f32]) -> f32 {
    let material = material(updater, batch);
    // Whole columns are run in time-major order too.
    let units: Vec<usize> = match updater.network.core {
        springbok_common::spec::CoreSpec::None => (0..batch.steps()).collect(),
        _ => (0..COLUMNS).collect(),
    };
    let choice = updater.choose(&material, &units);
    let indices = updater.upload_choice(&choice);
    let input = updater.input(&material, &choice, &indices, Tracking::None);
    let outputs = input.run(&updater.learnt.model.valid());
    let got = read(outputs.auxiliary_values.unwrap());
    let errors = got.iter().zip(targets).map(|(got, target)| got - target);
    errors.map(|error| error * error).sum::<f32>() / (T * COLUMNS) as f32
}

/// Three updaters, alike until the auxiliary phase: one without it, one with it, one whose policy nothing holds.
#[test]
fn an_auxiliary_phase_moves_the_second_value_and_holds_the_policy() {
    let phase = format!("algorithm.ppg_policy_updates={UPDATES}");
    let without = updaters(&[]);
    let with = updaters(&[&phase]);
    let unheld = updaters(&[&phase, "algorithm.ppg_beta_clone=0"]);
    for ((mut without, mut with), mut unheld) in without.into_iter().zip(with).zip(unheld) {
        let mut last = Batch::default();
        let mut targets = Vec::new();
        for round in 0..UPDATES {
            last = batch(&without, round, 0.1);
            let arrival = without.evaluate(&without.stage(&last));
            targets = without.targets(&material(&without, &last), &arrival).values;
            assert_eq!(without.update(&last, 1.0).unwrap().auxiliary, None);
            for updater in [&mut with, &mut unheld] {
                let metrics = updater.update(&last, 1.0).unwrap();
                assert_eq!(metrics.auxiliary.is_some(), round + 1 == UPDATES);
            }
        }
        let before = auxiliary_loss_of(&without, &last, &targets);
        let after = auxiliary_loss_of(&with, &last, &targets);
        assert!(after < 0.8 * before, "{:?}: {before} {after}", with.actions);

        let policy = |updater: &Updater| {
            let pass = updater.pass(&updater.learnt.model.valid(), &updater.stage(&last));
            Distribution::new(&updater.actions, pass.parameters, None)
        };
        let old = policy(&without);
        let divergence = |updater: &Updater| old.kl(&policy(updater)).mean().into_scalar::<f32>();
        let (held, free) = (divergence(&with), divergence(&unheld));
        assert!(
            held < 0.02 && held < 0.5 * free,
            "{:?}: {held} {free}",
            with.actions
        );
        assert!(held > 0.0, "its torso has moved");

        // The next phase starts from nothing.
        let next = batch(&with, 9, 0.1);
        assert_eq!(with.update(&next, 1.0).unwrap().auxiliary, None);
    }
}

#[test]
fn a_failed_update_keeps_what_was_stored_and_a_stop_ends_the_phase() {
    let phase = format!("algorithm.ppg_policy_updates={UPDATES}");
    for mut updater in updaters(&[&phase]) {
        let good = batch(&updater, 1, 0.1);
        for _ in 1..UPDATES {
            updater.update(&good, 1.0).unwrap();
        }
        let before = updater.parameters();
        let mut bad = good.clone();
        bad.rewards[10] = f32::INFINITY;
        let fault = updater.update(&bad, 1.0).unwrap_err();
        assert!(matches!(fault, UpdateFault::NonFinite { .. }), "{fault}");
        let stored = |updater: &Updater| updater.learnt.memory.phase.as_ref().unwrap().stored.len();
        assert_eq!(stored(&updater) as u64, UPDATES - 1);

        let stop = std::mem::take(&mut updater.stop);
        updater.stop = stop.child_token();
        updater.stop.cancel();
        assert_eq!(updater.update(&good, 1.0), Err(UpdateFault::Stopped));
        assert_eq!(updater.parameters(), before);
        assert_eq!(stored(&updater) as u64, UPDATES - 1);

        updater.stop = stop;
        let metrics = updater.update(&good, 1.0).unwrap();
        let phase = metrics.auxiliary.unwrap();
        assert!(phase.auxiliary_value_loss > 0.0 && phase.value_loss > 0.0);
        assert_eq!(stored(&updater), 0);
    }
}
