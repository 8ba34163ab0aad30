use burn::tensor::{Device, Int, TensorData};
use proptest::prelude::*;
use springbok_common::step::StepOutcome;

use super::*;
use crate::{
    algorithm::{
        normalise,
        retrace::retrace as host_retrace,
        returns::{gae as host_gae, n_step as host_n_step},
        testing::{Scenario, scenarios, vtrace_constants, widen},
        vtrace::vtrace as host_vtrace,
    },
    golden,
};

/// Sums of up to 64 terms of at most a few tens, in f32 and in another order.
const TOLERANCE: f64 = 2e-5;

fn matrix(list: &[f32], columns: usize, device: &Device) -> Tensor<2> {
    let shape = [list.len() / columns, columns];
    Tensor::from_data(TensorData::new(list.to_vec(), shape), device)
}

fn flags(
    data: &Scenario<f32>,
    device: &Device,
    flag: impl Fn(StepOutcome) -> bool,
) -> Tensor<2, Bool> {
    let list = data
        .outcomes
        .iter()
        .map(|outcome| i32::from(flag(*outcome)));
    let list: Vec<i32> = list.collect();
    let shape = [data.rows(), data.columns];
    Tensor::<2, Int>::from_data(TensorData::new(list, shape), device).bool()
}

fn transitions(data: &Scenario<f32>, device: &Device) -> DeviceTransitions {
    let matrix = |list| matrix(list, data.columns, device);
    DeviceTransitions {
        rewards: matrix(&data.rewards),
        values: matrix(&data.values),
        next_values: matrix(&data.next_values),
        is_final: flags(data, device, |outcome| !outcome.has_future()),
        is_cut: flags(data, device, |outcome| !outcome.continues()),
    }
}

fn host(tensor: Tensor<2>) -> Vec<f64> {
    let list: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
    widen(&list)
}

fn check(name: &str, got: DeviceTargets, targets: &[f64], advantages: &[f64], tolerance: f64) {
    for (field, got, expected) in [
        ("targets", got.targets, targets),
        ("advantages", got.advantages, advantages),
    ] {
        golden::assert_close(&format!("{name} {field}"), &host(got), expected, tolerance);
    }
}

/// The golden vectors of V-trace, GAE and n-step returns, computed on `device`.
pub(crate) fn check_golden(device: &Device) {
    golden::each_case(
        "vtrace",
        |_| true,
        |name, case| {
            let data: Scenario<f32> = Scenario::from_golden(case);
            let log_rhos = matrix(&data.log_rhos, data.columns, device);
            let got = vtrace(
                &transitions(&data, device),
                log_rhos,
                &vtrace_constants(&case["config"]),
            );
            let expected = |field: &str| golden::numbers(&case["expected"][field]);
            check(name, got, &expected("vs"), &expected("adv"), 1e-5);
        },
    );
    golden::each_case(
        "returns",
        |_| true,
        |name, case| {
            let data: Scenario<f32> = Scenario::from_golden(case);
            let (config, expected) = (&case["config"], &case["expected"]);
            let gamma = golden::number(&config["gamma"]);
            let transitions = transitions(&data, device);
            let (got, targets) = match config["kind"].as_str() {
                Some("gae") => (
                    gae(&transitions, gamma, golden::number(&config["lam"])),
                    "returns",
                ),
                _ => (
                    n_step(&transitions, gamma, golden::integer(&config["n"])),
                    "target",
                ),
            };
            let expected = |field: &str| golden::numbers(&expected[field]);
            check(name, got, &expected(targets), &expected("adv"), 1e-5);
        },
    );
}

