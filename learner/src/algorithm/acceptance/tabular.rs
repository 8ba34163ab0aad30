//! C: small random Markov decision processes whose values are known exactly (`tabular.json`).

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::Value;
use springbok_common::step::StepOutcome;

use super::{Walk, fit};
use crate::algorithm::normalise::moments;
use crate::algorithm::vtrace::VtraceConfig;
use crate::golden;

/// Updates of a table critic, and how many of them its mean leaves out.
const UPDATES: u32 = 1000;
const FORGOTTEN: u32 = 300;

/// One Markov decision process with the policy to evaluate and the policy that acts.
struct Process {
    states: usize,
    actions: usize,
    gamma: f64,
    /// `[S][A][S]`, given that the step does not terminate.
    transition: Vec<f64>,
    /// `[S][A]`.
    terminate: Vec<f64>,
    reward: Vec<f64>,
    pi: Vec<f64>,
    mu: Vec<f64>,
    random: Pcg64,
}

impl Process {
    fn from_golden(case: &Value, seed: u64) -> Self {
        let field = |name: &str| golden::numbers(&case["input"][name]);
        Self {
            states: golden::integer(&case["S"]),
            actions: golden::integer(&case["A"]),
            gamma: golden::number(&case["config"]["gamma"]),
            transition: field("transition"),
            terminate: field("terminate_prob"),
            reward: field("reward"),
            pi: field("pi"),
            mu: field("mu"),
            random: Pcg64::seed_from_u64(seed),
        }
    }

    /// `rows` steps of mu in each of `columns` copies, from `start` or from any state.
    fn walk(&mut self, start: Option<usize>, rows: usize, columns: usize) -> Walk {
        let mut at: Vec<usize> = Vec::new();
        for _ in 0..columns {
            at.push(start.unwrap_or_else(|| self.random.random_range(0..self.states)));
        }
        let mut walk = Walk {
            columns,
            ..Walk::default()
        };
        for _ in 0..rows {
            for state in &mut at {
                *state = self.step(*state, &mut walk);
            }
        }
        walk
    }

    /// One step from `state`; returns where the next one starts.
    fn step(&mut self, state: usize, walk: &mut Walk) -> usize {
        let choices = state * self.actions..(state + 1) * self.actions;
        let action = draw(&mut self.random, &self.mu[choices]);
        let pair = state * self.actions + action;
        let ends = self.random.random::<f64>() < self.terminate[pair];
        let row = pair * self.states..(pair + 1) * self.states;
        let next = draw(&mut self.random, &self.transition[row]);
        let outcome = StepOutcome::from_flags(ends, false);
        let log_rho = (self.pi[pair].ln() - self.mu[pair].ln()) as f32;
        walk.push(state, next, self.reward[pair] as f32, outcome, log_rho);
        next
    }

    fn config(&self, bars: &Value, lambda: f64) -> VtraceConfig {
        VtraceConfig {
            gamma: self.gamma,
            lambda,
            rho_bar: golden::optional(&bars["rho_bar"]),
            c_bar: golden::optional(&bars["c_bar"]),
            ..VtraceConfig::default()
        }
    }

    /// A table critic trained on data of mu, policies frozen. Each update moves a state all the way to the mean
    /// target of its visits, that is by 1/visits per visit; the result is the mean critic over the later updates
    /// (Polyak and Juditsky 1992), which forgets the start and averages the noise away.
    fn train(&mut self, config: &VtraceConfig) -> Vec<f64> {
        let mut critic = vec![0.0_f32; self.states];
        let mut mean = vec![0.0_f64; self.states];
        for update in 0..UPDATES {
            let walk = self.walk(None, 20, 60);
            let targets = walk.vtrace(&critic, config).targets;
            fit(&mut critic, &walk.states, &targets, 1.0);
            if update >= FORGOTTEN {
                let share = 1.0 / f64::from(UPDATES - FORGOTTEN);
                mean.iter_mut()
                    .zip(&critic)
                    .for_each(|(m, v)| *m += share * f64::from(*v));
            }
        }
        mean
    }
}

fn draw(random: &mut Pcg64, probabilities: &[f64]) -> usize {
    let mut left: f64 = random.random();
    let found = probabilities.iter().position(|p| {
        left -= p;
        left < 0.0
    });
    found.unwrap_or(probabilities.len() - 1)
}

fn bars(case: &Value) -> &[Value] {
    case["expected"]["by_bars"].as_array().expect("a list")
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let gaps = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    gaps.fold(0.0, f64::max)
}

const UNROLLS: usize = 20_000;

/// Largest distance, in standard errors, over all start states, of the mean first target from its exact
/// expectation; `spoil` may put a mistake into the data before the production code sees it.
fn worst_z(process: &mut Process, case: &Value, bars: &Value, spoil: impl Fn(&mut Walk)) -> f64 {
    let initial: Vec<f32> = golden::numbers_f32(&case["input"]["V0"]);
    let expected = golden::numbers(&bars["expected_target_from_V0"]["5"]);
    let config = process.config(bars, 1.0);
    let mut worst = 0.0_f64;
    for (start, exact) in expected.iter().enumerate() {
        let mut walk = process.walk(Some(start), 5, UNROLLS);
        spoil(&mut walk);
        let targets = walk.vtrace(&initial, &config).targets;
        let found = moments(&targets[..UNROLLS], None);
        let error = found.std / (UNROLLS as f64).sqrt();
        worst = worst.max((found.mean - exact).abs() / error);
    }
    worst
}

