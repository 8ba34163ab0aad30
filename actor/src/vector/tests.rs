use std::collections::HashSet;

use proptest::prelude::*;
use springbok_common::{
    arrays::{Actions, ElementsMut},
    spec::{ActionSpec, ObservationSpec},
    step::StepOutcome::{Continued, LifeLost, Terminated, Truncated},
};

use super::*;
use crate::environment::{Step, conformance::RandomActions};

/// Shows [episodes begun, steps taken]; the reward is the step's number. Action 1 terminates, action 2 truncates,
/// action 3 loses a life, action 0 goes on. Masks allow the action equal to the number of steps taken, modulo 4.
struct Counter {
    spec: EnvironmentSpec,
    episodes: u32,
    steps: u32,
}

impl Counter {
    fn boxed(limit: Option<u32>) -> Box<dyn Environment> {
        let observation = ObservationSpec::floats([2], [0.0, f32::MAX]);
        let mut spec = EnvironmentSpec::new("Counter", observation, ActionSpec::Discrete(4))
            .with_action_mask();
        spec.episode_steps_max = limit;
        Box::new(Self {
            spec,
            episodes: 0,
            steps: 0,
        })
    }

    fn observe(&self, mut observation: ElementsMut<'_>) {
        let shown = [self.episodes as f32, self.steps as f32];
        observation.f32().copy_from_slice(&shown);
    }
}

impl Environment for Counter {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, _seed: Option<u64>, observation: ElementsMut<'_>) {
        self.episodes += 1;
        self.steps = 0;
        self.observe(observation);
    }

    fn step(&mut self, action: ActionsRef<'_>, observation: ElementsMut<'_>) -> Step {
        self.steps += 1;
        self.observe(observation);
        Step {
            reward: self.steps as f32,
            outcome: [Continued, Terminated, Truncated, LifeLost][action.index() as usize],
        }
    }

    fn action_mask(&self, mask: &mut [u8]) {
        mask.fill(0);
        mask[self.steps as usize % 4] = 1;
    }

    fn render(&self, frame: &mut Frame) -> bool {
        frame.fill(self.steps as usize, 1, [0; 3]);
        true
    }
}

/// What one step of a vector gave.
#[derive(Debug, PartialEq)]
struct Seen {
    rewards: Vec<f32>,
    outcomes: Vec<StepOutcome>,
    finals: Vec<(usize, Elements)>,
    episodes: Vec<EpisodeSummary>,
    observations: Elements,
    masks: Vec<u8>,
}

fn step(vector: &mut SyncVector, actions: ActionsRef<'_>) -> Seen {
    let count = vector.environments();
    let mut rewards = vec![f32::NAN; count];
    let mut outcomes = vec![StepOutcome::Void; count];
    let (mut finals, mut episodes) = (Vec::new(), Vec::new());
    let mut sink = StepSink {
        rewards: &mut rewards,
        outcomes: &mut outcomes,
        on_truncated: &mut |index, row| finals.push((index, row.to_owned())),
        episodes: &mut episodes,
    };
    vector.step(actions, &mut sink).unwrap();
    Seen {
        rewards,
        outcomes,
        finals,
        episodes,
        observations: vector.observations().to_owned(),
        masks: vector.action_masks().to_vec(),
    }
}

fn act(vector: &mut SyncVector, actions: &[u32]) -> Seen {
    step(vector, ActionsRef::Indices(actions))
}

fn counters(k: usize, limit: Option<u32>) -> SyncVector {
    let environments = (0..k).map(|_| Counter::boxed(limit)).collect();
    SyncVector::begin("Counter", environments, &vec![0; k]).unwrap()
}

fn summary(episode_return: f64, length: u32) -> EpisodeSummary {
    EpisodeSummary {
        episode_return,
        length,
    }
}

