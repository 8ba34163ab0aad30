//! The full-screen view of a run: `springbok train --ui` and `springbok status URL --ui`. It is fed by the learner's page
//! (`/status` and `/history`), and so shows what that shows.

mod draw;
mod feed;
mod panels;
#[cfg(test)]
mod svg;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ratatui::crossterm::event;
use springbok_common::credentials::Token;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc::Sender as AsyncSender;
use tokio_util::sync::CancellationToken;

pub(crate) use self::terminal::check;
use self::{
    feed::{Feed, Url},
    view::{Action, Note, Role, View},
};
use crate::{exit::Failure, output, page};

/// Longest time that a key, a note or the wish to close waits for.
const TICK: Duration = Duration::from_millis(100);
/// Notes on their way to the screen. More are dropped there: they are in the launcher's log.
const NOTES_WAITING_MAX: usize = 64;
/// Wishes to stop that may wait for the supervisor: the second one kills.
pub(crate) const STOPS_WAITING_MAX: usize = 2;

/// The view of a run that this process has started.
pub(crate) struct Screen {
    notes: SyncSender<Note>,
    url: Url,
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Screen {
    /// Takes the terminal over; `stops` hears of each wish to stop. The learner's page is shown `token`.
    ///
    /// # Errors
    /// Exit 70 if the terminal refuses.
    pub(crate) fn open(stops: AsyncSender<()>, token: Option<Token>) -> Result<Self, Failure> {
        let (notes, said) = sync_channel(NOTES_WAITING_MAX);
        let (url, closing) = (Url::default(), Arc::new(AtomicBool::new(false)));
        let mut terminal = terminal::enter().map_err(refused)?;
        let (closed, feed) = (Arc::clone(&closing), Feed::start(Arc::clone(&url), token));
        let thread = thread::Builder::new().name("screen".to_owned());
        let thread = thread.spawn(move || {
            let mut view = View::new(Role::Launcher);
            let ended = loop {
                said.try_iter().for_each(|note| view.note(note));
                if closed.load(Ordering::Acquire) || !terminal::is_open() {
                    break Ok(());
                }
                match show(&mut terminal, &mut view, &feed) {
                    Ok(Action::Draw) => {}
                    Ok(Action::Stop) => {
                        view.stops = view.stops.saturating_add(1);
                        // A third wish has nothing to add to two that wait.
                        let _ = stops.try_send(());
                    }
                    Err(error) => break Err(error),
                }
            };
            terminal::leave();
            if let Err(error) = ended {
                output::notice(&format!("the view ended ({error}); the run goes on"));
            }
        });
        let thread = thread.map_err(|error| {
            terminal::leave();
            refused(error)
        })?;
        Ok(Self {
            notes,
            url,
            closing,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Says where the learner's page is.
    pub(crate) fn found(&self, url: &str) {
        let mut place = self.url.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(url.to_owned());
    }

    /// Shows `text` among the log lines, or says that there is no screen any more.
    pub(crate) fn note(&self, text: &str) -> bool {
        let at = OffsetDateTime::now_utc().format(&Rfc3339);
        let note = Note {
            at: at.unwrap_or_default(),
            text: text.to_owned(),
        };
        // One that finds no room is in the launcher's log.
        let _ = self.notes.try_send(note);
        terminal::is_open()
    }

    /// Gives the terminal back.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of it has given the terminal back, and was reported.
            let _ = thread.join();
        }
        terminal::leave();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// Shows the learner whose page is at `url`, and is shown `token`, until it is gone, a key closes the view, or `stop` is
/// cancelled.
///
/// # Errors
/// Exit 69 if nobody answers at all; exit 70 if the terminal refuses.
pub(crate) fn follow(
    url: &str,
    token: Option<Token>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut view = View::new(Role::Spectator);
    view.status = Some(Box::new(page::status(url, token.as_ref())?));
    let feed = Feed::start(Arc::new(Mutex::new(Some(url.to_owned()))), token);
    let mut terminal = terminal::enter().map_err(refused)?;
    let ended = loop {
        let goes_on = |view: &View| view.gone.is_none() && !stop.is_cancelled();
        match show(&mut terminal, &mut view, &feed) {
            Ok(Action::Draw) if goes_on(&view) && terminal::is_open() => {}
            ended => break ended,
        }
    };
    terminal::leave();
    if let Some(gone) = view.gone {
        output::notice(&gone);
    }
    ended.map(|_| ()).map_err(refused)
}

/// Draws what there is, and waits a moment for a key.
fn show(terminal: &mut terminal::Drawn, view: &mut View, feed: &Feed) -> io::Result<Action> {
    take(view, &feed.answers);
    let mut actors_visible = 0;
    terminal.draw(|frame| actors_visible = draw::draw(frame, view))?;
    view.actors_visible = actors_visible;
    if !event::poll(TICK)? {
        return Ok(Action::Draw);
    }
    Ok(match event::read()? {
        event::Event::Key(key) => view.on_key(key),
        // A new size is drawn in the next turn.
        _ => Action::Draw,
    })
}

fn take(view: &mut View, answers: &Receiver<feed::Answer>) {
    for answer in answers.try_iter() {
        if let Some(course) = answer.course {
            view.course = course;
        }
        match answer.status {
            Ok(status) => {
                view.status = Some(status);
                view.gone = None;
            }
            Err(failure) => view.gone = Some(failure.text),
        }
    }
}

fn refused(error: io::Error) -> Failure {
    Failure::internal(format!("cannot draw on this terminal: {error}"))
}
