//! Ends of episodes in a whole evaluation, by hand: two episodes in one column must not know of each other, with and
//! without memory; lost lives and void rows.

use burn::{
    module::Module as _,
    tensor::{Tensor, TensorData},
};
use rand::RngExt;
use springbok_common::{
    arrays::{Actions, Elements},
    config::{AdvantageNormalisation, AlgorithmConfig},
    policy::Sequence,
    spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec},
    step::StepOutcome::{self, Continued, LifeLost, Terminated, Truncated, Void},
};

use super::*;

const WIDTH: usize = 3;
const GAMMA: f64 = 0.9;
const LAMBDA: f64 = 0.8;
const OUTCOMES: [StepOutcome; 9] = [
    Continued, Truncated, Void, Continued, LifeLost, Continued, Terminated, Continued, Continued,
];

fn network(core: CoreSpec, shared_torso: bool) -> NetworkSpec {
    let environment = EnvironmentSpec::new(
        "E",
        ObservationSpec::floats([WIDTH], [-1.0, 1.0]),
        ActionSpec::Discrete(4),
    );
    let mut network = NetworkSpec::mlp(&environment, vec![16], Activation::Tanh, shared_torso);
    network.core = core;
    network
}

fn updater(network: &NetworkSpec, burn_in: usize) -> Updater {
    let mut config = UpdateConfig {
        advantage_normalisation: AdvantageNormalisation::None,
        burn_in,
        ..UpdateConfig::from(&AlgorithmConfig::default())
    };
    (config.vtrace.gamma, config.vtrace.lambda) = (GAMMA, LAMBDA);
    Updater::with_settings(config, network, 5, Device::flex())
}

/// One column with three ends, a lost life and a void row.
fn batch(network: &NetworkSpec) -> Batch {
    let mut rng = Pcg64::seed_from_u64(8);
    let t = OUTCOMES.len();
    let mut draw =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.0..1.0)).collect() };
    Batch {
        t,
        columns: 1,
        observations: Elements::F32(draw((t + 2) * WIDTH)),
        actions: Actions::Indices((0..t as u32).map(|step| step % 4).collect()),
        rewards: draw(t),
        behaviour_log_probs: draw(t).iter().map(|x| -1.4 + 0.3 * x).collect(),
        outcomes: OUTCOMES.to_vec(),
        final_rows: vec![1],
        core_states: draw(network.state_len()),
        lags: vec![0],
        ..Batch::default()
    }
}

fn networks() -> Vec<NetworkSpec> {
    vec![
        network(CoreSpec::None, true),
        network(CoreSpec::None, false),
        network(CoreSpec::Lstm { size: 6 }, true),
        network(CoreSpec::Gru { size: 6 }, false),
    ]
}

/// Values of all observation rows, one row at a time, the memory carried by hand.
fn values_by_hand(updater: &Updater, batch: &Batch) -> Vec<f32> {
    let model = updater.learnt.model.valid();
    let device = Device::flex();
    let matrix = |values: Vec<f32>| {
        let shape = [1, values.len()];
        Tensor::<2>::from_data(TensorData::new(values, shape), &device)
    };
    let row = |index: usize| {
        let own = index * WIDTH..(index + 1) * WIDTH;
        matrix(batch.observations.slice(own).to_f32())
    };
    let len = updater.network.state_len();
    let memory = |values: Vec<f32>| (len > 0).then(|| matrix(values));
    let scalar = |values: Tensor<1>| values.into_scalar::<f32>();

    let mut state = memory(batch.core_states.clone());
    let mut values = Vec::new();
    let mut final_value = 0.0;
    for (t, outcome) in batch.outcomes.iter().enumerate() {
        values.push(scalar(model.values_after(row(t), state.clone())));
        let after = model.unroll(Sequence {
            observations: row(t),
            length: 1,
            state,
            keep: None,
            burn_in: 0,
        });
        state = after.states;
        if *outcome == Truncated {
            // The state that the cut-off step reached, remembered before anything is forgotten.
            final_value = scalar(model.values_after(row(batch.t + 1), state.clone()));
        }
        if matches!(outcome, Truncated | Terminated | Void) {
            state = memory(vec![0.0; len]);
        }
    }
    values.push(scalar(model.values_after(row(batch.t), state)));
    values.push(final_value);
    values
}

