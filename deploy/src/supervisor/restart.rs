//! When a dead actor is started again, and when that has become pointless.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Deaths within [`WINDOW`] that end the run.
pub(super) const DEATHS_MAX: usize = 5;
/// How long a death is held against an actor's place.
pub(super) const WINDOW: Duration = Duration::from_secs(30);
const DELAY_MIN: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Counts the deaths in one actor's place.
#[derive(Debug, Default)]
pub(super) struct RestartPolicy {
    deaths: VecDeque<Instant>,
}

impl RestartPolicy {
    /// How long to wait before the next start: twice as long for each death within the window; `None` if there
    /// were too many.
    pub(super) fn died(&mut self, now: Instant) -> Option<Duration> {
        self.deaths.push_back(now);
        while let Some(&first) = self.deaths.front()
            && now.saturating_duration_since(first) > WINDOW
        {
            self.deaths.pop_front();
        }
        if self.deaths.len() >= DEATHS_MAX {
            return None;
        }
        let doublings = u32::try_from(self.deaths.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Some((DELAY_MIN * 2_u32.saturating_pow(doublings)).min(DELAY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_the_fifth_death_is_the_last() {
        let mut policy = RestartPolicy::default();
        let start = Instant::now();
        let delays: Vec<_> = (0..5)
            .map(|second| policy.died(start + Duration::from_secs(second)))
            .collect();
        let expected = [200, 400, 800, 1600].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(delays[..4], expected);
        assert_eq!(delays[4], None);
    }

    #[test]
    fn rare_deaths_are_forgiven_for_ever() {
        let mut policy = RestartPolicy::default();
        let start = Instant::now();
        for death in 0..100 {
            let now = start + death * (WINDOW + Duration::from_millis(1));
            assert_eq!(policy.died(now), Some(DELAY_MIN));
        }
    }
}
