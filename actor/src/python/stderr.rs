//! The thread of a server: starts it, reads what it writes to its stderr, and ends after it.

use std::{
    collections::VecDeque,
    io::{self, Read},
    process::{Child, ChildStderr, Command},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel as crossbeam;

/// Bytes that are kept of what a server wrote last.
const TAIL_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one log line.
const LINE_BYTES_MAX: usize = 2048;

/// What a server wrote last.
type Tail = Arc<Mutex<VecDeque<u8>>>;

/// The handle to the thread, which lives as long as the handle. Linux kills a server when the thread that started it
/// ends, so it must be none of those that come and go.
pub(super) struct Keeper {
    tail: Tail,
    /// Closed by the thread when the server's stderr is.
    silent: crossbeam::Receiver<()>,
    /// Closed by the handle when it is dropped.
    _hold: crossbeam::Sender<()>,
}

impl Keeper {
    /// Starts the server with its stderr on a pipe to this thread.
    ///
    /// # Errors
    /// The operating system gives no thread or no process.
    pub(super) fn start(mut command: Command) -> io::Result<(Child, Self)> {
        let tail = Tail::default();
        let kept = Arc::clone(&tail);
        let (started, result) = crossbeam::bounded(1);
        let (hold, held) = crossbeam::bounded::<()>(0);
        let (talking, silent) = crossbeam::bounded::<()>(0);
        thread::Builder::new()
            .name("python-stderr".into())
            .spawn(move || {
                let mut child = command.spawn();
                // The command holds the server's end of the socket, which must close with the server.
                drop(command);
                let stderr = child.as_mut().ok().and_then(|child| child.stderr.take());
                if started.send(child).is_ok()
                    && let Some(stderr) = stderr
                {
                    read_all(stderr, &kept);
                }
                drop(talking);
                // Ends when the handle is dropped.
                let _ = held.recv();
            })?;
        let child = result
            .recv()
            .map_err(|_| io::Error::other("the thread that starts servers ended"))??;
        let keeper = Self {
            tail,
            silent,
            _hold: hold,
        };
        Ok((child, keeper))
    }

    /// Waits until the server and all that it started have closed their stderr, `wait_max` at most; says whether.
    pub(super) fn wait_silent(&self, wait_max: Duration) -> bool {
        matches!(
            self.silent.recv_timeout(wait_max),
            Err(crossbeam::RecvTimeoutError::Disconnected)
        )
    }

    /// What the server wrote last.
    pub(super) fn last_words(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = tail.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}

fn read_all(mut stderr: ChildStderr, tail: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; 4096];
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    loop {
        let count = match stderr.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let read = &chunk[..count];
        {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(read);
            let excess = tail.len().saturating_sub(TAIL_BYTES_MAX);
            tail.drain(..excess);
        }
        for &byte in read {
            if byte == b'\n' || line.len() == LINE_BYTES_MAX {
                log(&mut line);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    log(&mut line);
}

fn log(line: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line);
    if !text.trim().is_empty() {
        tracing::info!(target: "python", "{}", text.trim_end());
    }
    line.clear();
}
