//! Runs that someone chose to compare: whatever they are called, and however they differ.

use serde_json::Value;

use super::{
    super::{VARIANT, curve::CurvePoint, rows::Run},
    figures::{self, Figure},
    groups::Groups,
    plot::{Axis, Kind, Line, Mark, Plot, Series, XAxis},
};

/// Keys, and sections of them, that say nothing about what a run learns: runs that differ in nothing else, and in their
/// seeds, are put together.
const INDIFFERENT: [&str; 10] = [
    "run.seed",
    "run.out",
    "run.name",
    "learner.listen",
    "environment.python.",
    "actor.learner_wait_s_max",
    "telemetry.",
    "security.",
    "checkpoint.",
    "limits.",
];

/// Figures that the curves of the whole come before.
const FIRST: [&str; 1] = ["curves"];

/// Keys of a configuration and their values.
type Learning = Vec<(String, String)>;

/// A number of an update.
type Course = fn(&CurvePoint) -> Option<f64>;

/// Gives each run a name of its own, and the name of those that it belongs to as the label that figures and tables group
/// by: runs that differ in nothing but the seed are seeds of one.
pub(crate) fn name(runs: &mut [Run]) {
    let names: Vec<String> = runs.iter().map(|run| run.row.cell.clone()).collect();
    for (at, run) in runs.iter_mut().enumerate() {
        let before = names.iter().take(at).filter(|name| **name == names[at]);
        match before.count() {
            0 => {}
            count => run.row.cell = format!("{} ({})", names[at], count + 1),
        }
    }
    // What decides the learning, the first run that has it, and how many do.
    let mut known: Vec<(Learning, String, usize)> = Vec::new();
    let mut of_run = Vec::with_capacity(runs.len());
    for run in runs.iter() {
        let learning = learning(run);
        // Without a configuration nothing is known to be alike.
        let found = known
            .iter()
            .position(|(other, ..)| !learning.is_empty() && *other == learning);
        let group = found.unwrap_or_else(|| {
            known.push((learning, run.row.cell.clone(), 0));
            known.len() - 1
        });
        known[group].2 += 1;
        of_run.push(group);
    }
    for (run, group) in runs.iter_mut().zip(of_run) {
        let (_, first, seeds) = &known[group];
        let label = match seeds {
            1 => first.clone(),
            2 => format!("{first} (+1 run)"),
            runs => format!("{first} (+{} runs)", runs - 1),
        };
        run.row.settings.clear();
        run.row
            .settings
            .insert(VARIANT.to_owned(), Value::from(label));
    }
}

/// The part of a run's configuration that decides what it learns.
fn learning(run: &Run) -> Learning {
    let counts = |key: &str| {
        !INDIFFERENT
            .iter()
            .any(|other| key == *other || (other.ends_with('.') && key.starts_with(other)))
    };
    let mut keys: Vec<_> = run
        .config
        .iter()
        .filter(|(key, _)| counts(key))
        .cloned()
        .collect();
    keys.sort();
    keys
}

/// The figures: curves over each other first.
pub(super) fn figures(groups: &Groups, runs: &[Run]) -> Vec<Figure> {
    let mut of_grid = figures::of_grid(groups, runs);
    let is_first = |figure: &Figure| FIRST.contains(&figure.name.as_str());
    let mut figures: Vec<Figure> = Vec::new();
    while let Some(at) = of_grid.iter().position(is_first) {
        figures.push(of_grid.remove(at));
    }
    let steps: Course = |point| Some(point.env_steps);
    let seconds: Course = |point| Some(point.wall_s);
    for (name, title, x, y, value) in [
        (
            "curves-over-time",
            "Learning curves over time",
            ("seconds", seconds),
            Axis::new("return, last 100 episodes", Kind::Linear),
            (|point| point.mean_return) as Course,
        ),
        (
            "steps-over-time",
            "Progress",
            ("seconds", seconds),
            Axis::new("environment steps", Kind::FromZero),
            steps,
        ),
        (
            "lag-over-time",
            "Policy lag over the runs",
            ("environment steps", steps),
            Axis::new("policy lag, mean (versions)", Kind::FromZero),
            |point| point.lag_mean,
        ),
        (
            "ess-over-time",
            "Effective sample size over the runs",
            ("environment steps", steps),
            Axis::new("effective sample size", Kind::FromZero).reaching(&[1.0]),
            |point| point.ess,
        ),
        (
            "clip-over-time",
            "Clip fraction over the runs",
            ("environment steps", steps),
            Axis::new("clip fraction", Kind::FromZero),
            |point| point.clip_fraction,
        ),
    ] {
        let plot = overlay(runs, x, y, value);
        figures.push(Figure::plot(name, title, "A line for each run.", &plot));
    }
    figures.extend(of_grid);
    figures
}

/// A line for each finished run.
fn overlay(runs: &[Run], (label, x): (&str, Course), y: Axis, value: Course) -> Plot {
    let done = runs.iter().filter(|run| run.row.is_done()).enumerate();
    let series = done.map(|(style, run)| {
        let marks = run.curve.points.iter().map(|point| Mark {
            x: x(point).unwrap_or(f64::NAN),
            y: value(point).unwrap_or(f64::NAN),
            ..Mark::default()
        });
        Series {
            name: run.row.cell.clone(),
            style,
            line: Line::Plain,
            marks: marks.collect(),
            band: Vec::new(),
        }
    });
    Plot {
        x: XAxis::Numbers(Axis::new(label, Kind::FromZero)),
        y,
        series: series.collect(),
        diagonal: None,
    }
}
