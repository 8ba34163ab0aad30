//! The processes of one local run: a learner, N actors, and the promise that none of them outlives the launcher.
//!
//! Each child runs in a process group of its own, so that Ctrl-C in a terminal reaches only the launcher, and each
//! holds a pipe from it as stdin. Closing that pipe asks for a drain; the kernel closes it too if the launcher dies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use springbok_learner::{LearnerEvent, Summary};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::ChildStdout,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    exit::{Exit, Failure},
    progress::Progress,
    run_directory::RunDirectory,
    shutdown::{GRACE, Interrupts},
};

mod child;
mod restart;
mod socket;

use child::{Ended, Program};
use restart::RestartPolicy;
use socket::url_for_actors;

/// The longest that the learner may take until it listens: it may have to look for a GPU first.
const START_MAX: Duration = Duration::from_secs(60);
/// The longest to wait for processes that were killed.
const REAP_MAX: Duration = Duration::from_secs(2);

/// How far the end of the run has come; later phases compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Training goes on; actors that die are replaced.
    Running,
    /// The learner was asked to drain, and tells the actors.
    Draining,
    /// The learner has ended; the actors are asked to leave.
    Stopping,
    /// Time is up.
    Killing,
}

/// What to run.
pub(crate) struct Plan {
    /// Actors.
    pub(crate) actors: usize,
    /// How they speak to the learner over TCP: "http" or "https".
    pub(crate) scheme: &'static str,
    /// Whether they get a Unix socket of their own.
    pub(crate) private_socket: bool,
    /// Times that a learner that was killed is started again.
    pub(crate) learner_restarts_max: u64,
    /// Whether the learner goes on with what is in the run directory.
    pub(crate) resume: bool,
    /// Where the learner shows itself, if that is not what the configuration says.
    pub(crate) http: Option<&'static str>,
}

/// Where a wish to stop comes from.
pub(crate) struct Stops {
    /// Signals.
    pub(crate) signals: Interrupts,
    /// Whoever started the launcher; `None` once that is known, or if nobody can say so.
    pub(crate) token: Option<CancellationToken>,
    /// Keys; `None` once nobody presses any.
    pub(crate) keys: Option<mpsc::Receiver<()>>,
}

/// What a run on this machine came to.
pub(crate) struct LocalRun {
    /// The learner's account.
    pub(crate) summary: Summary,
    /// Actors that were started again.
    pub(crate) restarts: u64,
}

/// Runs a learner and its actors until the learner has finished, or an interrupt or a fault ends the run. What `stops`
/// says counts as an interrupt too.
///
/// # Errors
/// The learner's exit code and last log line if it fails; exit 70 if an actor dies again and again; exit 130 at a
/// second interrupt.
pub(crate) async fn run(
    directory: Arc<RunDirectory>,
    plan: Plan,
    progress: Arc<Progress>,
    stops: Stops,
) -> Result<LocalRun, Failure> {
    let mut supervision = Supervision::start(directory, plan, progress, stops)?;
    while !supervision.over() {
        let happening = supervision.next().await;
        supervision.handle(happening);
    }
    supervision.outcome()
}

/// All that can happen to a run, seen from the launcher.
enum Happening {
    Event(Option<LearnerEvent>),
    LearnerEnded(Result<Ended, Failure>),
    ActorEnded(Result<(), Failure>),
    Interrupt,
    Deadline,
}

/// The state of a run.
struct Supervision {
    program: Arc<Program>,
    progress: Arc<Progress>,
    plan: Plan,
    /// Where the learner listens, once it was heard.
    address: Option<String>,
    restarts: Arc<AtomicU64>,
    phase: watch::Sender<Phase>,
    stops: Stops,
    interrupted: bool,
    /// `None` once the learner's stdout has ended.
    events: Option<mpsc::Receiver<LearnerEvent>>,
    learner: Option<JoinHandle<Result<Ended, Failure>>>,
    actors: JoinSet<Result<(), Failure>>,
    /// When patience with the present phase ends.
    deadline: Option<Instant>,
    learner_ended: Option<Ended>,
    summary: Option<Summary>,
    /// The first fault; later ones are its consequences.
    failure: Option<Failure>,
    reaped: bool,
}

impl Supervision {
    fn start(
        directory: Arc<RunDirectory>,
        plan: Plan,
        progress: Arc<Progress>,
        stops: Stops,
    ) -> Result<Self, Failure> {
        let program = Arc::new(Program::new(directory, plan.private_socket)?);
        let (phase, _) = watch::channel(Phase::Running);
        let mut supervision = Self {
            program,
            progress,
            plan,
            address: None,
            restarts: Arc::new(AtomicU64::new(0)),
            phase,
            stops,
            interrupted: false,
            events: None,
            learner: None,
            actors: JoinSet::new(),
            deadline: None,
            learner_ended: None,
            summary: None,
            failure: None,
            reaped: false,
        };
        supervision.start_learner(supervision.plan.resume)?;
        Ok(supervision)
    }

