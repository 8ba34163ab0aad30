//! Retrace: targets for the values of actions, safe for data of any policy.
//!
//! Munos et al. 2016, "Safe and efficient off-policy reinforcement learning" (arXiv 1606.02647), eq. 3 and 4.

use super::{real::Real, returns::Transitions};

/// What [`retrace`] returns; every list is `[T, B]`, time-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrace<F> {
    /// Targets for Q(x_t, a_t).
    pub targets: Vec<F>,
    /// target_t - E_pi Q(x_t, .): what the taken action is worth more than the policy's mean. It is an estimate for pi
    /// and a_t whatever policy chose a_t, so it is raw: no ratio of step t is inside.
    pub advantages: Vec<F>,
    /// c_t = lambda min(1, rho_t).
    pub traces: Vec<F>,
}

/// Retrace(lambda) targets (Munos et al. 2016), recursively from the last row, which has no tail:
///
/// `target_t = r_t + disc_t (E_pi Q(x'_t, .) + cont_t c_{t+1} (target_{t+1} - Q(x_{t+1}, a_{t+1})))`
///
/// with c and Q of the *next* step. The values of `transitions` are those of states under the learner's policy pi:
/// `values` is E_pi Q(x_t, .), `next_values` E_pi Q(x'_t, .). `action_values` `[T, B]` is Q(x_t, a_t), and `log_rhos`
/// `[T, B]` is log pi(a_t|x_t) - log mu(a_t|x_t) with mu the policy that sampled a_t.
///
/// disc_t is `gamma`, or 0 after a terminal step; cont_t is 0 after either end of an episode.
///
/// # Panics
/// When the shapes disagree, see [`Transitions::rows`].
#[must_use]
pub fn retrace<F: Real>(
    transitions: &Transitions<'_, F>,
    action_values: &[F],
    log_rhos: &[F],
    gamma: f64,
    lambda: f64,
) -> Retrace<F> {
    let columns = transitions.columns;
    let steps = transitions.rows() * columns;
    assert_eq!(action_values.len(), steps, "action values are [T, B]");
    assert_eq!(log_rhos.len(), steps, "log-ratios are [T, B]");
    let (gamma, lambda) = (F::from_f64(gamma), F::from_f64(lambda));
    let mut result = Retrace {
        targets: vec![F::ZERO; steps],
        advantages: vec![F::ZERO; steps],
        traces: vec![F::ZERO; steps],
    };
    // c_{t+1} (target_{t+1} - Q(x_{t+1}, a_{t+1})) of each column while the rows run backwards.
    let mut tails = vec![F::ZERO; columns];
    for i in (0..steps).rev() {
        let tail = &mut tails[i % columns];
        let reached = transitions.next_values[i] + transitions.carry(i, *tail);
        let target = transitions.backup(i, gamma, reached);
        let trace = lambda * at_most_one(log_rhos[i]);
        *tail = trace * (target - action_values[i]);
        result.targets[i] = target;
        result.advantages[i] = target - transitions.values[i];
        result.traces[i] = trace;
    }
    result
}

