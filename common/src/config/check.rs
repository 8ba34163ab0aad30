//! Values out of range and settings that contradict each other or could never train; all are found at once.

mod algorithm;
mod checkpoint;
mod lag;
mod limits;
mod security;
mod separate;
mod telemetry;
mod transport;

use std::fmt::Display;

use super::{
    AdvantageNormalisation, Cap, Config, ConfigError, Core, Critic, PolicyConfig, setting::NONE,
};
use crate::{
    spec::{ActionSpec, EnvironmentSpec},
    unroll::Agreement,
    wire::unroll_message_bytes,
};

/// Most of anything that is counted: far above use, far below overflow.
const COUNT_MAX: usize = 65_536;
/// As many as the largest machines have cores.
const GRADIENT_PARTS_MAX: usize = 1024;
/// Seconds in a day: longer waits are mistakes, and far longer ones overflow clocks.
const SECONDS_MAX: u64 = 86_400;
/// Microseconds in a second: an actor that waits longer for others is idle.
const INFERENCE_DEADLINE_US_MAX: u64 = 1_000_000;
/// Milliseconds in an hour.
const MILLISECONDS_MAX: u64 = 3_600_000;

impl Config {
    /// Checks everything that does not depend on the environment.
    ///
    /// # Errors
    /// Every fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        ConfigError::list(self.faults())
    }

    /// Checks what depends on the environment's spaces.
    ///
    /// # Errors
    /// Every fault.
    pub fn check_against(&self, environment: &EnvironmentSpec) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        let agreement = Agreement {
            environment: environment.clone(),
            network: self.network(environment),
            rollout: self.rollout(),
        };
        let bytes = unroll_message_bytes(&agreement);
        let limit = self.limits.message_bytes_max;
        faults.unless(bytes <= limit, || {
            format!(
                "one unroll of {} may take {bytes} bytes, but `limits.message_bytes_max` is {limit}; raise it, or lower \
                 `actor.unroll_length` or `actor.environments_per_actor`",
                environment.id
            )
        });
        faults.unless(!environment.observation.is_empty(), || {
            format!(
                "an observation of {} has 0 elements, but a network needs at least 1; change the environment's options",
                environment.id
            )
        });
        let chooses = match environment.action.heads() {
            [] => !environment.action.is_empty(),
            heads => heads.iter().any(|&n| n >= 2),
        };
        faults.unless(chooses, || {
            format!(
                "{} has {}, but at least 2 actions are needed to learn a choice; change the environment's options",
                environment.id, environment.action
            )
        });
        faults.unless(
            !self.policy.squash || bounded(&environment.action),
            || {
                format!(
                    "`policy.squash` is true, but {} has {}, and only a continuous action with finite bounds can be \
                     squashed onto them; set it to false",
                    environment.id, environment.action
                )
            },
        );
        self.retrace_faults(environment, &mut faults);
        // What was said above would only be said again in other words, or about sizes that cannot be.
        if faults.0.is_empty() && agreement.network.fault().is_none() {
            self.memory_fault(&agreement, &mut faults);
        }
        if let (true, Some(fault)) = (faults.0.is_empty(), agreement.network.fault()) {
            faults.0.push(fault);
        }
        ConfigError::list(faults.0)
    }

    /// Retrace needs a value for each action in every state.
    fn retrace_faults(&self, environment: &EnvironmentSpec, faults: &mut Faults) {
        let has_action_values = self.algorithm.critic == Critic::Retrace;
        let single = matches!(environment.action, ActionSpec::Discrete(_));
        faults.unless(!has_action_values || single, || {
            format!(
                "`algorithm.critic` is \"retrace\", but {} has {}, and the values of actions are learnt for one discrete \
                 action only; use the critic \"vtrace\"",
                environment.id, environment.action
            )
        });
        faults.unless(!has_action_values || !environment.action_mask, || {
            format!(
                "`algorithm.critic` is \"retrace\", but {} masks its actions, and the mean value of the state after the \
                 last step would need a mask that is not sent; use the critic \"vtrace\"",
                environment.id
            )
        });
    }

    /// Every fault, in the order of the reference.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Faults::default();
        self.run_faults(&mut faults);
        self.actor_faults(&mut faults);
        self.learner_faults(&mut faults);
        self.transport_faults(&mut faults);
        self.algorithm.range_faults(&mut faults);
        self.algorithm.unused_faults(&mut faults);
        self.separate_faults(&mut faults);
        self.batch_faults(&mut faults);
        self.lag_faults(&mut faults);
        self.security_faults(&mut faults);
        self.limit_faults(&mut faults);
        self.checkpoint_faults(&mut faults);
        self.http_faults(&mut faults);
        self.telemetry.trace_faults(&mut faults);
        faults.0
    }

    /// What is allowed, but probably not meant.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let cap = |cap: Cap| cap.unwrap_or(f64::INFINITY);
        if cap(self.algorithm.rho_bar) < cap(self.algorithm.c_bar) {
            advice.push(format!(
                "`algorithm.rho_bar` = {} is below `algorithm.c_bar` = {}; V-trace is analysed for rho_bar >= c_bar",
                show(self.algorithm.rho_bar),
                show(self.algorithm.c_bar)
            ));
        }
        advice.extend(self.phase_advice());
        advice.extend(self.algorithm.advice(self.learner.reuse));
        advice.extend(self.lag_advice());
        advice.extend(self.http_advice());
        advice
    }

    fn run_faults(&self, faults: &mut Faults) {
        faults.unless(self.run.total_steps >= 1, || {
            "`run.total_steps` is 0, but must be at least 1; name the steps to train on".to_owned()
        });
        if let Some(stop) = self.run.stop_return {
            faults.unless(stop.is_finite(), || {
                format!("`run.stop_return` is {stop}, but must be finite; use \"{NONE}\" to train all steps")
            });
        }
        faults.unless(!self.run.out.as_os_str().is_empty(), || {
            "`run.out` is empty, but must name a directory; use \".\" for the current one"
                .to_owned()
        });
        if let Some(name) = &self.run.name {
            let plain =
                !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
            faults.unless(plain, || {
                format!(
                    "`run.name` is {name:?}, but must be one directory name that does not start with a dot; put the \
                     path into `run.out`"
                )
            });
        }
        faults.unless(!self.environment.id.is_empty(), || {
            "`environment.id` is empty, but must name an environment; `springbok envs` lists them"
                .to_owned()
        });
        let python = &self.environment.python;
        faults.unless(!python.interpreter.is_empty(), || {
            "`environment.python.interpreter` is empty, but must name an interpreter; use \"auto\" for the usual one"
                .to_owned()
        });
        for (path, seconds) in [
            (
                "environment.python.step_deadline_s_max",
                python.step_deadline_s_max,
            ),
            (
                "environment.python.start_deadline_s_max",
                python.start_deadline_s_max,
            ),
        ] {
            faults.duration(path, seconds, 1, SECONDS_MAX);
        }
        faults.at_most(
            "environment.python.restarts_max",
            python.restarts_max,
            COUNT_MAX as u64,
        );
        for width in self.policy.hidden_sizes.iter().flatten() {
            faults.count("policy.hidden_sizes", *width);
        }
        self.policy_faults(faults);
    }

    fn policy_faults(&self, faults: &mut Faults) {
        let (policy, default) = (&self.policy, PolicyConfig::default());
        faults.unless(!policy.encoder.is_empty(), || {
            "`policy.encoder` is empty, but must name an encoder; use \"auto\"".to_owned()
        });
        faults.count("policy.core_size", policy.core_size);
        let remembers = policy.core != Core::None;
        faults.unless(remembers || policy.core_size == default.core_size, || {
            format!(
                "`policy.core_size` is {}, but there is no core; leave it at {}, or set `policy.core` to \"lstm\" or \"gru\"",
                policy.core_size, default.core_size
            )
        });
        faults.unless((-10.0..=2.0).contains(&policy.log_std_initial), || {
            format!(
                "`policy.log_std_initial` is {}, but must lie between -10 and 2; 0 is a standard deviation of 1",
                policy.log_std_initial
            )
        });
        let burn_in = self.algorithm.burn_in;
        faults.unless(remembers || burn_in == 0, || {
            format!(
                "`algorithm.burn_in` is {burn_in}, but there is no memory to warm up; leave it at 0, or set `policy.core`"
            )
        });
        faults.unless(burn_in < self.actor.unroll_length.max(1), || {
            format!(
                "`algorithm.burn_in` is {burn_in}, but an unroll has {} rows and something must be left to learn from; \
                 lower it or raise `actor.unroll_length`",
                self.actor.unroll_length
            )
        });
    }

    fn actor_faults(&self, faults: &mut Faults) {
        let actor = &self.actor;
        faults.count("actor.count", actor.count);
        faults.unless(actor.count <= self.limits.actors_max, || {
            format!(
                "`actor.count` is {}, but `limits.actors_max` lets {} connect; lower the one or raise the other",
                actor.count, self.limits.actors_max
            )
        });
        faults.count("actor.environments_per_actor", actor.environments_per_actor);
        faults.count("actor.unroll_length", actor.unroll_length);
        faults.unless(actor.outbox_unrolls >= 1, || {
            "`actor.outbox_unrolls` is 0, but an actor needs a place before it begins an unroll, so none would ever \
             begin; use 1 or more"
                .to_owned()
        });
        faults.at_most("actor.outbox_unrolls", actor.outbox_unrolls, COUNT_MAX);
        faults.at_most(
            "actor.learner_wait_s_max",
            actor.learner_wait_s_max,
            SECONDS_MAX,
        );
        faults.duration(
            "actor.step_deadline_s_max",
            actor.step_deadline_s_max,
            1,
            SECONDS_MAX,
        );
    }

    fn learner_faults(&self, faults: &mut Faults) {
        let learner = &self.learner;
        faults.count("learner.batch_unrolls", learner.batch_unrolls);
        faults.at_most("learner.queue_unrolls", learner.queue_unrolls, COUNT_MAX);
        faults.unless(learner.queue_unrolls >= learner.batch_unrolls, || {
            format!(
                "`learner.queue_unrolls` is {}, but a batch of {} would never come together in it; raise it to at least \
                 {} or lower `learner.batch_unrolls`",
                learner.queue_unrolls, learner.batch_unrolls, learner.batch_unrolls
            )
        });
        faults.at_most(
            "learner.gradient_parts",
            learner.gradient_parts,
            GRADIENT_PARTS_MAX,
        );
        faults.count("learner.reservoir_batches", learner.reservoir_batches);
        faults.count("learner.reuse", learner.reuse);
        faults.unless(learner.reuse != 1 || learner.reservoir_batches <= 1, || {
            format!(
                "`learner.reservoir_batches` is {}, but `learner.reuse` is 1, so nothing is trained on again; leave it at 1, \
                 or raise `learner.reuse`",
                learner.reservoir_batches
            )
        });
        faults.count(
            "learner.inference_batch_rows_max",
            learner.inference_batch_rows_max,
        );
        faults.at_most(
            "learner.inference_deadline_us",
            learner.inference_deadline_us,
            INFERENCE_DEADLINE_US_MAX,
        );
        faults.at_most(
            "learner.update_delay_ms",
            learner.update_delay_ms,
            MILLISECONDS_MAX,
        );
    }

    fn batch_faults(&self, faults: &mut Faults) {
        let (rows, minibatches) = (self.batch_rows(), self.algorithm.minibatches);
        faults.count("algorithm.epochs", self.algorithm.epochs);
        if rows == 0 {
            // Named already, with the count that is 0.
            return;
        }
        // With a memory, minibatches are made of whole columns.
        let (parts, kind) = if self.policy.core == Core::None {
            (rows, "rows")
        } else {
            (
                rows / self.actor.unroll_length.max(1),
                "columns (environments)",
            )
        };
        let fits = (1..=parts).contains(&minibatches);
        faults.unless(fits, || {
            format!(
                "`algorithm.minibatches` is {minibatches}, but must lie between 1 and the {parts} {kind} of a batch; lower \
                 it, or raise `learner.batch_unrolls`"
            )
        });
        let (over, normalised) = match self.algorithm.advantage_normalisation {
            AdvantageNormalisation::None => return,
            AdvantageNormalisation::Batch => ("batch", rows),
            AdvantageNormalisation::Minibatch => ("minibatch", rows / minibatches.max(1)),
        };
        faults.unless(!fits || normalised >= 2, || {
            format!(
                "`algorithm.advantage_normalisation` is {over:?}, but a {over} of 1 row makes every advantage 0; \
                 use 2 rows or more, or \"{NONE}\""
            )
        });
    }
}

