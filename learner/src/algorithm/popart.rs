//! PopArt: value targets of any size, normalised adaptively while the outputs of the value head are preserved
//! (van Hasselt et al. 2016, "Learning values across many orders of magnitude", arXiv 1602.07714, sec. 2.2).

/// Bounds of the standard deviation.
const SIGMA: [f64; 2] = [1e-4, 1e6];

/// Exponential moving averages of the value targets and of their squares.
#[derive(Debug, Clone, Copy, PartialEq)]
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

/// Weights and bias of the value head after the statistics moved from `old` to `new`: the outputs
/// sigma * (w x + b) + mean stay what they were.
pub fn preserve_outputs(weights: &mut [f64], bias: &mut f64, old: &PopArt, new: &PopArt) {
    let scale = old.sigma() / new.sigma();
    weights.iter_mut().for_each(|weight| *weight *= scale);
    *bias = (old.sigma() * *bias + old.mean() - new.mean()) / new.sigma();
}

#[cfg(test)]
mod tests {
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
            let mut weights = golden::numbers(&case["input"]["w"]);
            let mut bias = golden::number(&case["input"]["b"]);
            let features = golden::numbers(&case["input"]["features"]);
            for step in case["expected"].as_array().unwrap() {
                let old = state;
                let targets = golden::numbers(&step["targets"]);
                state.update(targets.iter().copied());
                preserve_outputs(&mut weights, &mut bias, &old, &state);
                let normalised = targets.iter().map(|x| (x - state.mean()) / state.sigma());
                let outputs = features.chunks(weights.len()).map(|row| {
                    let product: f64 = row.iter().zip(&weights).map(|(x, w)| x * w).sum();
                    state.sigma() * (product + bias) + state.mean()
                });
                let close = |got: Vec<f64>, key: &str| {
                    let expected = golden::numbers(&step[key]);
                    assert_eq!(got.len(), expected.len());
                    for (got, expected) in got.iter().zip(&expected) {
                        let scale = expected.abs().max(1.0);
                        assert!((got - expected).abs() <= 1e-9 * scale, "{name} {key}");
                    }
                };
                close(vec![state.mean()], "mean");
                close(vec![state.second_moment], "second_moment");
                close(vec![state.sigma()], "sigma");
                close(weights.clone(), "w");
                close(vec![bias], "b");
                close(normalised.collect(), "normalised_targets");
                close(outputs.collect(), "unnormalised_output");
            }
        });
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