/// min(1, exp(x)), without overflow; NaN stays NaN.
fn at_most_one<F: Real>(log_ratio: F) -> F {
    if log_ratio > F::ZERO {
        F::ONE
    } else {
        log_ratio.exp()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};
    use proptest::prelude::*;
    use serde_json::Value;
    use springbok_common::{policy::categorical, step::StepOutcome};

    use super::*;
    use crate::{
        algorithm::{
            returns::gae,
            testing::{Scenario, narrow, scenarios, widen},
        },
        golden,
    };

    /// What is taken out of a case: E_pi Q(x_t), E_pi Q(x'_t), Q(x_t, a_t) and log pi(a_t|x_t), all [T, B].
    struct Heads<F> {
        values: Vec<F>,
        next_values: Vec<F>,
        action_values: Vec<F>,
        log_pi: Vec<F>,
    }

    impl Heads<f32> {
        /// By the code that the network computes with.
        fn on_tensors(case: &Value) -> Self {
            let input = &case["input"];
            let actions = golden::integer(&case["A"]);
            let matrix = |field: &str| {
                let numbers = golden::numbers_f32(&input[field]);
                let shape = [numbers.len() / actions, actions];
                Tensor::<2>::from_data(TensorData::new(numbers, shape), &Device::flex())
            };
            let taken: Vec<i32> = golden::integers(&input["action"])
                .into_iter()
                .map(|action| action as i32)
                .collect();
            let shape = [taken.len()];
            let taken = Tensor::<1, Int>::from_data(TensorData::new(taken, shape), &Device::flex());
            let host = |tensor: Tensor<1>| tensor.into_data().try_into_vec().unwrap();
            let log_probs = categorical::log_probs(matrix("logits_pi"), None);
            let next_log_probs = categorical::log_probs(matrix("logits_pi_next"), None);
            let of_taken =
                |all: &Tensor<2>| host(categorical::of_actions(all.clone(), taken.clone()));
            Self {
                log_pi: of_taken(&log_probs),
                action_values: of_taken(&matrix("q")),
                values: host(categorical::expectation(log_probs, matrix("q"))),
                next_values: host(categorical::expectation(next_log_probs, matrix("q_next"))),
            }
        }
    }

    impl Heads<f64> {
        fn on_the_host(case: &Value) -> Self {
            let input = &case["input"];
            let actions = golden::integer(&case["A"]);
            let field = |name: &str| golden::numbers(&input[name]);
            let rows = |name: &str| -> Vec<Vec<f64>> {
                field(name).chunks(actions).map(<[f64]>::to_vec).collect()
            };
            let log_softmax = |row: &Vec<f64>| -> Vec<f64> {
                let total = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                row.iter().map(|logit| logit - total).collect()
            };
            let mean = |q: &str, logits: &str| -> Vec<f64> {
                let pairs = rows(q).into_iter().zip(rows(logits));
                pairs
                    .map(|(q, logits)| {
                        let log_probs = log_softmax(&logits);
                        q.iter().zip(log_probs).map(|(q, log)| q * log.exp()).sum()
                    })
                    .collect()
            };
            let taken = golden::integers(&input["action"]);
            let pick = |rows: Vec<Vec<f64>>| -> Vec<f64> {
                let pairs = rows.into_iter().zip(&taken);
                pairs.map(|(row, &action)| row[action as usize]).collect()
            };
            Self {
                values: mean("q", "logits_pi"),
                next_values: mean("q_next", "logits_pi_next"),
                action_values: pick(rows("q")),
                log_pi: pick(rows("logits_pi").iter().map(log_softmax).collect()),
            }
        }
    }

    fn check<F: Real>(name: &str, case: &Value, heads: Heads<F>, tolerance: f64) {
        let (input, config) = (&case["input"], &case["config"]);
        let flags = golden::flags(&input["terminated"]).into_iter();
        let flags = flags.zip(golden::flags(&input["truncated"]));
        let outcomes: Vec<_> = flags
            .map(|(terminated, truncated)| StepOutcome::from_flags(terminated, truncated))
            .collect();
        let rewards: Vec<F> = narrow(&golden::numbers(&input["reward"]));
        let log_mu: Vec<F> = narrow(&golden::numbers(&input["log_mu"]));
        let pairs = heads.log_pi.iter().zip(log_mu);
        let log_rhos: Vec<F> = pairs.map(|(pi, mu)| *pi - mu).collect();
        let transitions = Transitions {
            rewards: &rewards,
            values: &heads.values,
            next_values: &heads.next_values,
            outcomes: &outcomes,
            columns: golden::integer(&case["B"]),
        };
        let got = retrace(
            &transitions,
            &heads.action_values,
            &log_rhos,
            golden::number(&config["gamma"]),
            golden::number(&config["lam"]),
        );
        let pairs = got.targets.iter().zip(&heads.action_values);
        let errors: Vec<F> = pairs.map(|(target, q)| *target - *q).collect();
        for (field, got) in [
            ("target", &got.targets),
            ("td_error", &errors),
            ("c", &got.traces),
        ] {
            let expected = golden::numbers(&case["expected"][field]);
            let name = format!("{name} {field}");
            golden::assert_close(&name, &widen(got), &expected, tolerance);
        }
    }

    #[test]
    fn golden_retrace_f64() {
        golden::each_case(
            "retrace",
            |_| true,
            |name, case| check(name, case, Heads::on_the_host(case), 1e-9),
        );
    }

    #[test]
    fn golden_retrace_f32() {
        golden::each_case(
            "retrace",
            |_| true,
            |name, case| check(name, case, Heads::on_tensors(case), 1e-5),
        );
    }

    proptest! {
        /// Where no action is worth more than another, on-policy Retrace is GAE.
        #[test]
        fn without_lag_and_preferences_it_is_gae(scenario in scenarios(), lambda in 0.0..1.0_f64) {
            let scenario: Scenario<f64> = scenario.widened().on_policy();
            let transitions = scenario.transitions();
            let got = retrace(&transitions, &scenario.values, &scenario.log_rhos, 0.97, lambda);
            let expected = gae(&transitions, 0.97, lambda);
            golden::assert_close("targets", &got.targets, &expected.returns, 1e-12);
            golden::assert_close("advantages", &got.advantages, &expected.advantages, 1e-12);
        }
    }
}
