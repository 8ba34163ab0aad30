//! The check of a vector of environments.

use std::time::{Duration, Instant};

use springbok_common::{
    arrays::{Actions, Elements, ElementsRef},
    spec::EnvironmentSpec,
    step::StepOutcome,
    unroll::EpisodeSummary,
};

use super::{
    Breach, RandomActions, Report, VectorFault, check_frame, check_mask, check_observation,
};
use crate::{
    environment::{EnvironmentError, Frame, spec_fault},
    vector::{StepSink, VectorEnvironment},
};

const CLAUSES: [&str; 7] = [
    "the specification is usable and stays the same",
    "observations, final ones included, are finite and within their bounds",
    "masks are 0 or 1 and leave every head an action",
    "rewards are finite and only rows after an end are void",
    "truncated steps, and no others, have a final observation",
    "episodes are summarised at their ends, agree with their steps and keep the time limit",
    "all episodes can be begun anew",
];
/// Relative: rewards may have been added in another precision.
const RETURN_TOLERANCE: f64 = 1e-4;
const SEED: u64 = 0;

/// Takes `steps` steps of all environments with random actions, begins all episodes anew after half of them, and
/// checks everything that the contract of [`VectorEnvironment`] asks of a vector.
///
/// # Errors
/// The first [`VectorFault`].
pub fn check_vector(vector: &mut dyn VectorEnvironment, steps: u32) -> Result<Report, VectorFault> {
    let mut check = Check::new(vector);
    check.state().map_err(|fault| fault.at(0))?;
    for step in 1..=steps {
        check.step().map_err(|fault| fault.at(step))?;
        if step == 1 {
            check.draw().map_err(|fault| fault.at(step))?;
        }
        if step == steps.div_ceil(2) {
            check.restart().map_err(|fault| fault.at(step))?;
        }
    }
    let mut report = check.report;
    report.checked = CLAUSES.to_vec();
    report.timed(report.steps, check.time_stepping);
    Ok(report)
}

/// A breach by the environment of this index.
struct Fault(usize, Breach);

impl Fault {
    fn at(self, step: u32) -> VectorFault {
        VectorFault {
            step,
            environment: self.0,
            breach: self.1,
        }
    }
}

impl From<EnvironmentError> for Fault {
    fn from(error: EnvironmentError) -> Self {
        Self(0, Breach::Failed(error.to_string()))
    }
}

/// The running episode of one environment, as its steps show it.
#[derive(Clone, Copy, Default)]
struct Running {
    episode_return: f64,
    /// Sum of the sizes of the rewards, which the tolerance is relative to.
    magnitude: f64,
    length: u32,
    just_ended: bool,
}

/// What one step gave.
struct Given {
    rewards: Vec<f32>,
    outcomes: Vec<StepOutcome>,
    /// Index of each final observation, and what is wrong with it.
    finals: Vec<(usize, Result<(), Breach>)>,
    episodes: Vec<EpisodeSummary>,
}

struct Check<'a> {
    vector: &'a mut dyn VectorEnvironment,
    spec: EnvironmentSpec,
    /// Number of environments.
    count: usize,
    random: RandomActions,
    actions: Actions,
    running: Vec<Running>,
    report: Report,
    time_stepping: Duration,
}

impl<'a> Check<'a> {
    fn new(vector: &'a mut dyn VectorEnvironment) -> Self {
        let spec = vector.spec().clone();
        let count = vector.environments();
        let random = RandomActions::new(&spec, SEED);
        Self {
            vector,
            count,
            actions: random.buffer(),
            random,
            running: vec![Running::default(); count],
            report: Report::new(&spec),
            time_stepping: Duration::ZERO,
            spec,
        }
    }

    /// Checks what the vector shows between steps.
    fn state(&self) -> Result<(), Fault> {
        if let Some(reason) = spec_fault(&self.spec) {
            return Err(Fault(0, Breach::Spec(reason)));
        }
        if *self.vector.spec() != self.spec || self.vector.environments() != self.count {
            return Err(Fault(0, Breach::SpecChanged));
        }
        let observations = self.vector.observations();
        let masks = self.vector.action_masks();
        self.layout("the observations", self.count, observations)
            .map_err(|breach| Fault(0, breach))?;
        if masks.len() != self.count * self.spec.mask_len() {
            return Err(Fault(
                0,
                Breach::Layout {
                    array: "the masks",
                    found: format!("{} uint8", masks.len()),
                    expected: format!("{} uint8", self.count * self.spec.mask_len()),
                },
            ));
        }
        for index in 0..self.count {
            let fault = |breach| Fault(index, breach);
            let row = observations.slice(own(index, self.spec.observation.len()));
            check_observation(&self.spec, row).map_err(fault)?;
            let mask = &masks[own(index, self.spec.mask_len())];
            check_mask(&self.spec, mask).map_err(fault)?;
        }
        Ok(())
    }

    fn layout(
        &self,
        array: &'static str,
        rows: usize,
        found: ElementsRef<'_>,
    ) -> Result<(), Breach> {
        let element = match found {
            ElementsRef::F32(_) => "float32",
            ElementsRef::U8(_) => "uint8",
        };
        let observation = &self.spec.observation;
        let found = format!("{} {element}", found.len());
        let expected = format!(
            "{} {}",
            rows * observation.len(),
            observation.element.as_str()
        );
        if found == expected {
            return Ok(());
        }
        Err(Breach::Layout {
            array,
            found,
            expected,
        })
    }

