//! Points and lines over two axes.

use super::{
    scale::{Kind, Scale, label},
    svg::{Anchor, Drawing, Ink, Pen, TEXT, fitted, text_width},
};

/// Width of every plot, in units of the drawing.
pub(crate) const WIDTH: f64 = 460.0;
/// Height of the area between the axes.
const AREA_HEIGHT: f64 = 230.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
const LEGEND_ROW: f64 = 18.0;
/// Room of a legend's sample line.
const SAMPLE: f64 = 30.0;
const TICKS_MAX: usize = 7;
/// Room between the ends of the axis and markers that lie there.
const PADDING: f64 = 14.0;
/// By how much marks of neighbouring series with whiskers are moved apart.
const APART: f64 = 5.0;

/// An axis of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// What is on it, with its unit.
    pub(crate) label: String,
    /// How numbers are spread.
    pub(crate) kind: Kind,
    /// Numbers that it reaches to in any case.
    pub(crate) reach: Vec<f64>,
}

impl Axis {
    pub(crate) fn new(label: &str, kind: Kind) -> Self {
        Self {
            label: label.to_owned(),
            kind,
            reach: Vec::new(),
        }
    }

    pub(crate) fn reaching(mut self, values: &[f64]) -> Self {
        self.reach.extend(values);
        self
    }
}

/// The horizontal axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum XAxis {
    /// Numbers.
    Numbers(Axis),
    /// Names at equal distances; the place of a mark is the index of its name.
    Names(String, Vec<String>),
}

/// One measured point.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Smallest and largest over the seeds.
    pub(crate) y_range: Option<(f64, f64)>,
    /// Written beside it, where there is room.
    pub(crate) note: String,
    /// Shown when it is pointed at.
    pub(crate) tip: String,
}

/// How the points of a series are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Markers, joined by a line.
    Joined,
    /// Markers alone.
    Marks,
    /// A line without markers.
    Plain,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Colour, dashes and marker.
    pub(crate) style: usize,
    pub(crate) line: Line,
    pub(crate) marks: Vec<Mark>,
    /// (x, low, high) of the area around the line.
    pub(crate) band: Vec<(f64, f64, f64)>,
}

/// A plot over two axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plot {
    pub(crate) x: XAxis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Name of a dashed line on which y equals x.
    pub(crate) diagonal: Option<String>,
}

/// Where things are on the drawing.
struct Frame {
    left: f64,
    /// Room at both ends of the horizontal axis.
    padding: f64,
    x: Option<Scale>,
    names: usize,
    y: Scale,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let across = match &self.x {
            Some(scale) => scale.place(x)?,
            None => (x + 0.5) / self.names.max(1) as f64,
        };
        let up = self.y.place(y)?;
        Some((
            self.left + self.padding + across * (WIDTH - RIGHT - self.left - 2.0 * self.padding),
            TOP + (1.0 - up) * AREA_HEIGHT,
        ))
    }
}

impl Plot {
    /// Whether nothing would be on it.
    pub(crate) fn is_empty(&self) -> bool {
        let mut marks = self.series.iter().flat_map(|series| &series.marks);
        !marks.any(|mark| mark.x.is_finite() && mark.y.is_finite())
    }

    /// Draws it.
    pub(crate) fn draw(&self) -> Drawing {
        let mut pen = Pen::default();
        let frame = self.frame();
        self.axes(&mut pen, &frame);
        if let (Some(_), Some(x)) = (&self.diagonal, &frame.x) {
            let end = x.ticks.last().copied().unwrap_or(1.0);
            let end = end.min(frame.y.ticks.last().copied().unwrap_or(1.0));
            if let (Some(from), Some(to)) = (frame.at(0.0, 0.0), frame.at(end, end)) {
                pen.guide(from, to);
            }
        }
        for series in &self.series {
            band(&mut pen, &frame, series);
        }
        let mut taken = Vec::new();
        for (at, series) in self.series.iter().enumerate() {
            lines(&mut pen, &frame, series, self.shift(at), &mut taken);
        }
        for (at, series) in self.series.iter().enumerate() {
            notes(&mut pen, &frame, series, self.shift(at), &mut taken);
        }
        let bottom = TOP + AREA_HEIGHT + 2.0 * TEXT + 24.0;
        let bottom = self.legend(&mut pen, bottom);
        pen.finish(WIDTH, bottom)
    }

    /// How far the marks of series `at` are moved to the right, so that whiskers at the same place do not cover each
    /// other.
    fn shift(&self, at: usize) -> f64 {
        let mut marks = self.series.iter().flat_map(|series| &series.marks);
        if self.series.len() < 2 || !marks.any(|mark| mark.y_range.is_some()) {
            return 0.0;
        }
        let middle = (self.series.len() - 1) as f64 / 2.0;
        let apart = APART.min(PADDING / middle.max(1.0));
        (at as f64 - middle) * apart
    }