#[test]
fn ends_are_told_apart_and_episodes_counted() {
    let mut vector = counters(3, Some(3));
    let begun = ElementsRef::F32(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(vector.observations(), begun);
    act(&mut vector, &[0, 0, 0]);

    let seen = act(&mut vector, &[0, 1, 2]);
    assert_eq!(seen.rewards, [2.0; 3]);
    assert_eq!(seen.outcomes, [Continued, Terminated, Truncated]);
    assert_eq!(seen.finals, [(2, Elements::F32(vec![1.0, 2.0]))]);
    assert_eq!(seen.episodes, [summary(3.0, 2); 2]);
    let observations = vec![1.0, 2.0, 2.0, 0.0, 2.0, 0.0];
    assert_eq!(seen.observations, Elements::F32(observations));

    // Environment 0 alone reaches the limit of 3; the statistics of the others began anew.
    let seen = act(&mut vector, &[0, 0, 0]);
    assert_eq!(seen.outcomes, [Truncated, Continued, Continued]);
    assert_eq!(seen.finals, [(0, Elements::F32(vec![1.0, 3.0]))]);
    assert_eq!(seen.episodes, [summary(6.0, 3)]);
    let observations = vec![2.0, 0.0, 2.0, 1.0, 2.0, 1.0];
    assert_eq!(seen.observations, Elements::F32(observations));
}

#[test]
fn an_end_of_its_own_wins_over_the_time_limit() {
    for action in [1, 3] {
        let mut vector = counters(1, Some(2));
        act(&mut vector, &[0]);
        let seen = act(&mut vector, &[action]);
        assert_eq!(seen.outcomes, [Terminated]);
        assert!(seen.finals.is_empty());
        assert_eq!(seen.episodes, [summary(3.0, 2)]);
    }
}

#[test]
fn a_lost_life_goes_on_within_the_episode() {
    let mut vector = counters(1, Some(3));
    let seen = act(&mut vector, &[3]);
    assert_eq!(seen.outcomes, [LifeLost]);
    assert_eq!(seen.observations, Elements::F32(vec![1.0, 1.0]));
    assert!(seen.finals.is_empty() && seen.episodes.is_empty());
    act(&mut vector, &[0]);
    assert_eq!(act(&mut vector, &[0]).episodes, [summary(6.0, 3)]);
}

#[test]
fn masks_are_those_of_the_state_that_is_shown() {
    let mut vector = counters(2, None);
    assert_eq!(vector.action_masks(), [1, 0, 0, 0, 1, 0, 0, 0]);
    let seen = act(&mut vector, &[0, 0]);
    assert_eq!(seen.masks, [0, 1, 0, 0, 0, 1, 0, 0]);
    // The first one is reset, the second one goes on.
    let seen = act(&mut vector, &[1, 0]);
    assert_eq!(seen.masks, [1, 0, 0, 0, 0, 0, 1, 0]);
    vector.restart().unwrap();
    assert_eq!(vector.action_masks(), [1, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_restart_forgets_the_running_episodes() {
    let mut vector = counters(2, Some(2));
    act(&mut vector, &[0, 0]);
    vector.restart().unwrap();
    let begun = ElementsRef::F32(&[2.0, 0.0, 2.0, 0.0]);
    assert_eq!(vector.observations(), begun);
    assert_eq!(act(&mut vector, &[0, 1]).outcomes, [Continued, Terminated]);
    assert_eq!(act(&mut vector, &[0, 0]).episodes, [summary(3.0, 2)]);
}

#[test]
fn each_environment_can_be_drawn() {
    let mut vector = counters(2, None);
    act(&mut vector, &[0, 0]);
    act(&mut vector, &[0, 1]);
    let mut frame = Frame::default();
    assert_eq!(vector.render(0, &mut frame), Ok(true));
    assert_eq!(frame.width, 2);
    assert_eq!(vector.render(1, &mut frame), Ok(true));
    assert_eq!(frame.width, 0);
    assert_eq!(vector.render(2, &mut frame), Ok(false));
}

#[test]
fn without_a_limit_episodes_go_on() {
    let mut vector = counters(1, None);
    for _ in 0..2000 {
        assert_eq!(act(&mut vector, &[0]).outcomes, [Continued]);
    }
}

#[test]
fn impossible_vectors_are_refused() {
    let make =
        |id, k| SyncVector::new(&Registry::built_in(), id, &toml::Table::new(), k, 0).map(|_| ());
    assert_eq!(make("Catch", 2), Ok(()));
    assert_eq!(
        make("Catch", 0).unwrap_err().to_string(),
        "0 copies of environment `Catch` cannot be stepped; there must be at least 1"
    );
    assert!(matches!(
        make("Nothing", 2),
        Err(EnvironmentError::Unknown { .. })
    ));
    let mixed = vec![Counter::boxed(None), Counter::boxed(Some(3))];
    assert!(SyncVector::begin("Counter", mixed, &[0, 1]).is_err());
}

#[test]
fn environments_begin_differently_and_repeatably() {
    let begin = |seed| {
        let registry = Registry::built_in();
        SyncVector::new(&registry, "CartPole-v1", &toml::Table::new(), 64, seed).unwrap()
    };
    let (one, again, other) = (begin(1), begin(1), begin(2));
    assert_eq!(one.observations(), again.observations());
    let shown = [one.observations().to_f32(), other.observations().to_f32()].concat();
    let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect();
    let starts: HashSet<Vec<u32>> = shown.chunks(4).map(bits).collect();
    assert_eq!(starts.len(), 128);
}

const COLUMNS: usize = 5;

fn built_in(id: &str, options: &str, seeds: &[u64]) -> SyncVector {
    let registry = Registry::built_in();
    let options = options.parse().unwrap();
    let make = |_| registry.make(id, &options).unwrap();
    SyncVector::begin(id, seeds.iter().map(make).collect(), seeds).unwrap()
}

/// All built-in environments, and kinds of spaces that none of them has by default.
fn ids() -> Vec<(String, &'static str)> {
    let registry = Registry::built_in();
    let names = registry
        .list()
        .into_iter()
        .map(|(name, _)| (name.to_owned(), ""));
    let heads = "action_kind = \"multi_discrete\"\naction_mask = true\nend = \"truncated\"\nepisode_length = 9";
    let bytes = "action_kind = \"box\"\nelement = \"uint8\"\nlife_steps = 3\nepisode_length = 9";
    let kinds = [heads, bytes].map(|options| ("Synthetic".to_owned(), options));
    names.chain(kinds).collect()
}

/// The columns `order` of `all`, whose columns are `len` long.
fn columns<T: Copy>(all: &[T], len: usize, order: &[usize]) -> Vec<T> {
    let column = |&from: &usize| all[from * len..(from + 1) * len].iter().copied();
    order.iter().flat_map(column).collect()
}

fn permuted(actions: &Actions, len: usize, order: &[usize]) -> Actions {
    match actions {
        Actions::Indices(indices) => Actions::Indices(columns(indices, len, order)),
        Actions::Values(values) => Actions::Values(columns(values, len, order)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Permuting the environments permutes what they give: no column knows of another.
    #[test]
    fn columns_permute(
        order in Just((0..COLUMNS).collect::<Vec<_>>()).prop_shuffle(),
        steps in 1..60_usize,
        seed in any::<u64>(),
        (id, options) in prop::sample::select(ids()),
    ) {
        let seeds: Vec<u64> = (0..COLUMNS as u64).collect();
        let mut plain = built_in(&id, options, &seeds);
        let mut shuffled = built_in(&id, options, &columns(&seeds, 1, &order));
        let spec = plain.spec().clone();
        let mut random = RandomActions::new(&spec, seed);
        for _ in 0..steps {
            let (mut actions, m) = (random.buffer(), spec.mask_len());
            for index in 0..COLUMNS {
                let mask = &plain.action_masks()[index * m..(index + 1) * m];
                random.draw(mask, &mut actions);
            }
            let left = step(&mut plain, actions.as_ref());
            let right = step(&mut shuffled, permuted(&actions, spec.action.len(), &order).as_ref());
            prop_assert_eq!(columns(&left.rewards, 1, &order), right.rewards);
            prop_assert_eq!(columns(&left.outcomes, 1, &order), right.outcomes);
            prop_assert_eq!(columns(&left.masks, m, &order), right.masks);
            let shown = left.observations.as_ref().to_f32();
            let shown = columns(&shown, spec.observation.len(), &order);
            prop_assert_eq!(shown, right.observations.as_ref().to_f32());
            let mut finals: Vec<_> = right.finals.into_iter().map(|(at, row)| (order[at], row)).collect();
            finals.sort_by_key(|(at, _)| *at);
            prop_assert_eq!(left.finals, finals);
            prop_assert_eq!(left.episodes.len(), right.episodes.len());
        }
    }
}
