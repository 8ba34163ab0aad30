//! A: identities.

use proptest::prelude::*;
use springbok_common::step::StepOutcome;

use crate::algorithm::returns::gae;
use crate::algorithm::testing::{Scenario, permute, scenarios, widen};
use crate::algorithm::vtrace::{VtraceConfig, vtrace};
use crate::golden;

fn config(gamma: f64, lambda: f64) -> VtraceConfig {
    VtraceConfig {
        gamma,
        lambda,
        ..VtraceConfig::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A1, the part before the optimiser: fresh data makes V-trace and GAE the same.
    #[test]
    fn a1_without_lag_vtrace_is_gae(data in scenarios(), gamma in 0.0..=1.0_f64, lambda in 0.0..=1.0_f64) {
        let data = data.on_policy();
        let got = vtrace(&data.transitions(), &data.log_rhos, &config(gamma, lambda));
        let plain = gae(&data.transitions(), gamma, lambda);
        prop_assert_eq!(&got.targets, &plain.returns);
        golden::assert_close_f32("advantages", &got.advantages, &widen(&plain.advantages), 1e-6);
        prop_assert_eq!(got.advantages, got.pg_advantages);
    }

    /// A4: columns do not touch each other.
    #[test]
    fn a4_permuted_columns_give_permuted_targets(
        (data, order) in scenarios().prop_flat_map(|data| {
            let order: Vec<usize> = (0..data.columns).collect();
            (Just(data), Just(order).prop_shuffle())
        }),
        lambda in 0.0..=1.0_f64,
    ) {
        let config = config(0.97, lambda);
        let straight = vtrace(&data.transitions(), &data.log_rhos, &config);
        let shuffled = data.permuted(&order);
        let got = vtrace(&shuffled.transitions(), &shuffled.log_rhos, &config);
        prop_assert_eq!(got.targets, permute(&straight.targets, &order));
        prop_assert_eq!(got.advantages, permute(&straight.advantages, &order));
        prop_assert_eq!(got.pg_advantages, permute(&straight.pg_advantages, &order));
    }

    /// A4: cutting an unroll with bootstrap V(x_cut) drops e_cut, weighted by the trace up to there, and nothing else.
    #[test]
    fn a4_a_split_changes_targets_only_through_the_bootstrap(
        data in scenarios(), row in 0_usize..64, lambda in prop_oneof![Just(0.0), 0.0..=1.0_f64],
    ) {
        let cut = row % data.rows();
        let (config, columns) = (config(0.97, lambda), data.columns);
        let wide = data.widened();
        let whole = vtrace(&wide.transitions(), &wide.log_rhos, &config);
        let [head, tail] = [wide.slice(0..cut), wide.slice(cut..wide.rows())]
            .map(|part| vtrace(&part.transitions(), &part.log_rhos, &config));
        prop_assert_eq!(&tail.targets, &whole.targets[cut * columns..]);
        let mut expected = whole.targets[..cut * columns].to_vec();
        for b in 0..columns {
            let at = cut * columns + b;
            let mut lost = whole.targets[at] - wide.values[at];
            for i in (0..cut).rev().map(|t| t * columns + b) {
                let goes_on = wide.outcomes[i] == StepOutcome::Continued;
                let c = lambda * wide.log_rhos[i].exp().min(1.0);
                lost *= if goes_on { 0.97 * c } else { 0.0 };
                expected[i] -= lost;
            }
        }
        golden::assert_close("head", &head.targets, &expected, 1e-12);
        if lambda == 0.0 {
            prop_assert_eq!(&head.targets, &whole.targets[..cut * columns]);
        }
    }
}

/// A5: one reward in the last row, seen from every earlier row.
fn last_reward(rows: usize, end: Option<(usize, StepOutcome)>) -> Vec<f32> {
    let mut data = Scenario {
        rewards: vec![0.0_f32; rows],
        values: vec![0.0; rows],
        next_values: vec![0.0; rows],
        outcomes: vec![StepOutcome::Continued; rows],
        log_rhos: vec![0.0; rows],
        columns: 1,
    };
    data.rewards[rows - 1] = 3.0;
    if let Some((row, outcome)) = end {
        data.outcomes[row] = outcome;
    }
    vtrace(&data.transitions(), &data.log_rhos, &config(0.9, 1.0)).targets
}

#[test]
fn a5_a_late_reward_reaches_back_with_its_discount() {
    for (t, target) in last_reward(20, None).into_iter().enumerate() {
        let expected = 3.0 * 0.9_f64.powi(19 - i32::try_from(t).expect("small"));
        golden::assert_close_f32("target", &[target], &[expected], 1e-6);
    }
}

#[test]
fn a5_nothing_reaches_back_over_an_end() {
    let open = last_reward(20, None);
    for outcome in [StepOutcome::Terminated, StepOutcome::Truncated] {
        let got = last_reward(20, Some((7, outcome)));
        assert!(got[..=7].iter().all(|target| *target == 0.0));
        assert_eq!(got[8..], open[8..]);
    }
}
