//! A game in the terminal: what is drawn, how fast, and how the terminal is left.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use springbok_actor::environment::Frame;
use springbok_common::unroll::EpisodeSummary;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{cells::Cells, player::Player, record::Recording};
use crate::{exit::Failure, shutdown, verbs::runtime};

/// Columns and rows of a terminal that does not say how large it is.
const SIZE_USUAL: [usize; 2] = [80, 24];
/// The other screen, so that what stood in the terminal comes back; no cursor.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// A terminal that a game is shown in; given back as it was when this is dropped, however the game ends.
pub(super) struct Show {
    out: Box<dyn Write>,
    size: fn() -> [usize; 2],
    begun: bool,
    shown: Option<Cells>,
}

/// The terminal of this process.
///
/// # Errors
/// Exit 64 if stdout is none.
pub(super) fn terminal() -> Result<Show, Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "--watch draws in a terminal, but stdout is none; use --record FILE.gif for a file",
        ));
    }
    Ok(Show::new(Box::new(io::stdout()), terminal_size))
}

#[cfg(unix)]
fn terminal_size() -> [usize; 2] {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 1 => {
            [size.ws_col, size.ws_row].map(usize::from)
        }
        _ => SIZE_USUAL,
    }
}

#[cfg(not(unix))]
fn terminal_size() -> [usize; 2] {
    SIZE_USUAL
}

impl Show {
    fn new(out: Box<dyn Write>, size: fn() -> [usize; 2]) -> Self {
        Self {
            out,
            size,
            begun: false,
            shown: None,
        }
    }

    /// Draws what has changed, and a line of text below it.
    fn draw(&mut self, frame: &Frame, status: &str) -> Result<(), Failure> {
        let [columns, rows] = (self.size)();
        let cells = Cells::of(frame, columns, rows.saturating_sub(1));
        let mut text = String::new();
        if !self.begun {
            text.push_str(BEGIN);
            self.begun = true;
        }
        text.push_str(&cells.changes_from(self.shown.as_ref()));
        let status: String = status.chars().take(columns).collect();
        text.push_str(&format!("\x1b[{};1H\x1b[2K{status}", cells.rows() + 1));
        self.shown = Some(cells);
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(|error| Failure::files(format!("cannot draw in the terminal: {error}")))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if self.begun {
            let _ = self.out.write_all(END.as_bytes());
            let _ = self.out.flush();
        }
    }
}

/// Plays `episodes` episodes, or until an interrupt; gives those that ended. Each state is drawn at `fps` and
/// recorded. Void rows, in which nothing is played, are not.
///
/// # Errors
/// Exit 64 if the environment cannot be watched; those of the player, the terminal and the file.
pub(super) fn play(
    player: &mut Player,
    episodes: Option<u32>,
    fps: u32,
    mut show: Option<Show>,
    mut recording: Option<&mut Recording>,
) -> Result<Vec<EpisodeSummary>, Failure> {
    // Before the terminal is touched: an environment that draws nothing is refused in a sentence that stays to be read.
    player.draw(&mut Frame::default())?;
    runtime()?.block_on(shutdown::until_interrupted(async |stop| {
        let game = Game {
            player,
            episodes,
            show: show.as_mut(),
            recording: recording.as_deref_mut(),
        };
        game.run(fps, &stop).await
    }))
}

struct Game<'a> {
    player: &'a mut Player,
    episodes: Option<u32>,
    show: Option<&'a mut Show>,
    recording: Option<&'a mut Recording>,
}

impl Game<'_> {
    async fn run(
        mut self,
        fps: u32,
        stop: &CancellationToken,
    ) -> Result<Vec<EpisodeSummary>, Failure> {
        let mut ended = Vec::new();
        let mut running = Status::default();
        let mut frame = Frame::default();
        let mut pace = interval(Duration::from_secs(1) / fps.max(1));
        // A slow terminal or environment slows the game down; it does not skip or hurry.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.player.draw(&mut frame)?;
            if let Some(recording) = &mut self.recording {
                recording.add(&frame)?;
            }
            if let Some(show) = &mut self.show {
                show.draw(&frame, &running.line(ended.len() + 1))?;
                tokio::select! {
                    _ = pace.tick() => {}
                    () = stop.cancelled() => return Ok(ended),
                }
            } else {
                // Interrupts are looked at between two states.
                tokio::task::yield_now().await;
            }
            let is_over = self.episodes.is_some_and(|all| ended.len() >= all as usize);
            if stop.is_cancelled() || is_over {
                return Ok(ended);
            }
            self.advance(&mut running, &mut ended)?;
            if self.episodes.is_some_and(|all| ended.len() >= all as usize) {
                // What is there to be drawn now is the next episode.
                return Ok(ended);
            }
        }
    }

    /// Plays one step; a void row is followed by another one.
    fn advance(
        &mut self,
        running: &mut Status,
        ended: &mut Vec<EpisodeSummary>,
    ) -> Result<(), Failure> {
        loop {
            let before = ended.len();
            let ends: Vec<_> = self.player.step()?.map(|(_, episode)| episode).collect();
            ended.extend(ends);
            let (reward, is_step) = self.player.last_reward();
            if ended.len() > before {
                *running = Status::default();
                return Ok(());
            }
            if is_step {
                running.add(reward);
                return Ok(());
            }
        }
    }
}

/// The running episode.
#[derive(Debug, Default)]
struct Status {
    steps: u64,
    reward: f32,
    episode_return: f64,
}

impl Status {
    fn add(&mut self, reward: f32) {
        self.steps += 1;
        self.reward = reward;
        self.episode_return += f64::from(reward);
    }

    fn line(&self, episode: usize) -> String {
        format!(
            "episode {episode}  step {}  reward {:.2}  return {:.2}  (Ctrl-C ends)",
            self.steps, self.reward, self.episode_return
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_is_given_back_as_it_was_and_an_unused_one_is_not_touched() {
        let written = Written::default();
        let text = || String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        drop(Show::new(Box::new(written.clone()), || [8, 3]));
        assert_eq!(text(), "");

        let mut show = Show::new(Box::new(written.clone()), || [8, 3]);
        let mut frame = Frame::default();
        frame.fill(4, 4, [9; 3]);
        show.draw(&frame, "a status longer than the terminal")
            .unwrap();
        let first = text();
        assert!(first.starts_with(BEGIN) && first.ends_with("\x1b[3;1H\x1b[2Ka status"));
        show.draw(&frame, "same").unwrap();
        assert_eq!(text()[first.len()..], *"\x1b[3;1H\x1b[2Ksame");
        drop(show);
        assert!(text().ends_with(END));
    }
}