    fn frame(&self) -> Frame {
        let ys = self.series.iter().flat_map(|series| {
            let marks = series.marks.iter().flat_map(|mark| {
                let (low, high) = mark.y_range.unwrap_or((mark.y, mark.y));
                [mark.y, low, high]
            });
            marks.chain(series.band.iter().flat_map(|(_, low, high)| [*low, *high]))
        });
        let y = Scale::fit(
            self.y.kind,
            ys.chain(self.y.reach.iter().copied()),
            TICKS_MAX,
        );
        let widest = y.ticks.iter().map(|tick| text_width(&label(*tick)));
        let left = widest.fold(0.0, f64::max) + TEXT + 18.0;
        let xs = self.series.iter().flat_map(|series| {
            let marks = series.marks.iter().map(|mark| mark.x);
            marks.chain(series.band.iter().map(|(x, ..)| *x))
        });
        let (x, names) = match &self.x {
            XAxis::Numbers(axis) => {
                let values = xs.chain(axis.reach.iter().copied());
                (Some(Scale::fit(axis.kind, values, TICKS_MAX)), 0)
            }
            XAxis::Names(_, names) => (None, names.len()),
        };
        let marked = self.series.iter().any(|series| series.line != Line::Plain);
        let padding = if marked && names == 0 { PADDING } else { 0.0 };
        Frame {
            left,
            padding,
            x,
            names,
            y,
        }
    }

    fn axes(&self, pen: &mut Pen, frame: &Frame) {
        let (left, right, bottom) = (frame.left, WIDTH - RIGHT, TOP + AREA_HEIGHT);
        for tick in &frame.y.ticks {
            let y = TOP + (1.0 - frame.y.place(*tick).unwrap_or_default()) * AREA_HEIGHT;
            pen.line(Ink::Class("grid"), 1.0, (left, y), (right, y));
            pen.text((left - 6.0, y + 4.0), Anchor::End, "soft", &label(*tick));
        }
        let ticks: Vec<(f64, String)> = match (&frame.x, &self.x) {
            (Some(scale), _) => scale
                .ticks
                .iter()
                .map(|tick| (*tick, label(*tick)))
                .collect(),
            (None, XAxis::Names(_, names)) => names
                .iter()
                .enumerate()
                .map(|(at, name)| (at as f64, name.clone()))
                .collect(),
            (None, XAxis::Numbers(_)) => Vec::new(),
        };
        // Each name has its own share of the width and must not reach into its neighbours'.
        let room = (right - left) / ticks.len().max(1) as f64 - 2.0;
        let middle = frame.y.ticks.first().copied().unwrap_or_default();
        for (value, text) in ticks {
            if let Some((x, _)) = frame.at(value, middle) {
                pen.line(Ink::Class("soft"), 1.0, (x, bottom), (x, bottom + 4.0));
                pen.text(
                    (x, bottom + TEXT + 6.0),
                    Anchor::Middle,
                    "soft",
                    &fitted(&text, room),
                );
            }
        }
        pen.line(Ink::Class("soft"), 1.0, (left, bottom), (right, bottom));
        let x_label = match &self.x {
            XAxis::Numbers(axis) => &axis.label,
            XAxis::Names(label, _) => label,
        };
        let middle = f64::midpoint(left, right);
        pen.text(
            (middle, bottom + 2.0 * TEXT + 12.0),
            Anchor::Middle,
            "ink",
            x_label,
        );
        pen.upward_text(
            (TEXT, TOP + AREA_HEIGHT / 2.0),
            "ink",
            &fitted(&self.y.label, AREA_HEIGHT + TOP),
        );
    }

    /// Draws the names of the series below `top`, in as many rows as they need; says where it ends.
    fn legend(&self, pen: &mut Pen, top: f64) -> f64 {
        let mut entries: Vec<(Option<&Series>, &str)> = Vec::new();
        if self.series.len() > 1 {
            entries.extend(
                self.series
                    .iter()
                    .map(|series| (Some(series), series.name.as_str())),
            );
        }
        entries.extend(self.diagonal.iter().map(|name| (None, name.as_str())));
        if entries.is_empty() {
            return top;
        }
        let (mut x, mut y) = (10.0, top + 8.0);
        for (series, name) in entries {
            let name = fitted(name, WIDTH - SAMPLE - 30.0);
            let width = SAMPLE + text_width(&name) + 14.0;
            if x > 10.0 && x + width > WIDTH {
                (x, y) = (10.0, y + LEGEND_ROW);
            }
            let (from, to) = ((x, y - 4.0), (x + SAMPLE - 6.0, y - 4.0));
            match series {
                Some(series) => {
                    if series.line != Line::Marks {
                        pen.polyline(series.style, &[from, to]);
                    }
                    if series.line != Line::Plain {
                        pen.marker(series.style, (f64::midpoint(from.0, to.0), from.1), "");
                    }
                }
                None => pen.guide(from, to),
            }
            pen.text((x + SAMPLE, y), Anchor::Start, "ink", &name);
            x += width;
        }
        y + 10.0
    }
}

