//! The panels of the screen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    symbols::Marker,
    text::{Line, Span},
    widgets::{
        Block, Paragraph, Row, Sparkline, Table,
        canvas::{Canvas, Line as Stroke, Points},
    },
};
use springbok_learner::{lag::buckets::BUCKETS, metrics::Metric, monitor::status::Status};

use super::{
    text::{bar, count, decimal, wrapped},
    view::{View, short_line},
};
use crate::figures::{CAUSES, percent, shown, value};

/// Columns for the causes of lag, and at least as many for the histogram.
const CAUSES_COLUMNS: u16 = 19;

/// Rows for one line of the learner's log.
const LOG_ROWS_MAX: usize = 2;

/// The return against the steps trained on.
pub(super) fn returns(frame: &mut Frame, area: Rect, view: &View, status: &Status) {
    let points = view
        .course
        .pairs(Metric::GlobalStep, Metric::EpisodicReturn);
    let (x, y) = (
        range(points.iter().map(|point| point.0)),
        range(points.iter().map(|point| point.1)),
    );
    let now = shown(status, Metric::EpisodicReturn, 1);
    let mut block = Block::bordered().title(format!(" return {now} "));
    if let Some((low, high)) = y {
        block = block.title_bottom(format!(" {low:.1} to {high:.1} so far "));
    }
    let (x, y) = (widened(x), widened(y));
    let chart = Canvas::default()
        .block(block)
        .marker(Marker::Braille)
        .x_bounds(x)
        .y_bounds(y)
        .paint(|context| {
            let colour = Color::Green;
            for pair in points.windows(2) {
                if let [(x1, y1), (x2, y2)] = *pair {
                    context.draw(&Stroke::new(x1, y1, x2, y2, colour));
                }
            }
            context.draw(&Points::new(&points, colour));
        });
    frame.render_widget(chart, area);
}

/// The smallest and the largest of finite numbers.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Bounds of an axis, never of no length.
fn widened(range: Option<(f64, f64)>) -> [f64; 2] {
    match range {
        Some((low, high)) if high > low => [low, high],
        Some((low, _)) => [low - 1.0, low + 1.0],
        None => [0.0, 1.0],
    }
}

/// Throughput, queue, health of the updates and ledger.
pub(super) fn pipeline(frame: &mut Frame, area: Rect, view: &View, status: &Status) {
    let block = Block::bordered().title(" throughput and health ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let ledger = &status.ledger;
    let closes = if status.ledger_closes {
        "ledger closes, ".into()
    } else {
        "ledger DOES NOT CLOSE, ".fg(Color::Red)
    };
    let amount = |unrolls: u64| count(unrolls as f64);
    let dropped = [ledger.expired, ledger.evicted, ledger.discarded];
    let lines = vec![
        Line::from(format!(
            "{} steps/s",
            value(status, Metric::StepsPerSecond).map_or_else(|| "-".to_owned(), count)
        )),
        Line::from(format!(
            "queue {} %  update {} s",
            percent(status, Metric::QueueFill),
            shown(status, Metric::UpdateSeconds, 3),
        )),
        health(status, inner.width),
        Line::from(vec![
            closes,
            Span::from(format!(
                "{} made {} trained",
                amount(ledger.produced),
                amount(ledger.trained),
            )),
        ]),
        Line::from(format!(
            "queued {} rejected {} lost {} dropped {}",
            amount(ledger.queued),
            amount(ledger.rejected),
            amount(ledger.lost),
            amount(
                dropped
                    .iter()
                    .fold(0, |sum, unrolls| sum.saturating_add(*unrolls))
            ),
        )),
    ];
    frame.render_widget(Paragraph::new(lines), inner);
    // Behind the number, its course.
    let used = 15.min(inner.width);
    let place = Rect {
        x: inner.x + used,
        width: inner.width - used,
        height: inner.height.min(1),
        ..inner
    };
    let rates = rates(
        &view.course.pairs(Metric::WallSeconds, Metric::GlobalStep),
        usize::from(place.width),
    );
    frame.render_widget(
        Sparkline::default()
            .data(&rates)
            .style(Style::new().fg(Color::Cyan)),
        place,
    );
}

/// How much of the experience the updates can use; what has no room is left out, never cut.
fn health(status: &Status, width: u16) -> Line<'static> {
    let mut text = format!(
        "ESS {}  clipped {} %  KL {}",
        shown(status, Metric::Ess, 2),
        percent(status, Metric::ClipFraction),
        shown(status, Metric::ApproxKl, 4),
    );
    let entropy = format!("  entropy {}", shown(status, Metric::Entropy, 2));
    if text.len() + entropy.len() <= usize::from(width) {
        text.push_str(&entropy);
    }
    Line::from(text)
}

/// Steps per second between points (seconds, steps), in at most `places` means of equal length.
fn rates(points: &[(f64, f64)], places: usize) -> Vec<u64> {
    if places == 0 || points.len() < 2 {
        return Vec::new();
    }
    let stride = (points.len() - 1).div_ceil(places);
    let ends: Vec<_> = points.iter().step_by(stride).collect();
    let pairs = ends.windows(2);
    pairs
        .map(|pair| {
            let (seconds, steps) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
            // A resumed run's clock begins anew.
            if seconds > 0.0 {
                (steps / seconds).max(0.0) as u64
            } else {
                0
            }
        })
        .collect()
}

