//! Layout, initialisation, gradients, faults.

use ::safetensors::SafeTensors;
use burn::optim::GradientsParams;

use super::*;

/// T, B and a sequence of observations without state for `spec`.
fn sequence(spec: &NetworkSpec, device: &Device) -> Sequence {
    let (length, batch) = (3, 4);
    let columns = spec.observation.len();
    let values = random(length * batch * columns, 5);
    let data = TensorData::new(values, [length * batch, columns]);
    Sequence {
        observations: Tensor::from_data(data, device),
        length,
        state: None,
        keep: None,
        burn_in: 0,
    }
}

#[test]
fn the_layout_is_the_order_in_which_the_network_is_visited() {
    struct Shapes(Vec<Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.0.push(parameter.val().dims().to_vec());
        }
    }
    for spec in all_specs() {
        assert_eq!(spec.fault(), None, "{spec:?}");
        let network = ActorCritic::new(&spec, 1, &device());
        let mut shapes = Shapes(Vec::new());
        network.visit(&mut shapes);
        let (mut names, expected): (Vec<_>, Vec<_>) = layout(&spec).into_iter().unzip();
        assert_eq!(shapes.0, expected, "{spec:?}");
        assert_eq!(export_flat(&network).len(), payload_bytes(&spec));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{spec:?}: names are unique");
    }
}

#[test]
fn each_trained_parameter_gets_a_gradient_and_belongs_to_one_group() {
    struct Check<'a> {
        gradients: &'a GradientsParams,
        groups: Vec<burn::module::ParamId>,
        names: std::vec::IntoIter<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Check<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let (name, _) = self.names.next().unwrap();
            let gradient = self.gradients.get::<D>(parameter.id);
            let in_groups = self.groups.iter().filter(|&&id| id == parameter.id);
            let trained = !["observation_", "value_mean", "value_std"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            assert_eq!(in_groups.count(), usize::from(trained), "{name}");
            match gradient {
                Some(gradient) if trained => {
                    let size = host(gradient.abs().max())[0];
                    assert!(size > 0.0, "{name} has a gradient of 0");
                }
                gradient => assert_eq!(gradient.is_some(), trained, "{name}"),
            }
        }
    }
    let device = device().autodiff();
    for spec in all_specs() {
        let network = ActorCritic::new(&spec, 3, &device);
        let unrolled = network.unroll(sequence(&spec, &device));
        // Weights that differ between columns: equal ones would cancel in a softmax, not here, yet be no real loss.
        let [rows, columns] = unrolled.parameters.dims();
        let weights = matrix(&random(rows * columns, 9), columns);
        let mut loss = (unrolled.parameters * weights).sum() + unrolled.values.square().sum();
        if let Some(values) = unrolled.auxiliary_values {
            loss = loss + values.square().sum();
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let mut groups = network.policy_parameter_ids();
        groups.extend(network.value_parameter_ids());
        network.visit(&mut Check {
            gradients: &gradients,
            groups,
            names: layout(&spec).into_iter(),
        });
    }
}

#[test]
fn the_parts_agree_with_the_whole() {
    for spec in all_specs() {
        let network = shaken(&spec, 7);
        let mut sequence = sequence(&spec, &device());
        sequence.length = 1;
        let observations = sequence.observations.clone();
        let (parameters, values) = network.forward(observations.clone());
        let (acted, state) = network.act(observations.clone(), None);
        assert_eq!(acted.dims()[1], spec.distribution_len());
        let state_len = (spec.state_len() > 0).then_some(spec.state_len());
        assert_eq!(state.map(|state| state.dims()[1]), state_len);
        let (parameters, values) = (host(parameters), host(values));
        assert_close("act", &host(acted), &parameters, 1e-6);
        let after = host(network.values_after(observations, None));
        assert_close("values_after", &after, &values, 1e-6);
        let unrolled = network.unroll(sequence);
        assert_close("unroll", &host(unrolled.parameters), &parameters, 1e-6);
        assert_close("unroll", &host(unrolled.values), &values, 1e-6);
    }
}

