//! The screen as a function of what is known. It draws and decides nothing.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Clear, LineGauge, Paragraph, Wrap},
};
use springbok_learner::{
    metrics::Metric,
    monitor::status::{Phase, Status},
};

use super::{
    panels,
    text::clock,
    view::{Role, View},
};
use crate::figures::value;

/// The smallest screen on which all of it has room: columns and rows.
const SIZE_MIN: (u16, u16) = (80, 24);
/// Rows of the lag panel: a line, the nine buckets of the histogram, and the frame.
const LAG_ROWS: u16 = 12;

const HELP: [&str; 10] = [
    "q, Ctrl-C    stop: actors say goodbye, results are written",
    "  once more  stop at once, without draining (exit code 130)",
    "arrows, j k  scroll the actors; PgUp PgDn Home End too",
    "? or h       show or close this help",
    "",
    "lag        how old experience is when it is trained on,",
    "           in policy versions; causes add up to the mean",
    "ESS        effective sample size: 1 is on-policy",
    "clipped    steps whose ratio left the clip range",
    "ledger     every unroll is in one account, or it says so",
];

/// Draws `view`, and says how many actors had room.
pub(super) fn draw(frame: &mut Frame, view: &View) -> usize {
    let area = frame.area();
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        too_small(frame, area);
        return 0;
    }
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [head, progress, body, keys] = rows.areas(area);
    header(frame, head, view);
    footer(frame, keys, view);
    let actors = match view.status.as_deref() {
        Some(status) => {
            gauge(frame, progress, status);
            panels(frame, body, view, status)
        }
        None => {
            waiting(frame, body, view);
            0
        }
    };
    if view.help {
        help(frame, body, view.role);
    }
    actors
}

fn too_small(frame: &mut Frame, area: Rect) {
    let (columns, rows) = SIZE_MIN;
    let text = format!(
        "too small: {columns}x{rows} at least, this is {}x{}",
        area.width, area.height
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn panels(frame: &mut Frame, body: Rect, view: &View, status: &Status) -> usize {
    // What is left over goes to the lists, and to the chart.
    let spare = body.height.saturating_sub(SIZE_MIN.1 - 3);
    let rows = Layout::vertical([
        Constraint::Length(LAG_ROWS + spare / 3),
        Constraint::Length(2 + u16::from(spare > 2)),
        Constraint::Fill(1),
    ]);
    let [upper, verdict, lists] = rows.areas(body);
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
    let [left, lag] = halves.areas(upper);
    let [returns, pipeline] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(7)]).areas(left);
    panels::returns(frame, returns, view, status);
    panels::pipeline(frame, pipeline, view, status);
    panels::lag(frame, lag, status);
    bottleneck(frame, verdict, status);
    let [actors, log] =
        Layout::horizontal([Constraint::Length(48), Constraint::Fill(1)]).areas(lists);
    panels::log(frame, log, view);
    panels::actors(frame, actors, view, status)
}

/// Which run it is, how it is doing, and for how long.
fn header(frame: &mut Frame, area: Rect, view: &View) {
    let mut spans = vec![" Springbok ".bold().reversed(), " ".into()];
    if let Some(status) = view.status.as_deref() {
        let run = &status.run;
        spans.push(run.environment.as_str().bold());
        spans.push(format!("  seed {}  on {}  ", run.seed, run.device).into());
        spans.push(phase(status, view));
        let alarms = alarms(status);
        if alarms > 0 {
            let alarms = format!("  {alarms} alarm{}", if alarms == 1 { "" } else { "s" });
            spans.push(alarms.fg(Color::Yellow));
        }
    }
    frame.render_widget(Line::from(spans), area);
    let elapsed = view.status.as_deref();
    let elapsed = elapsed.and_then(|status| value(status, Metric::WallSeconds));
    if let Some(seconds) = elapsed {
        let line = Line::from(format!("{} ", clock(seconds)));
        frame.render_widget(line.alignment(Alignment::Right), area);
    }
}

