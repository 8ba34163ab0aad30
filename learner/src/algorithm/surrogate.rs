//! The policy's loss: which probability ratio weights the advantage, and where it is clipped.
//!
//! Three policies are told apart by type: mu sampled the action (behaviour), pi_prox is the learner's policy when the
//! batch arrived (proximal), pi is the policy that is being trained (current). With b = pi/mu, u = pi/pi_prox and
//! w = min(weight_bar, pi_prox/mu), a constant, all kinds use the raw advantage A: no ratio may be inside it already.

use burn::tensor::{Bool, Tensor};
use springbok_common::policy::Distribution;

/// log mu(a|x) `[N]` of the taken actions, as the actor stored it.
#[derive(Debug, Clone)]
pub struct BehaviourLogProb(pub Tensor<1>);

/// log pi_prox(a|x) `[N]` of the taken actions.
#[derive(Debug, Clone)]
pub struct ProximalLogProb(pub Tensor<1>);

/// log pi(a|x) `[N]` of the taken actions: the only one of the three that is differentiated.
#[derive(Debug, Clone)]
pub struct CurrentLogProb(pub Tensor<1>);

/// What is maximised per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SurrogateKind {
    /// A log pi: advantage actor-critic, uncorrected (Mnih et al. 2016).
    PolicyGradient,
    /// w A log pi: the V-trace policy gradient (Espeholt et al. 2018, section 4.2); uncapped, Off-PAC (Degris 2012).
    WeightedPolicyGradient,
    /// min(b A, clip(b) A): PPO (Schulman et al. 2017, eq. 7) with the policy that sampled as the old one.
    Behaviour,
    /// min(u A, clip(u) A): biased when the data are stale.
    Proximal,
    /// w min(u A, clip(u) A): decoupled PPO (Hilton et al. 2021).
    Decoupled,
    /// w u A, without gradient where u or b is already past its bound in the direction of the advantage.
    Dual,
    /// r = min(ratio_bar, mu/pi_prox) b in PPO's objective, times w if `weighted`: IMPACT (Luo et al. 2019) as RLlib's
    /// APPO computes it, where pi_prox is a target network and w stands in the V-trace advantage.
    Appo,
    /// u A without a clip, times w if `weighted`: for a penalty on the divergence ([`kl_penalty`]).
    Unclipped,
}

/// The interval that a ratio is clipped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClipRange {
    /// [1 - epsilon, 1 + epsilon].
    #[default]
    Symmetric,
    /// [1 / (1 + epsilon), 1 + epsilon].
    Reciprocal,
}

/// The policy's loss and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurrogateConfig {
    /// What is maximised.
    pub kind: SurrogateKind,
    /// Distance from 1 at which the ratio is clipped.
    pub clip_epsilon: f64,
    /// Form of the clip interval.
    pub clip_range: ClipRange,
    /// Cap of the importance weight w; `None` for no cap.
    pub weight_bar: Option<f64>,
    /// Cap of mu/pi_prox in [`SurrogateKind::Appo`]; `None` for no cap.
    pub ratio_bar: Option<f64>,
    /// Whether [`SurrogateKind::Appo`] and [`SurrogateKind::Unclipped`] weight each step by w.
    pub weighted: bool,
    /// Where A < 0, the clipped objective is at least this times A (Ye et al. 2020); `None` for no such bound.
    pub dual_clip: Option<f64>,
    /// Bounds of the ratio before anything else, as in Sample Factory (0.05 and 20 there).
    pub ratio_clamp: Option<[f64; 2]>,
}

impl SurrogateConfig {
    /// `kind` with a symmetric clip and an importance weight of at most 1.
    #[must_use]
    pub fn new(kind: SurrogateKind, clip_epsilon: f64) -> Self {
        Self {
            kind,
            clip_epsilon,
            clip_range: ClipRange::Symmetric,
            weight_bar: Some(1.0),
            ratio_bar: Some(2.0),
            weighted: true,
            dual_clip: None,
            ratio_clamp: None,
        }
    }

    /// The interval that the ratio is clipped to.
    #[must_use]
    pub fn bounds(&self) -> [f64; 2] {
        let high = 1.0 + self.clip_epsilon;
        match self.clip_range {
            ClipRange::Symmetric => [1.0 - self.clip_epsilon, high],
            ClipRange::Reciprocal => [high.recip(), high],
        }
    }
}

