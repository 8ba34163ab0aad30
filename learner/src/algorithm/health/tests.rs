use super::*;
use crate::algorithm::testing::narrow;
use crate::golden;

/// Runs one golden case and hands out what was found next to what is expected.
fn check<F: Real>(case: &serde_json::Value, tol: f64) {
    let (config, input, expected) = (&case["config"], &case["input"], &case["expected"]);
    let name = golden::name(case);
    assert_eq!(golden::numbers(&config["quantiles"]), QUANTILE_LEVELS);
    let field = |name: &str| -> Vec<F> { narrow(&golden::numbers(&input[name])) };
    let mask = golden::flags(&input["mask"]);
    let found = health(
        &Samples {
            behaviour: &field("log_mu"),
            proximal: &field("log_prox"),
            current: &field("log_pi"),
            advantages: &field("adv"),
            values: &field("value"),
            targets: &field("target"),
            lags: &golden::integers(&input["lag"]),
            mask: Some(&mask),
        },
        golden::number(&config["clip_eps"]),
        Some(1.0),
    )
    .expect("a valid step");
    let scalars = [
        ("ess_behaviour", found.ess_behaviour),
        ("ess_prox_over_behaviour", found.ess_prox_over_behaviour),
        ("ess_theta_over_prox", found.ess_theta_over_prox),
        ("clip_fraction", found.clip_fraction),
        ("clip_fraction_binding", found.clip_fraction_binding),
        ("k1", found.kl.k1),
        ("k2", found.kl.k2),
        ("k3", found.kl.k3),
        ("k1_behaviour", found.kl_behaviour.k1),
        ("k3_behaviour", found.kl_behaviour.k3),
        ("rho_truncated_fraction", found.rho_truncated_fraction),
        ("lag_mean", found.lag_mean),
        ("lag_max", found.lag_max as f64),
    ];
    for (field, got) in scalars {
        let wanted = [golden::number(&expected[field])];
        golden::assert_close(&format!("{name} {field}"), &[got], &wanted, tol);
    }
    let quantiles = golden::numbers(&expected["ratio_quantiles_behaviour"]);
    golden::assert_close(&name, &found.ratio_quantiles, &quantiles, tol);
    let explained = golden::optional(&expected["explained_variance"]);
    assert_eq!(found.explained_variance.is_some(), explained.is_some());
    if let (Some(got), Some(wanted)) = (found.explained_variance, explained) {
        golden::assert_close(&name, &[got], &[wanted], tol);
    }
    check_rows(&name, &found.per_lag, &expected["per_lag"], tol);
    let compared = scalars.len() + 3;
    assert_eq!(
        expected.as_object().map(serde_json::Map::len),
        Some(compared)
    );
}

fn check_rows(name: &str, rows: &[LagRow], expected: &serde_json::Value, tol: f64) {
    let expected = expected.as_array().expect("per_lag is a list");
    assert_eq!(rows.len(), expected.len(), "{name}: lags");
    for (row, wanted) in rows.iter().zip(expected) {
        assert_eq!(row.lag, golden::integer(&wanted["lag"]) as u64);
        assert_eq!(row.count, golden::integer(&wanted["count"]));
        let got = [row.ess, row.clip_fraction, row.k3];
        let wanted = ["ess", "clip_fraction", "k3"].map(|f| golden::number(&wanted[f]));
        golden::assert_close(&format!("{name} lag {}", row.lag), &got, &wanted, tol);
    }
}

#[test]
fn golden_health_f64() {
    golden::each_case("health", |_| true, |_, case| check::<f64>(case, 1e-9));
}

#[test]
fn golden_health_f32() {
    golden::each_case("health", |_| true, |_, case| check::<f32>(case, 1e-5));
}

fn samples<'a>(current: &'a [f32], proximal: &'a [f32], lags: &'a [u64]) -> Samples<'a, f32> {
    Samples {
        behaviour: &[-1.0; 4],
        proximal,
        current,
        advantages: &[1.0, -1.0, 1.0, -1.0],
        values: &[0.0; 4],
        targets: &[1.0, 2.0, 3.0, 4.0],
        lags,
        mask: None,
    }
}

