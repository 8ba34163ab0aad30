//! Settings of the algorithm that are out of range, that count for nothing, or that contradict each other.

use super::{COUNT_MAX, Faults, same, show};
use crate::config::{
    AlgorithmConfig, Critic, KlAdaptation, Objective, Ratio, ValueLoss, setting::NONE,
};

impl AlgorithmConfig {
    pub(super) fn range_faults(&self, faults: &mut Faults) {
        faults.share("algorithm.gamma", self.gamma);
        faults.share("algorithm.lambda", self.lambda);
        for (path, cap) in [
            ("algorithm.rho_bar", self.rho_bar),
            ("algorithm.c_bar", self.c_bar),
            ("algorithm.weight_bar", self.weight_bar),
            ("algorithm.target_ratio_bar", self.target_ratio_bar),
        ] {
            faults.unless(cap.is_none_or(|cap| cap.is_finite() && cap > 0.0), || {
                format!(
                    "`{path}` is {}, but must be finite and above 0; use 1.0, or \"{NONE}\" for no cap",
                    show(cap)
                )
            });
        }
        faults.unless(self.clip_epsilon > 0.0 && self.clip_epsilon < 1.0, || {
            format!(
                "`algorithm.clip_epsilon` is {}, but must lie between 0 and 1, both excluded; use 0.2",
                self.clip_epsilon
            )
        });
        faults.count("algorithm.n_step", self.n_step);
        for (path, factor) in [
            ("algorithm.dual_clip", self.dual_clip),
            ("algorithm.ratio_clamp", self.ratio_clamp),
        ] {
            faults.unless(factor.is_none_or(|factor| factor.is_finite() && factor > 1.0), || {
                format!(
                    "`{path}` is {}, but must be finite and above 1; use 3.0, or \"{NONE}\" for no such bound",
                    show(factor)
                )
            });
        }
        faults.duration(
            "algorithm.target_refresh_updates",
            self.target_refresh_updates,
            1,
            COUNT_MAX as u64,
        );
        faults.positive("algorithm.kl_coefficient", self.kl_coefficient);
        faults.positive("algorithm.kl_target", self.kl_target);
        if let Some(limit) = self.kl_stop {
            faults.positive("algorithm.kl_stop", limit);
        }
        faults.positive("algorithm.policy_learning_rate", self.policy_learning_rate);
        faults.positive("algorithm.value_learning_rate", self.value_learning_rate);
        faults.positive("algorithm.adam_epsilon", self.adam_epsilon);
        faults.not_negative("algorithm.entropy_coefficient", self.entropy_coefficient);
        faults.not_negative("algorithm.value_coefficient", self.value_coefficient);
        faults.positive("algorithm.value_clip", self.value_clip);
        faults.positive("algorithm.huber_delta", self.huber_delta);
        faults.positive("algorithm.gradient_norm_max", self.gradient_norm_max);
        faults.positive("algorithm.reward_scale", self.reward_scale);
        if let Some(clip) = self.reward_clip {
            faults.positive("algorithm.reward_clip", clip);
        }
    }

    /// Values that were changed although other settings make them count for nothing, and what contradicts itself.
    pub(super) fn unused_faults(&self, faults: &mut Faults) {
        self.unused_objective_faults(faults);
        self.unused_penalty_faults(faults);
        self.unused_critic_faults(faults);
        self.pass_faults(faults);
    }

    /// Whether the policy's objective weights each step by proximal / behaviour.
    fn is_weighted(&self) -> bool {
        match self.objective {
            Objective::Clip | Objective::Ppg => match self.ratio {
                Ratio::Decoupled | Ratio::Dual => true,
                Ratio::TargetNetwork => self.staleness_weight,
                Ratio::Behaviour | Ratio::Proximal => false,
            },
            Objective::KlPenalty | Objective::Mdpo | Objective::TrustRegion => {
                self.staleness_weight
            }
            Objective::WeightedPg => true,
            Objective::A2c => false,
        }
    }

