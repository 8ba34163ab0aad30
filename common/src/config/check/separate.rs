//! The objectives that train policy and value apart: "trust_region" and "ppg".

use super::{Faults, same};
use crate::config::{AlgorithmConfig, Config, Critic, Objective, setting::NONE};

impl Config {
    /// What these objectives cannot do, what is out of range, and what counts for nothing without them.
    pub(super) fn separate_faults(&self, faults: &mut Faults) {
        let why = match self.algorithm.objective {
            Objective::TrustRegion => {
                Some("moves the policy by a step of its own and the value by Adam")
            }
            Objective::Ppg => Some("teaches the policy's torso what the value's has learnt"),
            _ => None,
        };
        if let Some(why) = why {
            faults.unless(!self.policy.shared_torso, || {
                format!(
                    "`policy.shared_torso` is true, but the objective \"{}\" {why}, so that they can share nothing; set it to \
                     false, or use the objective \"clip\"",
                    self.algorithm.objective
                )
            });
        }
        self.algorithm.trust_region_faults(faults);
        self.algorithm.ppg_faults(faults);
    }

    /// What phasic policy gradient is described with.
    pub(super) fn phase_advice(&self) -> Vec<String> {
        let (algorithm, mut advice) = (&self.algorithm, Vec::new());
        if algorithm.objective != Objective::Ppg {
            return advice;
        }
        if algorithm.epochs > 1 {
            advice.push(format!(
                "`algorithm.epochs` is {}, but phasic policy gradient is described with 1 pass over each batch between its \
                 auxiliary phases, which make up for it; use 1",
                algorithm.epochs
            ));
        }
        let scaled = !same(algorithm.reward_scale, 1.0)
            || algorithm.reward_clip.is_some()
            || algorithm.normalise_rewards
            || self.policy.popart;
        if !scaled {
            advice.push(
                "`algorithm.objective` = \"ppg\" weighs errors of values against a divergence in nats, but neither rewards nor \
                 values are normalised: returns far above 1 drive the policy off in each auxiliary phase; set \
                 `algorithm.normalise_rewards` to true, or choose `algorithm.reward_scale`"
                    .to_owned(),
            );
        }
        advice
    }
}

impl AlgorithmConfig {
    fn trust_region_faults(&self, faults: &mut Faults) {
        faults.positive("algorithm.trust_region_kl_max", self.trust_region_kl_max);
        faults.not_negative("algorithm.trust_region_damping", self.trust_region_damping);
        for (path, count) in [
            (
                "algorithm.trust_region_cg_iterations",
                self.trust_region_cg_iterations,
            ),
            (
                "algorithm.trust_region_fisher_stride",
                self.trust_region_fisher_stride,
            ),
            (
                "algorithm.trust_region_critic_epochs",
                self.trust_region_critic_epochs,
            ),
        ] {
            faults.count(path, count);
        }
        if self.objective == Objective::TrustRegion {
            self.single_step_faults(faults);
        } else {
            self.no_trust_region_faults(faults);
        }
    }

    /// Settings of many small steps count for nothing where the policy takes one.
    fn single_step_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        faults.unless(self.epochs == default.epochs || self.epochs == 1, || {
            format!(
                "`algorithm.epochs` is {}, but the objective \"trust_region\" takes one step a batch; leave it at {}, and use \
                 `algorithm.trust_region_critic_epochs` for the value function",
                self.epochs, default.epochs
            )
        });
        faults.unless(
            same(self.policy_learning_rate, default.policy_learning_rate),
            || {
                format!(
                    "`algorithm.policy_learning_rate` is {}, but the objective \"trust_region\" bounds its step by a divergence; \
                     leave it at {}, and use `algorithm.trust_region_kl_max`",
                    self.policy_learning_rate, default.policy_learning_rate
                )
            },
        );
        if let Some(limit) = self.kl_stop {
            faults.unless(self.epochs == 1, || {
                format!(
                    "`algorithm.kl_stop` is {limit}, but the objective \"trust_region\" has no further pass to leave out; use \
                     \"{NONE}\", and `algorithm.trust_region_kl_max`"
                )
            });
        }
    }

    fn no_trust_region_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        for (path, changed, value) in [
            (
                "kl_max",
                !same(self.trust_region_kl_max, default.trust_region_kl_max),
                self.trust_region_kl_max.to_string(),
            ),
            (
                "damping",
                !same(self.trust_region_damping, default.trust_region_damping),
                self.trust_region_damping.to_string(),
            ),
            (
                "cg_iterations",
                self.trust_region_cg_iterations != default.trust_region_cg_iterations,
                self.trust_region_cg_iterations.to_string(),
            ),
            (
                "fisher_stride",
                self.trust_region_fisher_stride != default.trust_region_fisher_stride,
                self.trust_region_fisher_stride.to_string(),
            ),
            (
                "critic_epochs",
                self.trust_region_critic_epochs != default.trust_region_critic_epochs,
                self.trust_region_critic_epochs.to_string(),
            ),
        ] {
            faults.unless(!changed, || {
                format!(
                    "`algorithm.trust_region_{path}` is {value}, but only the objective \"trust_region\" reads it; leave it as \
                     it is by default, or use that objective"
                )
            });
        }
    }

    fn ppg_faults(&self, faults: &mut Faults) {
        let default = Self::default();
        let phasic = self.objective == Objective::Ppg;
        faults.unless(!phasic || self.critic != Critic::Retrace, || {
            "`algorithm.critic` is \"retrace\", but the second value head of the objective \"ppg\" learns values of states, \
             not of actions; use the critic \"vtrace\", \"gae\" or \"n_step\""
                .to_owned()
        });
        for (path, changed, value) in [
            (
                "policy_updates",
                self.ppg_policy_updates != default.ppg_policy_updates,
                self.ppg_policy_updates,
            ),
            (
                "auxiliary_epochs",
                self.ppg_auxiliary_epochs != default.ppg_auxiliary_epochs,
                self.ppg_auxiliary_epochs,
            ),
        ] {
            let path = format!("algorithm.ppg_{path}");
            faults.count(&path, value);
            faults.unless(phasic || !changed, || unread(&path, &value.to_string()));
        }
        let path = "algorithm.ppg_beta_clone";
        faults.not_negative(path, self.ppg_beta_clone);
        faults.unless(
            phasic || same(self.ppg_beta_clone, default.ppg_beta_clone),
            || unread(path, &self.ppg_beta_clone.to_string()),
        );
    }
}

/// That nothing reads `path`.
fn unread(path: &str, value: &str) -> String {
    format!(
        "`{path}` is {value}, but only the objective \"ppg\" reads it; leave it as it is by default, or use that objective"
    )
}
