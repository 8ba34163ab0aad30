//! V-trace: critic targets and advantages for data that an older policy sampled.
//!
//! Espeholt et al. 2018, "IMPALA: Scalable distributed deep-RL with importance weighted actor-learner
//! architectures", eq. 1, section 4.1 and remark 2. It corrects which actions were taken, not which states were
//! visited: the distribution of states remains the behaviour policy's.

use super::real::Real;
use super::returns::Transitions;

/// What the policy's advantage takes as the value after the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PgTarget {
    /// `(1 - lambda) V'_t + lambda v_{t+1}`: equals GAE(lambda) when the data is on-policy.
    #[default]
    LambdaMix,
    /// `v_{t+1}`, as the paper prints it. The same as `LambdaMix` at lambda = 1.
    Vs,
}

/// Constants of V-trace. A cap of `None` is no cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VtraceConfig {
    /// Discount factor, in `[0, 1]`.
    pub gamma: f64,
    /// Decay of the trace, in `[0, 1]` (remark 2).
    pub lambda: f64,
    /// Cap on the ratio in the temporal-difference error: decides which policy's value is learnt.
    pub rho_bar: Option<f64>,
    /// Cap on the ratio in the trace: trades variance for speed, leaves the fixed point where it is.
    pub c_bar: Option<f64>,
    /// Cap on the ratio that weights the policy gradient.
    pub rho_pg_bar: Option<f64>,
    /// Value after the step in the advantage.
    pub pg_target: PgTarget,
}

impl Default for VtraceConfig {
    fn default() -> Self {
        Self {
            gamma: 0.99,
            lambda: 0.95,
            rho_bar: Some(1.0),
            c_bar: Some(1.0),
            rho_pg_bar: Some(1.0),
            pg_target: PgTarget::LambdaMix,
        }
    }
}

/// What [`vtrace`] returns; every list is `[T, B]`, time-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Vtrace<F> {
    /// v_t, the critic's targets.
    pub targets: Vec<F>,
    /// A_t, raw: no ratio inside, so that a loss that weights by a ratio does not count it twice.
    pub advantages: Vec<F>,
    /// min(rho_pg_bar, rho_t) A_t: the policy-gradient weight of the paper.
    pub pg_advantages: Vec<F>,
    /// Steps whose log-ratio had to be cut to stay finite. Only possible where a cap is missing.
    pub clamped: usize,
}

/// V-trace targets and advantages (Espeholt et al. 2018, eq. 1, in the recursive form of remark 1).
///
/// `log_rhos` `[T, B]` is log pi(a_t|x_t) - log mu(a_t|x_t), with mu the policy that sampled a_t and pi the
/// learner's policy when the batch arrived; minus infinity is allowed and gives a ratio of 0. With
/// rho_t = exp(log_rhos_t):
///
/// * `delta_t = min(rho_bar, rho_t) (r_t + disc_t V'_t - V(x_t))`
/// * `e_t = delta_t + disc_t cont_t lambda min(c_bar, rho_t) e_{t+1}`, `e_T = 0`
/// * `v_t = V(x_t) + e_t`
/// * `A_t = r_t + disc_t (V'_t + m cont_t e_{t+1}) - V(x_t)` with m = lambda or 1, see [`PgTarget`]
///
/// disc_t is gamma, or 0 after a terminal step; cont_t is 0 after either end of an episode. A NaN in the input
/// comes out as NaN, it is never hidden by a cap.
///
/// # Panics
/// When the shapes disagree, see [`Transitions::rows`].
#[must_use]
pub fn vtrace<F: Real>(
    transitions: &Transitions<'_, F>,
    log_rhos: &[F],
    config: &VtraceConfig,
) -> Vtrace<F> {
    let columns = transitions.columns;
    let steps = transitions.rows() * columns;
    assert_eq!(log_rhos.len(), steps, "log-ratios are [T, B]");
    let (gamma, lambda) = (F::from_f64(config.gamma), F::from_f64(config.lambda));
    let caps = [config.rho_bar, config.c_bar, config.rho_pg_bar].map(|cap| cap.map(F::from_f64));
    let mix = match config.pg_target {
        PgTarget::LambdaMix => lambda,
        PgTarget::Vs => F::ONE,
    };
    let mut result = Vtrace {
        targets: vec![F::ZERO; steps],
        advantages: vec![F::ZERO; steps],
        pg_advantages: vec![F::ZERO; steps],
        clamped: 0,
    };
    // e_{t+1} of each column while the rows run backwards.
    let mut errors = vec![F::ZERO; columns];
    for i in (0..steps).rev() {
        let (value, reached) = (transitions.values[i], transitions.next_values[i]);
        let error = &mut errors[i % columns];
        let later = transitions.carry(i, *error);
        result.clamped += usize::from(overflows(log_rhos[i], &caps));
        let [rho, c, rho_pg] = caps.map(|cap| capped_ratio(log_rhos[i], cap));

        let delta = rho * (transitions.backup(i, gamma, reached) - value);
        *error = delta + gamma * lambda * c * later;
        result.targets[i] = value + *error;
        result.advantages[i] = transitions.backup(i, gamma, reached + mix * later) - value;
        result.pg_advantages[i] = rho_pg * result.advantages[i];
    }
    result
}

/// min(cap, exp(log_ratio)). Without a cap the exponent stops at [`Real::LOG_RATIO_MAX`].
///
/// Comparisons instead of `min`, which would turn NaN into the cap.
fn capped_ratio<F: Real>(log_ratio: F, cap: Option<F>) -> F {
    match cap {
        Some(cap) => {
            let ratio = log_ratio.exp();
            if ratio > cap { cap } else { ratio }
        }
        None if log_ratio > F::LOG_RATIO_MAX => F::LOG_RATIO_MAX.exp(),
        None => log_ratio.exp(),
    }
}

/// Whether a missing cap made [`capped_ratio`] cut this log-ratio.
fn overflows<F: Real>(log_ratio: F, caps: &[Option<F>]) -> bool {
    log_ratio > F::LOG_RATIO_MAX && caps.iter().any(Option::is_none)
}

#[cfg(test)]
mod tests;
