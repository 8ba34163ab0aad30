//! The check of one environment.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use springbok_common::{
    arrays::{Actions, Elements, ElementsRef},
    spec::EnvironmentSpec,
    step::StepOutcome,
};

use super::{
    Breach, ConformanceFault, RandomActions, Report, check_frame, check_mask, check_observation,
};
use crate::environment::{Environment, Frame, Step, spec_fault};

/// Pictures drawn of the first states of each run; to draw all would take longer than everything else.
const PICTURES: u32 = 20;
/// Neither 0 nor 1: an element of a mask that keeps it was not written.
const MASK_FILLING: u8 = 0xa5;

/// Plays `steps` steps from each seed, twice, with random actions and resets at each end and time limit, and checks
/// everything that the contract of [`Environment`] asks of an environment. A last run without checks takes the time.
///
/// # Errors
/// The first [`ConformanceFault`].
pub fn check(
    environment: &mut dyn Environment,
    seeds: impl IntoIterator<Item = u64>,
    steps: u32,
) -> Result<Report, ConformanceFault> {
    let spec = environment.spec().clone();
    if let Some(reason) = spec_fault(&spec) {
        let breach = Breach::Spec(reason);
        return Err(ConformanceFault {
            seed: 0,
            step: 0,
            breach,
        });
    }
    let mut report = Report::new(&spec);
    let mut last_seed = 0;
    for seed in seeds {
        let trace = first_run(environment, &spec, seed, steps, &mut report)?;
        // The second run begins wherever the first stopped, so it also shows what a reset leaves behind.
        second_run(environment, &spec, seed, &trace)?;
        last_seed = seed;
    }
    report.checked = clauses(&spec, report.frame.is_some());
    let begun = Instant::now();
    play_unchecked(environment, &spec, last_seed, steps);
    report.timed(u64::from(steps), begun.elapsed());
    Ok(report)
}

fn clauses(spec: &EnvironmentSpec, has_pictures: bool) -> Vec<&'static str> {
    let mut clauses = vec![
        "the specification is usable and stays the same",
        "observations are written in full, finite and within their bounds",
        "rewards are finite and no step is void",
        "the same seed and the same actions give the same, wherever the environment stopped before",
    ];
    if spec.action_mask {
        clauses.push("masks are 0 or 1 and leave every head an action");
    }
    if has_pictures {
        clauses.push("pictures have the size they say, and drawing them changes nothing");
    }
    clauses
}

/// Checks everything that one run shows; gives a fingerprint of each step, that of the reset first.
fn first_run(
    environment: &mut dyn Environment,
    spec: &EnvironmentSpec,
    seed: u64,
    steps: u32,
    report: &mut Report,
) -> Result<Vec<u64>, ConformanceFault> {
    let fault = |step, breach| ConformanceFault { seed, step, breach };
    let mut run = Run::new(environment, spec, seed, Filling::Low);
    let begin = run.begin(seed).map_err(|breach| fault(0, breach))?;
    let mut trace = Vec::with_capacity(steps as usize + 1);
    trace.push(begin);
    let mut episode_return = 0.0;
    for step in 1..=steps {
        if step <= PICTURES {
            let frame = run.draw().map_err(|breach| fault(step - 1, breach))?;
            report.frame = report.frame.or(frame);
        }
        let taken = run.step().map_err(|breach| fault(step, breach))?;
        trace.push(taken.fingerprint);
        report.steps += 1;
        episode_return += f64::from(taken.reward);
        if let Some(length) = taken.ended_after {
            report.episode(episode_return, length);
            episode_return = 0.0;
        }
    }
    Ok(trace)
}

