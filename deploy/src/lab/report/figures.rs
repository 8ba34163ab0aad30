//! The figures of a report: which numbers go where.

use super::{
    super::{
        curve::{Curve, Statistics, spread},
        measured::CAUSES,
        rows::{Row, Run},
    },
    buckets,
    groups::{Group, Groups, Quantity},
    inference,
    plot::{Axis, Bar, Bars, Drawing, Kind, Line, Mark, Plot, Series, XAxis, scale::label},
};

/// Learning curves in one report; a grid may have more places than anyone looks at.
const CURVES_MAX: usize = 12;

/// A drawing with its words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// Name of the file, without its ending.
    pub(crate) name: String,
    /// A heading.
    pub(crate) title: String,
    /// What is to be seen, and how to read it.
    pub(crate) caption: String,
    /// The drawing; none if nothing of it was measured.
    pub(crate) drawing: Option<Drawing>,
}

impl Figure {
    pub(super) fn plot(name: &str, title: &str, caption: &str, plot: &Plot) -> Self {
        let drawing = (!plot.is_empty()).then(|| plot.draw());
        Self::new(name, title, caption, drawing)
    }

    fn bars(name: &str, title: &str, caption: &str, bars: &Bars) -> Self {
        let drawing = (!bars.is_empty()).then(|| bars.draw());
        Self::new(name, title, caption, drawing)
    }

    fn new(name: &str, title: &str, caption: &str, drawing: Option<Drawing>) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: caption.to_owned(),
            drawing,
        }
    }
}

/// The figures of a grid, in the order of the page.
pub(crate) fn of_grid(groups: &Groups, runs: &[Run]) -> Vec<Figure> {
    let equal = runs.first().map(|run| run.row.equal).unwrap_or_default();
    let place = |value: Option<f64>, unit: &str| {
        value.map_or_else(
            || "the end".to_owned(),
            |value| format!("{} {unit}", label(value)),
        )
    };
    let (steps, seconds) = (
        place(equal.env_steps, "environment steps"),
        place(equal.wall_s, "s"),
    );
    let mut figures = vec![
        Figure::plot(
            "frontier",
            "Throughput against policy lag",
            &format!(
                "Median over seeds; whiskers: range.{} Up is faster, left is fresher.",
                notes_mean(groups)
            ),
            &against_lag(
                groups,
                "trained steps per second",
                Kind::FromZero,
                true,
                |row| row.measured.trained_steps_per_s,
            ),
        ),
        Figure::plot(
            "return-at-equal-steps",
            "Return at equal environment steps",
            &format!(
                "After {steps}, which every run has made: what lag costs in sample efficiency."
            ),
            &against_lag(groups, "return", Kind::FromZero, false, |row| {
                row.equal.return_at_env_steps
            }),
        ),
        Figure::plot(
            "return-at-equal-time",
            "Return at equal wall time",
            &format!(
                "After {seconds}, which every run has trained for: throughput and lag weighed together."
            ),
            &against_lag(groups, "return", Kind::FromZero, false, |row| {
                row.equal.return_at_wall_s
            }),
        ),
        Figure::bars(
            "lag-causes",
            "Where the lag comes from",
            &format!(
                "Versions published during each stage of an unroll's life; the parts add up to the mean lag. Median over seeds.{}",
                groups.brief_legend()
            ),
            &causes(groups),
        ),
        buckets::figure(
            groups,
            "ess-by-lag",
            "Effective sample size by lag",
            "Share of the steps that the importance ratios leave standing, all seeds and runs of a line together, weighted \
             by steps; 1 is on-policy.",
            "effective sample size",
            |bucket| bucket.ess,
        ),
        buckets::figure(
            groups,
            "clip-by-lag",
            "Clip fraction by lag",
            "Share of the steps whose ratio has left the clip interval, likewise.",
            "clip fraction",
            |bucket| bucket.clip_fraction,
        ),
        Figure::plot(
            "predicted",
            "Predicted against measured lag",
            "Each mark is one run; on the dashed line the model of the pipeline is right.",
            &predicted(groups),
        ),
    ];
    figures.extend(time_figures(groups));
    figures.push(Figure::bars(
        "network",
        "What a step costs the network",
        &format!(
            "Bytes over the learner's connections, with what frames and TLS add. Median over seeds.{}",
            groups.brief_legend()
        ),
        &inference::network(groups),
    ));
    figures.extend(curves(groups));
    figures
}