/// Whether an action is continuous and every dimension has both bounds.
fn bounded(action: &ActionSpec) -> bool {
    match action {
        ActionSpec::Box { low, high } => low.iter().chain(high).all(|bound| bound.is_finite()),
        ActionSpec::Discrete(_) | ActionSpec::MultiDiscrete(_) => false,
    }
}

/// Whether two settings are the same number.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// A cap as it is written.
fn show(cap: Cap) -> String {
    cap.map_or_else(|| format!("\"{NONE}\""), |cap| cap.to_string())
}

/// Sentences about what is wrong.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    /// Adds `sentence` if `holds` does not.
    fn unless(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.0.push(sentence());
        }
    }

    /// `value` counts something that there must be some of.
    fn count(&mut self, path: &str, value: usize) {
        self.unless((1..=COUNT_MAX).contains(&value), || {
            format!(
                "`{path}` is {value}, but must lie between 1 and {COUNT_MAX}; choose a value in between"
            )
        });
    }

    fn at_most<N: PartialOrd + Display>(&mut self, path: &str, value: N, limit: N) {
        self.unless(value <= limit, || {
            format!("`{path}` is {value}, but must be at most {limit}; lower it")
        });
    }

    fn duration(&mut self, path: &str, value: u64, least: u64, most: u64) {
        self.unless((least..=most).contains(&value), || {
            format!("`{path}` is {value}, but must lie between {least} and {most}; choose a value in between")
        });
    }

    /// `value` is a share of 1.
    fn share(&mut self, path: &str, value: f64) {
        self.unless((0.0..=1.0).contains(&value), || {
            format!("`{path}` is {value}, but must lie between 0 and 1; 0.95 to 0.999 is usual")
        });
    }

    fn positive(&mut self, path: &str, value: f64) {
        self.unless(value.is_finite() && value > 0.0, || {
            format!("`{path}` is {value}, but must be finite and above 0; raise it or remove the key for the default")
        });
    }

    fn not_negative(&mut self, path: &str, value: f64) {
        self.unless(value.is_finite() && value >= 0.0, || {
            format!(
                "`{path}` is {value}, but must be finite and not negative; use 0 to switch it off"
            )
        });
    }
}
