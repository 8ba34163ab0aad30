//! The governor: holds the policy lag, or the effective sample size, at a set-point with the highest throughput that
//! the set-point allows. Observations of updates go in, decisions come out; it knows no clock and no queue.
//!
//! It has two actuators. The budget of unrolls in flight limits the lag and, once it is smaller than what keeps both sides
//! busy, the throughput. The publish interval adds lag without costing throughput. So the budget is as large as the
//! set-point allows, and rarer publications only make up what even full buffers leave:
//!
//! * lag too low, and acknowledgements are held back: raise the budget;
//! * lag too low, and nothing is held back: publish more rarely;
//! * lag too high: publish more often, then lower the budget, starting from what is really in flight, so that a budget
//!   that was out of use does not have to be unwound first.
//!
//! One step of integral control is taken per window of updates, after those that were begun before the last change have
//! been trained; a dead band keeps noise from moving anything. Fractions of both actuators are made by alternating between
//! the neighbouring whole numbers. For an effective sample size, an outer loop moves the set-point of the lag; a sample
//! size that is better than its set-point although nothing is held back is let be, since more lag would buy nothing.

use serde::{Deserialize, Serialize};

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// Mean policy lag, in versions.
    Lag(f64),
    /// Effective sample size of pi_prox / mu, in (0, 1).
    Ess(f64),
}

/// What an update showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Mean lag of its steps, in versions.
    pub lag: f64,
    /// Its effective sample size.
    pub ess: f64,
    /// Unrolls in flight when it ended.
    pub in_flight: usize,
    /// Whether acknowledgements were held back then.
    pub held: bool,
}

/// What to do until the next update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Unrolls that may be in flight.
    pub budget_unrolls: usize,
    /// Every how many versions one is published.
    pub publish_interval: u64,
    /// The set-point of the lag, in versions.
    pub lag_target: f64,
}

/// What a governor amounted to: `steering.governor` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GovernorSummary {
    /// Mean budget of unrolls in flight.
    pub budget_unrolls: f64,
    /// Mean publish interval, in versions.
    pub publish_interval: f64,
    /// The last set-point of the lag, in versions.
    pub lag_target: f64,
    /// Times that an actuator was moved.
    pub moves: u64,
}

/// Share of an error that one step takes back.
const GAIN: f64 = 0.6;
/// Errors below this share of the set-point move nothing.
const DEAD_BAND: f64 = 0.06;
/// Updates in a window, besides those that wait for the last change to show.
const WINDOW_UPDATES: u64 = 10;
/// Largest budget and publish interval: far beyond use.
const BUDGET_MAX: f64 = 65_536.0;
const INTERVAL_MAX: f64 = 256.0;
/// Bounds of the set-point that the outer loop chooses.
const LAG_TARGET: (f64, f64) = (0.25, 64.0);

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Window {
    updates: u64,
    lag: f64,
    ess: f64,
    in_flight: f64,
    held: u64,
}

/// The state machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Governor {
    target: Target,
    batch: f64,
    lag_target: f64,
    budget: f64,
    interval: f64,
    /// What alternating owes each actuator.
    budget_owed: f64,
    interval_owed: f64,
    /// Updates to let pass before the next window.
    settling: u64,
    window: Window,
    sums: (f64, f64, u64),
    moves: u64,
    /// The smallest publish interval; configured, and no part of a checkpoint.
    #[serde(skip, default = "every_version")]
    interval_min: f64,
}

/// The publish interval that is usual.
fn every_version() -> f64 {
    1.0
}

impl Governor {
    /// A governor for batches of `batch_unrolls`.
    #[must_use]
    pub fn new(target: Target, batch_unrolls: usize) -> Self {
        let batch = batch_unrolls.max(1) as f64;
        let lag_target = match target {
            Target::Lag(lag) => lag,
            Target::Ess(_) => 1.0,
        };
        Self {
            target,
            batch,
            lag_target,
            // The batch in training and as many as make the lag.
            budget: batch * (lag_target + 1.0),
            interval: every_version(),
            budget_owed: 0.0,
            interval_owed: 0.0,
            settling: 0,
            window: Window::default(),
            sums: (0.0, 0.0, 0),
            moves: 0,
            interval_min: every_version(),
        }
    }

    /// The same, which never publishes more often than every `versions`.
    #[must_use]
    pub fn publishing_at_most_every(self, versions: u64) -> Self {
        let interval_min = (versions.max(1) as f64).min(INTERVAL_MAX);
        Self {
            interval: interval_min,
            interval_min,
            ..self
        }
    }

