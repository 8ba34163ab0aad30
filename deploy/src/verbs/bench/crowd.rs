//! A crowd: many simulated actors, each the real client with a connection of its own, on one learner that trains in a
//! process of its own; its memory beside the bound that it prints, and how long acknowledgements take.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use springbok_actor::{ActorOptions, Security};
use springbok_common::config::{Config, DeviceChoice};
use springbok_learner::LearnerEvent;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    runner::Pace,
    scripted::{Habits, world},
    stage::{Note, Stage},
    subject::{Subject, make_room},
    whole::unhurried,
};
use crate::{
    cli::Layers,
    exit::Failure,
    verbs::{runtime, soak::memory_mib},
};

/// Sessions, and as many where there is little time.
const SESSIONS: usize = 1000;
const SESSIONS_QUICK: usize = 100;
/// Pause of a session between two unrolls, for each session: together they send 250 a second.
const PAUSE_PER_SESSION: Duration = Duration::from_millis(4);
/// The longest that the sessions may take until each has been acknowledged once.
const START_MAX: Duration = Duration::from_secs(120);
/// Between two looks at them.
const POLL: Duration = Duration::from_millis(20);
/// Acknowledgements without which a slice says nothing.
const HEARD_MIN: u64 = 20;
/// Unrolls in a batch and in the queue: a learner that is not the bottleneck.
const BATCH_UNROLLS: usize = 16;

/// What is to be measured, and the crowd once it is there.
pub(super) struct Crowd {
    subject: Subject,
    sessions: usize,
    there: Option<There>,
    notes: Vec<Note>,
}

impl Crowd {
    pub(super) fn new(subject: &Subject) -> Self {
        let is_quick = subject.pace.is_quick;
        Self {
            subject: subject.clone(),
            sessions: if is_quick { SESSIONS_QUICK } else { SESSIONS },
            there: None,
            notes: Vec::new(),
        }
    }

    fn pause(&self) -> Duration {
        PAUSE_PER_SESSION * u32::try_from(self.sessions).unwrap_or(u32::MAX)
    }

    /// What the learner and its actors play: nothing that takes time.
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.environment.id = "Synthetic".to_owned();
        config.policy.hidden_sizes = Some(vec![8]);
        config.learner.device = DeviceChoice::Cpu;
        config.learner.batch_unrolls = BATCH_UNROLLS;
        config.learner.queue_unrolls = BATCH_UNROLLS;
        config.algorithm.epochs = 1;
        config.algorithm.minibatches = 1;
        config.run.total_steps = 1_000_000_000_000;
        config.telemetry.metrics = false;
        config.checkpoint.enabled = false;
        make_room(&mut config, self.sessions);
        config
    }
}

impl Stage for Crowd {
    fn case(&self) -> String {
        format!("{} simulated actors", self.sessions)
    }

    fn unit(&self) -> &'static str {
        "unrolls/s"
    }

    fn against(&self) -> &'static str {
        "what they offer"
    }

    fn pace(&self, usual: &Pace) -> Pace {
        unhurried(usual)
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let there = match self.there.take() {
            Some(there) => there,
            None => There::gather(&self.subject, self.config(), self.sessions, self.pause())?,
        };
        let rate = there.heard.rate(slice)?;
        self.notes = there.notes();
        self.there = Some(there);
        Ok(rate)
    }

    fn ceiling(&mut self, _: Duration) -> Result<f64, Failure> {
        Ok(self.sessions as f64 / self.pause().as_secs_f64())
    }

    fn notes(&self) -> Vec<Note> {
        self.notes.clone()
    }
}

/// Acknowledgements, and how long they took.
#[derive(Debug, Default)]
struct Heard {
    count: AtomicU64,
    /// Seconds; of one slice.
    latencies: Mutex<Vec<f64>>,
}

/// Latencies that are kept of one slice.
const LATENCIES_MAX: usize = 1_000_000;

impl Heard {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn hear(&self, latency: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latencies.len() < LATENCIES_MAX {
            latencies.push(latency.as_secs_f64());
        }
    }

    /// Acknowledgements each second, for about `slice`; of these alone the latencies are kept.
    fn rate(&self, slice: Duration) -> Result<f64, Failure> {
        let (before, begun) = (self.count(), Instant::now());
        self.forget();
        thread::sleep(slice);
        while self.count() < before + HEARD_MIN {
            if begun.elapsed() > slice + START_MAX {
                return Err(Failure::internal("the crowd is not acknowledged any more"));
            }
            thread::sleep(POLL);
        }
        Ok((self.count() - before) as f64 / begun.elapsed().as_secs_f64())
    }

    fn forget(&self) {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The latencies below which these shares of them lie.
    fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        latencies.sort_by(f64::total_cmp);
        shares.map(|share| {
            let at = (share * latencies.len() as f64) as usize;
            latencies
                .get(at.min(latencies.len().saturating_sub(1)))
                .copied()
                .unwrap_or(f64::NAN)
        })
    }
}

/// The learner and all its actors.
struct There {
    learner: Learner,
    heard: Arc<Heard>,
    leaving: CancellationToken,
    _runtime: Runtime,
    /// MiB of the learner before the first actor came, and what it may hold at most.
    memory_before: f64,
    memory_bound: f64,
}

