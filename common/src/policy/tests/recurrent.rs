//! Recurrent cores: against PyTorch's equations, step by step, and with burn-in.

use burn::optim::GradientsParams;

use super::*;

const LENGTH: usize = 7;
const BATCH: usize = 3;
const OBSERVATION: usize = 2;

fn recurrent(core: CoreSpec, shared_torso: bool) -> NetworkSpec {
    let bounds = [f32::NEG_INFINITY, f32::INFINITY];
    let observation = ObservationSpec::floats([OBSERVATION], bounds);
    let mut spec = spec(observation, ActionSpec::Discrete(3));
    spec.encoder = EncoderSpec::Mlp {
        hidden_sizes: vec![],
    };
    spec.core = core;
    spec.shared_torso = shared_torso;
    spec
}

fn specs() -> Vec<NetworkSpec> {
    let cores = [CoreSpec::Lstm { size: 3 }, CoreSpec::Gru { size: 4 }];
    let both = |core| [false, true].map(|shared_torso| recurrent(core, shared_torso));
    cores.into_iter().flat_map(both).collect()
}

/// Observations, start state and resets: environment 0 at step 0 and 3, environment 2 at step 4.
fn sequence(spec: &NetworkSpec) -> Sequence {
    let mut keep = vec![1.0; LENGTH * BATCH];
    for index in [0, 3 * BATCH, 4 * BATCH + 2] {
        keep[index] = 0.0;
    }
    Sequence {
        observations: matrix(&random(LENGTH * BATCH * OBSERVATION, 1), OBSERVATION),
        length: LENGTH,
        state: Some(matrix(
            &random(BATCH * spec.state_len(), 2),
            spec.state_len(),
        )),
        keep: Some(matrix(&keep, BATCH)),
        burn_in: 0,
    }
}

#[test]
fn an_unroll_is_step_after_step() {
    for spec in specs() {
        let network = shaken(&spec, 1);
        let sequence = sequence(&spec);
        let unrolled = network.unroll(sequence.clone());
        let states = unrolled.states.unwrap();
        let mut state = sequence.state.unwrap();
        let keep = sequence.keep.unwrap();
        for step in 0..LENGTH {
            let rows = |tensor: &Tensor<2>| host(tensor.clone().narrow(0, step * BATCH, BATCH));
            let observations = sequence.observations.clone().narrow(0, step * BATCH, BATCH);
            state = state * keep.clone().narrow(0, step, 1).transpose();
            let value = network.values_after(observations.clone(), Some(state.clone()));
            let (parameters, next) = network.act(observations, Some(state));
            state = next.unwrap();
            assert_close(
                "parameters",
                &rows(&unrolled.parameters),
                &host(parameters),
                1e-5,
            );
            assert_close("state", &rows(&states), &host(state.clone()), 1e-5);
            let values = unrolled.values.clone().narrow(0, step * BATCH, BATCH);
            assert_close("value", &host(values), &host(value), 1e-5);
        }
    }
}

