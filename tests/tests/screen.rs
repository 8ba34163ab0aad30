//! The promise: the full-screen view of a run stops it as plain mode does, and gives the terminal back however it ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use springbok_tests::assert_ledger_closes;

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
/// Enters and leaves the alternate screen.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Rows and columns of the terminal.
const ROWS: usize = 40;
const COLUMNS: usize = 120;

/// What a terminal shows: only cells that change are written to it, so what was written is no text.
struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// An escape sequence that has not ended yet.
    escape: Option<String>,
}

impl Screen {
    fn new() -> Self {
        Self {
            cells: vec![vec![' '; COLUMNS]; ROWS],
            row: 0,
            column: 0,
            escape: None,
        }
    }

    fn take(&mut self, c: char) {
        if let Some(mut escape) = self.escape.take() {
            escape.push(c);
            let ends = escape.len() > 1 && c.is_ascii_alphabetic();
            match (ends, c) {
                (false, _) => self.escape = Some(escape),
                (true, 'H') => self.go(&escape),
                (true, 'J') => self.cells = Self::new().cells,
                (true, _) => {}
            }
        } else if c == '\x1b' {
            self.escape = Some(String::new());
        } else if !c.is_control() {
            if let Some(cell) = self.cells[self.row].get_mut(self.column) {
                *cell = c;
            }
            self.column += 1;
        }
    }

    /// Moves the cursor to where `[ROW;COLUMNH` says, counted from 1.
    fn go(&mut self, escape: &str) {
        let numbers = escape.trim_matches(['[', 'H']);
        let mut numbers = numbers.split(';').map(|number| number.parse().unwrap_or(1));
        self.row = numbers.next().unwrap_or(1_usize).clamp(1, ROWS) - 1;
        self.column = numbers.next().unwrap_or(1_usize).max(1) - 1;
    }

    fn text(&self) -> String {
        let rows = self.cells.iter();
        let rows = rows.map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n");
        rows.collect()
    }
}

/// Killed when it is dropped; the program then loses its terminal and ends too.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program in a terminal of its own, which `script` makes and types into.
struct Terminal {
    script: Script,
    keys: ChildStdin,
    written: ChildStdout,
    /// What was written and is not looked at yet: perhaps the beginning of a character.
    rest: Vec<u8>,
    before: String,
    screen: Screen,
    after: String,
    entered: bool,
    left: bool,
}

impl Terminal {
    fn start(arguments: &str) -> Self {
        // The shell's process becomes the program's, so its id is known.
        let command = format!(
            "stty rows {ROWS} cols {COLUMNS}; echo pid $$ pid; exec '{BINARY}' {arguments}"
        );
        let mut script = Command::new("script")
            .args([
                "--quiet",
                "--return",
                "--flush",
                "--command",
                &command,
                "/dev/null",
            ])
            // The screen's log then has the launcher's notes alone, which stay.
            .env("SPRINGBOK_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            keys: script.stdin.take().unwrap(),
            written: script.stdout.take().unwrap(),
            script: Script(script),
            rest: Vec::new(),
            before: String::new(),
            screen: Screen::new(),
            after: String::new(),
            entered: false,
            left: false,
        }
    }

    /// Reads more, if there is any.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        // What cannot be read any more is a terminal without a program.
        let count = self.written.read(&mut buffer).unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..count]);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        for c in String::from_utf8(text).unwrap().chars() {
            self.take(c);
        }
        count > 0
    }

    fn take(&mut self, c: char) {
        if self.left {
            self.after.push(c);
        } else if self.entered {
            let escape = self.screen.escape.clone();
            self.left = escape.is_some_and(|escape| format!("\x1b{escape}{c}") == LEAVE);
            self.screen.take(c);
        } else {
            self.before.push(c);
            self.entered = self.before.ends_with(ENTER);
        }
    }

    /// Reads until the screen shows `text`. What never comes is ended by the test runner's limit.
    fn wait_for(&mut self, text: &str) {
        self.wait_until(|screen| screen.contains(text));
    }

    fn wait_until(&mut self, shows: impl Fn(&str) -> bool) {
        while !shows(&self.screen.text()) {
            assert!(self.read(), "it did not come: {}", self.account());
        }
    }

    fn account(&self) -> String {
        let (before, after) = (&self.before, &self.after);
        format!("{before}\n{}\n{after}", self.screen.text())
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn pid(&self) -> Pid {
        let id = self.before.split("pid ").nth(1).unwrap();
        Pid::from_raw(id.split(' ').next().unwrap().parse().unwrap()).unwrap()
    }

    /// Waits for the end; what was written before, shown last, and written after the screen, and how it ended.
    fn end(mut self) -> ([String; 3], ExitStatus) {
        while self.read() {}
        assert!(self.left, "{}", self.account());
        let status = self.script.0.wait().unwrap();
        ([self.before, self.screen.text(), self.after], status)
    }
}

fn endless(out: &Path, more: &str) -> Terminal {
    let mut terminal = Terminal::start(&format!(
        "train --ui --json --total-steps 1000000000 --out '{}' --name run {more}",
        out.display()
    ));
    // Drawn once the learner's page answers and something was trained.
    terminal.wait_for("learner computing");
    terminal
}

