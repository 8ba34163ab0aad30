//! A minibatch teaches the same in parts as in one piece.

use springbok_common::{arrays::Actions, spec::ActionSpec};

use super::super::{
    Batch, Updater,
    scripted::{batch, parameters, updater},
};

/// What an order of sums may change of a parameter or a loss near 1, after some dozen steps of Adam, which divides each
/// gradient by its own size.
const TOLERANCE: f64 = 1e-4;
const UPDATES: u64 = 2;

fn trained(action: &ActionSpec, sets: &[&str], parts: usize, masked: bool) -> (Updater, Vec<f64>) {
    let mut updater = updater(action.clone(), sets);
    updater.parts = parts;
    let mut losses = Vec::new();
    for seed in 0..UPDATES {
        let mut batch = batch(&updater, seed, 0.3);
        if masked {
            forbid(&mut batch);
        }
        let metrics = updater.update(&batch, 1.0).unwrap();
        losses.extend([metrics.policy_loss, metrics.value_loss, metrics.entropy]);
        losses.extend([
            metrics.gradient_norm,
            metrics.clip_fraction,
            metrics.approx_kl,
        ]);
    }
    (updater, losses)
}

/// Forbids the third action where another was taken.
fn forbid(batch: &mut Batch) {
    if let Actions::Indices(taken) = &batch.actions {
        let allowed = |taken: &u32| [1, 1, u8::from(*taken == 2)];
        batch.action_masks = taken.iter().flat_map(allowed).collect();
    }
}

#[test]
fn parts_teach_what_the_whole_does() {
    let torques = ActionSpec::Box {
        low: vec![-1.0; 2],
        high: vec![1.0; 2],
    };
    let three = ActionSpec::Discrete(3);
    let cases: [(&ActionSpec, &[&str], bool); 7] = [
        (&three, &[], false),
        (
            &three,
            &["algorithm.advantage_normalisation=minibatch"],
            true,
        ),
        (&three, &["algorithm.objective=kl_penalty"], true),
        (&three, &["algorithm.ratio=target_network"], false),
        (&three, &["algorithm.critic=retrace"], false),
        (&torques, &["policy.popart=true"], false),
        (&torques, &["algorithm.objective=trust_region"], false),
    ];
    for (action, sets, masked) in cases {
        let (whole, losses) = trained(action, sets, 1, masked);
        // 48 rows in minibatches of 12.
        for parts in [2, 5, 100] {
            let (cut, own) = trained(action, sets, parts, masked);
            let pairs = parameters(&cut).into_iter().zip(parameters(&whole));
            let pairs = pairs.map(|(cut, whole)| (f64::from(cut), f64::from(whole)));
            let moved = parameters(&whole) != parameters(&updater(action.clone(), sets));
            assert!(moved, "{sets:?}");
            for (cut, whole) in pairs.chain(own.into_iter().zip(losses.clone())) {
                let close = (cut - whole).abs() <= TOLERANCE * (1.0 + whole.abs());
                assert!(close, "{sets:?} in {parts}: {cut} {whole}");
            }
        }
    }
}

#[test]
fn the_same_parts_teach_the_same_whichever_is_ready_first() {
    let three = ActionSpec::Discrete(3);
    let bits = || parameters(&trained(&three, &[], 4, false).0);
    let first = bits();
    assert_ne!(first, parameters(&trained(&three, &[], 1, false).0));
    for _ in 0..5 {
        assert_eq!(bits(), first);
    }
}

#[test]
fn whole_columns_stay_together() {
    let three = ActionSpec::Discrete(3);
    let bits = |parts| parameters(&trained(&three, &["policy.core=gru"], parts, false).0);
    assert_eq!(bits(1), bits(4));
}
