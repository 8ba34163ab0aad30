//! Where a wish to stop comes from: signals for a process that a person started, the end of stdin for one that
//! the supervisor started. A supervisor that is killed closes its pipes too, so it never leaves an orphan.

use std::{io::Read as _, process, thread, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// The longest that anything may take to drain; after that it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Interrupts (SIGINT, SIGTERM) as something to wait for again and again.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    /// Takes the signals over from the operating system's default, which is to die at once.
    ///
    /// # Errors
    /// If the operating system refuses to hand over its signals.
    pub(crate) fn listen() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let take = |kind| {
                signal(kind)
                    .map_err(|error| Failure::internal(format!("cannot handle signals: {error}")))
            };
            Ok(Self {
                interrupt: take(SignalKind::interrupt())?,
                terminate: take(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next interrupt.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Cancels the returned token when stdin ends, and ends the process if it has not drained in time after that.
pub(crate) fn token_of_stdin() -> CancellationToken {
    when_stdin_ends(|| {
        thread::sleep(GRACE);
        tracing::error!(
            "not drained {} s after the supervisor left",
            GRACE.as_secs()
        );
        process::exit(i32::from(Exit::Internal.code()));
    })
}

/// Cancels the returned token when stdin ends; for a process that limits the time of its own end.
pub(crate) fn end_of_stdin() -> CancellationToken {
    when_stdin_ends(|| {})
}

/// Reading stdin blocks and cannot be cancelled, hence a thread of its own; `then` runs on it after the cancellation.
fn when_stdin_ends(then: impl FnOnce() + Send + 'static) -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        cancelled.cancel();
        then();
    });
    token
}

/// Runs `work` with a token that the first interrupt cancels; a second interrupt, or a grace period that runs out,
/// ends it.
///
/// # Errors
/// Those of `work`; exit 130 at the second interrupt; exit 70 if draining outlasts [`GRACE`].
pub(crate) async fn until_interrupted<T>(
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let token = CancellationToken::new();
    let mut interrupts = Interrupts::listen()?;
    let mut work = std::pin::pin!(work(token.clone()));
    tokio::select! {
        result = &mut work => return result,
        () = interrupts.next() => token.cancel(),
    }
    tokio::select! {
        result = &mut work => result,
        () = interrupts.next() => Err(Failure::new(Exit::Interrupted, "interrupted twice: stopped without draining")),
        () = tokio::time::sleep(GRACE) => Err(Failure::internal(format!(
            "draining took longer than {} s", GRACE.as_secs()
        ))),
    }
}
