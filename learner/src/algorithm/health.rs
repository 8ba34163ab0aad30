//! Health of a batch: how far the data is from the policy that learns from it, and how good the critic is.
//!
//! Three families of ratios, never to be mixed: `b = pi / mu` (current over behaviour: the whole distance),
//! `p = pi_prox / mu` (staleness when the batch arrived), `u = pi / pi_prox` (what this update did itself).
//! The inputs may be f32, every sum runs in f64.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::normalise::moments;
use super::real::Real;

/// The levels of [`Health::ratio_quantiles`].
pub const QUANTILE_LEVELS: [f64; 5] = [0.01, 0.05, 0.5, 0.95, 0.99];

/// Log-ratios nearer to 0 have a ratio, and a reciprocal of it, that f64 holds with all digits: e^709 is the largest.
const EXPONENT_MAX: f64 = 700.0;

/// Buckets of [`Health::ratio_counts`].
pub const RATIO_BUCKETS: usize = 26;

/// Upper bounds of all buckets of ratios but the last, which has none: quarters of an octave, from 1/8 to 8.
#[must_use]
pub fn ratio_edges() -> [f64; RATIO_BUCKETS - 1] {
    std::array::from_fn(|edge| ((edge as f64 - 12.0) / 4.0).exp2())
}

/// One batch, every list `[T, B]` time-major except where noted. Log-probabilities are those of the taken actions.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a, F> {
    /// log mu: what the actor stored when it sampled.
    pub behaviour: &'a [F],
    /// log pi_prox: the learner's parameters when the batch arrived.
    pub proximal: &'a [F],
    /// log pi: the learner's parameters now.
    pub current: &'a [F],
    /// Advantages; only their sign and, by lag, their size is used.
    pub advantages: &'a [F],
    /// V(x_t) when the batch arrived.
    pub values: &'a [F],
    /// The critic's targets v_t.
    pub targets: &'a [F],
    /// Policy lag in versions: `[T, B]`, or `[B]` when each column was sampled with one version.
    pub lags: &'a [u64],
    /// Which steps count; `None` for all.
    pub mask: Option<&'a [bool]>,
}

/// Metrics of one batch. Shares and effective sample sizes lie in `[0, 1]`, divergences are in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Effective sample size of b.
    pub ess_behaviour: f64,
    /// Effective sample size of p. Below 0.5 the batch is mostly wasted.
    pub ess_prox_over_behaviour: f64,
    /// Effective sample size of u.
    pub ess_theta_over_prox: f64,
    /// Share of steps with u outside the clip range.
    pub clip_fraction: f64,
    /// Share of steps whose gradient the clip of u removes: outside the range on the side of the advantage's sign.
    pub clip_fraction_binding: f64,
    /// `clip_fraction` of b.
    pub clip_fraction_behaviour: f64,
    /// `clip_fraction_binding` of b.
    pub clip_fraction_binding_behaviour: f64,
    /// Estimates of KL(pi_prox || pi).
    pub kl: KlEstimates,
    /// Estimates of KL(mu || pi).
    pub kl_behaviour: KlEstimates,
    /// Quantiles of b at [`QUANTILE_LEVELS`].
    pub ratio_quantiles: [f64; 5],
    /// Largest b.
    pub ratio_max: f64,
    /// Steps by b, in buckets with the upper bounds [`ratio_edges`].
    pub ratio_counts: [u64; RATIO_BUCKETS],
    /// Share of steps with p above rho_bar, where V-trace cuts the ratio.
    pub rho_truncated_fraction: f64,
    /// Mean of p. Its expectation is exactly 1 at every lag: the data says nothing about pi_prox.
    pub prox_ratio_mean: f64,
    /// Standard error of `prox_ratio_mean`. More than 4 of them away from 1 means that the stored log mu is not
    /// that of the policy that sampled.
    pub prox_ratio_mean_error: f64,
    /// Largest |log p| among steps of lag 0, where actor and learner should agree; `None` when there is none.
    pub max_abs_log_ratio_lag0: Option<f64>,
    /// Mean |log p| among steps of lag 0; `None` when there is none.
    pub mean_abs_log_ratio_lag0: Option<f64>,
    /// Mean policy lag, in versions.
    pub lag_mean: f64,
    /// Largest policy lag, in versions.
    pub lag_max: u64,
    /// 1 - Var(v - V) / Var(v); `None` when the targets are all equal.
    pub explained_variance: Option<f64>,
    /// One row per lag that occurs, in ascending order.
    pub per_lag: Vec<LagRow>,
}

