//! The verdict: where the time of a run went, which side holds the other up, and the knob to turn.

use serde::{Deserialize, Serialize};

/// Where the time went, as shares from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeShares {
    /// Of the trainer's time: computing.
    pub learner_busy: f64,
    /// Of the trainer's time: waiting for unrolls.
    pub learner_waiting: f64,
    /// Of the trainer's time: measuring health and lag, and writing that down; a part of `learner_busy`.
    pub learner_measuring: f64,
    /// Of the actors' time: waiting for the learner.
    pub actors_blocked: f64,
    /// Of the actors' time: stepping environments.
    pub actors_environment: f64,
    /// Of the actors' time: inference.
    pub actors_inference: f64,
    /// From an unroll's last step to its sending, as a share of the actors' time. They may do other things meanwhile.
    pub actors_sending: f64,
    /// Share of the queue's places that were taken when an update ended, mean.
    pub queue_fill: f64,
}

/// Below this share of waiting, neither side is worth a word.
const WAITS: f64 = 0.2;

impl TimeShares {
    /// One line: the slower side, the knob to turn, and the evidence.
    #[must_use]
    pub fn verdict(&self) -> String {
        let percent = |share: f64| (share * 100.0).round();
        let evidence = format!(
            "learner computing {} %, waiting for data {} %; actors blocked {} %, in environments {} %, in inference {} \
             %, sending {} %; queue {} % full",
            percent(self.learner_busy),
            percent(self.learner_waiting),
            percent(self.actors_blocked),
            percent(self.actors_environment),
            percent(self.actors_inference),
            percent(self.actors_sending),
            percent(self.queue_fill),
        );
        format!("{} ({evidence})", self.advice())
    }

    fn advice(&self) -> &'static str {
        if self.learner_waiting < WAITS && self.actors_blocked < WAITS {
            return "balanced: neither side waits for the other";
        }
        if self.learner_waiting <= self.actors_blocked && self.learner_waiting < 0.5 {
            return "learner: more actors would not help; lower algorithm.epochs, or use a faster device or fewer actors";
        }
        if self.actors_blocked >= 0.5 {
            // Both wait: what is between them is slow, or unrolls are held back.
            return "transport: both sides wait for each other; raise actor.outbox_unrolls, or allow more lag if it is limited";
        }
        if self.actors_sending >= self.actors_environment.max(self.actors_inference) {
            return "actors: sending takes longest; raise actor.outbox_unrolls or bring actors and learner closer";
        }
        if self.actors_inference > self.actors_environment {
            return "actors: inference takes longest; more actors would help, or a larger actor.environments_per_actor or a smaller network";
        }
        "actors: environments take longest; more actors (actor.count) would help"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_the_side_that_never_waits_and_its_knob() {
        let shares =
            |learner_busy: f64, actors_blocked, actors_environment, actors_inference| TimeShares {
                learner_busy,
                learner_waiting: 1.0 - learner_busy,
                actors_blocked,
                actors_environment,
                actors_inference,
                ..TimeShares::default()
            };
        let starts = |shares: TimeShares, start: &str| {
            let verdict = shares.verdict();
            assert!(verdict.starts_with(start), "{verdict}");
        };
        starts(
            shares(0.95, 0.9, 0.05, 0.05),
            "learner: more actors would not help",
        );
        starts(shares(0.7, 0.6, 0.1, 0.1), "learner");
        starts(
            shares(0.2, 0.1, 0.7, 0.1),
            "actors: environments take longest",
        );
        starts(
            shares(0.2, 0.1, 0.1, 0.7),
            "actors: inference takes longest",
        );
        starts(shares(0.9, 0.1, 0.5, 0.4), "balanced");
        starts(shares(0.2, 0.9, 0.05, 0.05), "transport: both sides wait");
        let sending = TimeShares {
            actors_sending: 0.6,
            ..shares(0.2, 0.1, 0.4, 0.3)
        };
        starts(sending, "actors: sending takes longest");
        assert!(
            sending
                .verdict()
                .contains("learner computing 20 %, waiting for data 80 %; actors blocked 10 %")
        );
        assert!(sending.verdict().ends_with("sending 60 %; queue 0 % full)"));
    }
}
