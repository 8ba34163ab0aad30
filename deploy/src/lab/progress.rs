//! How far a grid is, and about how long it will take: a bar in a terminal, otherwise plain lines.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::output;

/// The shortest time between two plain lines about runs that are under way.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// What is shown while a grid is run.
pub(crate) struct GridProgress {
    shown: Shown,
    begun: Instant,
    /// Runs that are to be made now.
    runs: usize,
    runs_ended: usize,
    /// Steps of the runs that are to be made now, and of those that have ended.
    steps: u64,
    steps_ended: u64,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Instant),
}

impl GridProgress {
    /// Progress through `runs` runs of `steps` steps together.
    pub(crate) fn new(enabled: bool, runs: usize, steps: u64) -> Self {
        let begun = Instant::now();
        let shown = if !enabled {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            Shown::Bar(bar(steps))
        } else {
            Shown::Lines(begun)
        };
        Self {
            shown,
            begun,
            runs,
            runs_ended: 0,
            steps,
            steps_ended: 0,
        }
    }

    /// Shows a line.
    pub(crate) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.println(text),
            Shown::Lines(_) => output::notice(text),
        }
    }

    /// A run of `steps` steps has ended; `text` says how.
    pub(crate) fn ended(&mut self, steps: u64, text: &str) {
        self.runs_ended += 1;
        self.steps_ended += steps;
        self.note(&format!(
            "[{}/{}] {text}{}",
            self.runs_ended,
            self.runs,
            self.left(0)
        ));
        self.show(0, "");
    }

    /// The runs called `names` have made `steps` steps so far, all together.
    pub(crate) fn running(&mut self, steps: u64, names: &str) {
        self.show(steps, names);
        let now = Instant::now();
        if let Shown::Lines(last) = &mut self.shown
            && now.duration_since(*last) >= LINE_INTERVAL
        {
            *last = now;
            let share = 100.0 * (self.steps_ended + steps) as f64 / self.steps.max(1) as f64;
            let left = self.left(steps);
            output::notice(&format!("{share:.0} % of all steps; running {names}{left}"));
        }
    }

    fn show(&self, steps: u64, names: &str) {
        if let Shown::Bar(bar) = &self.shown {
            bar.set_position((self.steps_ended + steps).min(self.steps));
            bar.set_message(format!(
                "{}/{} runs{}  {names}",
                self.runs_ended,
                self.runs,
                self.left(steps)
            ));
        }
    }

    fn left(&self, steps_running: u64) -> String {
        let made = self.steps_ended + steps_running;
        match seconds_left(self.begun.elapsed(), made, self.steps) {
            Some(seconds) if self.runs_ended < self.runs => {
                format!("; about {} left", in_words(seconds))
            }
            _ => String::new(),
        }
    }
}

impl Drop for GridProgress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    // The template is a constant; were it wrong, the default style would still show the numbers.
    if let Ok(style) =
        ProgressStyle::with_template("{bar:32} {percent} %, {elapsed} elapsed\n{msg}")
    {
        bar.set_style(style);
    }
    bar
}

/// What is left takes as long as what was made, step by step: starting the processes of a run counts as well.
fn seconds_left(elapsed: Duration, made: u64, all: u64) -> Option<f64> {
    (made > 0).then(|| elapsed.as_secs_f64() * all.saturating_sub(made) as f64 / made as f64)
}

/// A duration as people say it.
pub(crate) fn in_words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Steps that a run has trained on, by the last whole line of its `metrics.jsonl`; 0 if there is none yet.
pub(crate) fn steps_so_far(run_directory: &Path) -> u64 {
    last_line(&run_directory.join("metrics.jsonl"))
        .and_then(|line| serde_json::from_str::<Value>(&line).ok())
        .and_then(|object| object.get("global_step")?.as_f64())
        .map_or(0, |steps| steps as u64)
}

fn last_line(path: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 16 * 1024;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let (whole, _) = text.rsplit_once('\n')?;
    whole.lines().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_estimated_from_what_was_made() {
        assert_eq!(seconds_left(Duration::from_secs(30), 0, 100), None);
        assert_eq!(seconds_left(Duration::from_secs(30), 25, 100), Some(90.0));
        assert_eq!(seconds_left(Duration::from_secs(30), 120, 100), Some(0.0));
        assert_eq!(in_words(89.4), "89 s");
        assert_eq!(in_words(600.0), "10 min");
        assert_eq!(in_words(9000.0), "2.5 h");
    }

    #[test]
    fn a_line_that_is_being_written_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(steps_so_far(directory.path()), 0);
        let path = directory.path().join("metrics.jsonl");
        std::fs::write(
            &path,
            "{\"global_step\":512.0}\n{\"global_step\":1024.0}\n{\"glob",
        )
        .unwrap();
        assert_eq!(steps_so_far(directory.path()), 1024);
    }
}
