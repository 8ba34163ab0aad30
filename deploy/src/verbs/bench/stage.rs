//! What a stage is to the runner, and the loops that most of them consist of.

use std::time::{Duration, Instant};

use super::runner::Pace;
use crate::exit::Failure;

/// A number beside a rate.
pub(super) type Note = (String, f64);

/// One piece of work, and a bare loop that does no more than that work needs.
pub(super) trait Stage {
    /// What exactly is measured, in a few words.
    fn case(&self) -> String;

    /// What a rate counts in a second.
    fn unit(&self) -> &'static str;

    /// What the ceiling is, in a few words.
    fn against(&self) -> &'static str;

    /// How long and how often, where `usual` does not suit.
    fn pace(&self, usual: &Pace) -> Pace {
        *usual
    }

    /// Works for about `slice`; gives the rate, in units each second.
    fn ours(&mut self, slice: Duration) -> Result<f64, Failure>;

    /// The same of the bare loop.
    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure>;

    /// What else was seen.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }
}

/// What there is to measure of a stage.
pub(super) type Cases = Result<Vec<Box<dyn Stage>>, Failure>;

/// A piece of work, which gives the units that it did.
pub(super) type Work = Box<dyn FnMut() -> Result<f64, Failure>>;

/// Two pieces of work that are repeated for as long as a slice is.
pub(super) struct Loops {
    pub(super) case: String,
    pub(super) unit: &'static str,
    pub(super) against: &'static str,
    pub(super) ours: Work,
    pub(super) ceiling: Work,
}

impl Stage for Loops {
    fn case(&self) -> String {
        self.case.clone()
    }

    fn unit(&self) -> &'static str {
        self.unit
    }

    fn against(&self) -> &'static str {
        self.against
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        repeat(slice, &mut self.ours)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        repeat(slice, &mut self.ceiling)
    }
}

/// Does `work` again and again for at least `slice`; gives its units each second.
pub(super) fn repeat(
    slice: Duration,
    mut work: impl FnMut() -> Result<f64, Failure>,
) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut units = 0.0;
    loop {
        units += work()?;
        let elapsed = begun.elapsed();
        if elapsed >= slice {
            return Ok(units / elapsed.as_secs_f64());
        }
    }
}

/// Bytes in a MiB.
pub(super) const MIB: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_at_least_once_and_counted_by_the_second() {
        let mut times = 0;
        let rate = repeat(Duration::ZERO, || {
            times += 1;
            Ok(7.0)
        });
        assert!(times == 1 && rate.unwrap() > 7.0);
        let begun = Instant::now();
        let rate = repeat(Duration::from_millis(20), || Ok(1.0)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(20) && rate > 0.0);
        assert!(repeat(Duration::ZERO, || Err(Failure::internal("no"))).is_err());
    }
}
