//! What the screen shows, and what keys do to it. Nothing here knows a terminal.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Deserialize;
use springbok_learner::{
    metrics::{METRICS, Metric},
    monitor::status::Status,
};

/// Notes that are kept.
const NOTES_MAX: usize = 40;
/// Bytes of a note that are kept.
const NOTE_BYTES_MAX: usize = 500;

/// The course of a run as `/history` has it: for each point one value, or none, of each name.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Course {
    names: Vec<String>,
    points: Vec<Vec<Option<f64>>>,
}

impl Course {
    /// A course, for tests: names and points.
    #[cfg(test)]
    pub(crate) fn new(names: &[&str], points: Vec<Vec<Option<f64>>>) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { names, points }
    }

    /// The points at which both metrics have a finite value.
    pub(super) fn pairs(&self, x: Metric, y: Metric) -> Vec<(f64, f64)> {
        let place = |metric: Metric| {
            let name = METRICS[metric as usize].name;
            self.names.iter().position(|known| known == name)
        };
        let (Some(x), Some(y)) = (place(x), place(y)) else {
            return Vec::new();
        };
        let value = |point: &[Option<f64>], at: usize| {
            let value = point.get(at).copied().flatten();
            value.filter(|value| value.is_finite())
        };
        let points = self.points.iter();
        points
            .filter_map(|point| Some((value(point, x)?, value(point, y)?)))
            .collect()
    }
}

/// Something that the launcher said.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// When, as log lines have it: RFC 3339 in UTC.
    pub(crate) at: String,
    /// What.
    pub(crate) text: String,
}

/// Whose run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// This process started it: q stops it.
    Launcher,
    /// It only looks: q closes the view.
    Spectator,
}

/// What a key asks the process for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing besides drawing again.
    Draw,
    /// To stop the run, or to close a view that only looks.
    Stop,
}

/// Everything that is drawn.
#[derive(Debug)]
pub(crate) struct View {
    /// Whose run it is.
    pub(crate) role: Role,
    /// The learner's newest status, once there is one.
    pub(crate) status: Option<Box<Status>>,
    /// The course of the run so far.
    pub(crate) course: Course,
    /// Why there is no newer status.
    pub(crate) gone: Option<String>,
    /// Times that the run was asked to stop.
    pub(crate) stops: u32,
    /// Whether the keys are explained.
    pub(crate) help: bool,
    /// What the launcher said, oldest first.
    notes: VecDeque<Note>,
    /// Place in the list of the first actor shown.
    pub(super) first_actor: usize,
    /// Actors that had room when it was drawn last.
    pub(super) actors_visible: usize,
}

impl View {
    /// A view of a run of which nothing is known yet.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            status: None,
            course: Course::default(),
            gone: None,
            stops: 0,
            help: false,
            notes: VecDeque::new(),
            first_actor: 0,
            actors_visible: 1,
        }
    }

    /// Keeps what the launcher says; the oldest note makes room.
    pub(crate) fn note(&mut self, mut note: Note) {
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        note.text
            .truncate(note.text.floor_char_boundary(NOTE_BYTES_MAX));
        self.notes.push_back(note);
    }

    /// The learner's log and the launcher's notes in the order of time, each line with when it was written.
    pub(super) fn log(&self) -> Vec<(String, String)> {
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in self.status.iter().flat_map(|status| &status.log) {
            let at = timestamp(line).or_else(|| lines.last().map(|(at, _)| at.as_str()));
            lines.push((at.unwrap_or_default().to_owned(), line.clone()));
        }
        let notes = self.notes.iter();
        lines.extend(
            notes.map(|note| (note.at.clone(), format!("{}  NOTE {}", note.at, note.text))),
        );
        // RFC 3339 in UTC sorts as text; lines without a time stay behind the one that they belong to.
        lines.sort_by(|one, other| seconds(&one.0).cmp(seconds(&other.0)));
        lines
    }

    /// Does what `key` asks of the view; what it asks of the process is the answer.
    pub(crate) fn on_key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Draw;
        }
        let page = self.actors_visible.max(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Action::Stop;
            }
            KeyCode::Char('q') => return Action::Stop,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Esc => self.help = false,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1, true),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(1, false),
            KeyCode::PageDown => self.scroll(page, true),
            KeyCode::PageUp => self.scroll(page, false),
            KeyCode::Home => self.first_actor = 0,
            KeyCode::End => self.scroll(usize::MAX, true),
            _ => {}
        }
        Action::Draw
    }

    fn scroll(&mut self, rows: usize, down: bool) {
        self.first_actor = if down {
            self.first_actor.saturating_add(rows)
        } else {
            self.first_actor.saturating_sub(rows)
        };
        self.first_actor = self.first_actor_in(self.actors_visible);
    }

    /// The first actor to show where `rows` of them have room: the last page is full.
    pub(super) fn first_actor_in(&self, rows: usize) -> usize {
        let actors = self.status.as_ref().map_or(0, |status| status.actors.len());
        self.first_actor.min(actors.saturating_sub(rows))
    }
}

/// The time that a log line begins with.
fn timestamp(line: &str) -> Option<&str> {
    let first = line.split_whitespace().next()?;
    let is_time = first.len() >= 20 && first.as_bytes().get(10) == Some(&b'T');
    (is_time && first.ends_with('Z')).then_some(first)
}

/// A time without fractions of a second, of which there may be any number of digits.
fn seconds(at: &str) -> &str {
    at.get(..19).unwrap_or(at)
}

/// A log line for a narrow place: the time of day, the level and what was said.
pub(super) fn short_line(line: &str) -> String {
    let Some(at) = timestamp(line) else {
        return line.to_owned();
    };
    let rest = line.trim_start().strip_prefix(at).unwrap_or_default();
    let (level, rest) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
    let rest = rest.trim_start();
    // The module that says it ends with a colon.
    let said = match rest.split_once(": ") {
        Some((module, said)) if module.contains("::") && !module.contains(' ') => said,
        _ => rest,
    };
    format!("{} {level} {said}", at.get(11..19).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_shortened_and_others_are_let_be() {
        for (line, short) in [
            (
                "2026-11-25T10:20:09.123456Z  INFO springbok_learner::run: ready at 10:00",
                "10:20:09 INFO ready at 10:00",
            ),
            (
                "2026-11-25T10:20:09Z  WARN said: so",
                "10:20:09 WARN said: so",
            ),
            ("  at src/lib.rs:1", "  at src/lib.rs:1"),
            ("", ""),
        ] {
            assert_eq!(short_line(line), short);
        }
    }

    #[test]
    fn notes_are_bounded_in_number_and_length() {
        let mut view = View::new(Role::Launcher);
        for number in 0..=NOTES_MAX {
            view.note(Note {
                at: "2026-11-25T10:20:09Z".to_owned(),
                text: format!("{number} {}", "\u{e4}".repeat(NOTE_BYTES_MAX)),
            });
        }
        assert_eq!(view.notes.len(), NOTES_MAX);
        assert!(view.notes[0].text.starts_with("1 "));
        assert!(
            view.notes
                .iter()
                .all(|note| note.text.len() <= NOTE_BYTES_MAX)
        );
    }
}
