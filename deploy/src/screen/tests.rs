//! The screen as text: a picture of each state is a file in `snapshots`, compared character by character.
//!
//! `SPRINGBOK_UPDATE=1 cargo test -p springbok screen` writes them, and the picture of the guide, again.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use springbok_common::{ids::RunId, reject::RejectReason};
use springbok_learner::{
    ledger::LedgerCounts,
    metrics::{METRICS, Metric},
    monitor::{
        actors::ActorStatus,
        status::{LagBin, Phase, RunIdentity, Status},
    },
    roster::ActorCounts,
    verdict::TimeShares,
};

use super::{
    draw::draw,
    svg, terminal,
    view::{Action, Course, Note, Role, View},
};

/// Names the test that is to panic in a terminal of its own.
const PANIC_VARIABLE: &str = "SPRINGBOK_TEST_PANIC_IN_A_TERMINAL";

fn status(metrics: &[(Metric, f64)], actors: u32) -> Status {
    let metrics = metrics.iter();
    let metrics: BTreeMap<_, _> = metrics
        .map(|(metric, value)| (METRICS[*metric as usize].name.to_owned(), *value))
        .collect();
    let time = TimeShares {
        learner_busy: 0.96,
        learner_waiting: 0.04,
        actors_blocked: 0.55,
        actors_environment: 0.1,
        actors_inference: 0.3,
        queue_fill: 0.5,
        ..TimeShares::default()
    };
    let steps = [0, 120, 30_720, 61_440, 10_240, 512, 0, 0, 0];
    let buckets = ["0", "1", "2", "3", "4", "5-8", "9-16", "17-32", "33+"];
    let bins = buckets.iter().zip(steps);
    Status {
        run: RunIdentity {
            run_id: RunId::random(),
            environment: "CartPole-v1".to_owned(),
            device: "cpu".to_owned(),
            seed: 1,
            total_steps: 1_000_000,
            version: "0.1.0".to_owned(),
        },
        phase: Phase::Serving,
        unix_s: 0.0,
        last_update_s: Some(0.01),
        metrics,
        lag_histogram: bins
            .map(|(bucket, steps)| LagBin {
                bucket: (*bucket).to_owned(),
                steps,
            })
            .collect(),
        bottleneck: time.verdict(),
        time,
        ledger: LedgerCounts {
            produced: 212,
            admitted: 208,
            rejected: 3,
            lost: 1,
            trained: 200,
            expired: 2,
            evicted: 1,
            discarded: 1,
            queued: 4,
            duplicates: 0,
        },
        ledger_closes: true,
        rejected: BTreeMap::from([(RejectReason::TooStale, 3)]),
        lives: ActorCounts {
            joined: u64::from(actors) + 1,
            lost: 1,
            ..ActorCounts::default()
        },
        present: u64::from(actors),
        actors: (0..actors)
            .map(|actor| ActorStatus {
                actor,
                version: 98 + u64::from(actor % 3),
                lag_versions: 2 - u64::from(actor % 3),
                unrolls: 100 + u64::from(actor),
                unrolls_per_s: 20.25,
                last_seen_s: 0.1,
            })
            .collect(),
        log: vec![
            "2026-11-25T10:20:09.123456Z  INFO springbok_learner::run: ready".to_owned(),
            "2026-11-25T10:20:11.000001Z  WARN springbok_learner::trainer::steering: most of the experience is wasted"
                .to_owned(),
        ],
    }
}

const USUAL: [(Metric, f64); 27] = [
    (Metric::GlobalStep, 102_400.0),
    (Metric::Updates, 100.0),
    (Metric::WallSeconds, 83.4),
    (Metric::StepsPerSecond, 83_450.0),
    (Metric::EpisodicReturn, 412.25),
    (Metric::Entropy, 0.53),
    (Metric::ApproxKl, 0.0123),
    (Metric::ClipFraction, 0.08),
    (Metric::Ess, 0.94),
    (Metric::QueueFill, 0.5),
    (Metric::UpdateSeconds, 0.0123),
    (Metric::LagMean, 2.59),
    (Metric::LagPredicted, 2.55),
    (Metric::LagP95, 3.0),
    (Metric::LagMax, 5.0),
    (Metric::LagSeconds, 0.032),
    (Metric::LagInjected, 0.0),
    (Metric::LagPublish, 0.55),
    (Metric::LagUnroll, 0.04),
    (Metric::LagOutbox, 1.0),
    (Metric::LagTransport, 0.0),
    (Metric::LagQueue, 0.9),
    (Metric::LagBatch, 0.1),
    (Metric::WatchdogEssLow, 1.0),
    (Metric::GovernorTarget, 2.5),
    (Metric::GovernorBudget, 6.0),
    (Metric::GovernorInterval, 1.0),
];

