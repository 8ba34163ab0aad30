//! The terminal: taken over, drawn on, and given back whatever happens.

use std::{
    io::{self, IsTerminal as _, Write},
    panic,
    sync::{Mutex, Once, PoisonError},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor, execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use crate::exit::Failure;

/// Whether the alternate screen is shown. Whoever writes to it holds this, so that nothing is drawn once it was left.
static OPEN: Mutex<bool> = Mutex::new(false);

/// A terminal that is drawn on.
pub(super) type Drawn = Terminal<CrosstermBackend<Frames>>;

/// Checks that there is a terminal to draw on, before anything is started.
///
/// # Errors
/// Exit 64.
pub(crate) fn check() -> Result<(), Failure> {
    for (name, is_terminal) in [
        ("stdout", io::stdout().is_terminal()),
        ("stdin", io::stdin().is_terminal()),
    ] {
        if !is_terminal {
            return Err(Failure::usage(format!(
                "--ui needs a terminal to draw on and to read keys from, and {name} is none; leave --ui out, or watch the run \
                 from a terminal with --http and `springbok status URL --ui`"
            )));
        }
    }
    Ok(())
}

/// Takes the terminal over. It is given back by [`leave`], or by the first panic of any thread.
pub(super) fn enter() -> io::Result<Drawn> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // What it says belongs on the ordinary screen.
            leave();
            before(info);
        }));
    });
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    enable_raw_mode()?;
    *open = true;
    execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
    drop(open);
    Terminal::new(CrosstermBackend::new(Frames::default()))
}

/// Gives the terminal back, once.
pub(super) fn leave() {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if *open {
        *open = false;
        // A terminal that is gone cannot be put right.
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    }
}

/// Whether it is still ours.
pub(super) fn is_open() -> bool {
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes each frame whole, and none to a terminal that was given back.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let written = if *open {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&self.0).and_then(|()| stdout.flush())
        } else {
            Ok(())
        };
        self.0.clear();
        written
    }
}
