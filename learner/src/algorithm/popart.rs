//! PopArt: value targets of any size, normalised adaptively while the outputs of the value head are preserved
//! (van Hasselt et al. 2016, "Learning values across many orders of magnitude", arXiv 1602.07714, sec. 2.2). The
//! network rescales its own value head, [`springbok_common::policy::ActorCritic::with_value_statistics`].

use serde::{Deserialize, Serialize};

/// Bounds of the standard deviation.
const SIGMA: [f64; 2] = [1e-4, 1e6];

/// Exponential moving averages of the value targets and of their squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PopArt {
    mean: f64,
    second_moment: f64,
    step_size: f64,
    /// Share of the initial values that is still in the averages; 0 where they are not to be corrected for.
    initial_share: f64,
}

impl PopArt {
    /// Averages that start at mean 0 and deviation 1 and follow the targets by `step_size`; the start is corrected for
    /// (as in Adam), so that the first batch alone gives the first statistics.
    #[must_use]
    pub fn new(step_size: f64) -> Self {
        Self {
            mean: 0.0,
            second_moment: 1.0,
            step_size,
            initial_share: 1.0,
        }
    }

    /// The mean of the targets.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard deviation of the targets, sqrt(nu - mu^2), within [1e-4, 1e6].
    #[must_use]
    pub fn sigma(&self) -> f64 {
        let variance = (self.second_moment - self.mean * self.mean).max(0.0);
        variance.sqrt().clamp(SIGMA[0], SIGMA[1])
    }

    /// Takes in the mean of a batch of targets and of their squares.
    pub fn update(&mut self, targets: impl IntoIterator<Item = f64>) {
        let (mut count, mut sum, mut squares) = (0_u64, 0.0, 0.0);
        for target in targets {
            count += 1;
            sum += target;
            squares += target * target;
        }
        if count == 0 {
            return;
        }
        self.initial_share *= 1.0 - self.step_size;
        let step = self.step_size / (1.0 - self.initial_share);
        self.mean += step * (sum / count as f64 - self.mean);
        self.second_moment += step * (squares / count as f64 - self.second_moment);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use springbok_common::{
        policy::{ActorCritic, export_flat, import_flat},
        spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec},
    };

    use super::*;
    use crate::golden;

    #[test]
    fn golden_popart() {
        let is_popart = |case: &serde_json::Value| golden::name(case) == "popart";
        golden::each_case("misc", is_popart, |name, case| {
            let config = &case["config"];
            assert_eq!(golden::number(&config["sigma_min"]), SIGMA[0]);
            assert_eq!(golden::number(&config["sigma_max"]), SIGMA[1]);
            let mut state = PopArt {
                mean: golden::number(&config["init_mean"]),
                second_moment: golden::number(&config["init_second_moment"]),
                step_size: golden::number(&config["step_size"]),
                initial_share: 0.0,
            };
            let weights = golden::numbers_f32(&case["input"]["w"]);
            let bias = golden::numbers_f32(&case["input"]["b"]);
            let features = golden::numbers_f32(&case["input"]["features"]);
            let mut network = linear_value(&weights, &bias);
            for step in case["expected"].as_array().unwrap() {
                let targets = golden::numbers(&step["targets"]);
                state.update(targets.iter().copied());
                network = network.with_value_statistics(state.mean() as f32, state.sigma() as f32);
                let close = |got: &[f64], key: &str| {
                    let field = format!("{name} {key}");
                    golden::assert_close(&field, got, &golden::numbers(&step[key]), 1e-9);
                };
                close(&[state.mean()], "mean");
                close(&[state.second_moment], "second_moment");
                close(&[state.sigma()], "sigma");
                let normalised = targets.iter().map(|x| (x - state.mean()) / state.sigma());
                close(&normalised.collect::<Vec<_>>(), "normalised_targets");

                // The production network keeps its outputs and has exactly these weights.
                let close = |got: &[f32], key: &str| {
                    let field = format!("{name} {key}");
                    golden::assert_close_f32(&field, got, &golden::numbers(&step[key]), 1e-4);
                };
                let flat = export_flat(&network);
                let (words, _) = flat.as_chunks::<4>();
                let flat: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                // The value head and then its statistics, mean and deviation, come last.
                let head = &flat[flat.len() - weights.len() - 3..];
                close(&head[..weights.len()], "w");
                close(&head[weights.len()..=weights.len()], "b");
                let shape = [features.len() / weights.len(), weights.len()];
                let rows = TensorData::new(features.clone(), shape);
                let outputs = network.values_after(Tensor::from_data(rows, &Device::flex()), None);
                let outputs: Vec<f32> = outputs.into_data().try_into_vec().unwrap();
                close(&outputs, "unnormalised_output");
            }
        });
    }

    /// A network whose value is w x + b.
    fn linear_value(weights: &[f32], bias: &[f32]) -> ActorCritic {
        let environment = EnvironmentSpec::new(
            "Golden",
            ObservationSpec::floats([weights.len()], [-1e6, 1e6]),
            ActionSpec::Discrete(2),
        );
        let mut spec = NetworkSpec::mlp(&environment, vec![], Activation::Tanh, true);
        spec.popart = true;
        let policy_head = vec![0.0; 2 * weights.len() + 2];
        let statistics = [0.0, 1.0];
        let flat: Vec<u8> = [&policy_head[..], weights, bias, &statistics]
            .concat()
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        import_flat(ActorCritic::blank(&spec, &Device::flex()), &flat).unwrap()
    }

    #[test]
    fn the_first_batch_alone_gives_the_first_statistics() {
        let mut state = PopArt::new(3e-4);
        state.update([90.0, 110.0]);
        assert!((state.mean() - 100.0).abs() < 1e-9);
        assert!((state.sigma() - 10.0).abs() < 1e-9);
        state.update([]);
        assert!((state.mean() - 100.0).abs() < 1e-9);
    }
}
