//! Limits on what peers may ask: each within reason, and together large enough for the actors that are wanted.

use super::{COUNT_MAX, Config, Faults, MILLISECONDS_MAX, SECONDS_MAX};
use crate::{unroll::Agreement, wire::SNAPSHOT_CHUNK_BYTES_MAX};

/// A message must hold one chunk of a snapshot and its frame.
const MESSAGE_BYTES_MIN: usize = 2 * SNAPSHOT_CHUNK_BYTES_MAX;
/// Messages are buffered whole, one for each actor.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
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
