//! `GridWorld`: find the way to the goal; walls are masked actions.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{
    Environment, EnvironmentError, Frame, Step, draw_board, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "GridWorld";
const OPTIONS: [&str; 3] = ["size", "walls", "step_cost"];
const SIZE_MAX: u32 = 64;
/// Columns and rows to the neighbour in the direction of each action.
const MOVES: [[isize; 2]; 4] = [[0, -1], [1, 0], [0, 1], [-1, 0]];
/// Layouts drawn before one without walls is taken; only tiny worlds with many walls come that far.
const LAYOUTS_MAX: u32 = 100;

/// A square room with walls at random places, a goal and a player; all three are drawn anew for each episode, and
/// there is always a way.
///
/// Actions: up (0), right (1), down (2), left (3). Those that lead into a wall are masked, and change nothing if they
/// are taken. Each step costs `step_cost`, and reaching the goal, which terminates the episode, is worth 1. An episode
/// is truncated after 4 size² steps.
///
/// Observation, `[3, size, size]` bytes: 1 where the player is; where the goal is; where walls are.
pub struct GridWorld {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    size: usize,
    wall_share: f32,
    step_cost: f32,
    /// `[size * size]`: 1 where a wall is.
    walls: Vec<u8>,
    player: usize,
    goal: usize,
    /// Cells that can be reached from the player, in the order in which they were found.
    reachable: Vec<usize>,
}