#[test]
fn parameters_survive_the_round_trip_bit_for_bit() {
    for spec in all_specs() {
        let device = device();
        let original = export_flat(&ActorCritic::new(&spec, 1, &device));
        assert_eq!(original, export_flat(&ActorCritic::new(&spec, 1, &device)));

        let other = ActorCritic::blank(&spec, &device.autodiff());
        assert_ne!(original, export_flat(&other));
        let loaded = import_flat(other.clone(), &original).unwrap();
        assert_eq!(original, export_flat(&loaded));
        assert!(import_flat(other.clone(), &original[4..]).is_err());
        assert!(import_flat(other, &[&original[..], &[0; 4]].concat()).is_err());

        let file = write_safetensors(&original, &spec).unwrap();
        assert_eq!(read_safetensors(&file, &spec).unwrap(), original);
    }
}

#[test]
fn a_file_has_the_names_and_orientation_of_pytorch_and_refuses_other_networks() {
    let mut spec = spec(
        ObservationSpec::bytes([8, 7, 3], 1),
        ActionSpec::Discrete(2),
    );
    spec.encoder = EncoderSpec::MinatarConv {
        layout: ImageLayout::ChannelsLast,
        hidden_sizes: vec![10],
    };
    spec.core = CoreSpec::Gru { size: 4 };
    let flat = export_flat(&ActorCritic::new(&spec, 5, &device()));
    let file = write_safetensors(&flat, &spec).unwrap();
    // Eight hash maps of four entries would hardly all have the same order.
    for _ in 0..8 {
        assert_eq!(write_safetensors(&flat, &spec).unwrap(), file);
    }
    let view = SafeTensors::deserialize(&file).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    assert_eq!(metadata["format"], "pt");
    assert!(metadata["gates"].starts_with("r, z, n"));
    let shape = |name: &str| view.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("policy_torso.conv.0.weight"), [16, 3, 3, 3]);
    assert_eq!(shape("value_torso.fc.0.weight"), [10, 16 * 6 * 5]);
    assert_eq!(shape("policy_torso.core.recurrent.weight"), [12, 4]);
    assert_eq!(shape("policy_head.weight"), [2, 4]);

    let mut shared = spec.clone();
    shared.shared_torso = true;
    assert!(read_safetensors(&file, &shared).is_err());
    assert!(read_safetensors(&file[..file.len() - 1], &spec).is_err());
    assert!(write_safetensors(&flat[1..], &spec).is_err());
    let plain = self::spec(
        ObservationSpec::floats([3], [0.0, 1.0]),
        ActionSpec::Discrete(2),
    );
    assert_eq!(
        layout(&plain)[0],
        ("policy_torso.0.weight".into(), vec![3, 7])
    );
}

#[test]
fn another_network_has_another_fingerprint() {
    let plain = spec(ObservationSpec::floats([3], [0.0, 1.0]), torques());
    let mut others = vec![plain.clone(); 8];
    others[0].shared_torso = true;
    others[1].activation = Activation::Relu;
    others[2].core = CoreSpec::Gru { size: 2 };
    others[3].normalise_observations = true;
    others[4].popart = true;
    others[5].gaussian.log_std_initial = -1.0;
    others[6].auxiliary_value = true;
    others[7].critic = CriticSpec::Q;
    for other in others {
        assert_ne!(
            layout_fingerprint(&plain),
            layout_fingerprint(&other),
            "{other:?}"
        );
    }
    assert_eq!(
        layout_fingerprint(&plain),
        layout_fingerprint(&plain.clone())
    );
}