#[test]
fn c1_golden_mean_targets_are_the_exact_expectation() {
    golden::each_case(
        "tabular",
        |_| true,
        |name, case| {
            let mut process = Process::from_golden(case, 21);
            for bars in bars(case) {
                let z = worst_z(&mut process, case, bars, |_| {});
                assert!(z < 4.0, "{name} {}: {z} standard errors", bars["rho_bar"]);
            }
        },
    );
}

/// A name, and what it does to the data.
type Mistake = (&'static str, fn(&mut Walk));

/// C1 must be able to fail: the same check with a mistake in the data.
#[test]
fn c1_golden_mistakes_are_far_outside_the_bound() {
    let mistakes: [Mistake; 3] = [
        ("inverted ratio", |walk| {
            walk.log_rhos.iter_mut().for_each(|l| *l = -*l);
        }),
        ("no correction", |walk| walk.log_rhos.fill(0.0)),
        ("ends ignored", |walk| {
            walk.outcomes.fill(StepOutcome::Continued)
        }),
    ];
    let mut worst = [0.0_f64; 3];
    golden::each_case(
        "tabular",
        |_| true,
        |_, case| {
            let mut process = Process::from_golden(case, 22);
            for bars in bars(case) {
                for ((_, spoil), worst) in mistakes.iter().zip(&mut worst) {
                    *worst = worst.max(worst_z(&mut process, case, bars, spoil));
                }
            }
        },
    );
    for ((mistake, _), z) in mistakes.iter().zip(worst) {
        assert!(z > 8.0, "{mistake}: only {z} standard errors");
    }
}

/// The case whose policies are close enough for uncapped ratios to have a usable variance.
fn is_small(case: &Value) -> bool {
    golden::name(case) == "small"
}

/// The cap on rho, infinite for none.
fn cap(bars: &Value) -> f64 {
    golden::optional(&bars["rho_bar"]).unwrap_or(f64::INFINITY)
}

/// How far a trained critic may be from the fixed point; uncapped ratios leave more noise.
fn tolerance(bars: &Value) -> f64 {
    if cap(bars).is_finite() { 0.05 } else { 0.1 }
}

#[test]
fn c2_golden_training_converges_to_the_value_of_the_truncated_policy() {
    golden::each_case(
        "tabular",
        |_| true,
        |name, case| {
            let mut process = Process::from_golden(case, 23);
            let of_pi = golden::numbers(&case["expected"]["V_pi"]);
            let of_mu = golden::numbers(&case["expected"]["V_mu"]);
            let usable = |bars: &&Value| is_small(case) || cap(bars) <= 1.0;
            // The bars include two values of c_bar for the same rho_bar: they must meet in one point.
            for bars in bars(case).iter().filter(usable) {
                let critic = process.train(&process.config(bars, 1.0));
                let point = golden::numbers(&bars["fixed_point"]);
                let error = distance(&critic, &point);
                assert!(
                    error < tolerance(bars),
                    "{name} {}: {error}",
                    bars["rho_bar"]
                );
                if is_small(case) && cap(bars) == 1.0 {
                    assert!(error < distance(&critic, &of_pi) / 4.0, "{name}");
                    assert!(error < distance(&critic, &of_mu) / 4.0, "{name}");
                }
            }
        },
    );
}

#[test]
fn c2_golden_only_the_cap_on_rho_moves_the_fixed_point() {
    golden::each_case(
        "tabular",
        |_| true,
        |name, case| {
            let mut farthest = 0.0_f64;
            for one in bars(case) {
                for other in bars(case) {
                    let points = [one, other].map(|bars| golden::numbers(&bars["fixed_point"]));
                    let moved = distance(&points[0], &points[1]);
                    farthest = farthest.max(moved);
                    assert!(moved < 1e-9 || one["rho_bar"] != other["rho_bar"], "{name}");
                }
            }
            assert!(farthest > 0.2, "{name}: {farthest}");
        },
    );
}

#[test]
fn c3_golden_lambda_does_not_move_the_fixed_point() {
    golden::each_case(
        "tabular",
        |case| golden::name(case) == "small",
        |name, case| {
            let mut process = Process::from_golden(case, 24);
            for bars in bars(case) {
                let point = golden::numbers(&bars["fixed_point"]);
                for lambda in [0.0, 0.5, 0.95] {
                    let critic = process.train(&process.config(bars, lambda));
                    let error = distance(&critic, &point);
                    assert!(
                        error < tolerance(bars),
                        "{name} {} {lambda}: {error}",
                        cap(bars)
                    );
                }
            }
        },
    );
}
