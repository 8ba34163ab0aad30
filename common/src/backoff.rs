//! How long to wait before the next attempt to reach a peer.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;

/// Growth of the upper bound from one wait to the next.
const GROWTH: u32 = 3;

/// Waits that grow exponentially and are spread at random, so that actors that lost the same learner do not all come
/// back in one instant: each wait is uniform between the shortest one and three times the last one, never above the
/// longest ("decorrelated jitter").
#[derive(Debug, Clone)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    last: Duration,
    chance: Pcg32,
}

/// Bounds between which no wait lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a back-off from {shortest:?} to {longest:?} is impossible: the shortest wait must be above 0 and at most the longest"
)]
pub struct BackoffError {
    shortest: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits between `shortest` and `longest`.
    ///
    /// # Errors
    /// If `shortest` is 0 or above `longest`.
    pub fn new(shortest: Duration, longest: Duration) -> Result<Self, BackoffError> {
        if shortest.is_zero() || shortest > longest {
            return Err(BackoffError { shortest, longest });
        }
        Ok(Self {
            shortest,
            longest,
            last: shortest,
            chance: Pcg32::seed_from_u64(rand::random()),
        })
    }

    /// The same bounds, but waits that follow from `seed`.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self {
            chance: Pcg32::seed_from_u64(seed),
            ..self
        }
    }

    /// The next wait.
    #[expect(
        clippy::should_implement_trait,
        reason = "waits never end, so there is no Option to unwrap"
    )]
    pub fn next(&mut self) -> Duration {
        let upper = self.last.saturating_mul(GROWTH).min(self.longest);
        let spread = upper.saturating_sub(self.shortest);
        let wait = self.shortest + spread.mul_f64(self.chance.random::<f64>());
        self.last = wait.min(self.longest);
        self.last
    }

    /// Starts over: the peer was reached.
    pub fn reset(&mut self) {
        self.last = self.shortest;
    }
}

impl Default for Backoff {
    /// From 500 ms to 10 s: whatever happens, a peer is tried at most twice in a second.
    fn default() -> Self {
        let shortest = Duration::from_millis(500);
        Self {
            shortest,
            longest: Duration::from_secs(10),
            last: shortest,
            chance: Pcg32::seed_from_u64(rand::random()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_within_their_bounds_and_grow() {
        let mut backoff = Backoff::default();
        let (shortest, longest) = (Duration::from_millis(500), Duration::from_secs(10));
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits[0] <= 3 * shortest);
        assert!(waits.iter().all(|wait| (shortest..=longest).contains(wait)));
        assert!(waits.iter().max() > Some(&Duration::from_secs(2)));
    }

    #[test]
    fn two_peers_do_not_wait_alike() {
        let (mut one, mut other) = (Backoff::default(), Backoff::default());
        let differ = (0..20).filter(|_| one.next() != other.next()).count();
        assert!(differ > 0);
        let [mut one, mut other] = [3, 3].map(|seed| Backoff::default().seeded(seed));
        assert!((0..20).all(|_| one.next() == other.next()));
    }

    #[test]
    fn a_peer_that_was_reached_is_soon_tried_again() {
        let mut backoff = Backoff::default();
        for _ in 0..50 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(1500));
    }

    #[test]
    fn impossible_bounds_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Backoff::new(Duration::ZERO, second).is_err());
        assert!(Backoff::new(2 * second, second).is_err());
        let mut constant = Backoff::new(second, second).unwrap();
        assert_eq!([constant.next(), constant.next()], [second, second]);
    }

    #[test]
    fn the_longest_possible_waits_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX / 2, Duration::MAX / 2).unwrap();
        assert_eq!(backoff.next(), Duration::MAX / 2);
    }
}