impl GridWorld {
    /// The environment from its options, all of them optional:
    /// - `size`: cells along each side, 2 to 64 (8);
    /// - `walls`: share of cells that are walls, 0 to 0.5 (0.2);
    /// - `step_cost`: cost of a step, 0 to 1 (0.01).
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`], [`EnvironmentError::InvalidOption`].
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let options = Options::new(ID, options, &OPTIONS)?;
        let size = options.integer("size", 8, 2..=SIZE_MAX)?;
        let side = size as usize;
        let observation = ObservationSpec::bytes([3, side, side], 1);
        Ok(Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(4))
                .with_steps_max(4 * size * size)
                .with_action_mask(),
            rng: NumpyRng::from_seed(0),
            size: side,
            wall_share: options.float("walls", 0.2, 0.0..=0.5)?,
            step_cost: options.float("step_cost", 0.01, 0.0..=1.0)?,
            walls: vec![0; side * side],
            player: 0,
            goal: side * side - 1,
            reachable: Vec::with_capacity(side * side),
        })
    }

    /// The free cell next to `cell` in the direction of `action`.
    fn neighbour(&self, cell: usize, action: usize) -> Option<usize> {
        let [across, down] = MOVES.get(action)?;
        let column = (cell % self.size).checked_add_signed(*across)?;
        let row = (cell / self.size).checked_add_signed(*down)?;
        let next = row * self.size + column;
        let free = column < self.size && row < self.size && self.walls[next] == 0;
        free.then_some(next)
    }

    fn draw_layout(&mut self, wall_share: f32) {
        for wall in &mut self.walls {
            *wall = u8::from(self.rng.uniform(0.0, 1.0) < f64::from(wall_share));
        }
        self.player = self.rng.below(self.walls.len() as u32) as usize;
        self.walls[self.player] = 0;
        self.find_reachable();
    }

    /// Floods the room from the player. Found cells are marked in `walls` by a 2, and unmarked at the end.
    fn find_reachable(&mut self) {
        self.reachable.clear();
        self.reachable.push(self.player);
        self.walls[self.player] = 2;
        let mut at = 0;
        while let Some(&cell) = self.reachable.get(at) {
            at += 1;
            for action in 0..MOVES.len() {
                if let Some(next) = self.neighbour(cell, action) {
                    self.walls[next] = 2;
                    self.reachable.push(next);
                }
            }
        }
        for &cell in &self.reachable {
            self.walls[cell] = 0;
        }
    }

    fn observe(&self, observation: &mut [u8]) {
        let cells = self.walls.len();
        let (moving, fixed) = observation.split_at_mut(2 * cells);
        moving.fill(0);
        moving[self.player] = 1;
        moving[cells + self.goal] = 1;
        fixed.copy_from_slice(&self.walls);
    }
}

impl Environment for GridWorld {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        for drawn in 0..=LAYOUTS_MAX {
            let last = drawn == LAYOUTS_MAX;
            self.draw_layout(if last { 0.0 } else { self.wall_share });
            // A player without a neighbour has neither a goal nor an action.
            if self.reachable.len() > 1 {
                break;
            }
        }
        let others = self.reachable.len() as u32 - 1;
        self.goal = self.reachable[1 + self.rng.below(others) as usize];
        self.observe(observation.u8());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        if let Some(next) = self.neighbour(self.player, action.index() as usize) {
            self.player = next;
        }
        self.observe(observation.u8());
        let arrived = self.player == self.goal;
        let prize = if arrived { 1.0 } else { 0.0 };
        Step::new(prize - self.step_cost, arrived)
    }

    fn action_mask(&self, mask: &mut [u8]) {
        for (action, allowed) in mask.iter_mut().enumerate() {
            *allowed = u8::from(self.neighbour(self.player, action).is_some());
        }
    }

    fn render(&self, frame: &mut Frame) -> bool {
        draw_board(frame, [self.size, self.size], 10, |column, row| {
            match row * self.size + column {
                cell if cell == self.player => [200, 70, 60],
                cell if cell == self.goal => [40, 150, 70],
                cell if self.walls[cell] == 1 => [60, 60, 60],
                _ => [255, 255, 255],
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn made(options: &str) -> GridWorld {
        GridWorld::from_options(&options.parse().unwrap()).unwrap()
    }

    /// The first action of a shortest way from player to goal, as the observation shows it, and the way's length.
    fn shortest(row: &[u8], size: usize) -> (u32, usize) {
        let cells = size * size;
        let find = |plane: &[u8]| plane.iter().position(|&value| value == 1).unwrap();
        let (player, goal) = (find(&row[..cells]), find(&row[cells..2 * cells]));
        let walls = &row[2 * cells..];
        // Backwards, so that the cell next to the player tells the action.
        let mut away = vec![usize::MAX; cells];
        let mut queue = VecDeque::from([goal]);
        away[goal] = 0;
        while let Some(cell) = queue.pop_front() {
            let (x, y) = (cell % size, cell / size);
            let around = [
                (y > 0).then(|| (cell.wrapping_sub(size), 2)),
                (x + 1 < size).then(|| (cell + 1, 3)),
                (y + 1 < size).then(|| (cell + size, 0)),
                (x > 0).then(|| (cell.wrapping_sub(1), 1)),
            ];
            for (next, action) in around.into_iter().flatten() {
                if next == player {
                    return (action, away[cell] + 1);
                }
                if walls[next] == 0 && away[next] == usize::MAX {
                    away[next] = away[cell] + 1;
                    queue.push_back(next);
                }
            }
        }
        panic!("there is no way");
    }

    #[test]
    fn there_is_always_a_way_and_following_it_arrives() {
        for (options, size) in [("", 8), ("size = 2\nwalls = 0.5", 2), ("walls = 0.5", 8)] {
            let mut world = made(options);
            let mut row = vec![9; 3 * size * size];
            for seed in 0..200 {
                world.reset(Some(seed), ElementsMut::U8(&mut row));
                let (_, length) = shortest(&row, size);
                for left in (0..length).rev() {
                    let (action, away) = shortest(&row, size);
                    assert_eq!(away, left + 1);
                    let mut mask = [9; 4];
                    world.action_mask(&mut mask);
                    assert_eq!(mask[action as usize], 1);
                    let step =
                        world.step(ActionsRef::Indices(&[action]), ElementsMut::U8(&mut row));
                    let prize = if left == 0 { 1.0 } else { 0.0 };
                    assert_eq!(step, Step::new(prize - 0.01, left == 0));
                }
            }
        }
    }

    #[test]
    fn masked_actions_are_those_that_change_nothing() {
        let mut world = made("walls = 0.4");
        let mut row = vec![9; 192];
        let (mut masked, mut mask) = (0, [9; 4]);
        for seed in 0..50 {
            for action in 0..4_u32 {
                world.reset(Some(seed), ElementsMut::U8(&mut row));
                let before = world.player;
                world.action_mask(&mut mask);
                world.step(ActionsRef::Indices(&[action]), ElementsMut::U8(&mut row));
                assert_eq!(mask[action as usize] == 0, world.player == before);
                masked += usize::from(world.player == before);
            }
        }
        assert!((50..150).contains(&masked), "{masked}");
    }
}