/// The lag: in a line, by cause, and as a histogram of the steps trained so far.
pub(super) fn lag(frame: &mut Frame, area: Rect, status: &Status) {
    let block = Block::bordered()
        .title(" policy lag, in versions ")
        .title_bottom(format!(" {} s old ", shown(status, Metric::LagSeconds, 3)));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [line, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(inner);
    let words = format!(
        "mean {} (predicted {}) p95 {} max {}",
        shown(status, Metric::LagMean, 2),
        shown(status, Metric::LagPredicted, 2),
        shown(status, Metric::LagP95, 0),
        shown(status, Metric::LagMax, 0),
    );
    frame.render_widget(Line::from(words), line);
    // What steers the lag, where it is steered and there is room.
    let steered = steering(status);
    let room = rest.height.saturating_sub(BUCKETS as u16);
    let steered_rows = (steered.len() as u16).min(room);
    let [rest, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(steered_rows)]).areas(rest);
    frame.render_widget(Paragraph::new(steered), below);
    let columns = Layout::horizontal([
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Fill(1),
    ]);
    let [left, _, right] = columns.areas(rest);
    causes(frame, left, status);
    histogram(frame, right, status);
}

/// What is done about the lag, and what was refused.
fn steering(status: &Status) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(target) = value(status, Metric::GovernorTarget) {
        lines.push(Line::from(format!(
            "governor: target {target:.2}, {} in flight, publishes every {}",
            shown(status, Metric::GovernorBudget, 0),
            shown(status, Metric::GovernorInterval, 0),
        )));
    }
    if value(status, Metric::LagOverLimit).is_some_and(|share| share > 0.0) {
        let percent = percent(status, Metric::LagOverLimit);
        lines.push(Line::from(format!(
            "older than lag.max_versions: {percent} %"
        )));
    }
    let rejected = status.rejected.iter();
    lines.extend(rejected.map(|(reason, unrolls)| {
        Line::from(format!("rejected, {}: {unrolls}", reason.label())).fg(Color::Yellow)
    }));
    lines
}

fn causes(frame: &mut Frame, area: Rect, status: &Status) {
    let mean = value(status, Metric::LagMean).unwrap_or(0.0).max(1e-9);
    let width = usize::from(area.width.saturating_sub(CAUSES_COLUMNS - 4));
    let lines = CAUSES.map(|(name, metric)| {
        let share = value(status, metric).unwrap_or(0.0) / mean;
        Line::from(vec![
            Span::from(format!("{name:<9}{:>5} ", shown(status, metric, 2))),
            bar(share, width).fg(Color::Cyan),
        ])
    });
    frame.render_widget(Paragraph::new(lines.to_vec()), area);
}

fn histogram(frame: &mut Frame, area: Rect, status: &Status) {
    let all: u64 = status.lag_histogram.iter().map(|bin| bin.steps).sum();
    let width = usize::from(area.width.saturating_sub(12));
    let lines: Vec<_> = status
        .lag_histogram
        .iter()
        .map(|bin| {
            let share = bin.steps as f64 / all.max(1) as f64;
            Line::from(vec![
                Span::from(format!("{:>5} {:>3.0} % ", bin.bucket, 100.0 * share)),
                bar(share, width).fg(Color::Magenta),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// The actors that have room; how many is the answer.
pub(super) fn actors(frame: &mut Frame, area: Rect, view: &View, status: &Status) -> usize {
    let rows = usize::from(area.height.saturating_sub(3));
    let first = view.first_actor_in(rows);
    let shown = status.actors.iter().skip(first).take(rows);
    let shown: Vec<Row> = shown
        .map(|actor| {
            Row::new([
                format!("{:>5}", actor.actor),
                format!("{:>7}", count(actor.version as f64)),
                format!("{:>6}", count(actor.lag_versions as f64)),
                format!("{:>7}", count(actor.unrolls as f64)),
                format!("{:>6}", decimal(actor.unrolls_per_s)),
                format!("{:>7} s", decimal(actor.last_seen_s)),
            ])
        })
        .collect();
    let lives = &status.lives;
    let mut block = Block::bordered().title(format!(
        " actors: {} present, {} joined, {} lost ",
        status.present, lives.joined, lives.lost
    ));
    if status.actors.len() > shown.len() {
        let last = first + shown.len();
        block = block.title_bottom(format!(" {} to {last} of {} ", first + 1, status.present));
    }
    let widths = [5, 7, 6, 7, 6, 9].map(Constraint::Length);
    let header = ["actor", "version", "behind", "unrolls", "  /s", "last seen"];
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(shown, widths).header(header).block(block), area);
    rows
}

/// The last lines of the log that have room. What the launcher says is shown whole, what is logged in at most two rows.
pub(super) fn log(frame: &mut Frame, area: Rect, view: &View) {
    let block = Block::bordered().title(" log ");
    let inner = block.inner(area);
    let mut rows: Vec<Line> = Vec::new();
    for (_, line) in view.log() {
        let text = short_line(&line);
        let is_note = text.contains(" NOTE ");
        let colour = if is_note || text.contains(" WARN ") {
            Color::Yellow
        } else if text.contains(" ERROR ") {
            Color::Red
        } else {
            Color::Reset
        };
        let rows_max = if is_note { usize::MAX } else { LOG_ROWS_MAX };
        let parts = wrapped(&text, usize::from(inner.width));
        rows.extend(
            parts
                .into_iter()
                .take(rows_max)
                .map(|part| Line::from(part.fg(colour))),
        );
    }
    let first = rows.len().saturating_sub(usize::from(inner.height));
    let last = rows.split_off(first);
    frame.render_widget(Paragraph::new(last).block(block), area);
}
