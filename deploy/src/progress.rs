//! Progress on stderr: a bar in a terminal, otherwise a plain line now and then.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use springbok_learner::{LearnerEvent, Progress as Figures};

use crate::{output, screen::Screen};

/// The shortest time between two plain lines: a log file must stay readable. A little less than two seconds, so that of
/// news that come every two seconds by another clock none is left out.
const LINE_INTERVAL: Duration = Duration::from_millis(1900);

/// What a run shows while it goes on.
pub(crate) struct Progress {
    shown: Shown,
    total_steps: u64,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Screen(Screen),
    Lines {
        /// When the last one was written.
        last: Mutex<Option<Instant>>,
    },
}

impl Progress {
    /// Progress towards `total_steps`, or none at all.
    pub(crate) fn new(enabled: bool, total_steps: u64) -> Self {
        let shown = if !enabled {
            Shown::Nothing
        } else if io::stderr().is_terminal() {
            Shown::Bar(bar(total_steps))
        } else {
            Shown::Lines {
                last: Mutex::new(None),
            }
        };
        Self { shown, total_steps }
    }

    /// The whole screen, which knows by itself how far the run is.
    pub(crate) fn on(screen: Screen) -> Self {
        Self {
            shown: Shown::Screen(screen),
            total_steps: 0,
        }
    }

    /// Shows nothing more on a screen of its own.
    pub(crate) fn close(&self) {
        if let Shown::Screen(screen) = &self.shown {
            screen.close();
        }
    }

    /// Shows what the learner reports.
    pub(crate) fn event(&self, event: &LearnerEvent) {
        match event {
            LearnerEvent::Listening {
                address,
                device,
                device_reason,
                http,
                ..
            } => {
                self.note(&format!(
                    "learner on {device} ({device_reason}), listening on {address}"
                ));
                if let Some(url) = http {
                    self.note(&format!("watch it at {url}"));
                    if let Shown::Screen(screen) = &self.shown {
                        screen.found(url);
                    }
                }
            }
            LearnerEvent::Progress(figures) => self.report(figures),
            LearnerEvent::Finished { .. } => {}
        }
    }

    /// Shows a line between the reports.
    pub(crate) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.println(text),
            Shown::Screen(screen) => {
                if !screen.note(text) {
                    output::notice(text);
                }
            }
            Shown::Lines { .. } => output::notice(text),
        }
    }

    fn report(&self, figures: &Figures) {
        let steps = figures.trained_steps;
        let text = in_words(figures);
        match &self.shown {
            // The screen asks the learner itself.
            Shown::Nothing | Shown::Screen(_) => {}
            Shown::Bar(bar) => {
                bar.set_position(steps.min(self.total_steps));
                bar.set_message(text);
            }
            Shown::Lines { last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
                    *last = Some(Instant::now());
                    output::notice(&format!("{steps}/{} steps, {text}", self.total_steps));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Whatever comes next, a summary or a fault, starts on a clean line.
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(total_steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(
        "{bar:32} {human_pos}/{human_len} steps, {elapsed} elapsed, {eta} to go\n{msg}",
    );
    // The template is a constant; were it wrong, the default style would still show the numbers.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// The numbers of a report.
fn in_words(figures: &Figures) -> String {
    let mean = figures.return_mean_100;
    let mean = mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}"));
    format!(
        "{:.0} steps/s, return {mean}, lag {:.1} (p95 {:.0}), ESS {:.2}, clipped {:.0} %, queue {:.0} %, {} actors",
        figures.steps_per_s,
        figures.lag_mean,
        figures.lag_p95,
        figures.ess,
        100.0 * figures.clip_fraction,
        100.0 * figures.queue_fill,
        figures.actors,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_every_number_that_the_trade_off_needs() {
        let figures = Figures {
            steps_per_s: 12_345.6,
            return_mean_100: Some(99.96),
            lag_mean: 1.25,
            lag_p95: 3.0,
            ess: 0.987,
            clip_fraction: 0.08,
            queue_fill: 0.5,
            actors: 2,
            ..Figures::default()
        };
        assert_eq!(
            in_words(&figures),
            "12346 steps/s, return 100.0, lag 1.2 (p95 3), ESS 0.99, clipped 8 %, queue 50 %, 2 actors"
        );
    }
}
