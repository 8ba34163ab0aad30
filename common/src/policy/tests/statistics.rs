//! Statistics of observations and returns: what they do, and that nothing trains them.

use burn::optim::{AdamConfig, GradientsParams};

use super::*;
use crate::config::SnapshotEncoding;

fn normalised() -> NetworkSpec {
    let mut spec = spec(
        ObservationSpec::floats([3], [f32::NEG_INFINITY, f32::INFINITY]),
        ActionSpec::Discrete(2),
    );
    spec.normalise_observations = true;
    spec.popart = true;
    spec
}

#[test]
fn observations_are_normalised_and_clipped() {
    let mut plain = normalised();
    plain.normalise_observations = false;
    let network = ActorCritic::new(&normalised(), 1, &device())
        .with_observation_statistics(&[1.0, -2.0, 0.0], &[2.0, 0.5, 100.0]);
    let raw = matrix(&[1.5, 0.0, -3.0, 1.0, -4.0, 0.05], 3);
    let expected = matrix(&[1.0, 1.0, -10.0, 0.0, -1.0, 5.0], 3);
    let (parameters, values) = network.forward(raw);
    let (plain_parameters, plain_values) = ActorCritic::new(&plain, 1, &device()).forward(expected);
    assert_close(
        "parameters",
        &host(parameters),
        &host(plain_parameters),
        1e-6,
    );
    assert_close("values", &host(values), &host(plain_values), 1e-6);
}

#[test]
fn bytes_are_scaled_by_their_bound_until_there_are_statistics() {
    let mut plain = normalised();
    plain.observation = ObservationSpec::bytes([3], 255);
    plain.normalise_observations = false;
    let mut with_statistics = plain.clone();
    with_statistics.normalise_observations = true;
    let network = ActorCritic::new(&with_statistics, 1, &device());
    let bytes = matrix(&[0.0, 255.0, 51.0, 7.0, 90.0, 128.0], 3);
    let of = |network: &ActorCritic, bytes: Tensor<2>| host(network.forward(bytes).0);
    let scaled = of(&ActorCritic::new(&plain, 1, &device()), bytes.clone());
    assert_close("scaled", &of(&network, bytes.clone()), &scaled, 1e-6);
    let network = network.with_observation_statistics(&[7.0, 90.0, 128.0], &[0.1; 3]);
    let centred = of(&network, bytes);
    let mut floats = normalised();
    floats.popart = true;
    let expected = matrix(&[-0.7, 10.0, -7.7, 0.0, 0.0, 0.0], 3);
    let expected = of(&ActorCritic::new(&floats, 1, &device()), expected);
    assert_close("normalised", &centred, &expected, 1e-6);
}

#[test]
fn new_value_statistics_leave_the_values_as_they_are() {
    let device = device().autodiff();
    let mut spec = normalised();
    spec.auxiliary_value = true;
    let network = ActorCritic::new(&spec, 1, &device).with_value_statistics(3.0, 2.0);
    let observations = matrix(&random(30, 2), 3);
    let values = |network: &ActorCritic| host(network.values_after(observations.clone(), None));
    let before = values(&network);
    let ids = network.value_parameter_ids();
    let weight = parameter(&network, "value_head.weight");

    let auxiliary = |network: &ActorCritic| {
        let values = network.outputs(observations.clone()).auxiliary_values;
        host(values.unwrap())
    };
    let auxiliary_before = auxiliary(&network);
    let rescaled = network.with_value_statistics(-40.0, 11.0);
    assert_close("auxiliary", &auxiliary(&rescaled), &auxiliary_before, 1e-5);
    assert_eq!(rescaled.value_statistics(), Some((-40.0, 11.0)));
    assert_close("values", &values(&rescaled), &before, 1e-5);
    let rescaled_weight = parameter(&rescaled, "value_head.weight");
    assert!((rescaled_weight[0] - weight[0] * 2.0 / 11.0).abs() < 1e-6);

    // The head is still the same parameter, and is still trained.
    assert_eq!(rescaled.value_parameter_ids(), ids);
    let loss = rescaled
        .values_after(observations.clone(), None)
        .square()
        .sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &rescaled);
    assert_eq!(gradients.len(), ids.len());
}

#[test]
fn an_optimiser_moves_parameters_but_never_statistics() {
    let device = device().autodiff();
    let statistics =
        |network: &ActorCritic| (network.observation_statistics(), network.value_statistics());
    let network = ActorCritic::new(&normalised(), 1, &device)
        .with_observation_statistics(&[1.0, -2.0, 0.5], &[2.0, 0.5, 3.0])
        .with_value_statistics(5.0, 3.0);
    // They come through inference, training and the wire without becoming trainable.
    let network = network.valid().train();
    let mut network = import_flat(network.clone(), &export_flat(&network)).unwrap();
    let expected = statistics(&network);
    assert_eq!(
        expected.0,
        Some((vec![1.0, -2.0, 0.5], vec![2.0, 0.5, 3.0]))
    );

    let (before, mut optimiser) = (export_flat(&network), AdamConfig::new().init());
    for _ in 0..3 {
        let (parameters, values) = network.forward(matrix(&random(12, 2), 3).autodiff());
        let loss = parameters.square().sum() + values.square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let trained = network.policy_parameter_ids().len() + network.value_parameter_ids().len();
        assert_eq!(gradients.len(), trained);
        network = optimiser.step(0.1, network, gradients);
    }
    assert_eq!(statistics(&network), expected);
    assert_ne!(export_flat(&network), before);
}

#[test]
fn networks_without_statistics_have_none() {
    let mut plain = normalised();
    (plain.normalise_observations, plain.popart) = (false, false);
    let network = ActorCritic::new(&plain, 1, &device());
    let before = export_flat(&network);
    let network = network
        .with_observation_statistics(&[0.0; 3], &[5.0; 3])
        .with_value_statistics(1.0, 7.0);
    assert_eq!(export_flat(&network), before);
    assert_eq!(
        (network.observation_statistics(), network.value_statistics()),
        (None, None)
    );
}

#[test]
fn rounded_weights_act_nearly_as_the_exact_ones_because_statistics_are_not_rounded() {
    let spec = normalised();
    let network = ActorCritic::new(&spec, 1, &device())
        .with_observation_statistics(&[1002.0, -1002.0, 0.0], &[1.0; 3])
        .with_value_statistics(3.0, 2.0);
    let flat = FlatLayout::of(&spec);
    let rounded = SnapshotEncoding::Bf16;
    let (weights, statistics) = (parameter_count(&spec) - 8, 8);
    assert_eq!(flat.bytes(rounded), 2 * weights + 4 * statistics);
    let packed = flat.pack(rounded, &export_flat(&network)).unwrap();
    let unpacked = flat.unpack(rounded, &packed).unwrap();
    let loaded = import_flat(ActorCritic::new(&spec, 2, &device()), &unpacked).unwrap();
    let shown: Vec<f32> = random(60, 9)
        .into_iter()
        .zip([1002.0, -1002.0, 0.0].into_iter().cycle())
        .map(|(noise, mean)| mean + noise)
        .collect();
    let outputs = |network: &ActorCritic| {
        let (parameters, values) = network.forward(matrix(&shown, 3));
        (host(parameters), host(values))
    };
    let (exact, near) = (outputs(&network), outputs(&loaded));
    assert_close("parameters", &near.0, &exact.0, 1e-3);
    assert_close("values", &near.1, &exact.1, 0.05);
    assert_ne!(near, exact);
}
