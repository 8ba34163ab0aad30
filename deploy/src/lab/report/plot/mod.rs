//! Plots as SVG, from numbers alone. Pure.
//!
//! A drawing carries concrete colours for light paper, so that any program can print it, and class names, so that a
//! style sheet can give it others: the page's own, or the one that a file of its own carries for dark screens.

pub(crate) mod bars;
pub(crate) mod scale;
pub(crate) mod style;
pub(crate) mod svg;
pub(crate) mod xy;

pub(crate) use bars::{Bar, Bars};
pub(crate) use scale::Kind;
pub(crate) use svg::Drawing;
pub(crate) use xy::{Axis, Line, Mark, Plot, Series, XAxis};
