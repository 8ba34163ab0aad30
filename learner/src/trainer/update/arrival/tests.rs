use springbok_common::spec::ActionSpec;

use super::super::{
    UpdateMetrics,
    scripted::{batch, parameters, updater},
    staged::crossings,
};

/// Configurations, and how often an update whose targets the device makes waits for it.
const CASES: [(&[&str], usize); 14] = [
    (&[], 1),
    (&["algorithm.advantage_normalisation=minibatch"], 1),
    (
        &[
            "algorithm.critic=gae",
            "algorithm.advantage_normalisation=none",
        ],
        1,
    ),
    (&["algorithm.critic=n_step", "algorithm.n_step=3"], 1),
    (&["algorithm.critic=retrace", "algorithm.lambda=0.8"], 1),
    (
        &[
            "algorithm.pg_target=vs",
            "algorithm.rho_bar=1.2",
            "algorithm.c_bar=0.9",
        ],
        1,
    ),
    (
        &[
            "algorithm.ratio=target_network",
            "algorithm.target_refresh_updates=2",
        ],
        1,
    ),
    (
        &["algorithm.recompute_targets=epoch", "algorithm.epochs=3"],
        1,
    ),
    (
        &[
            "policy.core=gru",
            "policy.core_size=5",
            "algorithm.burn_in=2",
        ],
        1,
    ),
    (&["algorithm.objective=kl_penalty"], 1),
    (
        &[
            "algorithm.normalise_rewards=true",
            "policy.normalise_observations=true",
        ],
        1,
    ),
    // The statistics of PopArt are the host's.
    (&["policy.popart=true"], 2),
    // Whether another pass is begun, after each of the first two, and what was known before them.
    (&["algorithm.kl_stop=0.5", "algorithm.epochs=3"], 4),
    // Its batches are kept on the host; and once in two updates the losses of a phase.
    (
        &[
            "algorithm.objective=ppg",
            "algorithm.epochs=1",
            "algorithm.ppg_policy_updates=2",
        ],
        2,
    ),
];

/// L2 distance.
fn distance(left: &[f32], right: &[f32]) -> f64 {
    let pairs = left.iter().zip(right);
    let squares = pairs.map(|(left, right)| f64::from(left - right).powi(2));
    squares.sum::<f64>().sqrt()
}

fn agree(got: &UpdateMetrics, expected: &UpdateMetrics, case: &[&str]) {
    let of = |metrics: &UpdateMetrics| {
        [
            metrics.policy_loss,
            metrics.value_loss,
            metrics.entropy,
            metrics.gradient_norm,
            metrics.approx_kl,
            metrics.kl,
            metrics.kl_coefficient,
            metrics.ess_prox,
            metrics.explained_variance,
            metrics.advantage_mean,
            metrics.advantage_std,
        ]
    };
    for (index, (got, expected)) in of(got).into_iter().zip(of(expected)).enumerate() {
        let near = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
        let none = got.is_nan() && expected.is_nan();
        assert!(near || none, "{case:?} {index}: {got} {expected}");
    }
    assert_eq!(got.optimiser_steps, expected.optimiser_steps, "{case:?}");
}

/// Whoever makes the targets, the same is learnt, from batches with and without weights; and the device is waited for once,
/// but where the host decides something in the middle.
#[test]
fn the_device_aims_where_the_host_does() {
    for (case, waits) in CASES {
        let sets = [&["algorithm.epochs=2"], case].concat();
        let [mut host, mut device] = [false, true].map(|there| {
            let mut updater = updater(ActionSpec::Discrete(3), &sets);
            updater.aims_on_device = there;
            updater
        });
        let before = parameters(&host);
        for seed in 1..=4 {
            let mut batch = batch(&host, seed, 0.4);
            if seed == 3 {
                batch.lags = (0..batch.columns as u64).collect();
                batch.weigh(|lag| 1.0 / (1.0 + lag as f32));
            }
            let expected = host.update(&batch, 1.0).unwrap();
            crossings::take();
            let got = device.update(&batch, 1.0).unwrap();
            let crossings = crossings::take();
            if seed == 1 {
                assert_eq!(crossings.back, waits, "{case:?}");
            }
            agree(&got, &expected, case);
        }
        let after = parameters(&host);
        let off = distance(&parameters(&device), &after) / distance(&before, &after);
        assert!(off < 1e-3, "{case:?}: {off}");
    }
}