/// What the data of one policy lag is still worth (all of b).
#[derive(Debug, Clone, PartialEq)]
pub struct LagRow {
    /// Policy lag, in versions.
    pub lag: u64,
    /// Steps with this lag.
    pub count: usize,
    /// Effective sample size.
    pub ess: f64,
    /// Share of ratios outside the clip range.
    pub clip_fraction: f64,
    /// KL(mu || pi), estimator k3.
    pub k3: f64,
    /// Share of steps with p above rho_bar, where V-trace cuts the ratio.
    pub rho_saturation: f64,
    /// Mean absolute advantage, in the units of the loss.
    pub abs_advantage: f64,
    /// What `ess` was computed from; it can be merged with that of other batches.
    pub weights: WeightSums,
}

/// Sums of weights w = exp(log-ratio) from which Kish's effective sample size follows. They are kept relative to the
/// largest weight, so that nothing overflows and sums of several batches can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeightSums {
    /// N.
    pub count: u64,
    /// The largest log-ratio; minus infinity before the first.
    largest: f64,
    /// Sum of w / w_max.
    sum: f64,
    /// Sum of (w / w_max)^2.
    squares: f64,
}

impl Default for WeightSums {
    fn default() -> Self {
        Self {
            count: 0,
            largest: f64::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
        }
    }
}

impl WeightSums {
    /// The sums of these log-ratios.
    #[must_use]
    pub fn of(log_ratios: &[f64]) -> Self {
        let largest = log_ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self::relative(largest, log_ratios.iter().map(|l| (l - largest).exp()))
    }

    /// The sums of these w / w_max, where log w_max is `largest`.
    fn relative(largest: f64, weights: impl ExactSizeIterator<Item = f64>) -> Self {
        let mut sums = Self {
            count: weights.len() as u64,
            largest,
            ..Self::default()
        };
        for weight in weights {
            sums.sum += weight;
            sums.squares += weight * weight;
        }
        sums
    }

    /// Adds the weights of `other`, on the scale of the larger of both.
    pub fn merge(&mut self, other: &Self) {
        let largest = self.largest.max(other.largest);
        let scaled = |sums: &Self| {
            if sums.count == 0 {
                return (0.0, 0.0);
            }
            let factor = (sums.largest - largest).exp();
            (sums.sum * factor, sums.squares * factor * factor)
        };
        let (mine, theirs) = (scaled(self), scaled(other));
        *self = Self {
            count: self.count + other.count,
            largest,
            sum: mine.0 + theirs.0,
            squares: mine.1 + theirs.1,
        };
    }

    /// (sum w)^2 / (N sum w^2), in `(0, 1]`; NaN without a weight.
    #[must_use]
    pub fn effective_sample_size(&self) -> f64 {
        self.sum * self.sum / (self.count as f64 * self.squares)
    }
}

/// Estimates of KL(old || new) from samples of old, with l = log new - log old (Schulman 2020, "Approximating KL
/// divergence").
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlEstimates {
    /// mean(-l): unbiased, may be negative.
    pub k1: f64,
    /// mean(l^2 / 2): biased, never negative.
    pub k2: f64,
    /// mean(e^l - 1 - l): unbiased, never negative; its variance explodes for policies far apart.
    pub k3: f64,
}

/// All metrics of a batch; `None` when no step is valid. `rho_bar` is V-trace's cap, `None` for no cap.
///
/// # Panics
/// When the lists differ in length.
#[must_use]
pub fn health<F: Real>(
    samples: &Samples<'_, F>,
    clip_epsilon: f64,
    rho_bar: Option<f64>,
) -> Option<Health> {
    let steps = samples.valid_steps();
    if steps.is_empty() {
        return None;
    }
    let b = Ratios::new(samples.current, samples.behaviour, &steps);
    let p = Ratios::new(samples.proximal, samples.behaviour, &steps);
    let u = Ratios::new(samples.current, samples.proximal, &steps);
    let advantages = pick(samples.advantages, &steps);
    let lags: Vec<u64> = steps.iter().map(|i| samples.lag(*i)).collect();
    let fresh = at_lag_zero(&p.logs, &lags);
    let arrival = moments(&p.values, None);
    let divergences = k3_of_each(&b.logs);
    let mut ratios = b.values.clone();
    ratios.sort_unstable_by(f64::total_cmp);
    Some(Health {
        ess_behaviour: b.weights().effective_sample_size(),
        ess_prox_over_behaviour: p.weights().effective_sample_size(),
        ess_theta_over_prox: u.weights().effective_sample_size(),
        clip_fraction: u.outside(clip_epsilon),
        clip_fraction_binding: u.cut(&advantages, clip_epsilon),
        clip_fraction_behaviour: b.outside(clip_epsilon),
        clip_fraction_binding_behaviour: b.cut(&advantages, clip_epsilon),
        kl: estimates(&u.logs, &k3_of_each(&u.logs)),
        kl_behaviour: estimates(&b.logs, &divergences),
        ratio_quantiles: QUANTILE_LEVELS.map(|level| quantile(&ratios, level)),
        ratio_max: quantile(&ratios, 1.0),
        ratio_counts: ratio_counts(&ratios),
        rho_truncated_fraction: rho_bar.map_or(0.0, |cap| share(p.values.iter(), |p| *p > cap)),
        prox_ratio_mean: arrival.mean,
        prox_ratio_mean_error: arrival.std / (steps.len() as f64).sqrt(),
        max_abs_log_ratio_lag0: fresh.iter().copied().max_by(f64::total_cmp),
        mean_abs_log_ratio_lag0: (!fresh.is_empty()).then(|| mean(fresh.iter().copied())),
        lag_mean: mean(lags.iter().map(|lag| *lag as f64)),
        lag_max: lags.iter().copied().max().unwrap_or(0),
        explained_variance: explained_variance(
            &pick(samples.values, &steps),
            &pick(samples.targets, &steps),
        ),
        per_lag: steps_by_lag(&lags)
            .into_iter()
            .map(|(lag, steps)| {
                let part = Part {
                    b: b.some(&steps),
                    p: p.some(&steps),
                    divergences: some(&divergences, &steps),
                    advantages: some(&advantages, &steps),
                };
                part.row(lag, clip_epsilon, rho_bar)
            })
            .collect(),
    })
}