#[test]
fn before_the_first_step_the_update_ratio_is_exactly_one() {
    // ACCEPTANCE A3: pi = pi_prox, whatever the lag.
    let now = [-0.3_f32, -1.7, -0.9, -2.5];
    let found = health(&samples(&now, &now, &[5; 4]), 0.2, Some(1.0)).expect("valid steps");
    assert_eq!(found.ess_theta_over_prox, 1.0);
    assert_eq!(
        (found.clip_fraction, found.clip_fraction_binding),
        (0.0, 0.0)
    );
    assert_eq!((found.kl.k1, found.kl.k2, found.kl.k3), (0.0, 0.0, 0.0));
    assert!(found.clip_fraction_behaviour > 0.0);
    assert_eq!(found.max_abs_log_ratio_lag0, None);
}

#[test]
fn lags_of_columns_are_those_of_their_steps() {
    let now = [-1.0_f32, -1.5, -1.25, -1.0];
    let found = health(&samples(&now, &now, &[0, 3]), 0.2, None).expect("valid steps");
    let lags: Vec<(u64, usize)> = found.per_lag.iter().map(|r| (r.lag, r.count)).collect();
    assert_eq!(lags, [(0, 2), (3, 2)]);
    assert_eq!(found.max_abs_log_ratio_lag0, Some(0.25));
    assert_eq!(found.rho_truncated_fraction, 0.0);
}

#[test]
fn rows_by_lag_have_their_own_saturation_and_advantages() {
    // p is 1 at lag 0 and e^0.5 or e^-0.5 at lag 3.
    let proximal = [-1.0_f32, -0.5, -1.0, -1.5];
    let now = [-1.0_f32; 4];
    let mut given = samples(&now, &proximal, &[0, 3]);
    given.advantages = &[2.0, -1.0, -4.0, 3.0];
    let found = health(&given, 0.2, Some(1.0)).expect("valid steps");
    let rows: Vec<(f64, f64)> = found
        .per_lag
        .iter()
        .map(|row| (row.rho_saturation, row.abs_advantage))
        .collect();
    assert_eq!(rows, [(0.0, 3.0), (0.5, 2.0)]);
}

#[test]
fn merged_sums_are_those_of_all_weights_on_whatever_scale() {
    let (near, far) = ([0.1, -0.3, 0.0], [700.0, 699.0, 701.5]);
    let mut merged = WeightSums::default();
    for part in [&near[..], &[], &far[..], &near[..]] {
        merged.merge(&WeightSums::of(part));
    }
    let all = effective_sample_size(&[near, far, near].concat());
    assert_eq!(merged.count, 9);
    assert!((merged.effective_sample_size() - all).abs() < 1e-12);
    assert!(WeightSums::default().effective_sample_size().is_nan());
}

#[test]
fn binding_clips_need_the_sign_of_the_advantage() {
    let log_ratios = [0.5_f64, 0.5, -0.5, -0.5, 0.0];
    let advantages = [1.0, -1.0, 1.0, -1.0, 1.0];
    assert_eq!(clip_fraction(&log_ratios, 0.2), 0.8);
    assert_eq!(clip_fraction_binding(&log_ratios, &advantages, 0.2), 0.4);
}

#[test]
fn effective_sample_size_survives_huge_ratios_and_counts_heads() {
    assert_eq!(effective_sample_size(&[900.0; 7]), 1.0);
    let one_of_four = effective_sample_size(&[800.0, 0.0, 0.0, 0.0]);
    assert!((one_of_four - 0.25).abs() < 1e-12);
}

#[test]
fn every_ratio_is_in_the_bucket_that_ends_above_it() {
    let edges = ratio_edges();
    assert!((edges[0] - 0.125).abs() < 1e-12 && (edges[24] - 8.0).abs() < 1e-12);
    // mu is e^-1 throughout.
    let current = [-10.0, -1.0, -0.99, 8.0];
    let given = samples(&current, &[-1.0; 4], &[0; 4]);
    let found = health(&given, 0.2, None).expect("valid steps");
    let mut expected = [0; RATIO_BUCKETS];
    // 1 is the upper bound of the thirteenth.
    (expected[0], expected[12], expected[13], expected[25]) = (1, 1, 1, 1);
    assert_eq!(found.ratio_counts, expected);
}

#[test]
fn no_valid_step_has_no_health() {
    let now = [-1.0_f32; 4];
    let mut none = samples(&now, &now, &[0]);
    none.mask = Some(&[false; 4]);
    assert_eq!(health(&none, 0.2, None), None);
}

#[test]
fn quantiles_interpolate() {
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    assert_eq!(quantile(&[7.0], 0.99), 7.0);
    assert!(quantile(&[], 0.5).is_nan());
}