/// A run that is well on its way.
fn usual() -> View {
    let mut view = View::new(Role::Launcher);
    view.status = Some(Box::new(status(&USUAL, 2)));
    let points = (0..60_u32).map(|at| {
        let share = f64::from(at) / 59.0;
        let wiggle = 18.0 * (f64::from(at) * 0.9).sin();
        vec![
            Some(83.4 * share),
            Some(102_400.0 * share * (0.7 + 0.3 * share)),
            Some(20.0 + 392.0 * share * share + wiggle * share),
        ]
    });
    let names = ["charts/wall_s", "global_step", "charts/episodic_return"];
    view.course = Course::new(&names, points.collect());
    view.note(Note {
        at: "2026-11-25T10:20:10.5Z".to_owned(),
        text: "actor 1 ended unexpectedly (signal: 9); starting it again in 0.5 s".to_owned(),
    });
    view
}

fn drawn(view: &mut View, columns: u16, rows: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let mut visible = 0;
    terminal.draw(|frame| visible = draw(frame, view)).unwrap();
    view.actors_visible = visible;
    terminal.backend().buffer().clone()
}

/// Each row without the spaces at its end.
fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width).map(|row| {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        row.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

fn assert_same(path: &Path, content: &str) {
    if env::var_os("SPRINGBOK_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == content,
        "{} is not what is drawn now; if that is meant, run the test with SPRINGBOK_UPDATE=1:\n{content}",
        path.display()
    );
}

fn snapshot(name: &str, view: &mut View, columns: u16, rows: u16) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/screen/snapshots");
    let path = folder.join(format!("{name}-{columns}x{rows}.txt"));
    assert_same(&path, &text(&drawn(view, columns, rows)));
}

#[test]
fn a_run_is_drawn_in_both_usual_sizes() {
    snapshot("usual", &mut usual(), 80, 24);
    snapshot("usual", &mut usual(), 120, 40);
    let picture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images/terminal.svg");
    let buffer = drawn(&mut usual(), 120, 40);
    assert_same(&picture, &svg::picture(&buffer));
}

#[test]
fn nothing_known_and_nothing_trained_are_drawn_too() {
    let mut view = View::new(Role::Launcher);
    view.note(Note {
        at: "2026-11-25T10:20:08Z".to_owned(),
        text: "run directory: runs/CartPole-v1-s1".to_owned(),
    });
    snapshot("waiting", &mut view, 80, 24);
    let mut empty = status(&[], 0);
    empty.lag_histogram.iter_mut().for_each(|bin| bin.steps = 0);
    empty.ledger = LedgerCounts::default();
    (empty.phase, empty.last_update_s) = (Phase::Starting, None);
    empty.bottleneck = "unknown: nothing was trained yet".to_owned();
    view.status = Some(Box::new(empty));
    snapshot("untrained", &mut view, 80, 24);
}

#[test]
fn what_is_no_number_is_a_dash_and_never_a_panic() {
    for odd in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let mut view = usual();
        let metrics: Vec<_> = USUAL.iter().map(|(metric, _)| (*metric, odd)).collect();
        let mut status = status(&metrics, 2);
        status.run.total_steps = 0;
        status.last_update_s = Some(odd);
        status.actors[0].unrolls_per_s = odd;
        status.ledger_closes = false;
        view.status = Some(Box::new(status));
        let names = ["charts/wall_s", "global_step", "charts/episodic_return"];
        let odd = vec![Some(odd), Some(odd), Some(odd)];
        view.course = Course::new(&names, vec![odd.clone(), vec![None], odd]);
        let shown = text(&drawn(&mut view, 80, 24));
        assert!(shown.contains("DOES NOT CLOSE"), "{shown}");
        assert!(!shown.contains("NaN") && !shown.contains("inf"), "{shown}");
    }
}