/// How many of the `ratios`, in ascending order, fall into each bucket.
fn ratio_counts(ratios: &[f64]) -> [u64; RATIO_BUCKETS] {
    let mut counts = [0; RATIO_BUCKETS];
    let mut begin = 0;
    for (count, edge) in counts.iter_mut().zip(ratio_edges()) {
        let end = ratios.partition_point(|ratio| *ratio <= edge);
        *count = (end - begin) as u64;
        begin = end;
    }
    counts[RATIO_BUCKETS - 1] = (ratios.len() - begin) as u64;
    counts
}

impl<F: Real> Samples<'_, F> {
    /// Flat indices of the steps that count.
    fn valid_steps(&self) -> Vec<usize> {
        let steps = self.behaviour.len();
        for other in [
            self.proximal,
            self.current,
            self.advantages,
            self.values,
            self.targets,
        ] {
            assert_eq!(other.len(), steps, "every list is [T, B]");
        }
        assert!(
            steps == 0 || (!self.lags.is_empty() && steps.is_multiple_of(self.lags.len())),
            "lags are [T, B] or [B]"
        );
        if let Some(mask) = self.mask {
            assert_eq!(mask.len(), steps, "the mask is [T, B]");
        }
        (0..steps)
            .filter(|i| self.mask.is_none_or(|mask| mask[*i]))
            .collect()
    }

    /// Lag of flat step `i`. Time-major, so the remainder by B is the column.
    fn lag(&self, i: usize) -> u64 {
        self.lags[i % self.lags.len()]
    }
}

/// Kish's effective sample size as a share: (sum w)^2 / (N sum w^2) with w = exp(log-ratio), in `(0, 1]`; 1 when all
/// are equal, NaN for an empty list. Uncapped: capped weights flatter.
#[must_use]
pub fn effective_sample_size(log_ratios: &[f64]) -> f64 {
    WeightSums::of(log_ratios).effective_sample_size()
}

/// Share of ratios outside `[1 - epsilon, 1 + epsilon]`; NaN for an empty list.
#[must_use]
pub fn clip_fraction(log_ratios: &[f64], epsilon: f64) -> f64 {
    share(log_ratios.iter(), |l| is_outside(l.exp(), epsilon))
}

/// Share of steps whose policy gradient the clip of PPO (Schulman et al. 2017, eq. 7) sets to zero: ratio above
/// 1 + epsilon with a positive advantage, or below 1 - epsilon with a negative one; NaN for an empty list.
#[must_use]
pub fn clip_fraction_binding(log_ratios: &[f64], advantages: &[f64], epsilon: f64) -> f64 {
    share(log_ratios.iter().zip(advantages), |(l, advantage)| {
        is_cut(l.exp(), *advantage, epsilon)
    })
}

/// See [`KlEstimates`]; NaN for an empty list.
#[must_use]
pub fn kl_estimates(log_ratios: &[f64]) -> KlEstimates {
    estimates(log_ratios, &k3_of_each(log_ratios))
}

/// Quantile at `level` in `[0, 1]` of an ascending list, linear between neighbours; NaN for an empty list.
#[must_use]
pub fn quantile(ascending: &[f64], level: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = level.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let share = position - below as f64;
    ascending[below] + share * (ascending[above] - ascending[below])
}