#[test]
fn two_episodes_in_one_column_do_not_know_of_each_other() {
    let places = [false, true];
    let cases = networks()
        .into_iter()
        .flat_map(|network| places.map(|there| (network.clone(), there)));
    for (network, there) in cases {
        let mut updater = updater(&network, 0);
        updater.aims_on_device = there;
        let batch = batch(&network);
        let material = Material {
            rewards: batch.rewards.clone(),
            learnable: batch.learnable(0),
            staged: updater.stage(&batch),
            batch: &batch,
        };
        let arrival = updater.arrival(&material);
        let OnHost {
            evaluation: arrival,
            targets,
        } = arrival.on_host();
        let values = values_by_hand(&updater, &batch);
        for (got, expected) in arrival.values.iter().zip(&values) {
            assert!(
                (got - expected).abs() < 1e-5,
                "{network:?}: {got} {expected}"
            );
        }

        // g_t = 0 without a future; nV_t = V(final) where cut off, else V(x_t+1);
        // d_t = rho_t (r_t + g_t nV_t - V(x_t)); v_t = V(x_t) + d_t + [continued] gamma c_t (v_t+1 - V(x_t+1));
        // adv_t = r_t + g_t q_t - V(x_t), q_t = V(final) where cut off, else nV_t + lambda (v_t+1 - V(x_t+1)).
        let value = |t: usize| f64::from(values[t]);
        let mut later = 0.0; // v_t+1 - V(x_t+1)
        for t in (0..batch.t).rev() {
            let log_ratio = f64::from(arrival.log_probs[t] - batch.behaviour_log_probs[t]);
            let ratio = log_ratio.exp().min(1.0);
            let discount = match OUTCOMES[t] {
                Continued | Truncated => GAMMA,
                Terminated | LifeLost | Void => 0.0,
            };
            let reached = match OUTCOMES[t] {
                Truncated => value(batch.t + 1),
                _ => value(t + 1),
            };
            let carried = if OUTCOMES[t] == Continued { later } else { 0.0 };
            let reward = f64::from(batch.rewards[t]);
            let difference = ratio * (reward + discount * reached - value(t));
            later = difference + GAMMA * LAMBDA * ratio * carried;
            let advantage = reward + discount * (reached + LAMBDA * carried) - value(t);
            let close = |got: f32, expected: f64, what: &str| {
                let off = (f64::from(got) - expected).abs();
                assert!(off < 1e-5, "{network:?} {what} {t}: {got} {expected}");
            };
            close(targets.values[t], value(t) + later, "target");
            close(targets.advantages[t], advantage, "advantage");
        }
    }
}

/// What a void row and the rows of a burn-in hold makes no difference to what is learnt, except through memory.
#[test]
fn void_rows_teach_nothing() {
    for network in networks() {
        let run = |spoil: bool, there: bool| {
            let mut updater = updater(&network, 0);
            updater.aims_on_device = there;
            let mut batch = batch(&network);
            if spoil {
                // Row 2 is void.
                batch.rewards[2] = 1e6;
                batch.behaviour_log_probs[2] = -40.0;
                batch.actions = Actions::Indices(vec![0, 1, 0, 3, 0, 1, 2, 3, 0]);
            }
            updater.update(&batch, 1.0).unwrap();
            updater.parameters()
        };
        for there in [false, true] {
            assert_eq!(run(false, there), run(true, there), "{network:?} {there}");
        }
    }
}

#[test]
fn burn_in_rows_warm_up_the_memory_and_teach_nothing() {
    let network = network(CoreSpec::Gru { size: 6 }, true);
    let run = |burn_in: usize, reward: f32, there: bool| {
        let mut updater = updater(&network, burn_in);
        updater.aims_on_device = there;
        let mut batch = batch(&network);
        batch.rewards[0] = reward;
        updater.update(&batch, 1.0).unwrap();
        updater.parameters()
    };
    for there in [false, true] {
        let run = |burn_in: usize, reward: f32| run(burn_in, reward, there);
        assert_eq!(run(1, 0.0), run(1, 5.0));
        assert_ne!(run(0, 0.0), run(0, 5.0));
        assert_ne!(run(0, 0.0), run(1, 0.0));
    }
}
