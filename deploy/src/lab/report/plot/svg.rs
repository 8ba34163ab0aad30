//! Writes the elements of a drawing.

use std::fmt::Write as _;

use super::style::{self, DASHES, SERIES};

/// Size of text, in units of the drawing.
pub(crate) const TEXT: f64 = 12.0;
/// Width of an average character, as a share of the size: what sans-serif fonts take at most for mixed text.
const CHARACTER: f64 = 0.57;

/// A finished drawing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// A drawing in the making.
#[derive(Debug, Default)]
pub(crate) struct Pen {
    body: String,
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// What a shape looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// The colour of a series.
    Series(usize),
    /// A class of [`style::INK`].
    Class(&'static str),
}

impl Ink {
    fn class(self) -> String {
        match self {
            Self::Series(style) => format!("s{}", style % SERIES.len()),
            Self::Class(class) => class.to_owned(),
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Series(style) => style::series(style),
            Self::Class(class) => style::ink(class),
        }
    }

    fn fill(self) -> String {
        format!("class=\"f-{}\" fill=\"{}\"", self.class(), self.colour())
    }

    fn stroke(self) -> String {
        format!(
            "class=\"l-{}\" stroke=\"{}\" fill=\"none\"",
            self.class(),
            self.colour()
        )
    }
}

/// `text` with the characters replaced that mean something in SVG and HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write these at all.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The most room that `text` takes.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER * TEXT
}

/// `text`, cut so that it takes no more room than `width`.
pub(crate) fn fitted(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let count = (width / (CHARACTER * TEXT)) as usize;
    let mut cut: String = text.chars().take(count.saturating_sub(1)).collect();
    cut.push('\u{2026}');
    cut
}

impl Pen {
    fn put(&mut self, element: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    pub(crate) fn text(
        &mut self,
        (x, y): (f64, f64),
        anchor: Anchor,
        ink: &'static str,
        text: &str,
    ) {
        self.turned_text((x, y), anchor, ink, text, "");
    }

    /// Text that is read upwards.
    pub(crate) fn upward_text(&mut self, (x, y): (f64, f64), ink: &'static str, text: &str) {
        let turn = format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"");
        self.turned_text((x, y), Anchor::Middle, ink, text, &turn);
    }

    fn turned_text(
        &mut self,
        (x, y): (f64, f64),
        anchor: Anchor,
        ink: &'static str,
        text: &str,
        turn: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (ink, text) = (Ink::Class(ink).fill(), escape(text));
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {ink}{turn}>{text}</text>"
        ));
    }

    pub(crate) fn line(&mut self, ink: Ink, width: f64, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2), ink) = (from, to, ink.stroke());
        self.put(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" {ink} stroke-width=\"{width}\"/>"
        ));
    }

    /// A dashed guide.
    pub(crate) fn guide(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2), ink) = (from, to, Ink::Class("soft").stroke());
        self.put(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" {ink} stroke-dasharray=\"4 4\"/>"
        ));
    }

    /// The line of a series.
    pub(crate) fn polyline(&mut self, style: usize, points: &[(f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let (path, ink) = (path(points), Ink::Series(style).stroke());
        let dashes = DASHES[style % DASHES.len()];
        self.put(format_args!(
            "<path d=\"{path}\" {ink} stroke-width=\"2\" stroke-linejoin=\"round\" stroke-dasharray=\"{}\"/>",
            if dashes.is_empty() { "none" } else { dashes }
        ));
    }

    /// A translucent area.
    pub(crate) fn area(&mut self, style: usize, points: &[(f64, f64)]) {
        if points.len() < 3 {
            return;
        }
        let (path, ink) = (path(points), Ink::Series(style).fill());
        self.put(format_args!(
            "<path d=\"{path}Z\" {ink} fill-opacity=\"0.18\"/>"
        ));
    }

    /// A rectangle that says `tip` when pointed at.
    pub(crate) fn rectangle(&mut self, ink: Ink, (x, y): (f64, f64), size: (f64, f64), tip: &str) {
        let ((width, height), ink, tip) = (size, ink.fill(), escape(tip));
        let tip = if tip.is_empty() {
            tip
        } else {
            format!("<title>{tip}</title>")
        };
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {ink}>{tip}</rect>"
        ));
    }

    /// The marker of a series; it says `tip` when pointed at.
    pub(crate) fn marker(&mut self, style: usize, (x, y): (f64, f64), tip: &str) {
        let r = 4.5;
        let polygon = |corners: &[(f64, f64)]| {
            let corners = corners.iter().map(|(dx, dy)| (x + r * dx, y + r * dy));
            format!("{}Z", path(&corners.collect::<Vec<_>>()))
        };
        let shape = match style % SERIES.len() {
            0 => format!(
                "M{:.1} {y:.1}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z",
                x - r,
                d = 2.0 * r
            ),
            1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            2 => polygon(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
            3 => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            4 => polygon(&[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)]),
            5 => polygon(&PLUS),
            6 => polygon(&PLUS.map(|(dx, dy)| (0.75 * (dx - dy), 0.75 * (dx + dy)))),
            _ => polygon(&[
                (0.0, -1.2),
                (1.15, -0.35),
                (0.7, 1.0),
                (-0.7, 1.0),
                (-1.15, -0.35),
            ]),
        };
        let (class, colour, paper) = (
            style % SERIES.len(),
            style::series(style),
            style::ink("paper"),
        );
        let tip = escape(tip);
        let tip = if tip.is_empty() {
            tip
        } else {
            format!("<title>{tip}</title>")
        };
        self.put(format_args!(
            "<path d=\"{shape}\" class=\"f-s{class} l-paper\" fill=\"{colour}\" stroke=\"{paper}\">{tip}</path>"
        ));
    }

    pub(crate) fn finish(self, width: f64, height: f64) -> Drawing {
        Drawing {
            width,
            height,
            body: self.body,
        }
    }
}

/// Corners of an upright cross.
const PLUS: [(f64, f64); 12] = [
    (-0.4, -1.1),
    (0.4, -1.1),
    (0.4, -0.4),
    (1.1, -0.4),
    (1.1, 0.4),
    (0.4, 0.4),
    (0.4, 1.1),
    (-0.4, 1.1),
    (-0.4, 0.4),
    (-1.1, 0.4),
    (-1.1, -0.4),
    (-0.4, -0.4),
];

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
    }
    path
}

impl Drawing {
    /// The element for a page that has the style sheet [`style::of_a_page`]; `what` describes it to those who cannot
    /// see it.
    pub(crate) fn inline(&self, what: &str) -> String {
        self.element("", what, "")
    }

    /// A file of its own.
    pub(crate) fn file(&self, what: &str) -> String {
        let paper = Ink::Class("paper").fill();
        self.element(
            " xmlns=\"http://www.w3.org/2000/svg\"",
            what,
            &format!(
                "<style>{}</style>\n<rect width=\"100%\" height=\"100%\" {paper}/>\n",
                style::of_a_file()
            ),
        )
    }

    fn element(&self, namespace: &str, what: &str, first: &str) -> String {
        let Self {
            width,
            height,
            body,
        } = self;
        let what = escape(what);
        format!(
            "<svg{namespace} viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
             role=\"img\" aria-label=\"{what}\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, \
             sans-serif\" font-size=\"{TEXT}\">\n{first}{body}</svg>\n"
        )
    }
}
