//! Coefficients that change over a run.

/// A straight line from one value at the start of a run to another at its end.
///
/// It runs over environment steps, not updates, so that it means the same for every batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    start: f64,
    end: f64,
}

impl Linear {
    /// From `start` (all steps still to come) to `end` (no step left).
    #[must_use]
    pub const fn new(start: f64, end: f64) -> Self {
        Self { start, end }
    }

    /// The same value all along.
    #[must_use]
    pub const fn constant(value: f64) -> Self {
        Self::new(value, value)
    }

    /// The usual annealing: from `start` to 0.
    #[must_use]
    pub const fn to_zero(start: f64) -> Self {
        Self::new(start, 0.0)
    }

    /// The value when the share `progress_remaining` of the run is still to come. A share outside `[0, 1]` counts
    /// as the nearer end, NaN as 0.
    #[must_use]
    pub fn at(&self, progress_remaining: f64) -> f64 {
        let remaining = if progress_remaining.is_nan() {
            0.0
        } else {
            progress_remaining.clamp(0.0, 1.0)
        };
        if self.start == self.end {
            return self.start;
        }
        self.start * remaining + self.end * (1.0 - remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        let line = Linear::new(3.0, 1.0);
        assert_eq!(line.at(1.0), 3.0);
        assert_eq!(line.at(0.5), 2.0);
        assert_eq!(line.at(0.0), 1.0);
        assert_eq!(Linear::to_zero(0.4).at(0.25), 0.1);
    }

    #[test]
    fn shares_outside_the_run_count_as_its_ends() {
        let line = Linear::to_zero(2.0);
        assert_eq!(line.at(7.0), 2.0);
        assert_eq!(line.at(-1.0), 0.0);
        assert_eq!(line.at(f64::NAN), 0.0);
    }

    #[test]
    fn a_constant_never_moves() {
        for remaining in [1.0, 0.3, 0.1, 0.0] {
            assert_eq!(Linear::constant(0.1).at(remaining), 0.1);
        }
    }
}
