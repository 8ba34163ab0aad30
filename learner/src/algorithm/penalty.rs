//! The weight of a penalty on the divergence from the proximal policy: adapted to what each update did, or on a
//! schedule.

use super::surrogate::KlDirection;

/// Bounds of an adapted weight, so that it neither vanishes nor overflows while nothing pushes it back.
const BETA_BOUNDS: [f64; 2] = [1e-8, 1e8];

/// Least share of the run that counts as still to come, so that no weight is infinite.
const REMAINING_MIN: f64 = 1e-6;

/// When and by how much an adapted weight moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptation {
    /// The weight grows when the divergence is above this times the target.
    pub upper_factor: f64,
    /// Factor by which it grows.
    pub increase: f64,
    /// The weight falls when the divergence is below the target divided by this.
    pub lower_divisor: f64,
    /// Divisor by which it falls.
    pub decrease: f64,
}

impl Adaptation {
    /// Schulman et al. 2017, "Proximal policy optimization algorithms", section 4.
    pub const PAPER: Self = Self {
        upper_factor: 1.5,
        increase: 2.0,
        lower_divisor: 1.5,
        decrease: 2.0,
    };
    /// RLlib's PPO.
    pub const RLLIB: Self = Self {
        upper_factor: 2.0,
        increase: 1.5,
        lower_divisor: 2.0,
        decrease: 2.0,
    };

    /// The weight after an update with `beta` whose divergence, in nats, was `kl`, where `target` was wanted.
    #[must_use]
    pub fn next(&self, beta: f64, kl: f64, target: f64) -> f64 {
        let [least, most] = BETA_BOUNDS;
        if kl > self.upper_factor * target {
            (beta * self.increase).min(most)
        } else if kl < target / self.lower_divisor {
            (beta / self.decrease).max(least)
        } else {
            beta
        }
    }
}

/// How the weight comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weighting {
    /// Always the coefficient.
    Fixed,
    /// From the coefficient on, towards a divergence of `target` nats in each update.
    Adaptive {
        /// The wanted divergence, in nats.
        target: f64,
        /// How it is approached.
        adaptation: Adaptation,
    },
    /// The coefficient divided by the share of the run that is still to come: grows. Tomar et al. 2020, "Mirror descent
    /// policy optimization", as their code has it (1 / t_k with t_k = 1 - (k - 1) / K).
    PaperLinear,
    /// The coefficient divided by the number of the update, from 1: falls.
    InverseStep,
}

/// A penalty on the divergence between the current and the proximal policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PenaltyConfig {
    /// Which divergence.
    pub direction: KlDirection,
    /// Its weight at the start.
    pub coefficient: f64,
    /// How the weight changes.
    pub weighting: Weighting,
}

impl PenaltyConfig {
    /// The weight of the update that follows `updates` others; `adapted` is that which [`Self::adapt`] gave last, and
    /// `progress_remaining`, in [0, 1], the share of the run that is still to come.
    #[must_use]
    pub fn beta(&self, adapted: f64, updates: u64, progress_remaining: f64) -> f64 {
        match self.weighting {
            Weighting::Fixed => self.coefficient,
            Weighting::Adaptive { .. } => adapted,
            Weighting::PaperLinear => self.coefficient / progress_remaining.max(REMAINING_MIN),
            Weighting::InverseStep => self.coefficient / (updates + 1) as f64,
        }
    }

    /// The adapted weight after an update whose divergence was `kl` nats.
    #[must_use]
    pub fn adapt(&self, adapted: f64, kl: f64) -> f64 {
        match self.weighting {
            Weighting::Adaptive { target, adaptation } => adaptation.next(adapted, kl, target),
            Weighting::Fixed | Weighting::PaperLinear | Weighting::InverseStep => adapted,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::golden;

    fn penalty(coefficient: f64, weighting: Weighting) -> PenaltyConfig {
        PenaltyConfig {
            direction: KlDirection::Forward,
            coefficient,
            weighting,
        }
    }

    #[test]
    fn golden_adaptive_beta() {
        let wanted = |case: &Value| golden::name(case).starts_with("adaptive_beta");
        golden::each_case("misc", wanted, |name, case| {
            let config = |key: &str| golden::number(&case["config"][key]);
            let adaptation = Adaptation {
                upper_factor: config("upper_factor"),
                increase: config("increase"),
                lower_divisor: config("lower_divisor"),
                decrease: config("decrease"),
            };
            match name {
                "adaptive_beta_paper" => assert_eq!(adaptation, Adaptation::PAPER),
                "adaptive_beta_rllib" => assert_eq!(adaptation, Adaptation::RLLIB),
                _ => {}
            }
            let target = config("target");
            let weighting = Weighting::Adaptive { target, adaptation };
            let penalty = penalty(config("beta0"), weighting);
            let mut beta = penalty.coefficient;
            let mut got = Vec::new();
            for kl in golden::numbers(&case["input"]["kl"]) {
                beta = penalty.adapt(beta, kl);
                got.push(penalty.beta(beta, 7, 0.5));
            }
            let expected = golden::numbers(&case["expected"]["beta_after"]);
            golden::assert_close(name, &got, &expected, 1e-12);
        });
    }

    #[test]
    fn golden_mdpo_schedules() {
        let wanted = |case: &Value| golden::name(case).starts_with("mdpo_beta");
        golden::each_case("misc", wanted, |name, case| {
            let config = |key: &str| golden::number(&case["config"][key]);
            let steps = golden::integers(&case["input"]["k"]);
            let got: Vec<f64> = match name {
                // k counts from 1 here.
                "mdpo_beta_inverse_step" => {
                    let penalty = penalty(config("c"), Weighting::InverseStep);
                    let beta = |k: &u64| penalty.beta(f64::NAN, k - 1, f64::NAN);
                    steps.iter().map(beta).collect()
                }
                "mdpo_beta_paper_linear" => {
                    let penalty = penalty(config("beta0"), Weighting::PaperLinear);
                    let remaining = |k: &u64| 1.0 - *k as f64 / config("K");
                    let beta = |k: &u64| penalty.beta(f64::NAN, 99, remaining(k));
                    steps.iter().map(beta).collect()
                }
                other => panic!("unknown schedule {other}"),
            };
            let expected = golden::numbers(&case["expected"]["beta"]);
            golden::assert_close(name, &got, &expected, 1e-12);
        });
    }

    #[test]
    fn a_weight_stays_where_it_can_come_back_from() {
        let adaptation = Adaptation::PAPER;
        let after = |kl: f64| (0..200).fold(1.0, |beta, _| adaptation.next(beta, kl, 0.01));
        assert_eq!([after(0.0), after(f64::INFINITY)], BETA_BOUNDS);
        let penalty = penalty(2.0, Weighting::PaperLinear);
        assert!(penalty.beta(1.0, 0, 0.0).is_finite());
    }
}
