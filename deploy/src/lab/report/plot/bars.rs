//! Horizontal stacked bars.

use super::{
    scale::{Kind, Scale, label},
    svg::{Anchor, Drawing, Ink, Pen, TEXT, fitted, text_width},
    xy::WIDTH,
};

const ROW: f64 = 22.0;
const BAR: f64 = 15.0;
const TOP: f64 = 8.0;
const LEGEND_ROW: f64 = 18.0;
/// Widest that the names of the bars may be.
const NAMES_MAX: f64 = 170.0;
/// Room to the right of the axis for the total of the longest bar.
const RIGHT: f64 = 46.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Length of each part; what is not known is left out.
    pub(crate) parts: Vec<Option<f64>>,
    /// Written at its end.
    pub(crate) note: String,
}

/// Bars of the same parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    /// What the length means, with its unit.
    pub(crate) label: String,
    /// Names of the parts; the place of a part is its colour.
    pub(crate) parts: Vec<String>,
    pub(crate) bars: Vec<Bar>,
    /// A length that the axis reaches to in any case.
    pub(crate) reach: f64,
}

fn length(part: Option<f64>) -> f64 {
    part.filter(|part| part.is_finite())
        .unwrap_or_default()
        .max(0.0)
}

impl Bars {
    /// Whether nothing would be on it.
    pub(crate) fn is_empty(&self) -> bool {
        let mut parts = self.bars.iter().flat_map(|bar| &bar.parts);
        !parts.any(|part| part.is_some_and(f64::is_finite))
    }

    /// Draws them.
    pub(crate) fn draw(&self) -> Drawing {
        let mut pen = Pen::default();
        let widest = self.bars.iter().map(|bar| text_width(&bar.name));
        let left = widest.fold(0.0, f64::max).min(NAMES_MAX) + 16.0;
        let totals = self
            .bars
            .iter()
            .map(|bar| bar.parts.iter().map(|part| length(*part)).sum());
        let scale = Scale::fit(Kind::FromZero, totals.chain([self.reach]), 6);
        let place =
            |value: f64| left + scale.place(value).unwrap_or_default() * (WIDTH - RIGHT - left);
        let bottom = TOP + self.bars.len() as f64 * ROW;
        for tick in &scale.ticks {
            let x = place(*tick);
            pen.line(Ink::Class("grid"), 1.0, (x, TOP), (x, bottom));
            pen.text(
                (x, bottom + TEXT + 4.0),
                Anchor::Middle,
                "soft",
                &label(*tick),
            );
        }
        for (row, bar) in self.bars.iter().enumerate() {
            let y = TOP + row as f64 * ROW;
            let name = fitted(&bar.name, left - 16.0);
            pen.text((left - 8.0, y + ROW / 2.0 + 4.0), Anchor::End, "ink", &name);
            let mut so_far = 0.0;
            for (at, part) in bar.parts.iter().enumerate() {
                let part = length(*part);
                let (from, to) = (place(so_far), place(so_far + part));
                so_far += part;
                if to - from > 0.05 {
                    // A gap keeps neighbours apart without relying on their colours.
                    let width = if to - from > 2.0 {
                        to - from - 1.0
                    } else {
                        to - from
                    };
                    let name = self.parts.get(at).map_or("", String::as_str);
                    let tip = format!("{}: {name} {}", bar.name, label(part));
                    let corner = (from, y + (ROW - BAR) / 2.0);
                    pen.rectangle(Ink::Series(at), corner, (width, BAR), &tip);
                }
            }
            let end = (place(so_far) + 5.0, y + ROW / 2.0 + 4.0);
            pen.text(end, Anchor::Start, "soft", &bar.note);
        }
        pen.line(Ink::Class("soft"), 1.0, (left, TOP), (left, bottom));
        let middle = f64::midpoint(left, WIDTH - RIGHT);
        pen.text(
            (middle, bottom + 2.0 * TEXT + 10.0),
            Anchor::Middle,
            "ink",
            &self.label,
        );
        let bottom = self.legend(&mut pen, bottom + 2.0 * TEXT + 20.0);
        pen.finish(WIDTH, bottom)
    }

    fn legend(&self, pen: &mut Pen, top: f64) -> f64 {
        let (mut x, mut y) = (10.0, top + 10.0);
        for (at, name) in self.parts.iter().enumerate() {
            // A legend names nothing that is not there.
            let used = |bar: &Bar| length(bar.parts.get(at).copied().flatten()) > 0.0;
            if !self.bars.iter().any(used) {
                continue;
            }
            let name = fitted(name, WIDTH - 50.0);
            let width = 18.0 + text_width(&name) + 14.0;
            if x > 10.0 && x + width > WIDTH {
                (x, y) = (10.0, y + LEGEND_ROW);
            }
            pen.rectangle(Ink::Series(at), (x, y - 10.0), (12.0, 12.0), "");
            pen.text((x + 18.0, y), Anchor::Start, "ink", &name);
            x += width;
        }
        y + 10.0
    }
}
