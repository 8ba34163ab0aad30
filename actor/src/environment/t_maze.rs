//! `TMaze`: one cue to remember for as long as the corridor is.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{
    Environment, EnvironmentError, Frame, Step, draw_board, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "TMaze";
const LENGTH_MAX: u32 = 100_000;
const UP: u32 = 0;
const FORWARD: u32 = 1;
const DOWN: u32 = 2;
const BACK: u32 = 3;

/// A corridor that ends in a junction. A cue, seen only at the start, says whether to turn up or down there.
///
/// Actions: up (0), forward (1), down (2), back (3). Turning at the junction terminates the episode with a reward of 1
/// if the turn is the cued one, else -1. Any other step that does not lead forward costs `penalty`. So the best return
/// is 1, and that of a player without memory 0 on average. An episode is truncated after 10 (`length` + 1) steps.
///
/// Observation, `[4]`: 1 at the cue "up" or "down" at the start, at "corridor" or at "junction", else 0. From B. Bakker,
/// "Reinforcement Learning with Long Short-Term Memory", 2001, with other rewards.
pub struct TMaze {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    length: u32,
    penalty: f32,
    cue: u32,
    position: u32,
    /// The turn taken, if any.
    turned: Option<u32>,
}

impl TMaze {
    /// The environment from its options, all of them optional:
    /// - `length`: steps from the start to the junction, 1 to 100000 (10);
    /// - `penalty`: cost of a step that does not lead forward, 0 to 1 (0.1).
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`], [`EnvironmentError::InvalidOption`].
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let options = Options::new(ID, options, &["length", "penalty"])?;
        let length = options.integer("length", 10, 1..=LENGTH_MAX)?;
        let penalty = options.float("penalty", 0.1, 0.0..=1.0)?;
        let observation = ObservationSpec::floats([4], [0.0, 1.0]);
        Ok(Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(4))
                .with_steps_max(10 * (length + 1)),
            rng: NumpyRng::from_seed(0),
            length,
            penalty,
            cue: UP,
            position: 0,
            turned: None,
        })
    }

    fn observe(&self, observation: &mut [f32]) {
        let lit = match self.position {
            0 if self.cue == UP => 0,
            0 => 1,
            position if position < self.length => 2,
            _ => 3,
        };
        observation.fill(0.0);
        observation[lit] = 1.0;
    }
}

impl Environment for TMaze {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.cue = if self.rng.below(2) == 0 { UP } else { DOWN };
        self.position = 0;
        self.turned = None;
        self.observe(observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        let at_junction = self.position == self.length;
        let step = match action.index() {
            turn @ (UP | DOWN) if at_junction => {
                self.turned = Some(turn);
                Step::new(if turn == self.cue { 1.0 } else { -1.0 }, true)
            }
            FORWARD if !at_junction => {
                self.position += 1;
                Step::new(0.0, false)
            }
            BACK => {
                self.position = self.position.saturating_sub(1);
                Step::new(-self.penalty, false)
            }
            _ => Step::new(-self.penalty, false),
        };
        self.observe(observation.f32());
        step
    }

    /// The last part of the maze that fits: the cue is green, the player red.
    fn render(&self, frame: &mut Frame) -> bool {
        let columns = (self.length as usize + 1).min(32);
        let first = (self.position as usize + 1).saturating_sub(columns);
        let junction = self.length as usize;
        let player_row = match self.turned {
            Some(UP) => 0,
            Some(_) => 2,
            None => 1,
        };
        let cue_row = if self.cue == UP { 0 } else { 2 };
        draw_board(frame, [columns, 3], 8, |column, row| {
            let place = first + column;
            if place == self.position as usize && row == player_row {
                [200, 70, 60]
            } else if place == 0 && row == cue_row {
                [40, 150, 70]
            } else if row == 1 || place == junction {
                [255, 255, 255]
            } else {
                [60, 60, 60]
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::step::StepOutcome;

    use super::*;

    fn made(options: &str) -> TMaze {
        TMaze::from_options(&options.parse().unwrap()).unwrap()
    }

    fn step(maze: &mut TMaze, action: u32) -> (Step, [f32; 4]) {
        let mut row = [f32::NAN; 4];
        let step = maze.step(ActionsRef::Indices(&[action]), ElementsMut::F32(&mut row));
        (step, row)
    }

    #[test]
    fn only_the_cue_tells_the_turns_apart() {
        let mut maze = made("length = 3");
        let (mut cues, mut row) = ([0; 2], [f32::NAN; 4]);
        for seed in 0..40 {
            maze.reset(Some(seed), ElementsMut::F32(&mut row));
            let cue = if row == [1.0, 0.0, 0.0, 0.0] {
                UP
            } else {
                DOWN
            };
            cues[usize::from(cue == DOWN)] += 1;
            for corridor in [true, true, false] {
                let (moved, row) = step(&mut maze, FORWARD);
                assert_eq!(moved, Step::new(0.0, false));
                let expected = if corridor {
                    [0.0, 0.0, 1.0, 0.0]
                } else {
                    [0.0, 0.0, 0.0, 1.0]
                };
                assert_eq!(row, expected);
            }
            // Every second player turns the wrong way.
            let right = seed % 2 == 0;
            let turn = if right { cue } else { DOWN - cue };
            let (turned, _) = step(&mut maze, turn);
            assert_eq!(turned.reward, if right { 1.0 } else { -1.0 });
            assert_eq!(turned.outcome, StepOutcome::Terminated);
        }
        assert!(cues[0] > 10 && cues[1] > 10, "{cues:?}");
    }

    #[test]
    fn dawdling_costs() {
        let mut maze = made("length = 2\npenalty = 0.25");
        maze.reset(Some(0), ElementsMut::F32(&mut [0.0; 4]));
        let costs = |maze: &mut TMaze, action, position| {
            let (dawdled, _) = step(maze, action);
            assert_eq!(dawdled, Step::new(-0.25, false));
            assert_eq!(maze.position, position);
        };
        costs(&mut maze, UP, 0);
        costs(&mut maze, BACK, 0);
        step(&mut maze, FORWARD);
        costs(&mut maze, DOWN, 1);
        step(&mut maze, FORWARD);
        costs(&mut maze, FORWARD, 2);
        costs(&mut maze, BACK, 1);
        assert_eq!(maze.spec().episode_steps_max, Some(30));
    }
}
