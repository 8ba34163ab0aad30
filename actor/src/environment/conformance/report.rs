//! What a check that found no fault has seen.

use std::{fmt, time::Duration};

use serde::Serialize;
use springbok_common::spec::EnvironmentSpec;

/// What a check that found no fault has seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Registered name.
    pub id: String,
    /// Clauses of the contract that were checked.
    pub checked: Vec<&'static str>,
    /// Steps that were checked, over all environments.
    pub steps: u64,
    /// Episodes that ended in them.
    pub episodes: u64,
    /// Lowest and highest return of these; `None` if none ended.
    pub returns: Option<[f64; 2]>,
    /// Fewest and most steps of these; `None` if none ended.
    pub lengths: Option<[u32; 2]>,
    /// Width and height of a picture; `None` if it cannot be watched.
    pub frame: Option<[usize; 2]>,
    /// Steps per second of wall time, over all environments, with random actions.
    pub steps_per_second: f64,
}

impl Report {
    pub(super) fn new(spec: &EnvironmentSpec) -> Self {
        Self {
            id: spec.id.clone(),
            checked: Vec::new(),
            steps: 0,
            episodes: 0,
            returns: None,
            lengths: None,
            frame: None,
            steps_per_second: 0.0,
        }
    }

    pub(super) fn episode(&mut self, episode_return: f64, length: u32) {
        self.episodes += 1;
        let [worst, best] = self.returns.unwrap_or([episode_return; 2]);
        self.returns = Some([worst.min(episode_return), best.max(episode_return)]);
        let [fewest, most] = self.lengths.unwrap_or([length; 2]);
        self.lengths = Some([fewest.min(length), most.max(length)]);
    }

    pub(super) fn timed(&mut self, steps: u64, duration: Duration) {
        let seconds = duration.max(Duration::from_nanos(1)).as_secs_f64();
        self.steps_per_second = steps as f64 / seconds;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} conforms:", self.id)?;
        for clause in &self.checked {
            writeln!(formatter, "  ok  {clause}")?;
        }
        write!(
            formatter,
            "{} episodes in {} steps",
            self.episodes, self.steps
        )?;
        if let Some([worst, best]) = self.returns {
            write!(formatter, ", returns {worst:.3} to {best:.3}")?;
        }
        if let Some([fewest, most]) = self.lengths {
            write!(formatter, ", {fewest} to {most} steps each")?;
        }
        match self.frame {
            Some([width, height]) => write!(formatter, "; pictures of {width} x {height}")?,
            None => write!(formatter, "; no pictures")?,
        }
        write!(formatter, "; {:.0} steps/s", self.steps_per_second)
    }
}