    fn start_learner(&mut self, resume: bool) -> Result<(), Failure> {
        let mut child = self
            .program
            .learner(resume, self.address.as_deref(), self.plan.http)?;
        let mut watched = self.phase.subscribe();
        self.events = child.stdout().map(read_events);
        self.learner = Some(tokio::spawn(async move {
            child.ended(&mut watched, Phase::Draining).await
        }));
        self.deadline = Some(Instant::now() + START_MAX);
        Ok(())
    }

    /// Starts another learner in place of one that was killed, if the run goes on and there is something to go on from.
    /// Actors look for it by themselves.
    fn replace_learner(&mut self, ended: &Ended) -> bool {
        let goes_on = *self.phase.borrow() == Phase::Running && self.address.is_some();
        let may = goes_on && ended.by_accident() && self.plan.learner_restarts_max > 0;
        if !may || !self.program.has_checkpoint() {
            return false;
        }
        self.plan.learner_restarts_max -= 1;
        self.note(&format!(
            "the learner ended unexpectedly ({}); resuming from its last checkpoint",
            ended.reason()
        ));
        match self.start_learner(true) {
            Ok(()) => true,
            Err(failure) => {
                self.fail(failure);
                false
            }
        }
    }

    /// Whether every process has ended and all that the learner said was read.
    fn over(&self) -> bool {
        let ended = self.learner.is_none() && self.actors.is_empty() && self.events.is_none();
        ended || self.reaped
    }

    async fn next(&mut self) -> Happening {
        let deadline = self.deadline;
        tokio::select! {
            event = receive(&mut self.events) => Happening::Event(event),
            ended = join(&mut self.learner) => Happening::LearnerEnded(ended),
            Some(ended) = self.actors.join_next() => {
                Happening::ActorEnded(ended.unwrap_or_else(|error| Err(Failure::internal(error))))
            }
            () = stopped(&mut self.stops) => Happening::Interrupt,
            () = sleep_until(deadline) => Happening::Deadline,
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Event(None) => self.events = None,
            Happening::Event(Some(event)) => self.on_event(event),
            Happening::LearnerEnded(ended) => {
                self.learner = None;
                if let Ok(ended) = &ended
                    && self.replace_learner(ended)
                {
                    return;
                }
                match ended {
                    Ok(ended) => self.learner_ended = Some(ended),
                    Err(failure) => self.fail(failure),
                }
                self.advance(Phase::Stopping);
            }
            Happening::ActorEnded(ended) => {
                if let Err(failure) = ended {
                    self.fail(failure);
                    self.advance(Phase::Draining);
                } else if self.actors.is_empty() {
                    // The last actor left: the learner is finishing already, or nobody is left to learn from.
                    self.advance(Phase::Draining);
                }
            }
            Happening::Interrupt => self.on_interrupt(),
            Happening::Deadline => self.on_deadline(),
        }
    }

    fn on_interrupt(&mut self) {
        if self.interrupted {
            self.failure = Some(Failure::new(
                Exit::Interrupted,
                "interrupted twice: stopped without draining",
            ));
            self.advance(Phase::Killing);
        } else {
            self.interrupted = true;
            self.note("interrupted: draining (once more to stop at once)");
            self.advance(Phase::Draining);
        }
    }

    fn on_event(&mut self, event: LearnerEvent) {
        self.progress.event(&event);
        match event {
            LearnerEvent::Listening { address, unix, .. } => {
                if *self.phase.borrow() == Phase::Running {
                    self.deadline = None;
                    if self.address.is_none() {
                        let url = url_for_actors(self.plan.scheme, &address, unix.as_deref());
                        self.program.log.line(&format!("actors connect to {url}"));
                        self.start_actors(&url);
                    }
                    self.address = Some(address);
                }
            }
            LearnerEvent::Finished { summary } => self.summary = Some(*summary),
            LearnerEvent::Progress(_) => {}
        }
    }

    fn start_actors(&mut self, learner: &str) {
        for index in 0..self.plan.actors {
            self.actors.spawn(keep_actor(
                ActorPlace {
                    program: Arc::clone(&self.program),
                    progress: Arc::clone(&self.progress),
                    restarts: Arc::clone(&self.restarts),
                    learner: learner.to_owned(),
                    index,
                },
                self.phase.subscribe(),
            ));
        }
    }

