//! `Catch`: the smallest environment that takes sight and planning, as in bsuite.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{
    Environment, EnvironmentError, Frame, Step, draw_board, numpy_rng::NumpyRng, options::Options,
};

const ROWS: usize = 10;
const COLUMNS: usize = 5;

/// A ball falls one row a step from a random column of the top row; a paddle on the bottom row moves left
/// (action 0), stays (1) or moves right (2). When the ball arrives, the reward is 1 if it is caught and -1 if not;
/// before, it is 0. Every episode has 9 steps and terminates by itself.
///
/// Observation, `[10, 5]`: 1 where the ball and the paddle are, else 0. From I. Osband et al., "Behaviour Suite for
/// Reinforcement Learning", 2020; columns are drawn from another generator than there.
pub struct Catch {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    ball_row: usize,
    ball_column: usize,
    paddle_column: usize,
}

impl Catch {
    /// The environment; it has no options.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for any option.
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        Options::new("Catch", options, &[]).map(|_| Self::new())
    }

    fn new() -> Self {
        let observation = ObservationSpec::floats([ROWS, COLUMNS], [0.0, 1.0]);
        Self {
            spec: EnvironmentSpec::new("Catch", observation, ActionSpec::Discrete(3)),
            rng: NumpyRng::from_seed(0),
            ball_row: 0,
            ball_column: 0,
            paddle_column: COLUMNS / 2,
        }
    }

    fn observe(&self, observation: &mut [f32]) {
        observation.fill(0.0);
        observation[self.ball_row * COLUMNS + self.ball_column] = 1.0;
        observation[(ROWS - 1) * COLUMNS + self.paddle_column] = 1.0;
    }
}

impl Environment for Catch {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.ball_row = 0;
        self.ball_column = self.rng.below(COLUMNS as u32) as usize;
        self.paddle_column = COLUMNS / 2;
        self.observe(observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        self.paddle_column = match action.index() {
            0 => self.paddle_column.saturating_sub(1),
            2 => (self.paddle_column + 1).min(COLUMNS - 1),
            _ => self.paddle_column,
        };
        // The bound holds the ball on the board even if a caller steps past the end.
        self.ball_row = (self.ball_row + 1).min(ROWS - 1);
        self.observe(observation.f32());
        let arrived = self.ball_row == ROWS - 1;
        let reward = match (arrived, self.paddle_column == self.ball_column) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => -1.0,
        };
        Step::new(reward, arrived)
    }

    fn render(&self, frame: &mut Frame) -> bool {
        draw_board(frame, [COLUMNS, ROWS], 10, |column, row| {
            if [column, row] == [self.ball_column, self.ball_row] {
                [200, 70, 60]
            } else if [column, row] == [self.paddle_column, ROWS - 1] {
                [30, 90, 160]
            } else {
                [255, 255, 255]
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use springbok_common::step::StepOutcome;

    use super::*;

    /// Plays an episode; returns its rewards.
    fn play(catch: &mut Catch, policy: impl Fn(&Catch) -> u32) -> Vec<f32> {
        let mut observation = [f32::NAN; ROWS * COLUMNS];
        catch.reset(None, ElementsMut::F32(&mut observation));
        let mut rewards = Vec::new();
        loop {
            let action = [policy(catch)];
            let step = catch.step(
                ActionsRef::Indices(&action),
                ElementsMut::F32(&mut observation),
            );
            rewards.push(step.reward);
            if step.outcome.is_end() {
                assert_eq!(step.outcome, StepOutcome::Terminated);
                return rewards;
            }
        }
    }

    #[test]
    fn a_follower_catches_and_a_shirker_misses() {
        let mut catch = Catch::new();
        let follow = |catch: &Catch| match catch.ball_column.cmp(&catch.paddle_column) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => 1,
            std::cmp::Ordering::Greater => 2,
        };
        let shirk = |catch: &Catch| if catch.ball_column <= 2 { 2 } else { 0 };
        let mut seen = [false; COLUMNS];
        for _ in 0..100 {
            let mut expected = vec![0.0; 9];
            expected[8] = 1.0;
            assert_eq!(play(&mut catch, follow), expected);
            seen[catch.ball_column] = true;
            expected[8] = -1.0;
            assert_eq!(play(&mut catch, shirk), expected);
        }
        assert_eq!(seen, [true; COLUMNS]);
    }

    #[test]
    fn the_board_shows_ball_and_paddle() {
        let mut catch = Catch::new();
        let mut board = [f32::NAN; ROWS * COLUMNS];
        catch.reset(Some(5), ElementsMut::F32(&mut board));
        let column = catch.ball_column;
        let lit = |board: &[f32]| -> Vec<usize> {
            (0..board.len())
                .filter(|&cell| board[cell] == 1.0)
                .collect()
        };
        assert_eq!(lit(&board), [column, 9 * COLUMNS + 2]);
        assert_eq!(board.iter().sum::<f32>(), 2.0);

        // The paddle stops at the wall.
        for row in 1..=8 {
            catch.step(ActionsRef::Indices(&[0]), ElementsMut::F32(&mut board));
            let paddle = 2_usize.saturating_sub(row);
            assert_eq!(lit(&board), [row * COLUMNS + column, 9 * COLUMNS + paddle]);
        }
    }
}