#[test]
fn golden_targets_on_the_processor() {
    check_golden(&Device::flex());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For any experience, any constants and any length the device says what the host says in f64.
    #[test]
    fn the_device_says_what_the_host_says(
        data in scenarios(),
        lambda in 0.0..=1.0_f64,
        caps in prop::array::uniform2(prop::option::of(0.5..2.0_f64)),
        vs in any::<bool>(),
        n in 0_usize..80,
    ) {
        let device = Device::flex();
        let config = VtraceConfig {
            gamma: 0.9,
            lambda,
            rho_bar: caps[0].or(Some(3.0)),
            // The trace of ratios without a cap would grow beyond what f32 adds up.
            c_bar: caps[1].or(Some(1.0)),
            rho_pg_bar: None,
            pg_target: if vs { PgTarget::Vs } else { PgTarget::LambdaMix },
        };
        let (wide, own) = (data.widened(), transitions(&data, &device));
        let log_rhos = || matrix(&data.log_rhos, data.columns, &device);
        let wide_transitions = wide.transitions();

        let expected = host_vtrace(&wide_transitions, &wide.log_rhos, &config);
        let got = vtrace(&own, log_rhos(), &config);
        // Ratios up to 2 at gamma 0.9 make sums of up to 64 growing terms.
        let scale = expected.targets.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
        check("vtrace", got, &expected.targets, &expected.advantages, TOLERANCE * scale);

        let expected = host_gae(&wide_transitions, 0.97, lambda);
        check("gae", gae(&own, 0.97, lambda), &expected.returns, &expected.advantages, TOLERANCE);

        let expected = host_n_step(&wide_transitions, 0.97, n);
        check("n_step", n_step(&own, 0.97, n), &expected.targets, &expected.advantages, TOLERANCE);

        // Any numbers will do for the values of actions.
        let action_values: Vec<f64> = wide.values.iter().map(|value| 1.0 - value).collect();
        let expected = host_retrace(&wide_transitions, &action_values, &wide.log_rhos, 0.97, lambda);
        let own_action_values = own.values.clone().neg().add_scalar(1.0);
        let got = retrace(&own, own_action_values, log_rhos(), 0.97, lambda);
        check("retrace", got, &expected.targets, &expected.advantages, TOLERANCE);
    }
}

#[test]
fn ratios_without_a_cap_stay_finite_and_nan_is_not_hidden() {
    let device = Device::flex();
    let ratios = |cap| {
        let log_ratios = [-1e30, 0.0, 1e30, f32::NEG_INFINITY, f32::NAN];
        host(capped_ratio(matrix(&log_ratios, 5, &device), cap))
    };
    assert_eq!(ratios(Some(1.5))[..4], [0.0, 1.0, 1.5, 0.0]);
    let free = ratios(None);
    assert!((free[2] - 20_f64.exp()).abs() < 100.0, "{free:?}");
    assert!(free[4].is_nan() && ratios(Some(1.5))[4].is_nan());
}

#[test]
fn advantages_are_normalised_as_on_the_host() {
    let device = Device::flex();
    let list = |tensor: Tensor<1>| -> Vec<f32> { tensor.into_data().try_into_vec().unwrap() };
    let vector = |list: &[f32]| Tensor::<1>::from_data(TensorData::from(list), &device);
    let check = |advantages: &[f32], mask: Option<&[bool]>| {
        let mut expected = advantages.to_vec();
        let found = normalise::normalise(&mut expected, mask);
        let valid = mask.map(|mask| Valid {
            flags: vector(
                &mask
                    .iter()
                    .map(|&own| f32::from(u8::from(own)))
                    .collect::<Vec<_>>(),
            ),
            count: mask.iter().filter(|own| **own).count(),
            first: mask.iter().position(|own| *own).unwrap(),
        });
        let (got, moments) = normalise(vector(advantages), valid.as_ref());
        golden::assert_close_f32("normalised", &list(got), &widen(&expected), 1e-5);
        golden::assert_close_f32("moments", &list(moments), &[found.mean, found.std], 1e-5);
    };
    let advantages = [3.0, -1.0, 0.5, 7.0, 1e3, -2.0];
    check(&advantages, None);
    check(&advantages, Some(&[false, true, true, true, false, true]));
    // Nothing to learn from, and not the rounding of it.
    let equal = [0.1; 999];
    let (got, _) = normalise(vector(&equal), None);
    assert!(list(got).iter().all(|own| *own == 0.0));
}
