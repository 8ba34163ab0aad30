//! How a step ended. There is no bare `done` flag anywhere: it hides whether the future has a value.

/// What became of the episode at one step.
///
/// A terminated step has no future; a truncated one was cut off (time limit, or the actor gave up) and its future
/// is worth V(final observation). If an environment reports both, it is terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum StepOutcome {
    /// The episode goes on.
    #[default]
    Continued = 0,
    /// The episode ended: nothing comes after.
    Terminated = 1,
    /// The episode was cut off: the state it reached still has a value.
    Truncated = 2,
}

impl StepOutcome {
    /// The outcome that a byte of the wire stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Continued),
            1 => Some(Self::Terminated),
            2 => Some(Self::Truncated),
            _ => None,
        }
    }

    /// The outcome for the two flags that Gymnasium reports; terminated wins.
    #[must_use]
    pub fn from_flags(terminated: bool, truncated: bool) -> Self {
        match (terminated, truncated) {
            (true, _) => Self::Terminated,
            (false, true) => Self::Truncated,
            (false, false) => Self::Continued,
        }
    }

    /// Whether the episode ended at this step, either way.
    #[must_use]
    pub fn is_end(self) -> bool {
        self != Self::Continued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flags_mean_terminated() {
        assert_eq!(StepOutcome::from_flags(true, true), StepOutcome::Terminated);
        assert_eq!(StepOutcome::from_flags(false, true), StepOutcome::Truncated);
    }

    #[test]
    fn bytes_round_trip_and_strangers_are_refused() {
        for outcome in [
            StepOutcome::Continued,
            StepOutcome::Terminated,
            StepOutcome::Truncated,
        ] {
            assert_eq!(StepOutcome::from_byte(outcome as u8), Some(outcome));
        }
        assert_eq!(StepOutcome::from_byte(3), None);
    }
}