#[test]
fn a_thousand_actors_are_scrolled_within_their_bounds() {
    let mut view = usual();
    view.status = Some(Box::new(status(&USUAL, 1000)));
    let shown = |view: &mut View| text(&drawn(view, 80, 24));
    assert!(
        shown(&mut view).contains(" 1 to 4 of 1000 "),
        "{}",
        shown(&mut view)
    );
    let press = |view: &mut View, code| {
        assert_eq!(
            view.on_key(KeyEvent::new(code, KeyModifiers::NONE)),
            Action::Draw
        );
        shown(view)
    };
    assert!(press(&mut view, KeyCode::Up).contains(" 1 to 4 of 1000 "));
    assert!(press(&mut view, KeyCode::Down).contains(" 2 to 5 of 1000 "));
    assert!(press(&mut view, KeyCode::PageDown).contains(" 6 to 9 of 1000 "));
    let end = press(&mut view, KeyCode::End);
    assert!(
        end.contains(" 997 to 1000 of 1000 ") && end.contains("  999 "),
        "{end}"
    );
    // Beyond the end there is nothing to scroll back from.
    press(&mut view, KeyCode::Down);
    assert!(press(&mut view, KeyCode::Up).contains(" 996 to 999 of 1000 "));
    // The list may get shorter meanwhile.
    view.status = Some(Box::new(status(&USUAL, 2)));
    let short = shown(&mut view);
    assert!(short.contains("│    0      98"), "{short}");
}

#[test]
fn keys_stop_and_explain() {
    let mut view = usual();
    let press = |view: &mut View, code, modifiers| view.on_key(KeyEvent::new(code, modifiers));
    let none = KeyModifiers::NONE;
    assert_eq!(press(&mut view, KeyCode::Char('q'), none), Action::Stop);
    assert_eq!(press(&mut view, KeyCode::Char('c'), none), Action::Draw);
    let interrupt = press(&mut view, KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(interrupt, Action::Stop);
    view.stops = 1;
    press(&mut view, KeyCode::Char('?'), none);
    snapshot("help", &mut view, 80, 24);
    press(&mut view, KeyCode::Esc, none);
    assert!(!text(&drawn(&mut view, 80, 24)).contains("keys and words"));
}

#[test]
fn what_is_logged_cannot_command_the_terminal() {
    let mut view = usual();
    let status = view.status.as_mut().unwrap();
    status
        .log
        .push("\u{1b}]0;title\u{7} and\u{9b}2J more".to_owned());
    status.run.environment = "\u{1b}[31mred".to_owned();
    let buffer = drawn(&mut view, 80, 24);
    assert!(
        text(&buffer).contains("]0;title and2J more"),
        "{}",
        text(&buffer)
    );
    let cells = buffer.content.iter();
    let symbols: String = cells.map(|cell| cell.symbol()).collect();
    assert!(!symbols.contains(char::is_control), "{symbols:?}");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    for (columns, rows) in [(79, 24), (80, 23), (10, 3), (1, 1), (200, 4)] {
        let shown = text(&drawn(&mut usual(), columns, rows));
        assert!(!shown.contains('┌'), "{shown}");
        if columns > 40 {
            let said = format!("too small: 80x24 at least, this is {columns}x{rows}");
            assert!(shown.contains(&said), "{shown}");
        }
    }
}

/// What the test below starts in a terminal of its own; anywhere else there is nothing to do.
#[test]
fn panics_where_it_is_asked_to() {
    if env::var_os(PANIC_VARIABLE).is_some() {
        let mut terminal = terminal::enter().unwrap();
        terminal.draw(|frame| _ = draw(frame, &usual())).unwrap();
        panic!("on purpose");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() {
    let test = env::current_exe().unwrap();
    let command = format!(
        "stty rows 24 cols 80; exec '{}' --exact screen::tests::panics_where_it_is_asked_to --nocapture",
        test.display()
    );
    let output = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &command,
            "/dev/null",
        ])
        .env(PANIC_VARIABLE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let (before, drawn) = shown.split_once("\u{1b}[?1049h").expect("entered");
    assert!(!before.contains("CartPole-v1"), "{shown}");
    let (drawn, after) = drawn.split_once("\u{1b}[?1049l").expect("left");
    assert!(drawn.contains("CartPole-v1"), "{shown}");
    assert!(after.contains("\u{1b}[?25h"), "the cursor is back: {after}");
    assert!(after.contains("on purpose"), "{after}");
}
