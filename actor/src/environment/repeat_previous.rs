//! `RepeatPrevious`: nothing but memory, as in POPGym.

use springbok_common::{
    arrays::{ActionsRef, ElementsMut},
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
};

use super::{
    Environment, EnvironmentError, Frame, Step, draw_board, numpy_rng::NumpyRng, options::Options,
};

const ID: &str = "RepeatPrevious";
const LENGTH_MAX: u32 = 100_000;
const SYMBOLS_MAX: u32 = 256;

/// Each step shows a random symbol; the action should name the one that was shown k steps before.
///
/// Of the `length` steps of an episode the first k count nothing; each of the others is worth 1 / (length - k) if it
/// is right and as much less than nothing if it is wrong, so that the best return is 1 and guessing among n symbols
/// gives 2 / n - 1 on average. The episode terminates by itself.
///
/// Observation, `[symbols]`: 1 at the symbol, else 0. From S. Morad et al., "POPGym: Benchmarking Partially Observable
/// Reinforcement Learning", 2023; symbols are drawn independently here, not from decks of cards.
pub struct RepeatPrevious {
    spec: EnvironmentSpec,
    rng: NumpyRng,
    symbols: u32,
    length: u32,
    steps: u32,
    /// The last k + 1 symbols: that of step t is at t modulo (k + 1).
    shown: Vec<u32>,
}

impl RepeatPrevious {
    /// The environment from its options, all of them optional:
    /// - `length`: steps of an episode, 2 to 100000 (48);
    /// - `k`: steps to look back, 1 to `length` - 1 (4, or less if the length demands it);
    /// - `symbols`: how many there are, 2 to 256 (4).
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`], [`EnvironmentError::InvalidOption`].
    pub fn from_options(options: &toml::Table) -> Result<Self, EnvironmentError> {
        let options = Options::new(ID, options, &["k", "symbols", "length"])?;
        let length = options.integer("length", 48, 2..=LENGTH_MAX)?;
        let k = options.integer("k", 4.min(length - 1), 1..=length - 1)?;
        let symbols = options.integer("symbols", 4, 2..=SYMBOLS_MAX)?;
        let observation = ObservationSpec::floats([symbols as usize], [0.0, 1.0]);
        Ok(Self {
            spec: EnvironmentSpec::new(ID, observation, ActionSpec::Discrete(symbols)),
            rng: NumpyRng::from_seed(0),
            symbols,
            length,
            steps: 0,
            shown: vec![0; k as usize + 1],
        })
    }

    fn k(&self) -> u32 {
        self.shown.len() as u32 - 1
    }

    /// The symbol that is `back` steps old, from 0 (shown now) to k.
    fn symbol(&self, back: u32) -> u32 {
        let places = self.shown.len() as u32;
        self.shown[((self.steps + places - back) % places) as usize]
    }

    fn show(&mut self, observation: &mut [f32]) {
        let symbol = self.rng.below(self.symbols);
        let place = self.steps as usize % self.shown.len();
        self.shown[place] = symbol;
        observation.fill(0.0);
        observation[symbol as usize] = 1.0;
    }
}

impl Environment for RepeatPrevious {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: Option<u64>, mut observation: ElementsMut<'_>) {
        if let Some(seed) = seed {
            self.rng = NumpyRng::from_seed(seed);
        }
        self.steps = 0;
        self.show(observation.f32());
    }

    fn step(&mut self, action: ActionsRef<'_>, mut observation: ElementsMut<'_>) -> Step {
        let counts = self.steps >= self.k();
        let share = 1.0 / (self.length - self.k()) as f32;
        let reward = match (counts, action.index() == self.symbol(self.k())) {
            (false, _) => 0.0,
            (true, true) => share,
            (true, false) => -share,
        };
        self.steps += 1;
        self.show(observation.f32());
        Step::new(reward, self.steps >= self.length)
    }

    /// The last k + 1 symbols as rows, the newest at the bottom.
    fn render(&self, frame: &mut Frame) -> bool {
        let rows = self.shown.len().min(32);
        draw_board(frame, [self.symbols as usize, rows], 8, |column, row| {
            let back = (rows - 1 - row) as u32;
            if back > self.steps || self.symbol(back) != column as u32 {
                [255, 255, 255]
            } else if back == 0 {
                [200, 70, 60]
            } else {
                [150, 180, 210]
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(options: &str) -> Result<RepeatPrevious, EnvironmentError> {
        RepeatPrevious::from_options(&options.parse().unwrap())
    }

    /// Plays an episode with the symbol seen `back` steps before as the action, which must be k for a perfect player;
    /// returns the rewards.
    fn play(environment: &mut RepeatPrevious, back: usize) -> Vec<f32> {
        let mut row = vec![f32::NAN; environment.spec().observation.len()];
        environment.reset(Some(3), ElementsMut::F32(&mut row));
        let (mut seen, mut rewards) = (Vec::new(), Vec::new());
        loop {
            assert_eq!(row.iter().sum::<f32>(), 1.0);
            seen.push(row.iter().position(|&value| value == 1.0).unwrap() as u32);
            let recalled = seen.len().checked_sub(back + 1).map_or(0, |at| seen[at]);
            let step =
                environment.step(ActionsRef::Indices(&[recalled]), ElementsMut::F32(&mut row));
            rewards.push(step.reward);
            if step.outcome.is_end() {
                return rewards;
            }
        }
    }

    #[test]
    fn perfect_memory_earns_one_and_a_shorter_one_is_no_better_than_chance() {
        let mut environment = made("k = 3\nlength = 1003\nsymbols = 4").unwrap();
        let rewards = play(&mut environment, 3);
        assert_eq!(rewards.len(), 1003);
        assert_eq!(rewards[..3], [0.0; 3]);
        assert_eq!(rewards[3..], [1.0 / 1000.0; 1000]);
        for back in [0, 2, 4] {
            let total: f32 = play(&mut environment, back).iter().sum();
            assert!((-0.6..-0.4).contains(&total), "{back}: {total}");
        }
    }

    #[test]
    fn impossible_options_are_refused_with_the_limit() {
        let message = |options| made(options).err().unwrap().to_string();
        assert_eq!(
            message("k = 5\nlength = 5"),
            "option `k` of environment `RepeatPrevious` is 5, but must be an integer from 1 to 4"
        );
        assert!(message("symbols = 1").ends_with("from 2 to 256"));
        assert!(made("length = 2").is_ok());
    }
}