    fn step(&mut self) -> Result<(), Fault> {
        self.actions.clear();
        for index in 0..self.count {
            let mask = &self.vector.action_masks()[own(index, self.spec.mask_len())];
            self.random.draw(mask, &mut self.actions);
        }
        let given = self.take()?;
        self.finals(&given)?;
        let mut summaries = given.episodes.iter();
        for index in 0..self.count {
            self.outcome(index, given.rewards[index], given.outcomes[index])
                .map_err(|breach| Fault(index, breach))?;
            if given.outcomes[index].is_end() {
                self.summary(index, summaries.next())
                    .map_err(|breach| Fault(index, breach))?;
            }
        }
        let (ended, summaries) = (given.episodes.len() - summaries.len(), given.episodes.len());
        if ended != summaries {
            return Err(Fault(0, Breach::Summaries { ended, summaries }));
        }
        self.state()
    }

    fn take(&mut self) -> Result<Given, Fault> {
        // What the vector does not write shows: a reward of NaN is not finite, and a void row follows an end.
        let mut rewards = vec![f32::NAN; self.count];
        let mut outcomes = vec![StepOutcome::Void; self.count];
        let (mut finals, mut episodes) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        let mut seen: Vec<(usize, Elements)> = Vec::new();
        let taken = self.vector.step(
            self.actions.as_ref(),
            &mut StepSink {
                rewards: &mut rewards,
                outcomes: &mut outcomes,
                on_truncated: &mut |index, row| seen.push((index, row.to_owned())),
                episodes: &mut episodes,
            },
        );
        self.time_stepping += begun.elapsed();
        taken?;
        self.report.steps += self.count as u64;
        for (index, row) in seen {
            let checked = self
                .layout("a final observation", 1, row.as_ref())
                .and_then(|()| check_observation(&self.spec, row.as_ref()));
            finals.push((index, checked));
        }
        Ok(Given {
            rewards,
            outcomes,
            finals,
            episodes,
        })
    }

    /// Checks that truncated steps and no others have a final observation, in ascending order.
    fn finals(&self, given: &Given) -> Result<(), Fault> {
        let ascends = given.finals.is_sorted_by(|left, right| left.0 < right.0);
        for (index, &outcome) in given.outcomes.iter().enumerate() {
            let own = || given.finals.iter().filter(|(of, _)| *of == index);
            let (count, expected) = (
                own().count(),
                usize::from(outcome == StepOutcome::Truncated),
            );
            if count != expected || (count > 0 && !ascends) {
                return Err(Fault(
                    index,
                    Breach::FinalObservations {
                        given: count,
                        outcome,
                    },
                ));
            }
            if let Some((_, Err(breach))) = own().next() {
                return Err(Fault(index, breach.clone()));
            }
        }
        Ok(())
    }

    fn outcome(&mut self, index: usize, reward: f32, outcome: StepOutcome) -> Result<(), Breach> {
        let running = &mut self.running[index];
        if !reward.is_finite() {
            return Err(Breach::Reward(reward));
        }
        if outcome == StepOutcome::Void {
            let follows_an_end = std::mem::take(&mut running.just_ended);
            return if follows_an_end {
                Ok(())
            } else {
                Err(Breach::Void)
            };
        }
        running.episode_return += f64::from(reward);
        running.magnitude += f64::from(reward.abs());
        running.length += 1;
        running.just_ended = outcome.is_end();
        let length = running.length;
        match self.spec.episode_steps_max {
            Some(limit) if length >= limit && !outcome.is_end() => {
                Err(Breach::TimeLimit { length, limit })
            }
            _ => Ok(()),
        }
    }

    fn summary(&mut self, index: usize, summary: Option<&EpisodeSummary>) -> Result<(), Breach> {
        let running = std::mem::take(&mut self.running[index]);
        self.running[index].just_ended = true;
        let Some(summary) = summary else {
            return Err(Breach::Summaries {
                ended: 1,
                summaries: 0,
            });
        };
        let away = (summary.episode_return - running.episode_return).abs();
        let near = away <= RETURN_TOLERANCE * (1.0 + running.magnitude);
        if summary.length != running.length || !near {
            return Err(Breach::Summary {
                summarised_length: summary.length,
                summarised_return: summary.episode_return,
                length: running.length,
                episode_return: running.episode_return,
            });
        }
        self.report.episode(summary.episode_return, summary.length);
        Ok(())
    }

    fn draw(&mut self) -> Result<(), Fault> {
        let mut frame = Frame::default();
        let last = self.count.saturating_sub(1);
        if self.vector.render(last, &mut frame)? {
            let size = check_frame(&frame).map_err(|breach| Fault(last, breach))?;
            self.report.frame = Some(size);
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Fault> {
        self.vector.restart()?;
        self.running.fill(Running::default());
        self.state()
    }
}

fn own(index: usize, len: usize) -> std::ops::Range<usize> {
    index * len..(index + 1) * len
}
