//! Limits on what peers may ask: each within reason, and together large enough for the actors that are wanted.

use super::{COUNT_MAX, Config, Faults, MILLISECONDS_MAX, SECONDS_MAX};
use crate::{
    unroll::Agreement,
    wire::{MESSAGE_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX},
};

/// A message must hold one chunk of a snapshot and its frame.
const MESSAGE_BYTES_MIN: usize = 2 * SNAPSHOT_CHUNK_BYTES_MAX;
/// The window that HTTP/2 begins with, and one byte less than the largest that it knows.
const WINDOW_BYTES: (usize, usize) = (65_535, (1 << 31) - 2);
/// Room for the names of a call and its token, and far more than that.
const HEADER_BYTES: (usize, usize) = (1024, 1024 * 1024);
/// Calls of an actor: trajectories, parameters, and joining.
const CALLS_PER_ACTOR: usize = 3;

impl Config {
    pub(super) fn limit_faults(&self, faults: &mut Faults) {
        let limits = &self.limits;
        faults.count("limits.actors_max", limits.actors_max);
        self.connection_faults(faults);
        for (path, value, (least, most)) in [
            (
                "limits.message_bytes_max",
                limits.message_bytes_max,
                (MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX),
            ),
            (
                "limits.header_bytes_max",
                limits.header_bytes_max,
                HEADER_BYTES,
            ),
            ("limits.window_bytes", limits.window_bytes, WINDOW_BYTES),
            ("actor.window_bytes", self.actor.window_bytes, WINDOW_BYTES),
        ] {
            faults.unless((least..=most).contains(&value), || {
                format!("`{path}` is {value}, but must lie between {least} and {most}; choose a value in between")
            });
        }
        if let Some(reward_abs_max) = limits.reward_abs_max {
            faults.positive("limits.reward_abs_max", reward_abs_max);
        }
        for (path, seconds) in [
            ("limits.first_byte_s_max", limits.first_byte_s_max),
            ("limits.tls_handshake_s_max", limits.tls_handshake_s_max),
            ("limits.first_message_s_max", limits.first_message_s_max),
            ("limits.idle_s_max", limits.idle_s_max),
            ("telemetry.stall_s", self.telemetry.stall_s),
        ] {
            faults.duration(path, seconds, 1, SECONDS_MAX);
        }
        faults.at_most("limits.drain_s_max", limits.drain_s_max, SECONDS_MAX);
        faults.duration(
            "telemetry.progress_interval_ms",
            self.telemetry.progress_interval_ms,
            10,
            MILLISECONDS_MAX,
        );
    }

    /// Every actor needs a connection and its calls.
    fn connection_faults(&self, faults: &mut Faults) {
        let limits = &self.limits;
        faults.count("limits.connections_max", limits.connections_max);
        faults.count(
            "limits.connections_per_peer_max",
            limits.connections_per_peer_max,
        );
        faults.count(
            "limits.streams_per_connection_max",
            limits.streams_per_connection_max,
        );
        faults.count("limits.streams_max", limits.streams_max);
        let actors = limits.actors_max;
        faults.unless(limits.connections_max >= actors.min(COUNT_MAX), || {
            format!(
                "`limits.connections_max` is {}, but `limits.actors_max` lets {actors} actors connect, each with a \
                 connection; raise the one or lower the other",
                limits.connections_max
            )
        });
        let count = self.actor.count;
        faults.unless(
            limits.connections_per_peer_max >= count.min(actors),
            || {
                format!(
                    "`limits.connections_per_peer_max` is {}, but the {count} actors of `actor.count` connect from one \
                     machine; raise the one or lower the other",
                    limits.connections_per_peer_max
                )
            },
        );
        faults.unless(limits.streams_per_connection_max >= CALLS_PER_ACTOR, || {
            format!(
                "`limits.streams_per_connection_max` is {}, but an actor has {CALLS_PER_ACTOR} calls; raise it to at \
                 least {CALLS_PER_ACTOR}",
                limits.streams_per_connection_max
            )
        });
        let calls = CALLS_PER_ACTOR.saturating_mul(actors);
        faults.unless(limits.streams_max >= calls.min(COUNT_MAX), || {
            format!(
                "`limits.streams_max` is {}, but the {actors} actors of `limits.actors_max` have {CALLS_PER_ACTOR} calls \
                 each; raise it to at least {calls}, or lower the other",
                limits.streams_max
            )
        });
    }

    /// The worst case must fit.
    pub(super) fn memory_fault(&self, agreement: &Agreement, faults: &mut Faults) {
        let (bound, limit) = (self.memory_bound(agreement), self.limits.memory_mib);
        faults.unless(bound.mib() <= limit, || {
            let (largest, bytes) = bound.largest();
            format!(
                "the learner may be made to hold {} MiB in the worst case, but `limits.memory_mib` is {limit}; raise it, or \
                 lower `limits.actors_max`, `limits.connections_max` or `limits.streams_max` (most of it, {} MiB, is for \
                 {largest})",
                bound.mib(),
                bytes >> 20
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ActionSpec, EnvironmentSpec, ObservationSpec};

    #[test]
    fn the_worst_case_may_be_as_large_as_the_limit_and_not_a_mib_larger() {
        let shown = ObservationSpec::floats([4], [-1.0, 1.0]);
        let environment = EnvironmentSpec::new("Test-v0", shown, ActionSpec::Discrete(2));
        let mut config = Config::default();
        let agreement = Agreement {
            network: config.network(&environment),
            rollout: config.rollout(),
            environment: environment.clone(),
        };
        let bound = config.memory_bound(&agreement).mib();
        for (memory_mib, good) in [(bound + 1, true), (bound, true), (bound - 1, false)] {
            config.limits.memory_mib = memory_mib;
            let checked = config.check_against(&environment);
            assert_eq!(checked.is_ok(), good, "{memory_mib}: {checked:?}");
            if let Err(refused) = checked {
                let text = refused.to_string();
                assert!(text.contains(&format!("{bound} MiB")), "{text}");
                assert!(text.contains(&format!("is {memory_mib};")), "{text}");
            }
        }
    }

    #[test]
    fn each_limit_may_be_what_its_bounds_are_and_nothing_beyond() {
        let (least, most) = (MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX);
        for (key, (least, most)) in [
            ("limits.message_bytes_max", (least, most)),
            ("limits.header_bytes_max", HEADER_BYTES),
            ("limits.window_bytes", WINDOW_BYTES),
            ("actor.window_bytes", WINDOW_BYTES),
        ] {
            let cases = [
                (least - 1, false),
                (least, true),
                (most, true),
                (most + 1, false),
            ];
            for (value, good) in cases {
                let sets = [format!("{key}={value}")];
                let loaded = Config::load(None, std::iter::empty(), &sets);
                assert_eq!(loaded.is_ok(), good, "{key} = {value}");
            }
        }
    }
}