/// 1 - Var(v - V) / Var(v), with V the critic's `values` and v its `targets`; `None` when all targets are equal.
#[must_use]
pub fn explained_variance(values: &[f64], targets: &[f64]) -> Option<f64> {
    let residuals: Vec<f64> = targets.iter().zip(values).map(|(v, w)| v - w).collect();
    let total = moments(targets, None).std;
    if total == 0.0 {
        return None;
    }
    Some(1.0 - (moments(&residuals, None).std / total).powi(2))
}

/// A family of ratios, each with its logarithm. An exponential costs as much as everything else that is done with a ratio,
/// so there is one of each.
struct Ratios {
    logs: Vec<f64>,
    values: Vec<f64>,
}

impl Ratios {
    fn new<F: Real>(new: &[F], old: &[F], steps: &[usize]) -> Self {
        let pairs = steps.iter().map(|i| new[*i].to_f64() - old[*i].to_f64());
        let logs: Vec<f64> = pairs.collect();
        let values = logs.iter().map(|l| l.exp()).collect();
        Self { logs, values }
    }

    /// Those of some steps.
    fn some(&self, steps: &[usize]) -> Self {
        Self {
            logs: some(&self.logs, steps),
            values: some(&self.values, steps),
        }
    }

    fn weights(&self) -> WeightSums {
        let largest = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Where the largest is neither too large nor too small for a number, the others can be divided by it.
        if largest.abs() < EXPONENT_MAX {
            let scale = (-largest).exp();
            WeightSums::relative(largest, self.values.iter().map(|ratio| ratio * scale))
        } else {
            WeightSums::of(&self.logs)
        }
    }

    /// Share outside the clip range; see [`clip_fraction`].
    fn outside(&self, epsilon: f64) -> f64 {
        share(self.values.iter(), |ratio| is_outside(*ratio, epsilon))
    }

    /// Share that the clip cuts; see [`clip_fraction_binding`].
    fn cut(&self, advantages: &[f64], epsilon: f64) -> f64 {
        let pairs = self.values.iter().zip(advantages);
        share(pairs, |(ratio, advantage)| {
            is_cut(*ratio, *advantage, epsilon)
        })
    }
}

/// The steps of one lag: b, p, terms of k3 and advantages.
struct Part {
    b: Ratios,
    p: Ratios,
    divergences: Vec<f64>,
    advantages: Vec<f64>,
}

impl Part {
    fn row(&self, lag: u64, clip_epsilon: f64, rho_bar: Option<f64>) -> LagRow {
        let weights = self.b.weights();
        LagRow {
            lag,
            count: self.advantages.len(),
            ess: weights.effective_sample_size(),
            clip_fraction: self.b.outside(clip_epsilon),
            k3: mean(self.divergences.iter().copied()),
            rho_saturation: rho_bar.map_or(0.0, |cap| share(self.p.values.iter(), |p| *p > cap)),
            abs_advantage: mean(self.advantages.iter().map(|advantage| advantage.abs())),
            weights,
        }
    }
}

fn steps_by_lag(lags: &[u64]) -> BTreeMap<u64, Vec<usize>> {
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (step, lag) in lags.iter().enumerate() {
        groups.entry(*lag).or_default().push(step);
    }
    groups
}

fn some(values: &[f64], steps: &[usize]) -> Vec<f64> {
    steps.iter().map(|step| values[*step]).collect()
}

fn is_outside(ratio: f64, epsilon: f64) -> bool {
    (ratio - 1.0).abs() > epsilon
}

fn is_cut(ratio: f64, advantage: f64, epsilon: f64) -> bool {
    (ratio > 1.0 + epsilon && advantage > 0.0) || (ratio < 1.0 - epsilon && advantage < 0.0)
}

/// e^l - 1 - l of each step. `exp_m1` keeps the digits of small log-ratios.
fn k3_of_each(log_ratios: &[f64]) -> Vec<f64> {
    log_ratios.iter().map(|l| l.exp_m1() - l).collect()
}

fn estimates(log_ratios: &[f64], k3_of_each: &[f64]) -> KlEstimates {
    KlEstimates {
        k1: mean(log_ratios.iter().map(|l| -l)),
        k2: mean(log_ratios.iter().map(|l| 0.5 * l * l)),
        k3: mean(k3_of_each.iter().copied()),
    }
}

/// |log p| of the steps without lag.
fn at_lag_zero(log_ratios: &[f64], lags: &[u64]) -> Vec<f64> {
    let fresh = log_ratios.iter().zip(lags).filter(|(_, lag)| **lag == 0);
    fresh.map(|(l, _)| l.abs()).collect()
}

fn pick<F: Real>(values: &[F], steps: &[usize]) -> Vec<f64> {
    steps.iter().map(|i| values[*i].to_f64()).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn share<T>(items: impl ExactSizeIterator<Item = T>, holds: impl Fn(T) -> bool) -> f64 {
    mean(items.map(|item| f64::from(u8::from(holds(item)))))
}

#[cfg(test)]
mod tests;
