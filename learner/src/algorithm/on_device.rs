//! Targets and advantages where the tensors are: what [`vtrace`](super::vtrace), [`returns`](super::returns) and
//! [`retrace`](super::retrace) say, without a loop over time and without an answer to the host.
//!
//! V-trace, GAE and Retrace are recurrences e_t = x_t + a_t e_{t+1}, backwards in time. Such steps compose, in any grouping:
//! after k rounds each row has taken in the 2^k rows from its own on (Hillis and Steele 1986, "Data parallel algorithms"),
//! so that ceil(log2 T) rounds do for T rows. Sums come in another order than the host's, and differ by their rounding.
//!
//! A NaN comes out as NaN, here also in earlier rows beyond an end of an episode.

use burn::tensor::{Bool, Tensor};

use super::{
    normalise::EPSILON,
    real::Real,
    vtrace::{PgTarget, VtraceConfig},
};

/// The [`Transitions`](super::returns::Transitions) of a device; all [T, B].
#[derive(Clone)]
pub struct DeviceTransitions {
    /// r_t: the reward that action a_t caused.
    pub rewards: Tensor<2>,
    /// V(x_t).
    pub values: Tensor<2>,
    /// V'_t: value of the state that step `t` reached, before any reset.
    pub next_values: Tensor<2>,
    /// Whether no value comes after the step: it terminated, or a life was lost.
    pub is_final: Tensor<2, Bool>,
    /// Whether nothing may flow back into the step from the next row: an end of any kind.
    pub is_cut: Tensor<2, Bool>,
}

/// What the losses aim at; both [T, B].
#[derive(Clone)]
pub struct DeviceTargets {
    /// The critic's targets.
    pub targets: Tensor<2>,
    /// Raw advantages.
    pub advantages: Tensor<2>,
}

impl DeviceTransitions {
    /// r_t + disc_t * `next`.
    fn backup(&self, gamma: f64, next: Tensor<2>) -> Tensor<2> {
        let future = next.mul_scalar(gamma);
        self.rewards.clone() + future.mask_fill(self.is_final.clone(), 0.0)
    }

    /// The part of `later` that may flow back into each step.
    fn carry(&self, later: Tensor<2>) -> Tensor<2> {
        later.mask_fill(self.is_cut.clone(), 0.0)
    }
}

/// As [`vtrace`](super::vtrace::vtrace), with the same constants and `log_rhos` [T, B].
#[must_use]
pub fn vtrace(
    transitions: &DeviceTransitions,
    log_rhos: Tensor<2>,
    config: &VtraceConfig,
) -> DeviceTargets {
    let (gamma, lambda) = (config.gamma, config.lambda);
    let mix = match config.pg_target {
        PgTarget::LambdaMix => lambda,
        PgTarget::Vs => 1.0,
    };
    let (values, reached) = (&transitions.values, &transitions.next_values);
    let rho = capped_ratio(log_rhos.clone(), config.rho_bar);
    let c = capped_ratio(log_rhos, config.c_bar);

    let delta = rho * (transitions.backup(gamma, reached.clone()) - values.clone());
    let errors = backwards(delta, transitions.carry(c.mul_scalar(gamma * lambda)));
    let later = transitions.carry(next_row(errors.clone()));
    let onward = reached.clone() + later.mul_scalar(mix);
    DeviceTargets {
        targets: values.clone() + errors,
        advantages: transitions.backup(gamma, onward) - values.clone(),
    }
}

/// As [`gae`](super::returns::gae).
#[must_use]
pub fn gae(transitions: &DeviceTransitions, gamma: f64, lambda: f64) -> DeviceTargets {
    let values = &transitions.values;
    let delta = transitions.backup(gamma, transitions.next_values.clone()) - values.clone();
    let decay = delta.zeros_like().add_scalar(gamma * lambda);
    let advantages = backwards(delta, transitions.carry(decay));
    DeviceTargets {
        targets: values.clone() + advantages.clone(),
        advantages,
    }
}

/// As [`n_step`](super::returns::n_step), in n rounds.
#[must_use]
pub fn n_step(transitions: &DeviceTransitions, gamma: f64, n: usize) -> DeviceTargets {
    let reached = &transitions.next_values;
    let [rows, _] = reached.dims();
    let last = reached.clone().narrow(0, rows - 1, 1);
    let mut targets = transitions.backup(gamma, reached.clone());
    // Each round lets the window grow by a row, but for those that end in a cut or with the unroll.
    for _ in 1..n.min(rows) {
        let later = targets.narrow(0, 1, rows - 1);
        let later = Tensor::cat(vec![later, last.clone()], 0);
        let onward = later.mask_where(transitions.is_cut.clone(), reached.clone());
        targets = transitions.backup(gamma, onward);
    }
    DeviceTargets {
        advantages: targets.clone() - transitions.values.clone(),
        targets,
    }
}