#[test]
fn bytes_are_scaled_by_their_highest_value() {
    let action = ActionSpec::Discrete(2);
    let pixels = spec(ObservationSpec::bytes([3], 200), action.clone());
    let floats = spec(ObservationSpec::floats([3], [0.0, 1.0]), action.clone());
    let board = spec(ObservationSpec::bytes([3], 1), action);
    let bytes = [0.0, 50.0, 200.0];
    let scaled = bytes.map(|byte| byte / 200.0);
    let act =
        |spec: &NetworkSpec, values: &[f32]| host(shaken(spec, 4).act(matrix(values, 3), None).0);
    assert_close(
        "pixels",
        &act(&pixels, &bytes),
        &act(&floats, &scaled),
        1e-6,
    );
    assert_eq!(act(&board, &bytes), act(&floats, &bytes));
}

#[test]
fn what_cannot_be_built_is_a_fault() {
    register_scaled();
    let fault = |change: &dyn Fn(&mut NetworkSpec)| {
        let mut spec = spec(ObservationSpec::floats([3], [0.0, 1.0]), torques());
        assert_eq!(spec.fault(), None);
        change(&mut spec);
        spec.fault().unwrap_or_default()
    };
    let layout = ImageLayout::ChannelsFirst;
    let nature = EncoderSpec::NatureConv {
        layout,
        hidden_sizes: vec![],
    };
    type Change<'a> = &'a dyn Fn(&mut NetworkSpec);
    let cases: [(Change<'_>, &str); 17] = [
        (&|spec| spec.encoder = nature.clone(), "3 axes"),
        (
            &|spec| {
                spec.encoder = nature.clone();
                spec.observation.shape = vec![4, 36, 35];
            },
            "too small",
        ),
        (
            &|spec| {
                spec.encoder = EncoderSpec::Mlp {
                    hidden_sizes: vec![4, 0],
                }
            },
            "hidden size",
        ),
        (
            &|spec| {
                spec.encoder = EncoderSpec::Custom {
                    name: "none".into(),
                }
            },
            "registered as none",
        ),
        (&|spec| spec.core = CoreSpec::Lstm { size: 0 }, "core"),
        // Sizes that no memory holds, and whose products overflow.
        (
            &|spec| spec.core = CoreSpec::Lstm { size: usize::MAX },
            "recurrent core",
        ),
        (
            &|spec| spec.observation.shape = vec![1 << 40; 3],
            "elements of an observation",
        ),
        (
            &|spec| {
                spec.encoder = EncoderSpec::Mlp {
                    hidden_sizes: vec![4, 1 << 40],
                }
            },
            "hidden layer",
        ),
        (
            &|spec| spec.action = ActionSpec::MultiDiscrete(vec![u32::MAX; 9]),
            "choices of an action",
        ),
        (
            &|spec| {
                spec.encoder = EncoderSpec::Mlp {
                    hidden_sizes: vec![1 << 20; 3],
                }
            },
            "parameters, but at most",
        ),
        (&|spec| spec.critic = CriticSpec::Q, "one discrete action"),
        (
            &|spec| {
                spec.auxiliary_value = true;
                spec.shared_torso = true;
            },
            "separate torsos",
        ),
        (&|spec| spec.observation.shape = vec![3, 0], "no element"),
        (
            &|spec| spec.observation = ObservationSpec::bytes([3], 0),
            "highest value",
        ),
        (
            &|spec| spec.action = ActionSpec::MultiDiscrete(vec![2, 0]),
            "0 choices",
        ),
        (
            &|spec| {
                spec.action = ActionSpec::Box {
                    low: vec![0.0],
                    high: vec![f32::INFINITY],
                };
                spec.gaussian.squash = true;
            },
            "squash",
        ),
        (
            &|spec| {
                spec.action = ActionSpec::Box {
                    low: vec![1.0],
                    high: vec![1.0],
                }
            },
            "bound",
        ),
    ];
    for (change, expected) in cases {
        let fault = fault(change);
        assert!(fault.contains(expected), "{expected}: {fault:?}");
    }
}