    /// Goes on from `saved`.
    pub fn restore(&mut self, saved: Self) {
        let interval_min = self.interval_min;
        *self = Self {
            interval: saved.interval.max(interval_min),
            interval_min,
            ..saved
        };
    }

    /// What is held.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Takes in one update and says what to do until the next.
    pub fn observe(&mut self, observation: &Observation) -> Decision {
        if self.settling > 0 {
            self.settling -= 1;
        } else {
            let window = &mut self.window;
            window.updates += 1;
            window.lag += observation.lag;
            window.ess += observation.ess;
            window.in_flight += observation.in_flight as f64;
            window.held += u64::from(observation.held);
            if window.updates >= WINDOW_UPDATES {
                self.step();
            }
        }
        self.decide()
    }

    /// What to do before the first update.
    pub fn decide(&mut self) -> Decision {
        self.sums.0 += self.budget;
        self.sums.1 += self.interval;
        self.sums.2 += 1;
        Decision {
            budget_unrolls: alternate(self.budget, &mut self.budget_owed) as usize,
            publish_interval: alternate(self.interval, &mut self.interval_owed) as u64,
            lag_target: self.lag_target,
        }
    }

    /// What it amounted to.
    #[must_use]
    pub fn summary(&self) -> GovernorSummary {
        let decisions = self.sums.2.max(1) as f64;
        GovernorSummary {
            budget_unrolls: self.sums.0 / decisions,
            publish_interval: self.sums.1 / decisions,
            lag_target: self.lag_target,
            moves: self.moves,
        }
    }

    /// One step of control at the end of a window.
    fn step(&mut self) {
        let window = std::mem::take(&mut self.window);
        let updates = window.updates as f64;
        let (lag, in_flight) = (window.lag / updates, window.in_flight / updates);
        let held = 2 * window.held > window.updates;
        if let Target::Ess(target) = self.target {
            self.follow_ess(target, window.ess / updates, lag);
        }
        let error = self.lag_target - lag;
        let before = (self.budget, self.interval);
        if error.abs() > DEAD_BAND * self.lag_target {
            self.correct(GAIN * error, held, in_flight);
        } else if held && self.interval > self.interval_min {
            // The lag is right, but part of it is made by publishing rarely while actors are held back for it: the
            // budget makes the same lag with a higher throughput.
            let versions = (0.5_f64).min((self.interval - self.interval_min) / 2.0);
            self.interval -= 2.0 * versions;
            self.budget += self.batch * versions;
        }
        if before != (self.budget, self.interval) {
            self.moves += 1;
            // What is in flight now was begun under the old settings.
            self.settling = (lag.max(self.lag_target) + 2.0).ceil() as u64;
        }
    }

    /// Moves the lag by `versions`.
    fn correct(&mut self, versions: f64, held: bool, in_flight: f64) {
        if versions > 0.0 {
            if held {
                self.budget = (self.budget + self.batch * versions).min(BUDGET_MAX);
            } else if matches!(self.target, Target::Lag(_)) {
                self.interval = (self.interval + 2.0 * versions).min(INTERVAL_MAX);
            }
            return;
        }
        let rest = versions + (self.interval - self.interval_min) / 2.0;
        self.interval = (self.interval + 2.0 * versions).max(self.interval_min);
        if rest < 0.0 {
            let used = if held {
                self.budget
            } else {
                self.budget.min(in_flight)
            };
            self.budget = (used + self.batch * rest).max(self.batch);
        }
    }

    /// The further the sample size is from its target, the more the set-point of the lag moves, if the lag follows it.
    fn follow_ess(&mut self, target: f64, ess: f64, lag: f64) {
        let lost = ((1.0 - target) / (1.0 - ess).max(1e-6))
            .sqrt()
            .clamp(0.7, 1.4);
        let follows = if lost > 1.0 {
            lag > 0.7 * self.lag_target
        } else {
            lag < 1.5 * self.lag_target
        };
        if follows && (ess - target).abs() > 0.1 * (1.0 - target) {
            self.lag_target = (self.lag_target * lost).clamp(LAG_TARGET.0, LAG_TARGET.1);
        }
    }
}

/// The whole number below or above `value`, so that the mean is `value`.
fn alternate(value: f64, owed: &mut f64) -> f64 {
    *owed += value;
    let whole = owed.floor().min(value.ceil()).max(value.floor());
    *owed -= whole;
    whole
}

#[cfg(test)]
mod tests;
