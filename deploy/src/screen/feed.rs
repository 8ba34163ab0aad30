//! Asks the learner's page again and again, on a thread of its own: a learner that does not answer must not hold up the
//! keys.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use springbok_common::credentials::Token;
use springbok_learner::monitor::status::Status;

use super::view::Course;
use crate::{exit::Failure, page};

/// Time between two questions; the learner looks at itself as often.
const INTERVAL: Duration = Duration::from_millis(500);
/// Every how many questions the course of the run is asked for as well.
const COURSE_EVERY: u32 = 4;

/// What the learner said, or why it did not.
pub(super) struct Answer {
    /// How it is.
    pub(super) status: Result<Box<Status>, Failure>,
    /// The course of the run, now and then.
    pub(super) course: Option<Course>,
}

/// Where to ask; none before the learner has said so.
pub(super) type Url = Arc<Mutex<Option<String>>>;

/// Asks until this is dropped.
pub(super) struct Feed {
    /// The newest answers.
    pub(super) answers: Receiver<Answer>,
    _ends: SyncSender<()>,
}

impl Feed {
    /// Begins to ask at `url`, showing `token`.
    pub(super) fn start(url: Url, token: Option<Token>) -> Self {
        let (ends, ended) = sync_channel::<()>(1);
        let (sender, answers) = sync_channel(1);
        // It ends by itself, at the latest when the answer that it waits for is overdue.
        thread::spawn(move || {
            let mut asked = 0;
            loop {
                let url = url.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(url) = url
                    && sender
                        .send(ask(&url, token.as_ref(), asked % COURSE_EVERY == 0))
                        .is_err()
                {
                    return;
                }
                asked = asked.wrapping_add(1);
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self {
            answers,
            _ends: ends,
        }
    }
}

fn ask(url: &str, token: Option<&Token>, with_course: bool) -> Answer {
    let course = with_course.then(|| page::get(url, "/history", token).ok());
    let course = course.flatten().filter(|answer| answer.code == 200);
    Answer {
        status: page::status(url, token).map(Box::new),
        course: course.and_then(|answer| serde_json::from_slice(&answer.body).ok()),
    }
}
