//! What the tests of this module share: owned transitions and simple ways to make them.

use proptest::prelude::*;
use serde_json::Value;
use springbok_common::step::StepOutcome;

use super::real::Real;
use super::returns::Transitions;
use super::vtrace::{PgTarget, VtraceConfig};
use crate::golden;

/// Owned [`Transitions`] with the log-ratios of V-trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scenario<F> {
    pub(crate) rewards: Vec<F>,
    pub(crate) values: Vec<F>,
    pub(crate) next_values: Vec<F>,
    pub(crate) outcomes: Vec<StepOutcome>,
    pub(crate) log_rhos: Vec<F>,
    pub(crate) columns: usize,
}

impl<F: Real> Scenario<F> {
    /// Reads the `input` of a case of `vtrace` or `returns` (there without log-ratios: on-policy).
    pub(crate) fn from_golden(case: &Value) -> Self {
        let input = &case["input"];
        let field = |name: &str| -> Vec<F> { narrow(&golden::numbers(&input[name])) };
        let flags = golden::flags(&input["terminated"]).into_iter();
        let flags = flags.zip(golden::flags(&input["truncated"]));
        let rewards = field("reward");
        let shape = [golden::integer(&case["T"]), golden::integer(&case["B"])];
        assert_eq!(golden::shape(&input["reward"]), shape, "[T, B]");
        let log_rhos = match input.get("log_pi") {
            Some(_) => {
                let pairs = field("log_pi").into_iter().zip(field("log_mu"));
                pairs.map(|(pi, mu)| pi - mu).collect()
            }
            None => vec![F::ZERO; rewards.len()],
        };
        Self {
            rewards,
            values: field("value"),
            next_values: field("next_value"),
            outcomes: flags.map(|(a, b)| StepOutcome::from_flags(a, b)).collect(),
            log_rhos,
            columns: shape[1],
        }
    }

    pub(crate) fn transitions(&self) -> Transitions<'_, F> {
        Transitions {
            rewards: &self.rewards,
            values: &self.values,
            next_values: &self.next_values,
            outcomes: &self.outcomes,
            columns: self.columns,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rewards.len() / self.columns
    }

    /// The rows `range`, all columns.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let flat = range.start * self.columns..range.end * self.columns;
        Self {
            rewards: self.rewards[flat.clone()].to_vec(),
            values: self.values[flat.clone()].to_vec(),
            next_values: self.next_values[flat.clone()].to_vec(),
            outcomes: self.outcomes[flat.clone()].to_vec(),
            log_rhos: self.log_rhos[flat].to_vec(),
            columns: self.columns,
        }
    }

    /// The same data with column `order[b]` in place of column `b`.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        let columns = self.columns;
        Self {
            rewards: permute(&self.rewards, order),
            values: permute(&self.values, order),
            next_values: permute(&self.next_values, order),
            outcomes: permute(&self.outcomes, order),
            log_rhos: permute(&self.log_rhos, order),
            columns,
        }
    }

    /// The same numbers in f64.
    pub(crate) fn widened(&self) -> Scenario<f64> {
        Scenario {
            rewards: widen(&self.rewards),
            values: widen(&self.values),
            next_values: widen(&self.next_values),
            outcomes: self.outcomes.clone(),
            log_rhos: widen(&self.log_rhos),
            columns: self.columns,
        }
    }

    pub(crate) fn on_policy(mut self) -> Self {
        self.log_rhos.fill(F::ZERO);
        self
    }
}

/// The constants in the `config` of a golden case.
pub(crate) fn vtrace_constants(config: &Value) -> VtraceConfig {
    VtraceConfig {
        gamma: golden::number(&config["gamma"]),
        lambda: golden::number(&config["lam"]),
        rho_bar: golden::optional(&config["rho_bar"]),
        c_bar: golden::optional(&config["c_bar"]),
        rho_pg_bar: golden::optional(&config["rho_pg_bar"]),
        pg_target: match config["pg_target"].as_str() {
            Some("lambda_mix") => PgTarget::LambdaMix,
            Some("vs") => PgTarget::Vs,
            other => panic!("pg_target {other:?}"),
        },
    }
}

/// Reorders the columns of a time-major list.
pub(crate) fn permute<T: Copy>(list: &[T], order: &[usize]) -> Vec<T> {
    let rows = list.chunks_exact(order.len());
    rows.flat_map(|row| order.iter().map(|b| row[*b])).collect()
}

pub(crate) fn widen<F: Real>(list: &[F]) -> Vec<f64> {
    list.iter().map(|x| x.to_f64()).collect()
}

pub(crate) fn narrow<F: Real>(list: &[f64]) -> Vec<F> {
    list.iter().map(|x| F::from_f64(*x)).collect()
}

/// Random data with T <= 64 rows and B <= 8 columns: ratios between e^-3 and e^3, ends of both kinds, and V' equal
/// to the next row's V inside an episode, as the learner builds it. Junk after terminal steps.
pub(crate) fn scenarios() -> impl Strategy<Value = Scenario<f32>> {
    (1_usize..=64, 1_usize..=8).prop_flat_map(|(rows, columns)| {
        let n = rows * columns;
        let numbers = |low: f32, high: f32| prop::collection::vec(low..high, n);
        let outcome = prop_oneof![
            8 => Just(StepOutcome::Continued),
            1 => Just(StepOutcome::Terminated),
            1 => Just(StepOutcome::Truncated),
        ];
        let parts = (
            numbers(-2.0, 2.0),
            numbers(-5.0, 5.0),
            numbers(-5.0, 5.0),
            numbers(-3.0, 3.0),
            prop::collection::vec(outcome, n),
        );
        parts.prop_map(move |(rewards, values, reached, log_rhos, outcomes)| {
            let next = |i: usize| match outcomes[i] {
                StepOutcome::Continued => values.get(i + columns).copied().unwrap_or(reached[i]),
                StepOutcome::Terminated | StepOutcome::LifeLost | StepOutcome::Void => 1e6,
                StepOutcome::Truncated => reached[i],
            };
            let next_values = (0..n).map(next).collect();
            Scenario {
                rewards,
                values,
                next_values,
                outcomes,
                log_rhos,
                columns,
            }
        })
    })
}