/// x W for W [inputs, outputs], row-major.
fn product(x: &[f64], weight: &[f64], outputs: usize) -> Vec<f64> {
    let at = |column| {
        x.iter()
            .enumerate()
            .map(|(row, x)| x * weight[row * outputs + column])
            .sum()
    };
    (0..outputs).map(at).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// One step of `torch.nn.LSTM` or `torch.nn.GRU` with bias_hh of 0 except for the n of a GRU.
fn step(network: &ActorCritic, torso: &str, x: &[f64], state: &[f64]) -> Vec<f64> {
    let own = |name: &str| parameter(network, &format!("{torso}.core.{name}"));
    let (input, bias, recurrent) = (
        own("input.weight"),
        own("input.bias"),
        own("recurrent.weight"),
    );
    let gates = bias.len();
    let x: Vec<f64> = product(x, &input, gates)
        .iter()
        .zip(&bias)
        .map(|(a, b)| a + b)
        .collect();
    match network.spec().core {
        CoreSpec::Lstm { size } => {
            let (h, c) = state.split_at(size);
            let h = product(h, &recurrent, gates);
            let gate = |gate: usize, unit: usize| x[gate * size + unit] + h[gate * size + unit];
            let cell = |unit| {
                sigmoid(gate(1, unit)) * c[unit] + sigmoid(gate(0, unit)) * gate(2, unit).tanh()
            };
            let hidden = |unit| sigmoid(gate(3, unit)) * f64::tanh(cell(unit));
            (0..size).map(hidden).chain((0..size).map(cell)).collect()
        }
        CoreSpec::Gru { size } => {
            let (h, bias_n) = (product(state, &recurrent, gates), own("recurrent.bias"));
            let unit = |unit: usize| {
                let r = sigmoid(x[unit] + h[unit]);
                let z = sigmoid(x[size + unit] + h[size + unit]);
                let n = (x[2 * size + unit] + r * (h[2 * size + unit] + bias_n[unit])).tanh();
                (1.0 - z) * n + z * state[unit]
            };
            (0..size).map(unit).collect()
        }
        CoreSpec::None => Vec::new(),
    }
}

#[test]
fn cores_follow_the_equations_of_pytorch() {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    for spec in specs() {
        let network = shaken(&spec, 2);
        let sequence = sequence(&spec);
        let observations = wide(host(sequence.observations.clone()));
        let keep = wide(host(sequence.keep.clone().unwrap()));
        let start = wide(host(sequence.state.clone().unwrap()));
        let states = host(network.unroll(sequence).states.unwrap());
        let torsos: &[&str] = if spec.shared_torso {
            &["torso"]
        } else {
            &["policy_torso", "value_torso"]
        };
        let (all, own) = (spec.state_len(), spec.core.state_len());
        for environment in 0..BATCH {
            for (index, torso) in torsos.iter().enumerate() {
                let first = environment * all + index * own;
                let mut state = start[first..first + own].to_vec();
                for time in 0..LENGTH {
                    let row = time * BATCH + environment;
                    state.iter_mut().for_each(|value| *value *= keep[row]);
                    state = step(
                        &network,
                        torso,
                        &observations[row * OBSERVATION..][..OBSERVATION],
                        &state,
                    );
                    let got = &states[row * all + index * own..][..own];
                    let expected: Vec<f32> = state.iter().map(|&value| value as f32).collect();
                    assert_close(torso, got, &expected, 1e-5);
                }
            }
        }
    }
}

#[test]
fn no_gradient_flows_into_or_through_burn_in() {
    for spec in specs() {
        let device = device().autodiff();
        let burn_in = 3;
        let network = shaken(&spec, 3);
        let plain = network.clone().unroll(sequence(&spec));
        let network =
            import_flat(ActorCritic::blank(&spec, &device), &export_flat(&network)).unwrap();
        let gradients = |sequence: Sequence, skip: usize| {
            let unrolled = network.unroll(sequence);
            let rows = unrolled.parameters.dims()[0];
            let loss = unrolled
                .parameters
                .clone()
                .narrow(0, skip, rows - skip)
                .square()
                .sum()
                + unrolled
                    .values
                    .clone()
                    .narrow(0, skip, rows - skip)
                    .square()
                    .sum();
            let mut gradients = Gradients(
                GradientsParams::from_grads(loss.backward(), &network),
                Vec::new(),
            );
            network.visit(&mut gradients);
            (unrolled, gradients.1)
        };
        let mut warmed = sequence(&spec);
        warmed.observations = warmed.observations.autodiff();
        warmed.burn_in = burn_in;
        let (unrolled, with_burn_in) = gradients(warmed.clone(), burn_in * BATCH);
        assert_close(
            "parameters",
            &host(unrolled.parameters.inner()),
            &host(plain.parameters),
            1e-6,
        );
        assert_close(
            "values",
            &host(unrolled.values.inner()),
            &host(plain.values),
            1e-6,
        );
        let states = plain.states.unwrap();
        assert_close(
            "states",
            &host(unrolled.states.unwrap().inner()),
            &host(states.clone()),
            1e-6,
        );

        // The same gradient as of the rest alone, from the state that the burn-in left.
        let rest = (LENGTH - burn_in) * BATCH;
        let (_, alone) = gradients(
            Sequence {
                observations: warmed.observations.narrow(0, burn_in * BATCH, rest),
                length: LENGTH - burn_in,
                state: Some(states.narrow(0, (burn_in - 1) * BATCH, BATCH)),
                keep: warmed
                    .keep
                    .map(|keep| keep.narrow(0, burn_in, LENGTH - burn_in)),
                burn_in: 0,
            },
            0,
        );
        assert_close("gradients", &with_burn_in, &alone, 1e-5);
        // All of it as burn-in is an ordinary forward.
        let mut all = sequence(&spec);
        all.burn_in = LENGTH;
        assert!(!network.unroll(all).values.is_require_grad());
    }
}

struct Gradients(GradientsParams, Vec<f32>);

impl ModuleVisitor for Gradients {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.0.get::<D>(parameter.id) {
            self.1.extend(host(gradient));
        }
    }
}