/// As [`retrace`](super::retrace::retrace), with `action_values` and `log_rhos` [T, B].
#[must_use]
pub fn retrace(
    transitions: &DeviceTransitions,
    action_values: Tensor<2>,
    log_rhos: Tensor<2>,
    gamma: f64,
    lambda: f64,
) -> DeviceTargets {
    let traces = capped_ratio(log_rhos, Some(1.0)).mul_scalar(lambda);
    // target_t - Q(x_t, a_t), which flows back into the row before by the trace of this one.
    let delta = transitions.backup(gamma, transitions.next_values.clone()) - action_values.clone();
    let decay = transitions.carry(next_row(traces).mul_scalar(gamma));
    let targets = action_values + backwards(delta, decay);
    DeviceTargets {
        advantages: targets.clone() - transitions.values.clone(),
        targets,
    }
}

/// Which entries count.
#[derive(Clone)]
pub struct Valid {
    /// `[N]`: 1 where an entry counts, 0 elsewhere.
    pub flags: Tensor<1>,
    /// How many do, at least 1.
    pub count: usize,
    /// One that does.
    pub first: usize,
}

/// As [`normalise`](super::normalise::normalise): the normalised advantages `[N]`, and [mean, deviation] `[2]` of the raw
/// ones. Without `valid` all count.
#[must_use]
pub fn normalise(advantages: Tensor<1>, valid: Option<&Valid>) -> (Tensor<1>, Tensor<1>) {
    let [len] = advantages.dims();
    let counted = |entries: Tensor<1>| match valid {
        Some(valid) => entries * valid.flags.clone(),
        None => entries,
    };
    let share = 1.0 / valid.map_or(len, |valid| valid.count) as f64;
    // Measured from one of the entries: equal entries give exactly that mean and a deviation of exactly 0.
    let origin = advantages
        .clone()
        .narrow(0, valid.map_or(0, |valid| valid.first), 1);
    let offsets = counted(advantages - origin.clone());
    let offset = offsets.clone().sum().mul_scalar(share);
    let centred = counted(offsets - offset.clone());
    let deviation = centred.clone().square().sum().mul_scalar(share).sqrt();
    let normalised = centred / deviation.clone().add_scalar(EPSILON);
    (normalised, Tensor::cat(vec![origin + offset, deviation], 0))
}

/// e [T, B] with e_t = `x`_t + `a`_t e_{t+1} and e_T = 0.
fn backwards(mut x: Tensor<2>, mut a: Tensor<2>) -> Tensor<2> {
    let [rows, _] = x.dims();
    // Row t stands for the rows t..t + reach, and `a` has only rows whose window ends within the unroll.
    let mut reach = 1;
    while reach < rows {
        let count = rows - reach;
        let head = |tensor: &Tensor<2>, count| tensor.clone().narrow(0, 0, count);
        let joined = head(&x, count) + head(&a, count) * x.clone().narrow(0, reach, count);
        x = Tensor::cat(vec![joined, x.narrow(0, count, reach)], 0);
        if 2 * reach < rows {
            let count = rows - 2 * reach;
            a = head(&a, count) * a.clone().narrow(0, reach, count);
        }
        reach *= 2;
    }
    x
}

/// Row t + 1 in place of row t, and zeros in the last.
fn next_row(tensor: Tensor<2>) -> Tensor<2> {
    let [rows, _] = tensor.dims();
    let none = tensor.clone().narrow(0, 0, 1).zeros_like();
    if rows == 1 {
        return none;
    }
    Tensor::cat(vec![tensor.narrow(0, 1, rows - 1), none], 0)
}

/// min(cap, exp(log_ratio)); without a cap the exponent stops at [`Real::LOG_RATIO_MAX`]. Comparisons, which let NaN pass.
fn capped_ratio(log_ratios: Tensor<2>, cap: Option<f64>) -> Tensor<2> {
    let most = f64::from(f32::LOG_RATIO_MAX);
    let too_large = |tensor: &Tensor<2>, most: f64| tensor.clone().greater_elem(most);
    match cap {
        Some(cap) => {
            let ratios = log_ratios.exp();
            let above = too_large(&ratios, cap);
            ratios.mask_fill(above, cap)
        }
        None => {
            let above = too_large(&log_ratios, most);
            log_ratios.mask_fill(above, most).exp()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
