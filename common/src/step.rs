//! How a step ended. There is no bare `done` flag anywhere: it hides whether the future has a value.

use serde::{Deserialize, Serialize};

/// What became of the episode at one step.
///
/// A terminated step has no future; a truncated one was cut off (time limit, or the actor gave up) and its future
/// is worth V(final observation). If an environment reports both, it is terminated. A lost life ends the value, but
/// not the episode. A void row is no step at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(u8)]
pub enum StepOutcome {
    /// The episode goes on.
    #[default]
    Continued = 0,
    /// The episode ended: nothing comes after.
    Terminated = 1,
    /// The episode was cut off: the state it reached still has a value.
    Truncated = 2,
    /// A life was lost: nothing that comes after counts for this step, but the episode (and memory) goes on.
    LifeLost = 3,
    /// The environment was resetting itself and ignored the action: the row belongs to no episode, nothing is learnt
    /// from it. Only environments that reset in a step of their own have such rows, each right after an end.
    Void = 4,
}

impl StepOutcome {
    /// The outcome that a byte of the wire stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Continued),
            1 => Some(Self::Terminated),
            2 => Some(Self::Truncated),
            3 => Some(Self::LifeLost),
            4 => Some(Self::Void),
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
        matches!(self, Self::Terminated | Self::Truncated)
    }

    /// Whether memory starts afresh in the next row: after an end, and after the void row that may follow one.
    #[must_use]
    pub fn resets_memory(self) -> bool {
        matches!(self, Self::Terminated | Self::Truncated | Self::Void)
    }

    /// Whether the step has a future within its episode: the value of the state it reached counts.
    #[must_use]
    pub fn has_future(self) -> bool {
        matches!(self, Self::Continued | Self::Truncated)
    }

    /// Whether what happens in the next row may flow back into this step.
    #[must_use]
    pub fn continues(self) -> bool {
        self == Self::Continued
    }

    /// Whether the row is a step of an episode, so that it can be learnt from.
    #[must_use]
    pub fn is_step(self) -> bool {
        self != Self::Void
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
        for byte in 0..5 {
            let outcome = StepOutcome::from_byte(byte).unwrap();
            assert_eq!(outcome as u8, byte);
        }
        assert_eq!(StepOutcome::from_byte(5), None);
    }

    #[test]
    fn a_lost_life_cuts_the_value_but_not_the_episode() {
        let lost = StepOutcome::LifeLost;
        assert!(!lost.is_end() && !lost.has_future() && !lost.continues() && lost.is_step());
    }
}