    fn on_deadline(&mut self) {
        let phase = *self.phase.borrow();
        if phase == Phase::Killing {
            self.reaped = true;
            return;
        }
        self.fail(Failure::internal(match phase {
            Phase::Running => format!(
                "the learner did not listen within {} s",
                START_MAX.as_secs()
            ),
            _ => format!("draining took longer than {} s: killed", GRACE.as_secs()),
        }));
        self.advance(Phase::Killing);
    }

    /// Goes on to `phase`, never back, and gives it its time.
    fn advance(&mut self, phase: Phase) {
        let now = *self.phase.borrow();
        if phase <= now {
            return;
        }
        self.program.log.line(&format!("{now:?} -> {phase:?}"));
        let patience = if phase == Phase::Killing {
            REAP_MAX
        } else {
            GRACE
        };
        let proposed = Instant::now() + patience;
        // Draining and stopping share one grace period: an interrupt is over in GRACE, whatever it meets.
        self.deadline = match (phase, now, self.deadline) {
            (Phase::Stopping, Phase::Draining, Some(earlier)) => Some(earlier),
            _ => Some(proposed),
        };
        self.phase.send_replace(phase);
    }

    /// Says something to whoever watches, and in the log for later.
    fn note(&self, text: &str) {
        self.program.log.line(text);
        self.progress.note(text);
    }

    fn fail(&mut self, failure: Failure) {
        self.program.log.line(&failure.text);
        self.failure.get_or_insert(failure);
    }

    fn outcome(self) -> Result<LocalRun, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.learner_ended {
            Some(ended) if !ended.status.success() => Err(ended.failure("the learner")),
            _ => match self.summary {
                Some(summary) => Ok(LocalRun {
                    summary,
                    restarts: self.restarts.load(Ordering::Relaxed),
                }),
                None => Err(Failure::internal("the learner ended without a summary")),
            },
        }
    }
}

/// The next of `sent`; waits for ever where nothing is sent any more.
async fn receive<T>(sent: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match sent {
        Some(sent) => sent.recv().await,
        None => std::future::pending().await,
    }
}

/// The end of the learner; waits for ever once it was seen.
async fn join(learner: &mut Option<JoinHandle<Result<Ended, Failure>>>) -> Result<Ended, Failure> {
    match learner {
        Some(task) => task
            .await
            .unwrap_or_else(|error| Err(Failure::internal(error))),
        None => std::future::pending().await,
    }
}

/// The next wish to stop. The token's is told once.
async fn stopped(stops: &mut Stops) {
    loop {
        let Stops {
            signals,
            token,
            keys,
        } = stops;
        tokio::select! {
            () = signals.next() => return,
            () = cancelled(token) => return stops.token = None,
            pressed = receive(keys) => match pressed {
                Some(()) => return,
                // The screen is gone; signals are still heard.
                None => stops.keys = None,
            },
        }
    }
}

async fn cancelled(token: &Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Reads events, one JSON object a line, until stdout ends. Lines that are no event are left out: a library may
/// have printed them.
fn read_events(stdout: ChildStdout) -> mpsc::Receiver<LearnerEvent> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(event) = serde_json::from_str(&line)
                && sender.send(event).await.is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// One of the N places for actors: whoever dies in it is replaced.
struct ActorPlace {
    program: Arc<Program>,
    progress: Arc<Progress>,
    restarts: Arc<AtomicU64>,
    learner: String,
    index: usize,
}

/// Keeps an actor in its place until the run ends.
async fn keep_actor(place: ActorPlace, mut phase: watch::Receiver<Phase>) -> Result<(), Failure> {
    let name = format!("actor {}", place.index);
    let mut restarts = RestartPolicy::default();
    loop {
        let mut child = place.program.actor(place.index, &place.learner)?;
        let ended = child.ended(&mut phase, Phase::Stopping).await?;
        if ended.status.success() || *phase.borrow() > Phase::Running {
            return Ok(());
        }
        // A configuration fault does not go away by trying again.
        if ended.status.code() == Some(i32::from(Exit::Usage.code())) {
            return Err(ended.failure(&name));
        }
        let Some(delay) = restarts.died(std::time::Instant::now()) else {
            return Err(Failure::internal(format!(
                "{name} died {} times within {} s, last {}",
                restart::DEATHS_MAX,
                restart::WINDOW.as_secs(),
                ended.reason()
            )));
        };
        let seconds = delay.as_secs_f64();
        let text = format!(
            "{name} ended unexpectedly ({}); starting it again in {seconds:.1} s",
            ended.reason()
        );
        place.program.log.line(&text);
        place.progress.note(&text);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = phase.wait_for(|phase| *phase > Phase::Running) => return Ok(()),
        }
        place.restarts.fetch_add(1, Ordering::Relaxed);
    }
}
