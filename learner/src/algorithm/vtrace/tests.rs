use proptest::prelude::*;
use springbok_common::step::StepOutcome;

use super::*;
use crate::algorithm::returns::n_step;
use crate::algorithm::testing::{Scenario, scenarios, vtrace_constants, widen};
use crate::golden;

fn check<F: Real>(case: &serde_json::Value, tol: f64) {
    let name = golden::name(case);
    let (config, expected) = (&case["config"], &case["expected"]);
    let config = vtrace_constants(config);
    let scenario: Scenario<F> = Scenario::from_golden(case);
    let got = vtrace(&scenario.transitions(), &scenario.log_rhos, &config);
    assert_eq!(got.clamped, 0, "{name}: no ratio needs the guard");
    for (field, got) in [
        ("vs", got.targets),
        ("adv", got.advantages),
        ("pg_adv", got.pg_advantages),
    ] {
        let wanted = golden::numbers(&expected[field]);
        golden::assert_close(&format!("{name} {field}"), &widen(&got), &wanted, tol);
    }
}

#[test]
fn golden_vtrace_f64() {
    golden::each_case("vtrace", |_| true, |_, case| check::<f64>(case, 1e-9));
}

#[test]
fn golden_vtrace_f32() {
    golden::each_case("vtrace", |_| true, |_, case| check::<f32>(case, 1e-5));
}

/// Espeholt et al. 2018, eq. 1, as the double sum that the paper prints: for each row the discounted, trace-weighted
/// temporal-difference errors up to the first end of an episode. O(T^2) and nothing shared with the recursion.
fn oracle_targets(data: &Scenario<f64>, config: &VtraceConfig) -> Vec<f64> {
    let columns = data.columns;
    let cap = |i: usize, bar: Option<f64>| bar.unwrap_or(f64::INFINITY).min(data.log_rhos[i].exp());
    let mut targets = Vec::new();
    for s in 0..data.rows() {
        for b in 0..columns {
            let mut target = data.values[s * columns + b];
            let mut weight = 1.0;
            for t in s..data.rows() {
                let i = t * columns + b;
                let future = match data.outcomes[i] {
                    StepOutcome::Terminated => 0.0,
                    _ => config.gamma * data.next_values[i],
                };
                let difference = data.rewards[i] + future - data.values[i];
                target += weight * cap(i, config.rho_bar) * difference;
                if data.outcomes[i].is_end() {
                    break;
                }
                weight *= config.gamma * config.lambda * cap(i, config.c_bar);
            }
            targets.push(target);
        }
    }
    targets
}

/// The raw advantages, from the targets of the oracle.
fn oracle_advantages(data: &Scenario<f64>, targets: &[f64], config: &VtraceConfig) -> Vec<f64> {
    let step = |i: usize| {
        let later = i + data.columns;
        let v_next = match (data.outcomes[i], config.pg_target) {
            (StepOutcome::Terminated, _) => return data.rewards[i] - data.values[i],
            (StepOutcome::Continued, PgTarget::Vs) if later < targets.len() => targets[later],
            (StepOutcome::Continued, PgTarget::LambdaMix) if later < targets.len() => {
                (1.0 - config.lambda) * data.values[later] + config.lambda * targets[later]
            }
            _ => data.next_values[i],
        };
        data.rewards[i] + config.gamma * v_next - data.values[i]
    };
    (0..targets.len()).map(step).collect()
}