/// What an orderly end leaves.
fn assert_orderly([before, drawn, after]: &[String; 3], out: &Path) {
    assert!(!before.contains("CartPole"), "{before}");
    for part in [
        "CartPole-v1",
        "steps/s",
        "ledger closes",
        "bottleneck",
        "run directory: ",
    ] {
        assert!(drawn.contains(part), "{part} is not in {drawn}");
    }
    // Nothing is drawn or logged over the ordinary screen; what is there is the summary.
    assert!(
        after.contains(SHOW_CURSOR)
            && !after.contains("policy lag, in versions")
            && !after.contains("INFO"),
        "{after}"
    );
    let summary = &after[after.find('{').expect(after)..=after.rfind('}').expect(after)];
    let summary: Value = serde_json::from_str(summary).unwrap();
    assert_ledger_closes(&summary);
    let launcher = fs::read_to_string(out.join("run/logs/launcher.log")).unwrap();
    assert!(launcher.contains("interrupted: draining"), "{launcher}");
    // The page that the screen needed was for this run's launcher only.
    let config = fs::read_to_string(out.join("run/config.toml")).unwrap();
    assert!(config.contains("http = \"none\""), "{config}");
}

#[test]
fn q_ends_a_run_in_order_and_the_terminal_comes_back() {
    let out = tempfile::tempdir().unwrap();
    let mut terminal = endless(out.path(), "");
    terminal.press("?");
    terminal.wait_for("keys and words");
    terminal.press("\x1b[B?q");
    let (parts, status) = terminal.end();
    assert_eq!(status.code(), Some(0), "{parts:?}");
    assert_orderly(&parts, out.path());
}

#[test]
fn sigterm_does_the_same() {
    let out = tempfile::tempdir().unwrap();
    let terminal = endless(out.path(), "");
    kill_process(terminal.pid(), Signal::TERM).unwrap();
    let (parts, status) = terminal.end();
    assert_eq!(status.code(), Some(0), "{parts:?}");
    assert_orderly(&parts, out.path());
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let out = tempfile::tempdir().unwrap();
    // The update in progress outlasts the wait for the second one.
    let mut terminal = endless(out.path(), "--set learner.update_delay_ms=3000");
    terminal.press("\x03");
    terminal.wait_for("stopping: ");
    terminal.press("\x03");
    let ([_, _, after], status) = terminal.end();
    assert_eq!(status.code(), Some(130), "{after}");
    assert!(after.contains("interrupted twice"), "{after}");
}

#[test]
fn a_learner_that_takes_the_place_of_another_is_shown() {
    let out = tempfile::tempdir().unwrap();
    let mut terminal = endless(out.path(), "--set checkpoint.interval_s=1");
    let checkpoints = out.path().join("run/checkpoints");
    let files = || fs::read_dir(&checkpoints).map_or(0, Iterator::count);
    terminal.wait_until(|_| files() > 1);
    let launcher = fs::read_to_string(out.path().join("run/logs/launcher.log")).unwrap();
    let id = launcher.split("started learner pid ").nth(1).unwrap();
    let id = id.lines().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
    terminal.wait_for("NOTE the learner ended unexpectedly");
    terminal.wait_until(|screen| screen.matches("watch it at http").count() == 2);
    // Its page is another one, and only from there more steps are heard of.
    let steps = |screen: &str| {
        let line = screen
            .lines()
            .find(|line| line.contains("/1000000000 steps"));
        line.map(str::to_owned)
    };
    let before = steps(&terminal.screen.text());
    terminal.wait_until(|screen| !screen.contains("no answer") && steps(screen) != before);
    terminal.press("q");
    let (parts, status) = terminal.end();
    assert_eq!(status.code(), Some(0), "{parts:?}");
    assert_orderly(&parts, out.path());
}

#[test]
fn a_fault_is_told_on_the_ordinary_screen() {
    let out = tempfile::tempdir().unwrap();
    let arguments = "--env Synthetic --set environment.options.crash_after=1";
    let mut terminal = Terminal::start(&format!(
        "train --ui --out '{}' --name run {arguments}",
        out.path().display()
    ));
    terminal.wait_for("ended unexpectedly");
    let ([_, _, after], status) = terminal.end();
    assert_eq!(status.code(), Some(70), "{after}");
    assert!(after.contains("springbok: actor"), "{after}");
}

#[test]
fn a_run_is_looked_at_from_another_terminal() {
    let out = tempfile::tempdir().unwrap();
    let mut run = endless(out.path(), "--http 127.0.0.1:0");
    run.wait_for("watch it at ");
    let text = run.screen.text();
    let url = text.split("watch it at ").nth(1).unwrap();
    let url: String = url.chars().take_while(|c| c.is_ascii_graphic()).collect();
    let mut spectator = Terminal::start(&format!("status '{url}' --ui"));
    spectator.wait_for("q close");
    spectator.press("q");
    let ([_, drawn, _], status) = spectator.end();
    assert_eq!(status.code(), Some(0));
    assert!(drawn.contains("CartPole-v1"), "{drawn}");
    // A signal gives the terminal back as well.
    let mut spectator = Terminal::start(&format!("status '{url}' --ui"));
    spectator.wait_for("q close");
    kill_process(spectator.pid(), Signal::TERM).unwrap();
    let ([_, _, after], status) = spectator.end();
    assert_eq!(status.code(), Some(0));
    assert!(after.contains(SHOW_CURSOR), "{after}");
    // It only looked.
    run.press("q");
    assert_eq!(run.end().1.code(), Some(0));
}

#[test]
fn without_a_terminal_nothing_is_started() {
    let out = tempfile::tempdir().unwrap();
    let runs = out.path().join("runs");
    let arguments = ["train", "--ui", "--out", runs.to_str().unwrap()];
    let output = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stdout is none"), "{said}");
    assert!(!runs.exists());
}