    fn unused_objective_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        let objective = self.objective;
        let clips = matches!(objective, Objective::Clip | Objective::Ppg);
        let has_target = clips && self.ratio == Ratio::TargetNetwork;
        let may_weigh = has_target
            || matches!(
                objective,
                Objective::KlPenalty | Objective::Mdpo | Objective::TrustRegion
            );
        faults.unless(self.is_weighted() || self.weight_bar == default.weight_bar, || {
            let chosen = if clips {
                format!("the ratio \"{}\"", self.ratio)
            } else {
                format!("the objective \"{objective}\"")
            };
            format!(
                "`algorithm.weight_bar` is {}, but {chosen} as it is set has no weight; leave it at 1.0, or use the ratio \
                 \"decoupled\" or \"dual\" or the objective \"weighted_pg\"",
                show(self.weight_bar)
            )
        });
        let no_ratio = format!(
            "but the objective \"{objective}\" clips no ratio; leave it as it is by default, or use the objective \"clip\""
        );
        for (path, changed, value) in [
            (
                "ratio",
                self.ratio != default.ratio,
                format!("{:?}", self.ratio.as_str()),
            ),
            (
                "clip_epsilon",
                !same(self.clip_epsilon, default.clip_epsilon),
                self.clip_epsilon.to_string(),
            ),
            (
                "clip_range",
                self.clip_range != default.clip_range,
                format!("{:?}", self.clip_range.as_str()),
            ),
            ("dual_clip", self.dual_clip.is_some(), show(self.dual_clip)),
            (
                "ratio_clamp",
                self.ratio_clamp.is_some(),
                show(self.ratio_clamp),
            ),
        ] {
            faults.unless(clips || !changed, || {
                format!("`algorithm.{path}` is {value}, {no_ratio}")
            });
        }
        let gated = clips && self.ratio == Ratio::Dual;
        for (path, bound) in [
            ("dual_clip", self.dual_clip),
            ("ratio_clamp", self.ratio_clamp),
        ] {
            faults.unless(!gated || bound.is_none(), || {
                format!(
                    "`algorithm.{path}` is {}, but the ratio \"dual\" takes the gradient away instead of bounding the \
                     objective; use \"{NONE}\", or another ratio",
                    show(bound)
                )
            });
        }
        let no_target = "but there is no target network; leave it as it is by default, or use the ratio \"target_network\"";
        faults.unless(
            has_target || self.target_refresh_updates == default.target_refresh_updates,
            || {
                format!(
                    "`algorithm.target_refresh_updates` is {}, {no_target}",
                    self.target_refresh_updates
                )
            },
        );
        faults.unless(
            has_target || self.target_ratio_bar == default.target_ratio_bar,
            || {
                format!(
                    "`algorithm.target_ratio_bar` is {}, {no_target}",
                    show(self.target_ratio_bar)
                )
            },
        );
        faults.unless(may_weigh || self.staleness_weight, || {
            "`algorithm.staleness_weight` is false, but only the objectives \"kl_penalty\", \"mdpo\" and \
             \"trust_region\" and the ratio \"target_network\" leave that open; set it to true, or use the ratio \"proximal\" for an unweighted clip"
                .to_owned()
        });
    }

    fn unused_penalty_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        let adaptive = self.objective == Objective::KlPenalty;
        let mdpo = self.objective == Objective::Mdpo;
        faults.unless(adaptive || mdpo || same(self.kl_coefficient, default.kl_coefficient), || {
            format!(
                "`algorithm.kl_coefficient` is {}, but the objective \"{}\" penalises no divergence; leave it at 1.0, or use \
                 the objective \"kl_penalty\" or \"mdpo\"",
                self.kl_coefficient, self.objective
            )
        });
        for (path, changed, value) in [
            (
                "kl_direction",
                self.kl_direction != default.kl_direction,
                format!("{:?}", self.kl_direction.as_str()),
            ),
            (
                "kl_target",
                !same(self.kl_target, default.kl_target),
                self.kl_target.to_string(),
            ),
            (
                "kl_adaptation",
                self.kl_adaptation != default.kl_adaptation,
                format!("{:?}", self.kl_adaptation.as_str()),
            ),
        ] {
            faults.unless(adaptive || !changed, || {
                format!(
                    "`algorithm.{path}` is {value}, but only the objective \"kl_penalty\" reads it; leave it as it is by \
                     default, or use that objective"
                )
            });
        }
        let adapts = self.kl_adaptation != KlAdaptation::Fixed;
        faults.unless(!adaptive || adapts || same(self.kl_target, default.kl_target), || {
            format!(
                "`algorithm.kl_target` is {}, but `algorithm.kl_adaptation` = \"fixed\" adapts nothing to it; leave it at \
                 0.01, or use the adaptation \"paper\"",
                self.kl_target
            )
        });
        faults.unless(mdpo || self.mdpo_schedule == default.mdpo_schedule, || {
            format!(
                "`algorithm.mdpo_schedule` is \"{}\", but the objective is \"{}\"; leave it as it is by default, or use the \
                 objective \"mdpo\"",
                self.mdpo_schedule, self.objective
            )
        });
    }

    fn unused_critic_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        let critic = self.critic;
        let why = if critic == Critic::Retrace {
            "cuts its traces at 1 and nothing else"
        } else {
            "corrects nothing"
        };
        for (path, changed, value) in [
            (
                "rho_bar",
                self.rho_bar != default.rho_bar,
                show(self.rho_bar),
            ),
            ("c_bar", self.c_bar != default.c_bar, show(self.c_bar)),
            (
                "pg_target",
                self.pg_target != default.pg_target,
                format!("{:?}", self.pg_target.as_str()),
            ),
        ] {
            faults.unless(critic == Critic::Vtrace || !changed, || {
                format!(
                    "`algorithm.{path}` is {value}, but the critic \"{critic}\" {why}; leave it as it is by default, or use the critic \"vtrace\""
                )
            });
        }
        let n_step = critic == Critic::NStep;
        faults.unless(!n_step || same(self.lambda, default.lambda), || {
            format!(
                "`algorithm.lambda` is {}, but the critic \"n_step\" mixes no returns; leave it at 0.95, or use the critic \
                 \"vtrace\" or \"gae\"",
                self.lambda
            )
        });
        faults.unless(n_step || self.n_step == default.n_step, || {
            format!(
                "`algorithm.n_step` is {}, but the critic is \"{critic}\"; leave it at 5, or use the critic \"n_step\"",
                self.n_step
            )
        });
        let clipped = self.value_loss == ValueLoss::Clipped;
        faults.unless(clipped || same(self.value_clip, default.value_clip), || {
            format!(
                "`algorithm.value_clip` is {}, but the value loss \"{}\" does not clip; leave it at 0.2, or use the value \
                 loss \"clipped\"",
                self.value_clip, self.value_loss
            )
        });
        let huber = self.value_loss == ValueLoss::Huber;
        faults.unless(huber || same(self.huber_delta, default.huber_delta), || {
            format!(
                "`algorithm.huber_delta` is {}, but the value loss \"{}\" has no such bend; leave it at 1.0, or use the \
                 value loss \"huber\"",
                self.huber_delta, self.value_loss
            )
        });
    }

    /// How often a batch is passed over must fit the objective.
    fn pass_faults(&self, faults: &mut Faults) {
        let single = matches!(self.objective, Objective::A2c | Objective::WeightedPg);
        faults.unless(!single || self.epochs <= 1, || {
            format!(
                "`algorithm.epochs` is {}, but the objective \"{}\" has no ratio that would account for its own earlier \
                 passes over a batch; set it to 1, or use the objective \"clip\"",
                self.epochs, self.objective
            )
        });
        if let Some(limit) = self.kl_stop {
            faults.unless(self.epochs != 1, || {
                format!(
                    "`algorithm.kl_stop` is {limit}, but `algorithm.epochs` is 1, so there is no further pass to leave out; \
                     use \"{NONE}\", or more epochs"
                )
            });
        }
    }

    /// What is sound only under conditions that the configuration cannot promise; each batch is trained on `reuse` times.
    pub(super) fn advice(&self, reuse: usize) -> Vec<String> {
        let mut advice = Vec::new();
        let corrected = matches!(self.critic, Critic::Vtrace | Critic::Retrace);
        if self.objective == Objective::A2c && corrected {
            advice.push(format!(
                "`algorithm.objective` = \"a2c\" corrects nothing for lag, but `algorithm.critic` = \"{}\" does, so that \
                 the gradient weighs the data of one policy by the values of another; use the critic \"n_step\" or \"gae\" \
                 for A2C, or the objective \"weighted_pg\" for IMPALA",
                self.critic
            ));
        }
        let uncorrected = match self.objective {
            Objective::A2c => Some(format!("`algorithm.objective` = \"{}\"", self.objective)),
            Objective::Clip | Objective::Ppg if self.ratio == Ratio::Proximal => {
                Some(format!("`algorithm.ratio` = \"{}\"", self.ratio))
            }
            Objective::Clip
            | Objective::KlPenalty
            | Objective::Mdpo
            | Objective::WeightedPg
            | Objective::TrustRegion
            | Objective::Ppg => None,
        };
        if let Some(setting) = uncorrected.filter(|_| reuse > 1) {
            advice.push(format!(
                "`learner.reuse` = {reuse} makes every batch stale, but {setting} does not correct for that; use 1, or an \
                 objective with a ratio to the behaviour policy"
            ));
        }
        advice
    }
}

#[cfg(test)]
mod tests;
