//! A drawn screen as a picture for the guide.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// Width and height of a cell, in pixels.
const CELL: (usize, usize) = (8, 17);
/// Space around the screen, in pixels.
const MARGIN: usize = 10;
/// Background and ordinary text.
const PAPER: &str = "#16181d";
const INK: &str = "#d5d9e0";

/// The picture.
pub(super) fn picture(buffer: &Buffer) -> String {
    let (columns, rows) = (
        usize::from(buffer.area.width),
        usize::from(buffer.area.height),
    );
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, rows * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\">\n\
         <title>springbok train --ui</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>\n"
    );
    for (row, cells) in buffer.content.chunks(columns).enumerate() {
        let mut column = 0;
        while column < cells.len() {
            // Cells of one style are one text, stretched to their columns whatever the font is.
            let look = look(&cells[column]);
            let same = cells[column..]
                .iter()
                .take_while(|cell| self::look(cell) == look);
            let length = same.count();
            let text: String = cells[column..column + length]
                .iter()
                .map(Cell::symbol)
                .collect();
            write_text(&mut svg, &text, (column, row), &look);
            column += length;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Colour, weight, dimness and reversal.
type Look = (&'static str, bool, bool, bool);

fn look(cell: &Cell) -> Look {
    let colour = match cell.fg {
        Color::Cyan => "#56b6c2",
        Color::Green => "#98c379",
        Color::Magenta => "#c678dd",
        Color::Yellow => "#e5c07b",
        Color::Red => "#e06c75",
        _ => INK,
    };
    let has = |modifier| cell.modifier.contains(modifier);
    (
        colour,
        has(Modifier::BOLD),
        has(Modifier::DIM),
        has(Modifier::REVERSED),
    )
}

fn write_text(svg: &mut String, text: &str, (column, row): (usize, usize), look: &Look) {
    let (colour, bold, dim, reversed) = *look;
    let length = text.chars().count();
    let (x, y) = (MARGIN + column * CELL.0, MARGIN + row * CELL.1);
    let width = length * CELL.0;
    if reversed {
        let height = CELL.1;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>"
        );
    } else if text.trim().is_empty() {
        return;
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let baseline = y + 13;
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let opacity = if dim { " opacity=\"0.6\"" } else { "" };
    let fill = if reversed { PAPER } else { colour };
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{baseline}\" textLength=\"{width}\" fill=\"{fill}\"{weight}{opacity} xml:space=\"preserve\">{text}</text>"
    );
}