fn notes_mean(groups: &Groups) -> String {
    let mut text = String::new();
    if groups.series.len() > 1 {
        text.push_str(" Lines are moved apart a little where they would cover each other.");
    }
    if groups.along.is_some() {
        text += &format!(" Numbers at the marks: {}.", groups.along_short);
    }
    text
}

/// Every group as a mark over its measured mean lag; marks of a line are joined.
fn against_lag(groups: &Groups, y: &str, kind: Kind, notes: bool, quantity: Quantity) -> Plot {
    let mark = |group: &Group| {
        let x = group.statistics(|row| row.measured.lag.mean)?;
        let y = group.statistics(quantity)?;
        Some(Mark {
            x: x.median,
            y: y.median,
            y_range: (y.n > 1).then_some((y.low, y.high)),
            note: if notes {
                group.at.to_owned()
            } else {
                String::new()
            },
            tip: format!(
                "{}: lag {}, {}",
                groups.name(group),
                label(x.median),
                in_words(&y)
            ),
        })
    };
    Plot {
        x: XAxis::Numbers(Axis::new("policy lag, mean (versions)", Kind::Doublings)),
        y: Axis::new(y, kind),
        series: each_series(groups, Line::Joined, mark),
        diagonal: None,
    }
}

fn each_series(groups: &Groups, line: Line, mark: impl Fn(&Group) -> Option<Mark>) -> Vec<Series> {
    let series = groups.series.iter().enumerate();
    series
        .map(|(at, name)| Series {
            name: name.clone(),
            style: at,
            line,
            marks: groups
                .groups
                .iter()
                .filter(|group| group.series == at)
                .filter_map(&mark)
                .collect(),
            band: Vec::new(),
        })
        .collect()
}

/// Median, range and number of runs.
pub(crate) fn in_words(statistics: &Statistics) -> String {
    let Statistics {
        median,
        low,
        high,
        n,
    } = *statistics;
    if n == 1 {
        label(median)
    } else {
        format!(
            "{} ({} to {}, n = {n})",
            label(median),
            label(low),
            label(high)
        )
    }
}

// === Causes and shares ===

fn causes(groups: &Groups) -> Bars {
    let bars = groups.groups.iter().map(|group| {
        let parts: Vec<Option<f64>> = CAUSES
            .iter()
            .map(|cause| group.median(|measured| measured.cause(cause)))
            .collect();
        let mean = group.median(|measured| measured.lag.mean);
        Bar {
            name: groups.brief(group),
            parts,
            note: mean.map_or(String::new(), label),
        }
    });
    Bars {
        label: "policy lag, mean (versions)".to_owned(),
        parts: CAUSES.map(str::to_owned).to_vec(),
        bars: bars.collect(),
        reach: 0.0,
    }
}

fn time_figures(groups: &Groups) -> [Figure; 2] {
    [
        Figure::bars(
            "time-learner",
            "What the learner's time goes into",
            &format!(
                "Computing or waiting for unrolls: a learner that waits wants more actors. Median over seeds.{}",
                groups.brief_legend()
            ),
            &shares(
                groups,
                &[
                    ("learner_busy", "computing"),
                    ("learner_waiting", "waiting for data"),
                ],
            ),
        ),
        Figure::bars(
            "time-actors",
            "What the actors' time goes into",
            &format!(
                "Blocked actors wait for the learner: more of them would not help. Median over seeds.{}",
                groups.brief_legend()
            ),
            &shares(
                groups,
                &[
                    ("actors_environment", "environment"),
                    ("actors_inference", "inference"),
                    ("actors_sending", "sending"),
                    ("actors_blocked", "blocked"),
                ],
            ),
        ),
    ]
}

fn shares(groups: &Groups, names: &[(&str, &str)]) -> Bars {
    let bars = groups.groups.iter().map(|group| {
        let share = |name: &str| group.median(|measured| measured.time(name));
        let parts = names
            .iter()
            .map(|(name, _)| share(name).map(|share| 100.0 * share));
        Bar {
            name: groups.brief(group),
            parts: parts.collect(),
            note: String::new(),
        }
    });
    Bars {
        label: "share of time (%)".to_owned(),
        parts: names.iter().map(|(_, name)| (*name).to_owned()).collect(),
        bars: bars.collect(),
        reach: 100.0,
    }
}

