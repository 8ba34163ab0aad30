//! Actions drawn on the host, without tensors: what an actor does with the parameters that its network gave.

use rand::{Rng, RngExt};

use super::{distribution::DistributionKind, initialise::standard_normal};
use crate::arrays::{ActionsMut, ActionsRef};

impl DistributionKind {
    /// Draws an action from the distribution with `parameters` `[P]`, writes it to `actions`
    /// ([`DistributionKind::action_len`] numbers), and returns its log-probability under the very distribution that
    /// was drawn from; `None` if a parameter is not finite or no action of a head is allowed.
    ///
    /// `mask` `[P]` has a 1 for each discrete action that is allowed; empty allows all. `scratch` keeps its memory from
    /// call to call. One uniform number is drawn for each head, two for each dimension, so that what follows from `rng`
    /// does not depend on what was drawn.
    pub fn sample<R: Rng>(
        &self,
        parameters: &[f32],
        mask: &[u8],
        rng: &mut R,
        actions: &mut ActionsMut<'_>,
        scratch: &mut Vec<f64>,
    ) -> Option<f32> {
        match (self, actions) {
            (Self::Categorical { heads }, ActionsMut::Indices(indices)) => {
                let rows = Heads::new(heads, parameters, mask);
                let mut total = 0.0;
                for (index, (logits, mask)) in indices.iter_mut().zip(rows) {
                    let (action, log_prob) = choose(logits, mask, rng.random(), scratch)?;
                    *index = action;
                    total += log_prob;
                }
                Some(total as f32)
            }
            (Self::Gaussian { squash, .. }, ActionsMut::Values(values)) => {
                let (means, log_stds) = parameters.split_at_checked(values.len())?;
                let mut total = 0.0;
                for ((value, &mean), &log_std) in values.iter_mut().zip(means).zip(log_stds) {
                    let (mean, log_std) = (f64::from(mean), f64::from(log_std));
                    // The density is that of the number that is stored and sent, not of the one before rounding.
                    *value = (mean + log_std.exp() * standard_normal(rng)) as f32;
                    total += log_density(f64::from(*value), mean, log_std, *squash);
                }
                total.is_finite().then_some(total as f32)
            }
            _ => None,
        }
    }

    /// Writes the most probable action to `actions` - of equals the first, for a continuous action the mean of the
    /// draws; `None` as for [`Self::sample`].
    pub fn mode(
        &self,
        parameters: &[f32],
        mask: &[u8],
        actions: &mut ActionsMut<'_>,
    ) -> Option<()> {
        match (self, actions) {
            (Self::Categorical { heads }, ActionsMut::Indices(indices)) => {
                let rows = Heads::new(heads, parameters, mask);
                for (index, (logits, mask)) in indices.iter_mut().zip(rows) {
                    *index = best(logits, mask)?;
                }
            }
            (Self::Gaussian { .. }, ActionsMut::Values(values)) => {
                let means = parameters.get(..values.len())?;
                if means.iter().any(|mean| !mean.is_finite()) {
                    return None;
                }
                values.copy_from_slice(means);
            }
            _ => return None,
        }
        Some(())
    }

    /// What the environment is given for a drawn action: for a discrete one the same numbers; for a continuous one
    /// low + (tanh(u) + 1) / 2 * (high - low) if the policy is squashed, else the draw clipped to the bounds.
    pub fn to_environment_action(&self, drawn: ActionsRef<'_>, action: &mut ActionsMut<'_>) {
        match (self, drawn, action) {
            (
                Self::Gaussian { low, high, squash },
                ActionsRef::Values(draws),
                ActionsMut::Values(values),
            ) => {
                let bounds = low.iter().zip(high);
                for ((value, &draw), (&low, &high)) in values.iter_mut().zip(draws).zip(bounds) {
                    let bounded = if *squash {
                        low + (draw.tanh() + 1.0) / 2.0 * (high - low)
                    } else {
                        draw
                    };
                    // Rounding may leave a squashed action just outside.
                    *value = bounded.max(low).min(high);
                }
            }
            (_, ActionsRef::Indices(drawn), ActionsMut::Indices(indices)) => {
                for (index, &own) in indices.iter_mut().zip(drawn) {
                    *index = own;
                }
            }
            _ => {}
        }
    }
}

/// Logits and mask of each head, one after the other.
struct Heads<'a> {
    heads: std::slice::Iter<'a, usize>,
    logits: &'a [f32],
    mask: &'a [u8],
}

impl<'a> Heads<'a> {
    fn new(heads: &'a [usize], logits: &'a [f32], mask: &'a [u8]) -> Self {
        Self {
            heads: heads.iter(),
            logits,
            mask,
        }
    }
}

impl<'a> Iterator for Heads<'a> {
    type Item = (&'a [f32], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let actions = *self.heads.next()?;
        let (logits, others) = self.logits.split_at_checked(actions)?;
        self.logits = others;
        let (mask, others) = self.mask.split_at(actions.min(self.mask.len()));
        self.mask = others;
        Some((logits, mask))
    }
}

/// Whether an action is allowed; without a mask all are.
fn allowed(mask: &[u8], action: usize) -> bool {
    mask.get(action).is_none_or(|&allowed| allowed != 0)
}

/// The largest of the allowed logits; `None` if none is allowed or a logit is not finite.
fn largest(logits: &[f32], mask: &[u8]) -> Option<f32> {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return None;
    }
    let logits = logits.iter().copied().enumerate();
    logits
        .filter(|(action, _)| allowed(mask, *action))
        .map(|(_, logit)| logit)
        .reduce(f32::max)
}

fn best(logits: &[f32], mask: &[u8]) -> Option<u32> {
    let largest = largest(logits, mask)?;
    let mut logits = logits.iter().enumerate();
    let first = logits.position(|(action, &logit)| logit == largest && allowed(mask, action))?;
    u32::try_from(first).ok()
}

/// The action that `uniform` in [0, 1) picks from softmax(`logits`) by inversion, and its log-probability.
///
/// The largest logit is subtracted first, so that no exponential overflows and at least one is 1; sums are in f64,
/// so that the log-probability is as exact as the f32 logits.
fn choose(logits: &[f32], mask: &[u8], uniform: f64, weights: &mut Vec<f64>) -> Option<(u32, f64)> {
    let largest = f64::from(largest(logits, mask)?);
    weights.clear();
    weights.extend(logits.iter().enumerate().map(|(action, &logit)| {
        if allowed(mask, action) {
            (f64::from(logit) - largest).exp()
        } else {
            0.0
        }
    }));
    let total: f64 = weights.iter().sum();
    let mut left = uniform * total;
    let mut action = 0;
    for (index, &weight) in weights.iter().enumerate() {
        // An action without weight is never taken, even when rounding leaves something at the end.
        if weight > 0.0 {
            action = index;
            if left < weight {
                break;
            }
        }
        left -= weight;
    }
    let log_prob = f64::from(*logits.get(action)?) - largest - total.ln();
    Some((u32::try_from(action).ok()?, log_prob))
}

/// The logarithm of the density of one dimension at `draw`; see `gaussian::log_prob` for the terms.
fn log_density(draw: f64, mean: f64, log_std: f64, squash: bool) -> f64 {
    let distance = (draw - mean) * (-log_std).exp();
    let normal = -0.5 * distance * distance - log_std - 0.5 * std::f64::consts::TAU.ln();
    if squash {
        let size = draw.abs();
        normal - 2.0 * (std::f64::consts::LN_2 - size - (-2.0 * size).exp().ln_1p())
    } else {
        normal
    }
}