fn band(pen: &mut Pen, frame: &Frame, series: &Series) {
    let upper = series
        .band
        .iter()
        .filter_map(|(x, _, high)| frame.at(*x, *high));
    let lower = series
        .band
        .iter()
        .rev()
        .filter_map(|(x, low, _)| frame.at(*x, *low));
    let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
    pen.area(series.style, &outline);
}

/// Draws line, whiskers and markers; `taken` learns where the markers are.
fn lines(pen: &mut Pen, frame: &Frame, series: &Series, shift: f64, taken: &mut Vec<Spot>) {
    let shifted = |x: f64, y: f64| frame.at(x, y).map(|(x, y)| (x + shift, y));
    let placed = |mark: &Mark| shifted(mark.x, mark.y);
    if series.line != Line::Marks {
        // A gap in the numbers is a gap in the line.
        for run in series.marks.split(|mark| placed(mark).is_none()) {
            let points: Vec<(f64, f64)> = run.iter().filter_map(placed).collect();
            pen.polyline(series.style, &points);
            if series.line == Line::Joined {
                taken.extend(points.windows(2).flat_map(|pair| along(pair[0], pair[1])));
            }
        }
    }
    if series.line == Line::Plain {
        return;
    }
    for mark in &series.marks {
        let Some(at) = placed(mark) else { continue };
        if let Some((low, high)) = mark.y_range
            && let (Some(low), Some(high)) = (shifted(mark.x, low), shifted(mark.x, high))
            && (low.1 - high.1) > 1.0
        {
            let ink = Ink::Series(series.style);
            taken.push(Spot {
                left: low.0 - 3.0,
                top: high.1,
                right: low.0 + 3.0,
                bottom: low.1,
            });
            pen.line(ink, 1.2, low, high);
            for (x, y) in [low, high] {
                pen.line(ink, 1.2, (x - 3.0, y), (x + 3.0, y));
            }
        }
        pen.marker(series.style, at, &mark.tip);
        taken.push(Spot::around(at, 12.0, 12.0));
    }
}

/// Small boxes along a line.
fn along(from: (f64, f64), to: (f64, f64)) -> impl Iterator<Item = Spot> {
    let steps = ((to.0 - from.0).hypot(to.1 - from.1) / 4.0).ceil().max(1.0);
    (0..=steps as u32).map(move |step| {
        let share = f64::from(step) / steps;
        let at = |from: f64, to: f64| from + share * (to - from);
        Spot::around((at(from.0, to.0), at(from.1, to.1)), 2.0, 2.0)
    })
}

/// A box on the drawing that nothing else should cover.
#[derive(Debug, Clone, Copy)]
struct Spot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Spot {
    fn around((x, y): (f64, f64), width: f64, height: f64) -> Self {
        Self {
            left: x - width / 2.0,
            top: y - height / 2.0,
            right: x + width / 2.0,
            bottom: y + height / 2.0,
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Writes each note above, below or beside its mark, wherever it covers nothing, or near it in a corner; a note without
/// room is left to the tip.
fn notes(pen: &mut Pen, frame: &Frame, series: &Series, shift: f64, taken: &mut Vec<Spot>) {
    for mark in series.marks.iter().filter(|mark| !mark.note.is_empty()) {
        let Some((x, y)) = frame.at(mark.x, mark.y) else {
            continue;
        };
        let x = x + shift;
        let width = text_width(&mark.note);
        let beside = width / 2.0 + 9.0;
        let corners = [
            (beside, -11.0),
            (-beside, -11.0),
            (beside, 11.0),
            (-beside, 11.0),
        ];
        let free = [(0.0, -13.0), (beside, 0.0), (-beside, 0.0), (0.0, 14.0)]
            .into_iter()
            .chain(corners)
            .map(|(dx, dy)| (x + dx, y + dy))
            .find(|&at| {
                let spot = Spot::around(at, width, TEXT);
                let inside = spot.left >= frame.left
                    && spot.right <= WIDTH
                    && spot.top >= 0.0
                    && spot.bottom <= TOP + AREA_HEIGHT;
                inside && taken.iter().all(|other| !spot.meets(other))
            });
        if let Some(at) = free {
            taken.push(Spot::around(at, width, TEXT));
            pen.text((at.0, at.1 + 4.0), Anchor::Middle, "soft", &mark.note);
        }
    }
}
