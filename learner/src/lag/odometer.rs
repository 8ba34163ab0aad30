//! The odometer: how many environment steps all actors had made at each moment, so that the age of experience can be told
//! in steps.

use std::{collections::VecDeque, time::Instant};

/// Readings that are kept; what happened before the oldest is not known any more.
const READINGS: usize = 4096;

/// Readings of a count that only grows.
#[derive(Debug, Default)]
pub struct Odometer {
    readings: VecDeque<(Instant, u64)>,
}

impl Odometer {
    /// The count stands at `env_steps` at the moment `at`; both only ever grow.
    pub fn read(&mut self, at: Instant, env_steps: u64) {
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((at, env_steps));
    }

    /// Steps made from `from` to the last reading. Between two readings the count is taken to grow evenly.
    #[must_use]
    pub fn since(&self, from: Instant) -> f64 {
        let last = self.readings.back().map_or(0.0, |(_, steps)| *steps as f64);
        (last - self.at(from)).max(0.0)
    }

    fn at(&self, moment: Instant) -> f64 {
        let after = self.readings.partition_point(|(at, _)| *at <= moment);
        let before = after
            .checked_sub(1)
            .and_then(|index| self.readings.get(index));
        let (before, after) = match (before, self.readings.get(after)) {
            (Some(before), Some(after)) => (before, after),
            (Some(only), None) | (None, Some(only)) => return only.1 as f64,
            (None, None) => return 0.0,
        };
        let span = (after.0 - before.0).as_secs_f64();
        let share = (moment - before.0).as_secs_f64() / span.max(f64::MIN_POSITIVE);
        before.1 as f64 + share * (after.1.saturating_sub(before.1)) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_between_readings_are_interpolated_and_none_are_invented_outside() {
        let start = Instant::now() + Duration::from_secs(10);
        let second = |n: u64| start + Duration::from_secs(n);
        let mut odometer = Odometer::default();
        assert_eq!(odometer.since(start), 0.0);
        odometer.read(second(0), 100);
        odometer.read(second(4), 500);
        odometer.read(second(5), 500);
        odometer.read(second(6), 900);
        assert_eq!(odometer.since(second(1)), 700.0);
        assert_eq!(odometer.since(second(5)), 400.0);
        assert_eq!(odometer.since(start - Duration::from_secs(5)), 800.0);
        assert_eq!(odometer.since(second(9)), 0.0);
    }
}