/// Plays the same again, with rows that held something else before.
fn second_run(
    environment: &mut dyn Environment,
    spec: &EnvironmentSpec,
    seed: u64,
    trace: &[u64],
) -> Result<(), ConformanceFault> {
    let fault = |step, breach| ConformanceFault { seed, step, breach };
    let differs_at = replay(environment, spec, seed, trace, Filling::High)?;
    let Some(step) = differs_at else {
        return Ok(());
    };
    // Either it is not deterministic, or it depends on the row, which then shows when only the filling changes.
    let until = &trace[..=step as usize];
    if replay(environment, spec, seed, until, Filling::Low)?.is_some() {
        return Err(fault(step, Breach::NotDeterministic));
    }
    let mut rows = [Filling::Low, Filling::High].map(|filling| {
        let mut run = Run::new(&mut *environment, spec, seed, filling);
        let played = run
            .begin(seed)
            .and_then(|_| (0..step).try_for_each(|_| run.step().map(|_| ())));
        played.map(|()| [run.row, run.begun])
    });
    let breach = match &mut rows {
        [Ok(low), Ok(high)] => first_difference(low, high)
            .map_or(Breach::NotDeterministic, |element| Breach::NotWritten {
                element,
            }),
        _ => Breach::NotDeterministic,
    };
    Err(fault(step, breach))
}

fn first_difference(left: &[Elements; 2], right: &[Elements; 2]) -> Option<usize> {
    left.iter().zip(right).find_map(|(left, right)| {
        let (left, right) = (left.as_ref().to_f32(), right.as_ref().to_f32());
        left.iter()
            .zip(&right)
            .position(|(l, r)| l.to_bits() != r.to_bits())
    })
}

