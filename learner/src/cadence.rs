//! Which versions are published. Time is an argument.

use std::time::{Duration, Instant};

use springbok_common::version::PolicyVersion;

/// The state machine.
#[derive(Debug)]
pub struct Cadence {
    interval_updates: u64,
    interval: Duration,
    /// The version that was published last, and when; none before the first.
    last: Option<(PolicyVersion, Instant)>,
    /// The first one, and how many followed it.
    first: PolicyVersion,
    followed: u64,
}

impl Cadence {
    /// At most every `interval_updates`-th version, and at most one in each `interval`.
    #[must_use]
    pub fn new(interval_updates: u64, interval: Duration) -> Self {
        Self {
            interval_updates: interval_updates.max(1),
            interval,
            last: None,
            first: PolicyVersion::default(),
            followed: 0,
        }
    }

    /// Changes the interval of versions.
    pub fn set_interval_updates(&mut self, updates: u64) {
        self.interval_updates = updates.max(1);
    }

    /// Whether `version`, the newest, is to be published `now`. The first one is; one that was may be again.
    pub fn publishes(&mut self, version: PolicyVersion, now: Instant) -> bool {
        let Some((last, at)) = self.last else {
            (self.first, self.last) = (version, Some((version, now)));
            return true;
        };
        if version == last {
            return true;
        }
        let due = version.0 >= last.0.saturating_add(self.interval_updates)
            && now.saturating_duration_since(at) >= self.interval;
        if due {
            self.last = Some((version, now));
            self.followed += 1;
        }
        due
    }

    /// The version that was published last.
    #[must_use]
    pub fn published(&self) -> PolicyVersion {
        self.last.map_or(PolicyVersion::default(), |(last, _)| last)
    }

    /// Versions from one publication to the next: the mean so far, or else what is wanted.
    #[must_use]
    pub fn mean_interval(&self) -> f64 {
        if self.followed == 0 {
            return self.interval_updates as f64;
        }
        self.published().0.saturating_sub(self.first.0) as f64 / self.followed as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the versions 5 to 16 are published, of which one is made every 10 ms.
    fn published(mut cadence: Cadence) -> (Vec<u64>, f64) {
        let began = Instant::now();
        let due = (5..17).filter(|version| {
            let now = began + Duration::from_millis(10 * version);
            cadence.publishes(PolicyVersion(*version), now)
        });
        (due.collect(), cadence.mean_interval())
    }

    #[test]
    fn every_version_or_every_third_or_one_in_a_while_whatever_is_rarer() {
        let ms = Duration::from_millis;
        let every = (5..17).collect::<Vec<_>>();
        assert_eq!(published(Cadence::new(1, ms(0))), (every.clone(), 1.0));
        assert_eq!(published(Cadence::new(0, ms(10))), (every, 1.0));
        let third = vec![5, 8, 11, 14];
        assert_eq!(published(Cadence::new(3, ms(0))), (third.clone(), 3.0));
        assert_eq!(published(Cadence::new(3, ms(25))), (third.clone(), 3.0));
        assert_eq!(published(Cadence::new(1, ms(25))), (third, 3.0));
        assert_eq!(published(Cadence::new(3, ms(60))), (vec![5, 11], 6.0));
    }

    #[test]
    fn a_version_may_be_published_again_and_the_interval_may_change() {
        let now = Instant::now();
        let mut cadence = Cadence::new(4, Duration::ZERO);
        assert_eq!(cadence.mean_interval(), 4.0);
        assert!(cadence.publishes(PolicyVersion(0), now));
        assert!(cadence.publishes(PolicyVersion(0), now));
        assert!(!cadence.publishes(PolicyVersion(3), now));
        cadence.set_interval_updates(2);
        assert!(cadence.publishes(PolicyVersion(3), now));
        assert_eq!(cadence.published(), PolicyVersion(3));
        assert_eq!(cadence.mean_interval(), 3.0);
    }
}
