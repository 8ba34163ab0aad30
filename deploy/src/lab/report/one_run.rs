//! The figures of one run, over its course.

use super::{
    super::{curve::CurvePoint, rows::Run},
    figures::{self, Figure},
    groups::Groups,
    plot::{Axis, Kind, Line, Mark, Plot, Series, XAxis},
};

/// What a report of one run shares with that of a grid.
const SHARED: [&str; 5] = [
    "lag-causes",
    "ess-by-lag",
    "clip-by-lag",
    "time-learner",
    "time-actors",
];

/// A number of an update.
type Course = fn(&CurvePoint) -> Option<f64>;

/// The figures of one run.
pub(super) fn of_run(groups: &Groups, run: &Run) -> Vec<Figure> {
    let learning = course(
        run,
        Axis::new("return, last 100 episodes", Kind::Linear),
        &[("return", |point| point.mean_return)],
    );
    let lag = course(
        run,
        Axis::new("policy lag (versions)", Kind::FromZero),
        &[
            ("mean", |point| point.lag_mean),
            ("95th percentile", |point| point.lag_p95),
        ],
    );
    let health = course(
        run,
        Axis::new("share of the steps", Kind::FromZero).reaching(&[1.0]),
        &[
            ("effective sample size", |point| point.ess),
            ("clip fraction", |point| point.clip_fraction),
        ],
    );
    let mut figures = vec![
        Figure::plot(
            "curves",
            "Learning curve",
            "Mean return of the last 100 episodes.",
            &learning,
        ),
        Figure::plot(
            "lag-over-time",
            "Policy lag over the run",
            "Of the steps of each update.",
            &lag,
        ),
        Figure::plot(
            "health-over-time",
            "Health of the updates",
            "Of the steps of each update.",
            &health,
        ),
    ];
    let of_grid = figures::of_grid(groups, std::slice::from_ref(run)).into_iter();
    let shared = of_grid.filter(|figure| SHARED.contains(&figure.name.as_str()));
    figures.extend(shared.map(|figure| Figure {
        caption: figure.caption.replace(" Median over seeds.", ""),
        ..figure
    }));
    figures
}

/// Lines over the environment steps of a run.
fn course(run: &Run, y: Axis, lines: &[(&str, Course)]) -> Plot {
    let series = lines
        .iter()
        .enumerate()
        .map(|(style, (name, value))| Series {
            name: (*name).to_owned(),
            style,
            line: Line::Plain,
            marks: run
                .curve
                .points
                .iter()
                .map(|point| Mark {
                    x: point.env_steps,
                    y: value(point).unwrap_or(f64::NAN),
                    ..Mark::default()
                })
                .collect(),
            band: Vec::new(),
        });
    Plot {
        x: XAxis::Numbers(Axis::new("environment steps", Kind::FromZero)),
        y,
        series: series.collect(),
        diagonal: None,
    }
}