impl There {
    /// Starts the learner, lets all actors join, and waits until each has been acknowledged.
    fn gather(
        subject: &Subject,
        config: Config,
        sessions: usize,
        pause: Duration,
    ) -> Result<Self, Failure> {
        raise_open_files();
        let learner = Learner::start(&config)?;
        let memory_before = memory_mib(learner.pid()).unwrap_or(f64::NAN);
        let crowd = subject.configured(config)?;
        let bound = crowd.config.memory_bound(&crowd.agreement);
        let unroll = crowd.unrolls(1)?.remove(0);
        let (runtime, heard) = (runtime()?, Arc::new(Heard::default()));
        let leaving = CancellationToken::new();
        let index_of = |session: usize| u32::try_from(session).unwrap_or(u32::MAX);
        for session in 0..sessions {
            let heard = Arc::clone(&heard);
            let habits = Habits {
                // Evenly over a pause.
                first: pause.mul_f64(session as f64 / sessions as f64),
                pause,
                on_acknowledged: Arc::new(move |latency| heard.hear(latency)),
            };
            let options = ActorOptions {
                learner: learner.url.clone(),
                index: Some(index_of(session)),
                environment_id: None,
                registry: Arc::clone(&crowd.registry),
                python: crowd.python(),
                learner_wait_max: START_MAX,
                step_max: START_MAX,
                window_bytes: crowd.config.actor.window_bytes,
                security: Security::default(),
            };
            let world = world(&crowd.agreement, &unroll, &habits);
            let leaving = leaving.clone();
            runtime.spawn(async move {
                if let Err(error) = springbok_actor::run_in(world, options, leaving).await {
                    tracing::warn!(%error, "a session ended");
                }
            });
        }
        let there = Self {
            learner,
            heard,
            leaving,
            _runtime: runtime,
            memory_before,
            memory_bound: bound.mib() as f64,
        };
        let begun = Instant::now();
        while there.heard.count() < sessions as u64 {
            if begun.elapsed() > START_MAX {
                let (heard, seconds) = (there.heard.count(), START_MAX.as_secs());
                return Err(Failure::internal(format!(
                    "only {heard} unrolls of {sessions} actors were acknowledged within {seconds} s"
                )));
            }
            thread::sleep(POLL);
        }
        Ok(there)
    }

    fn notes(&self) -> Vec<Note> {
        let [half, most] = self.heard.quantiles([0.5, 0.99]);
        let memory = memory_mib(self.learner.pid()).unwrap_or(f64::NAN);
        vec![
            (
                "milliseconds to an acknowledgement, p50".to_owned(),
                1e3 * half,
            ),
            (
                "milliseconds to an acknowledgement, p99".to_owned(),
                1e3 * most,
            ),
            ("MiB of the learner".to_owned(), memory),
            ("MiB of the learner alone".to_owned(), self.memory_before),
            (
                "MiB of the learner at most, by its limits".to_owned(),
                self.memory_bound,
            ),
        ]
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.leaving.cancel();
    }
}

/// A learner in a process of its own, which leaves when it is dropped.
struct Learner {
    process: Child,
    url: String,
    /// Reads what it says for as long as it says anything.
    reading: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Learner {
    fn start(config: &Config) -> Result<Self, Failure> {
        let directory = tempfile::tempdir().map_err(Failure::files)?;
        let file = directory.path().join("config.toml");
        fs::write(&file, config.to_toml()).map_err(Failure::files)?;
        let executable = std::env::current_exe().map_err(Failure::internal)?;
        let mut command = Command::new(executable);
        command.args(["learner", "--supervised"]);
        Layers {
            file: Some(file),
            sets: Vec::new(),
        }
        .hand_on(&mut command);
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("SPRINGBOK__"))
            {
                command.env_remove(name);
            }
        }
        let mut process = command
            .arg("--run-directory")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::internal(format!("cannot start a learner: {error}")))?;
        let stdout = process
            .stdout
            .take()
            .ok_or_else(|| Failure::internal("a learner without stdout"))?;
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            match serde_json::from_str(&line) {
                Ok(LearnerEvent::Listening { address, .. }) => Some(address),
                _ => None,
            }
        });
        let reading = thread::Builder::new()
            .name("learner-events".to_owned())
            .spawn(move || lines.map_while(Result::ok).for_each(drop))
            .map_err(Failure::internal)?;
        let learner = Self {
            process,
            url: format!("http://{}", address.as_deref().unwrap_or_default()),
            reading: Some(reading),
            _directory: directory,
        };
        match address {
            Some(_) => Ok(learner),
            None => Err(Failure::internal("the learner of the crowd did not start")),
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap_or_default()
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// Each session takes a file, here and at the learner, which inherits the limit.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // With too few files, sessions fail and say so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_heard_since() {
        let heard = Heard::default();
        heard.hear(Duration::from_secs(9));
        heard.forget();
        (1..=100).for_each(|seconds| heard.hear(Duration::from_secs(seconds)));
        assert_eq!(heard.quantiles([0.5, 0.99, 1.0]), [51.0, 100.0, 100.0]);
        assert_eq!(heard.count(), 101);
        assert!(Heard::default().quantiles([0.5])[0].is_nan());
    }
}
