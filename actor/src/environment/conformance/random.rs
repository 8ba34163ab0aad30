//! Random actions that a specification and a mask allow.

use springbok_common::{
    arrays::Actions,
    spec::{ActionSpec, EnvironmentSpec},
};

use crate::environment::numpy_rng::NumpyRng;

/// Extent of the range that stands in for a missing bound of a continuous action.
const UNBOUNDED_RANGE: f32 = 10.0;
/// One in so many numbers of a continuous action is a bound itself.
const AT_A_BOUND: u32 = 8;

/// Draws actions evenly from those that are allowed; continuous ones are at a bound now and then.
pub struct RandomActions {
    action: ActionSpec,
    rng: NumpyRng,
}

impl RandomActions {
    /// Actions for `spec`, from a random stream of its own.
    #[must_use]
    pub fn new(spec: &EnvironmentSpec, seed: u64) -> Self {
        Self {
            action: spec.action.clone(),
            rng: NumpyRng::from_seed(seed),
        }
    }

    /// An empty buffer of the kind that [`Self::draw`] appends to.
    #[must_use]
    pub fn buffer(&self) -> Actions {
        match self.action {
            ActionSpec::Box { .. } => Actions::Values(Vec::new()),
            _ => Actions::Indices(Vec::new()),
        }
    }

    /// Appends one action, `[A]`, to `actions`. `mask` is that of the state, or empty if everything is allowed.
    pub fn draw(&mut self, mask: &[u8], actions: &mut Actions) {
        match (&self.action, actions) {
            (ActionSpec::Box { low, high }, Actions::Values(values)) => {
                for (&low, &high) in low.iter().zip(high) {
                    values.push(value(&mut self.rng, low, high));
                }
            }
            (discrete, Actions::Indices(indices)) => {
                let mut rest = mask;
                for &actions in discrete.heads() {
                    let (own, others) = rest.split_at((actions as usize).min(rest.len()));
                    indices.push(index(&mut self.rng, actions, own));
                    rest = others;
                }
            }
            // Another kind of buffer cannot hold the action; the caller finds it empty.
            _ => {}
        }
    }
}

fn index(rng: &mut NumpyRng, actions: u32, mask: &[u8]) -> u32 {
    if mask.is_empty() {
        return rng.below(actions);
    }
    let allowed = || (0..).zip(mask).filter(|&(_, &allowed)| allowed == 1);
    let nth = rng.below(allowed().count() as u32) as usize;
    allowed().nth(nth).map_or(0, |(action, _)| action)
}

fn value(rng: &mut NumpyRng, low: f32, high: f32) -> f32 {
    let least = if low.is_finite() {
        low
    } else {
        high.min(UNBOUNDED_RANGE / 2.0) - UNBOUNDED_RANGE
    };
    let most = if high.is_finite() {
        high
    } else {
        least + UNBOUNDED_RANGE
    };
    match rng.below(2 * AT_A_BOUND) {
        0 => least,
        1 => most,
        _ => (rng.uniform(f64::from(least), f64::from(most)) as f32).clamp(least, most),
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::spec::ObservationSpec;

    use super::*;

    fn spec(action: ActionSpec) -> EnvironmentSpec {
        EnvironmentSpec::new("Test", ObservationSpec::bytes([1], 1), action)
    }

    #[test]
    fn all_allowed_actions_are_drawn_and_no_other() {
        let spec = spec(ActionSpec::MultiDiscrete(vec![3, 2]));
        let mut random = RandomActions::new(&spec, 1);
        let mut seen = [[0; 3]; 2];
        let mut actions = random.buffer();
        for _ in 0..60 {
            actions.clear();
            random.draw(&[1, 0, 1, 0, 1], &mut actions);
            for (head, &action) in actions.as_ref().indices().iter().enumerate() {
                seen[head][action as usize] += 1;
            }
        }
        assert!(seen[0][0] > 15 && seen[0][2] > 15, "{seen:?}");
        assert_eq!((seen[0][1], seen[1]), (0, [0, 60, 0]));
    }

    #[test]
    fn continuous_actions_reach_their_bounds_and_stay_within() {
        let infinite = f32::INFINITY;
        let spec = spec(ActionSpec::Box {
            low: vec![-2.0, -infinite, 7.0, -infinite],
            high: vec![0.5, infinite, infinite, -20.0],
        });
        let mut random = RandomActions::new(&spec, 1);
        let mut actions = random.buffer();
        for _ in 0..100 {
            random.draw(&[], &mut actions);
        }
        let range = |dimension: usize| {
            let values = actions.as_ref().values().iter().skip(dimension).step_by(4);
            values.fold([infinite, -infinite], |[least, most], &value| {
                [value.min(least), value.max(most)]
            })
        };
        assert_eq!(range(0), [-2.0, 0.5]);
        assert_eq!(range(1), [-5.0, 5.0]);
        assert_eq!(range(2), [7.0, 17.0]);
        assert_eq!(range(3), [-30.0, -20.0]);
    }
}