fn phase(status: &Status, view: &View) -> Span<'static> {
    if view.gone.is_some() {
        return "no answer".fg(Color::Red);
    }
    match status.phase {
        Phase::Starting => "starting".fg(Color::Yellow),
        Phase::Serving => match status.last_update_s {
            Some(silent) if silent.is_finite() && silent >= 2.0 => {
                format!("no update for {silent:.0} s").fg(Color::Yellow)
            }
            _ => "training".fg(Color::Green),
        },
        Phase::Draining => "draining".fg(Color::Yellow),
    }
}

/// Times that the watchdog has warned.
fn alarms(status: &Status) -> u64 {
    let alarms = [
        Metric::WatchdogLagGrows,
        Metric::WatchdogWeightsStuck,
        Metric::WatchdogEssLow,
        Metric::WatchdogStalled,
        Metric::WatchdogLogProbs,
    ];
    let counts = alarms.iter().filter_map(|alarm| value(status, *alarm));
    counts.sum::<f64>() as u64
}

fn gauge(frame: &mut Frame, area: Rect, status: &Status) {
    let steps = value(status, Metric::GlobalStep).unwrap_or(0.0);
    let total = status.run.total_steps;
    let share = (steps / total.max(1) as f64).clamp(0.0, 1.0);
    let gauge = LineGauge::default()
        .ratio(share)
        .label(format!(
            " {steps:.0}/{total} steps  {:.1} % ",
            100.0 * share
        ))
        .filled_symbol("━")
        .filled_style(Style::new().fg(Color::Cyan))
        .unfilled_style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(gauge, area);
}

fn bottleneck(frame: &mut Frame, area: Rect, status: &Status) {
    // The advice comes first; the evidence has what room is left.
    let (advice, evidence) = status
        .bottleneck
        .split_once(" (")
        .unwrap_or((&status.bottleneck, ""));
    let evidence = evidence.trim_end_matches(')');
    let lines = vec![
        Line::from(vec!["bottleneck  ".bold(), advice.into()]),
        Line::from(evidence).dim(),
    ];
    let words = Paragraph::new(lines).wrap(Wrap { trim: true });
    let inner = Rect {
        x: area.x + 1,
        width: area.width.saturating_sub(2),
        ..area
    };
    frame.render_widget(words, inner);
}

fn waiting(frame: &mut Frame, area: Rect, view: &View) {
    let rows = Layout::vertical([Constraint::Length(3), Constraint::Fill(1)]);
    let [words, log] = rows.areas(area);
    let text = Paragraph::new("waiting for the learner").alignment(Alignment::Center);
    frame.render_widget(text, words);
    panels::log(frame, log, view);
}

fn footer(frame: &mut Frame, area: Rect, view: &View) {
    let text = match (view.role, view.stops) {
        (Role::Spectator, _) => " q close   arrows scroll the actors   ? help",
        (Role::Launcher, 0) => " q stop   arrows scroll the actors   ? help",
        (Role::Launcher, 1) => " stopping: the actors say goodbye   q stop at once",
        (Role::Launcher, _) => " stopping at once",
    };
    let style = if view.stops > 0 {
        Style::new().fg(Color::Yellow)
    } else {
        Style::new().add_modifier(Modifier::DIM)
    };
    frame.render_widget(Line::styled(text, style), area);
}

fn help(frame: &mut Frame, area: Rect, role: Role) {
    let lines: Vec<Line> = match role {
        Role::Launcher => HELP.iter().map(|line| Line::from(*line)).collect(),
        Role::Spectator => [Line::from("q, Ctrl-C    close this view; the run goes on")]
            .into_iter()
            .chain(HELP[2..].iter().map(|line| Line::from(*line)))
            .collect(),
    };
    let width = 62.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let words = Paragraph::new(lines).block(Block::bordered().title(" keys and words "));
    frame.render_widget(words, place);
}