/// The loss to minimise, `[1]`: minus the mean of the objective over the steps whose `mask` `[N]` is 1 (`None`: all).
///
/// All tensors are `[N]` on the same device. `advantages` are final (normalised if they are to be), and like
/// `proximal` and `behaviour` they are constants.
#[must_use]
pub fn policy_loss(
    config: &SurrogateConfig,
    current: CurrentLogProb,
    proximal: ProximalLogProb,
    behaviour: BehaviourLogProb,
    advantages: Tensor<1>,
    mask: Option<Tensor<1>>,
) -> Tensor<1> {
    let (current, proximal, behaviour) = (current.0, proximal.0, behaviour.0);
    // Computed only where it is used.
    let staleness = || capped(config.weight_bar, proximal.clone() - behaviour.clone());
    let weigh = |objective: Tensor<1>| {
        if config.weighted {
            staleness() * objective
        } else {
            objective
        }
    };
    let objective = match config.kind {
        SurrogateKind::PolicyGradient => advantages * current,
        SurrogateKind::WeightedPolicyGradient => staleness() * advantages * current,
        SurrogateKind::Behaviour => clipped(config, ratio(current - behaviour.clone()), advantages),
        SurrogateKind::Proximal => clipped(config, ratio(current - proximal.clone()), advantages),
        SurrogateKind::Decoupled => {
            staleness() * clipped(config, ratio(current - proximal.clone()), advantages)
        }
        SurrogateKind::Dual => {
            let own = ratio(current.clone() - proximal.clone());
            let total = ratio(current - behaviour.clone());
            let live = within_bounds(config, &own, &advantages).bool_and(within_bounds(
                config,
                &total,
                &advantages,
            ));
            staleness() * own * advantages * live.float()
        }
        SurrogateKind::Appo => {
            let capped = capped(config.ratio_bar, behaviour.clone() - proximal.clone());
            weigh(clipped(
                config,
                capped * ratio(current - behaviour.clone()),
                advantages,
            ))
        }
        SurrogateKind::Unclipped => weigh(ratio(current - proximal.clone()) * advantages),
    };
    -masked_mean(objective, mask)
}

/// Which divergence from the proximal policy is penalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KlDirection {
    /// KL(pi_prox || pi): PPO with a penalty (Schulman et al. 2017, section 4).
    Forward,
    /// KL(pi || pi_prox): mirror descent policy optimisation (Tomar et al. 2020).
    Reverse,
}

/// The exact mean divergence `[1]` between the current and the proximal policy, which are of one kind under one mask; a
/// penalty to add to the loss of [`SurrogateKind::Unclipped`].
#[must_use]
pub fn kl_penalty(
    direction: KlDirection,
    current: &Distribution,
    proximal: &Distribution,
    mask: Option<Tensor<1>>,
) -> Tensor<1> {
    let divergence = match direction {
        KlDirection::Forward => proximal.kl(current),
        KlDirection::Reverse => current.kl(proximal),
    };
    masked_mean(divergence, mask)
}

/// Mean `[1]` of `values` `[N]` where `mask` `[N]` is 1, over all if there is none.
#[must_use]
pub fn masked_mean(values: Tensor<1>, mask: Option<Tensor<1>>) -> Tensor<1> {
    match mask {
        Some(mask) => (values * mask.clone()).sum() / mask.sum(),
        None => values.mean(),
    }
}

/// exp(log-ratio), bounded so that it stays finite in f32.
fn ratio(log_ratio: Tensor<1>) -> Tensor<1> {
    log_ratio.clamp(-20.0, 20.0).exp()
}

/// min(cap, exp(log-ratio)).
fn capped(cap: Option<f64>, log_ratio: Tensor<1>) -> Tensor<1> {
    let ratio = ratio(log_ratio);
    match cap {
        Some(cap) => ratio.clamp_max(cap),
        None => ratio,
    }
}

/// min(r A, clip(r) A), with the unclipped term where both are equal, so that its gradient is the one that counts.
fn clipped(config: &SurrogateConfig, ratio: Tensor<1>, advantages: Tensor<1>) -> Tensor<1> {
    let ratio = match config.ratio_clamp {
        Some([low, high]) => ratio.clamp(low, high),
        None => ratio,
    };
    let [low, high] = config.bounds();
    let free = ratio.clone() * advantages.clone();
    let bounded = ratio.clamp(low, high) * advantages.clone();
    let free_is_less = free.clone().lower_equal(bounded.clone());
    let objective = bounded.mask_where(free_is_less, free);
    match config.dual_clip {
        Some(factor) => {
            let floor = advantages.clone().mul_scalar(factor);
            let below = advantages
                .lower_elem(0.0)
                .bool_and(objective.clone().lower(floor.clone()));
            objective.mask_where(below, floor)
        }
        None => objective,
    }
}

/// Whether the ratio is not yet past its bound in the direction in which the advantage pushes it.
fn within_bounds(
    config: &SurrogateConfig,
    ratio: &Tensor<1>,
    advantages: &Tensor<1>,
) -> Tensor<1, Bool> {
    let [low, high] = config.bounds();
    let too_high = ratio
        .clone()
        .greater_elem(high)
        .bool_and(advantages.clone().greater_elem(0.0));
    let too_low = ratio
        .clone()
        .lower_elem(low)
        .bool_and(advantages.clone().lower_elem(0.0));
    too_high.bool_or(too_low).bool_not()
}

#[cfg(test)]
#[path = "golden_losses.rs"]
mod golden_losses;