/// Caps on both sides of what the ratios of [`scenarios`] reach; never more than 2 in the trace, which a long unroll
/// would otherwise raise to a high power.
fn configs() -> impl Strategy<Value = VtraceConfig> {
    let bar = || prop_oneof![Just(0.0_f64), Just(0.5), Just(1.0), Just(2.0)];
    let caps = (
        prop::option::weighted(0.8, bar()),
        bar(),
        prop::option::weighted(0.8, bar()),
    );
    let parts = (0.0..=1.0_f64, 0.0..=1.0_f64, caps, any::<bool>());
    parts.prop_map(
        |(gamma, lambda, (rho_bar, c_bar, rho_pg_bar), vs)| VtraceConfig {
            gamma: gamma * 0.99,
            // A trace of at most 1 per step.
            lambda: lambda / c_bar.max(1.0),
            rho_bar,
            c_bar: Some(c_bar),
            rho_pg_bar,
            pg_target: if vs {
                PgTarget::Vs
            } else {
                PgTarget::LambdaMix
            },
        },
    )
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn the_recursion_is_the_sum_of_the_paper(data in scenarios(), config in configs()) {
        let wide = data.widened();
        let targets = oracle_targets(&wide, &config);
        let advantages = oracle_advantages(&wide, &targets, &config);
        let cap = config.rho_pg_bar.unwrap_or(f64::INFINITY);
        let weighted: Vec<f64> = wide.log_rhos.iter().zip(&advantages).map(|(l, a)| l.exp().min(cap) * a).collect();

        let exact = vtrace(&wide.transitions(), &wide.log_rhos, &config);
        golden::assert_close("f64 targets", &exact.targets, &targets, 1e-11);
        golden::assert_close("f64 advantages", &exact.advantages, &advantages, 1e-11);
        golden::assert_close("f64 weighted", &exact.pg_advantages, &weighted, 1e-11);

        let got = vtrace(&data.transitions(), &data.log_rhos, &config);
        golden::assert_close_f32("f32 targets", &got.targets, &targets, 1e-5);
        golden::assert_close_f32("f32 advantages", &got.advantages, &advantages, 1e-5);
        golden::assert_close_f32("f32 weighted", &got.pg_advantages, &weighted, 1e-5);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn on_policy_with_lambda_one_it_is_the_n_step_return(data in scenarios(), gamma in 0.0..0.99_f64) {
        let data = data.on_policy();
        let config = VtraceConfig { gamma, lambda: 1.0, ..VtraceConfig::default() };
        let got = vtrace(&data.transitions(), &data.log_rhos, &config);
        let returns = n_step(&data.transitions(), gamma, data.rows());
        golden::assert_close_f32("targets", &got.targets, &widen(&returns.targets), 1e-5);
        golden::assert_close_f32("advantages", &got.advantages, &widen(&returns.advantages), 1e-5);
        prop_assert_eq!(got.advantages, got.pg_advantages);
    }

    #[test]
    fn a_cap_of_zero_learns_nothing(data in scenarios(), config in configs()) {
        let config = VtraceConfig { rho_bar: Some(0.0), ..config };
        let got = vtrace(&data.transitions(), &data.log_rhos, &config);
        prop_assert_eq!(got.targets, data.values);
    }

    #[test]
    fn nothing_flows_back_over_a_truncation(data in scenarios(), config in configs(), row in 0_usize..64) {
        let mut data = data;
        let (columns, cut) = (data.columns, row % data.rows());
        data.outcomes[cut * columns..(cut + 1) * columns].fill(StepOutcome::Truncated);
        let mut changed = data.clone();
        for i in (cut + 1) * columns..changed.rewards.len() {
            changed.rewards[i] += 50.0;
            changed.values[i] -= 30.0;
            changed.log_rhos[i] = 1.0;
        }
        let (one, other) = (
            vtrace(&data.transitions(), &data.log_rhos, &config),
            vtrace(&changed.transitions(), &changed.log_rhos, &config),
        );
        let before = ..(cut + 1) * columns;
        prop_assert_eq!(&one.targets[before], &other.targets[before]);
        prop_assert_eq!(&one.advantages[before], &other.advantages[before]);
    }

    #[test]
    fn joined_episodes_equal_separate_ones(
        data in scenarios(), config in configs(), row in 0_usize..64, terminal in any::<bool>(),
    ) {
        let mut data = data;
        let (columns, last) = (data.columns, row % data.rows());
        let end = if terminal { StepOutcome::Terminated } else { StepOutcome::Truncated };
        data.outcomes[last * columns..(last + 1) * columns].fill(end);
        let whole = vtrace(&data.transitions(), &data.log_rhos, &config);
        let mut joined = (Vec::new(), Vec::new(), Vec::new());
        for part in [data.slice(0..last + 1), data.slice(last + 1..data.rows())] {
            let got = vtrace(&part.transitions(), &part.log_rhos, &config);
            joined.0.extend(got.targets);
            joined.1.extend(got.advantages);
            joined.2.extend(got.pg_advantages);
        }
        prop_assert_eq!(whole.targets, joined.0);
        prop_assert_eq!(whole.advantages, joined.1);
        prop_assert_eq!(whole.pg_advantages, joined.2);
    }
}

/// One continuing step.
fn one_step(log_rho: f32, caps: Option<f64>) -> Vtrace<f32> {
    let config = VtraceConfig {
        rho_bar: caps,
        c_bar: caps,
        rho_pg_bar: caps,
        ..VtraceConfig::default()
    };
    let transitions = Transitions {
        rewards: &[1.0],
        values: &[0.0],
        next_values: &[0.0],
        outcomes: &[StepOutcome::Continued],
        columns: 1,
    };
    vtrace(&transitions, &[log_rho], &config)
}

#[test]
fn without_a_cap_a_huge_ratio_stays_finite_and_is_counted() {
    let got = one_step(1000.0, None);
    assert!(got.targets[0].is_finite());
    assert_eq!(got.clamped, 1);
    let capped = one_step(1000.0, Some(1.0));
    assert_eq!((capped.targets[0], capped.clamped), (1.0, 0));
}

#[test]
fn an_impossible_action_counts_for_nothing() {
    for caps in [None, Some(1.0)] {
        let got = one_step(f32::NEG_INFINITY, caps);
        assert_eq!((got.targets[0], got.pg_advantages[0]), (0.0, 0.0));
    }
}

#[test]
fn nan_is_not_hidden_by_a_cap() {
    for caps in [None, Some(1.0)] {
        assert!(one_step(f32::NAN, caps).targets[0].is_nan());
    }
}