/// Plays as many steps as `trace` has; gives the first of them that differs.
fn replay(
    environment: &mut dyn Environment,
    spec: &EnvironmentSpec,
    seed: u64,
    trace: &[u64],
    filling: Filling,
) -> Result<Option<u32>, ConformanceFault> {
    let mut run = Run::new(environment, spec, seed, filling);
    for (step, &expected) in (0..).zip(trace) {
        let fingerprint = if step == 0 {
            run.begin(seed)
        } else {
            run.step().map(|taken| taken.fingerprint)
        };
        let fault = |breach| ConformanceFault { seed, step, breach };
        if fingerprint.map_err(fault)? != expected {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

/// What rows of bytes hold before they are lent: the lowest or the highest value that is allowed. Rows of floats hold
/// NaN.
#[derive(Clone, Copy, PartialEq)]
enum Filling {
    Low,
    High,
}

/// What one step gave.
struct Taken {
    reward: f32,
    /// Steps of the episode that ended.
    ended_after: Option<u32>,
    /// Of everything that it gave, the observation and mask that an episode after it began with included.
    fingerprint: u64,
}

struct Run<'a> {
    environment: &'a mut dyn Environment,
    spec: &'a EnvironmentSpec,
    random: RandomActions,
    filling: Filling,
    action: Actions,
    /// What the last step showed.
    row: Elements,
    /// What the last reset showed.
    begun: Elements,
    mask: Vec<u8>,
    length: u32,
}

impl<'a> Run<'a> {
    fn new(
        environment: &'a mut dyn Environment,
        spec: &'a EnvironmentSpec,
        seed: u64,
        filling: Filling,
    ) -> Self {
        let random = RandomActions::new(spec, !seed);
        let observation = &spec.observation;
        let row = Elements::zeros(observation.element, observation.len());
        Self {
            environment,
            spec,
            filling,
            action: random.buffer(),
            random,
            begun: row.clone(),
            row,
            mask: Vec::new(),
            length: 0,
        }
    }

    fn begin(&mut self, seed: u64) -> Result<u64, Breach> {
        self.reset(Some(seed))?;
        Ok(fingerprint(None, &[self.begun.as_ref()], &self.mask))
    }

    fn reset(&mut self, seed: Option<u64>) -> Result<(), Breach> {
        fill(&mut self.begun, self.spec, self.filling);
        self.environment.reset(seed, self.begun.as_mut());
        check_observation(self.spec, self.begun.as_ref())?;
        self.length = 0;
        self.ask_mask()
    }

    fn ask_mask(&mut self) -> Result<(), Breach> {
        if !self.spec.action_mask {
            return Ok(());
        }
        self.mask.clear();
        self.mask.resize(self.spec.mask_len(), MASK_FILLING);
        self.environment.action_mask(&mut self.mask);
        check_mask(self.spec, &self.mask)
    }

    fn step(&mut self) -> Result<Taken, Breach> {
        self.action.clear();
        self.random.draw(&self.mask, &mut self.action);
        fill(&mut self.row, self.spec, self.filling);
        let taken = self
            .environment
            .step(self.action.as_ref(), self.row.as_mut());
        check_observation(self.spec, self.row.as_ref())?;
        if !taken.reward.is_finite() {
            return Err(Breach::Reward(taken.reward));
        }
        if taken.outcome == StepOutcome::Void {
            return Err(Breach::Void);
        }
        if self.environment.spec() != self.spec {
            return Err(Breach::SpecChanged);
        }
        self.length += 1;
        let ended = taken.outcome.is_end() || self.spec.episode_steps_max == Some(self.length);
        let ended_after = ended.then_some(self.length);
        let fingerprint = if ended {
            self.reset(None)?;
            let rows = [self.row.as_ref(), self.begun.as_ref()];
            fingerprint(Some(taken), &rows, &self.mask)
        } else {
            self.ask_mask()?;
            fingerprint(Some(taken), &[self.row.as_ref()], &self.mask)
        };
        Ok(Taken {
            reward: taken.reward,
            ended_after,
            fingerprint,
        })
    }

    /// Draws the state twice, over whatever the frame held; gives the size of the picture.
    fn draw(&self) -> Result<Option<[usize; 2]>, Breach> {
        let mut frames = [Frame::default(), Frame::default()];
        frames[1].fill(3, 2, [1, 2, 3]);
        let drawn = frames
            .each_mut()
            .map(|frame| self.environment.render(frame));
        match drawn {
            [false, false] => Ok(None),
            [true, true] if frames[0] == frames[1] => check_frame(&frames[0]).map(Some),
            _ => Err(Breach::FramesDiffer),
        }
    }
}

fn fill(row: &mut Elements, spec: &EnvironmentSpec, filling: Filling) {
    match row {
        Elements::F32(values) => values.fill(f32::NAN),
        Elements::U8(values) => {
            let bound = spec.observation.bounds[usize::from(filling == Filling::High)];
            values.fill(bound as u8);
        }
    }
}

/// 64 bits over what a step gave and, if an episode began after it, what that began with.
fn fingerprint(taken: Option<Step>, rows: &[ElementsRef<'_>], mask: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for row in rows {
        match row {
            ElementsRef::F32(row) => row
                .iter()
                .for_each(|value| value.to_bits().hash(&mut hasher)),
            ElementsRef::U8(row) => row.hash(&mut hasher),
        }
    }
    if let Some(Step { reward, outcome }) = taken {
        (reward.to_bits(), outcome as u8, rows.len()).hash(&mut hasher);
    }
    mask.hash(&mut hasher);
    hasher.finish()
}

fn play_unchecked(
    environment: &mut dyn Environment,
    spec: &EnvironmentSpec,
    seed: u64,
    steps: u32,
) {
    let mut random = RandomActions::new(spec, seed);
    let mut action = random.buffer();
    let mut row = Elements::zeros(spec.observation.element, spec.observation.len());
    let mut mask = vec![1; spec.mask_len()];
    environment.reset(Some(seed), row.as_mut());
    let mut length = 0;
    for _ in 0..steps {
        if spec.action_mask {
            environment.action_mask(&mut mask);
        }
        action.clear();
        random.draw(&mask, &mut action);
        let taken = environment.step(action.as_ref(), row.as_mut());
        length += 1;
        if taken.outcome.is_end() || spec.episode_steps_max == Some(length) {
            environment.reset(None, row.as_mut());
            length = 0;
        }
    }
}