// === Prediction and curves ===

fn predicted(groups: &Groups) -> Plot {
    let series = groups.series.iter().enumerate().map(|(line, name)| {
        let groups = groups.groups.iter().filter(|group| group.series == line);
        let marks = groups.flat_map(|group| &group.runs).filter_map(|run| {
            let measured = &run.row.measured;
            let (x, y) = (measured.predicted()?, measured.lag.mean?);
            Some(Mark {
                x,
                y,
                tip: format!(
                    "{}: predicted {}, measured {}",
                    run.row.cell,
                    label(x),
                    label(y)
                ),
                ..Mark::default()
            })
        });
        Series {
            name: name.clone(),
            style: line,
            line: Line::Marks,
            marks: marks.collect(),
            band: Vec::new(),
        }
    });
    let series: Vec<Series> = series.collect();
    // Both axes show the same numbers, so that the diagonal is one.
    let all = series
        .iter()
        .flat_map(|series| &series.marks)
        .flat_map(|mark| [mark.x, mark.y]);
    let largest = [all.fold(0.0, f64::max)];
    Plot {
        x: XAxis::Numbers(
            Axis::new("predicted lag (versions)", Kind::Doublings).reaching(&largest),
        ),
        y: Axis::new("measured lag, mean (versions)", Kind::Doublings).reaching(&largest),
        series,
        diagonal: Some("measured = predicted".to_owned()),
    }
}

fn curves(groups: &Groups) -> Vec<Figure> {
    let returns: Vec<f64> = groups
        .groups
        .iter()
        .flat_map(|group| &group.runs)
        .flat_map(|run| {
            run.curve
                .points
                .iter()
                .filter_map(|point| point.mean_return)
        })
        .collect();
    let low = returns.iter().copied().fold(f64::INFINITY, f64::min);
    let high = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let places = groups.places();
    places
        .iter()
        .take(CURVES_MAX)
        .enumerate()
        .map(|(number, place)| {
            let series = groups
                .groups
                .iter()
                .filter(|group| group.at == *place)
                .map(|group| curve_series(&groups.series[group.series], group.series, &group.runs));
            let plot = Plot {
                x: XAxis::Numbers(Axis::new("environment steps", Kind::FromZero)),
                // The same axis on every panel, so that they can be compared at a glance.
                y: Axis::new("return, last 100 episodes", Kind::Linear).reaching(&[low, high]),
                series: series.collect(),
                diagonal: None,
            };
            let (name, title) = if place.is_empty() {
                ("curves".to_owned(), "Learning curves".to_owned())
            } else {
                (
                    format!("curves-{}", number + 1),
                    format!("Learning curves, {} {place}", groups.along_short),
                )
            };
            Figure::plot(&name, &title, "Median over seeds; shaded: range.", &plot)
        })
        .collect()
}

fn curve_series(name: &str, style: usize, runs: &[&Run]) -> Series {
    let curves: Vec<&Curve> = runs.iter().map(|run| &run.curve).collect();
    let spread = spread(&curves);
    let marks = spread.iter().map(|at| Mark {
        x: at.x,
        y: at.median,
        ..Mark::default()
    });
    Series {
        name: name.to_owned(),
        style,
        line: Line::Plain,
        marks: marks.collect(),
        band: if runs.len() > 1 {
            spread.iter().map(|at| (at.x, at.low, at.high)).collect()
        } else {
            Vec::new()
        },
    }
}

/// A number of a row, for the tables.
pub(crate) const TABLE: &[(&str, Quantity)] = &[
    ("return at equal steps", |row: &Row| {
        row.equal.return_at_env_steps
    }),
    ("return at equal time", |row| row.equal.return_at_wall_s),
    ("return at the end", |row| row.measured.return_mean_100),
    ("best", |row| row.measured.return_best_100),
    ("steps/s", |row| row.measured.trained_steps_per_s),
    ("lag mean", |row| row.measured.lag.mean),
    ("lag p95", |row| row.measured.lag.p95),
    ("predicted", |row| row.measured.predicted()),
    ("ESS", |row| row.measured.ess),
    ("clipped", |row| row.measured.clip_fraction),
    ("bytes up/step", |row| row.measured.bytes_per_step()[0]),
    ("bytes down/step", |row| row.measured.bytes_per_step()[1]),
];
