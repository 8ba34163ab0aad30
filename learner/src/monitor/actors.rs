//! How fast each actor is, and when it was last heard of: read off the roster now and then, so that the roster need not
//! know the time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use springbok_common::ids::ActorId;

use crate::watchdog::ActorSeen;

/// Actors that are listed one by one; a page and a time series database should survive a large run.
pub const ACTORS_LISTED_MAX: usize = 1000;

/// Time constant of the smoothed rate.
const RATE_SMOOTHING_S: f64 = 10.0;

/// An actor that has a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// Its place.
    pub actor: u32,
    /// The policy version of its last unroll.
    pub version: u64,
    /// By how many versions that is behind the learner.
    pub lag_versions: u64,
    /// Unrolls that arrived from it.
    pub unrolls: u64,
    /// Unrolls per second over about the last ten seconds.
    pub unrolls_per_s: f64,
    /// Seconds since its last unroll arrived, as far as this was looked at.
    pub last_seen_s: f64,
}

#[derive(Debug)]
struct Watched {
    unrolls: u64,
    at: Instant,
    heard: Instant,
    rate: f64,
}

/// Watches the actors.
#[derive(Debug, Default)]
pub struct ActorWatch(BTreeMap<ActorId, Watched>);

impl ActorWatch {
    /// Looks at the actors that are present `now`: (place, what it was seen to do). Gives them by place, at most
    /// [`ACTORS_LISTED_MAX`].
    pub fn look(
        &mut self,
        now: Instant,
        updates: u64,
        seen: &[(u32, ActorSeen<ActorId>)],
    ) -> Vec<ActorStatus> {
        let mut before = std::mem::take(&mut self.0);
        let mut listed = Vec::with_capacity(seen.len().min(ACTORS_LISTED_MAX));
        for (actor, seen) in seen {
            let watched = before.remove(&seen.actor);
            let watched = watched.map_or_else(
                || Watched::new(now, seen),
                |mut watched| {
                    watched.look(now, seen);
                    watched
                },
            );
            listed.push(ActorStatus {
                actor: *actor,
                version: seen.version,
                lag_versions: updates.saturating_sub(seen.version),
                unrolls: seen.unrolls,
                unrolls_per_s: watched.rate,
                last_seen_s: now.duration_since(watched.heard).as_secs_f64(),
            });
            self.0.insert(seen.actor, watched);
        }
        listed.sort_by_key(|status| status.actor);
        listed.truncate(ACTORS_LISTED_MAX);
        listed
    }
}

impl Watched {
    fn new(now: Instant, seen: &ActorSeen<ActorId>) -> Self {
        Self {
            unrolls: seen.unrolls,
            at: now,
            heard: now,
            rate: 0.0,
        }
    }

    fn look(&mut self, now: Instant, seen: &ActorSeen<ActorId>) {
        let span = now.duration_since(self.at);
        if span < Duration::from_millis(1) {
            return;
        }
        let arrived = seen.unrolls.saturating_sub(self.unrolls);
        let weight = 1.0 - (-span.as_secs_f64() / RATE_SMOOTHING_S).exp();
        let present = arrived as f64 / span.as_secs_f64();
        self.rate += weight * (present - self.rate);
        if arrived > 0 {
            self.heard = now;
        }
        self.unrolls = seen.unrolls;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_settle_and_silence_is_counted() {
        let start = Instant::now();
        let (busy, silent) = (ActorId::random(), ActorId::random());
        let mut watch = ActorWatch::default();
        let mut last = Vec::new();
        for second in 0..=60_u64 {
            let seen = |actor, unrolls| ActorSeen {
                actor,
                version: 5,
                unrolls,
            };
            let seen = [(1, seen(busy, 4 * second)), (0, seen(silent, 7))];
            last = watch.look(start + Duration::from_secs(second), 9, &seen);
        }
        assert_eq!((last[0].actor, last[1].actor), (0, 1));
        assert!((last[1].unrolls_per_s - 4.0).abs() < 0.1, "{last:?}");
        assert_eq!((last[1].lag_versions, last[1].last_seen_s), (4, 0.0));
        assert_eq!((last[0].unrolls_per_s, last[0].last_seen_s), (0.0, 60.0));
    }

    #[test]
    fn those_who_left_are_forgotten_and_the_list_is_bounded() {
        let now = Instant::now();
        let mut watch = ActorWatch::default();
        let seen: Vec<_> = (0..1200)
            .map(|place| {
                let actor = ActorId::random();
                (
                    place,
                    ActorSeen {
                        actor,
                        version: 0,
                        unrolls: 1,
                    },
                )
            })
            .collect();
        assert_eq!(watch.look(now, 0, &seen).len(), ACTORS_LISTED_MAX);
        watch.look(now, 0, &seen[..1]);
        assert_eq!(watch.0.len(), 1);
    }
}
