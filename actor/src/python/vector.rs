//! A vector of Python environments, as the actor steps it.

use std::{collections::BTreeMap, thread, time::Duration};

use serde::Serialize;
use springbok_common::{
    arrays::{Actions, ActionsRef, Elements, ElementsRef},
    backoff::Backoff,
    spec::EnvironmentSpec,
    step::StepOutcome,
    unroll::EpisodeSummary,
};

use super::{
    PythonSettings,
    check::{check_finite, check_masks, check_rewards},
    complaint::Complaint,
    server::{Answer, Request, Server},
    shared::Shared,
    usable,
};
use crate::{
    environment::{EnvironmentError, Frame},
    vector::{BEGUN, StepSink, VectorEnvironment, environment_seed},
};

/// Environments take seeds below this: numpy's older generator and ALE's vectors allow no more.
const SEED_MAX: u64 = i32::MAX as u64;

/// K Python environments in a process of their own. Episode statistics are kept here, from rewards and outcomes.
pub struct PythonVector {
    id: String,
    options: toml::Table,
    settings: PythonSettings,
    /// `[K]`, for the first start; later ones derive others.
    seeds: Vec<u32>,
    spec: EnvironmentSpec,
    /// `None` after a failure.
    running: Option<Running>,
    /// `[K, O]`.
    observations: Elements,
    /// `[K, M]`.
    masks: Vec<u8>,
    /// `[K]`: outcomes of the last step.
    outcomes: Vec<u8>,
    /// `[O]`.
    final_row: Elements,
    /// `[K]`: the running episode of each environment.
    episodes: Vec<EpisodeSummary>,
    restarts: u32,
    backoff: Backoff,
    last_failure: String,
}

struct Running {
    server: Server,
    shared: Shared,
    answer: Answer,
}

/// How fast the environments are without the actor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BareRate {
    /// Steps of single environments.
    pub steps: u64,
    /// Time that they took, in seconds, measured by the server.
    pub seconds: f64,
}

impl PythonVector {
    /// Starts a server with `environments` (K) copies of the environment `id`, each with a seed derived from `seed`.
    ///
    /// # Errors
    /// [`EnvironmentError`] if there is no interpreter, the environment cannot be made, or K is 0.
    pub fn new(
        id: &str,
        options: &toml::Table,
        settings: &PythonSettings,
        environments: usize,
        seed: u64,
    ) -> Result<Self, EnvironmentError> {
        let seeds = (0..environments as u64)
            .map(|index| small_seed(environment_seed(seed, index)))
            .collect();
        Self::with_seeds(id, options, settings, seeds)
    }

    /// The same with the seed of each environment, `[K]`. Libraries that seed a whole vector at once use the first.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_seeds(
        id: &str,
        options: &toml::Table,
        settings: &PythonSettings,
        seeds: Vec<u32>,
    ) -> Result<Self, EnvironmentError> {
        if seeds.is_empty() {
            return Err(EnvironmentError::NoEnvironments {
                environment: id.to_owned(),
            });
        }
        let running = start(id, options, settings, seeds.clone())
            .map_err(|complaint| complaint.of_construction(id))?;
        let spec = usable(id, running.answer.spec.clone())?;
        let (count, row) = (seeds.len(), spec.observation.len());
        let element = spec.observation.element;
        tracing::info!(
            environment = id,
            environments = count,
            back_end = running.answer.back_end,
            autoreset = running.answer.autoreset,
            versions = ?running.answer.versions,
            process = running.server.process_id(),
            "Python environments started"
        );
        let mut vector = Self {
            id: id.to_owned(),
            options: options.clone(),
            settings: settings.clone(),
            observations: Elements::zeros(element, count * row),
            masks: vec![0; count * spec.mask_len()],
            outcomes: vec![0; count],
            final_row: Elements::zeros(element, row),
            episodes: vec![BEGUN; count],
            running: Some(running),
            seeds,
            spec,
            restarts: 0,
            backoff: Backoff::default(),
            last_failure: String::new(),
        };
        let begun = vector.begin();
        begun.map_err(|complaint| complaint.of_construction(id))?;
        Ok(vector)
    }

    /// What steps the environments behind the server, such as `SyncVectorEnv`.
    #[must_use]
    pub fn back_end(&self) -> &str {
        self.running
            .as_ref()
            .map_or("", |running| &running.answer.back_end)
    }

    /// Names and versions of what the server uses.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.running
            .as_ref()
            .map(|running| running.answer.versions.clone())
            .unwrap_or_default()
    }

    /// Process id of the server; `None` after a failure.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running
            .as_ref()
            .map(|running| running.server.process_id())
    }

    /// Times that the server was started again.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Lets the server step its environments on its own for `duration`, with the batches of actions of `table`
    /// (`[K, A]` each) over and over: what there is to gain without an actor. Steps may not follow, only further such
    /// loops: the episodes are no longer those that were counted here.
    ///
    /// # Errors
    /// [`EnvironmentError::Failed`] as for a step.
    pub fn bare_loop(
        &mut self,
        table: &[Actions],
        duration: Duration,
    ) -> Result<BareRate, EnvironmentError> {
        let order = Order {
            table: table
                .iter()
                .map(|actions| rows(actions, self.spec.action.len()))
                .collect(),
            seconds: duration.as_secs_f64(),
        };
        let counted = match &mut self.running {
            Some(running) => running.server.bare(&order),
            None => Err(stopped()),
        };
        counted
            .map(|(steps, seconds)| BareRate { steps, seconds })
            .map_err(|complaint| self.failed(complaint))
    }

    /// Reads the first observations of a server that just started.
    fn begin(&mut self) -> Result<(), Complaint> {
        self.episodes.fill(BEGUN);
        // There was no step: the rewards and outcomes are zeros, read into buffers that nobody looks at.
        let mut rewards = vec![0.0; self.seeds.len()];
        self.read(&mut rewards)?;
        self.outcomes.fill(StepOutcome::Continued as u8);
        Ok(())
    }

    /// Reads and checks what the server wrote, except final observations.
    fn read(&mut self, rewards: &mut [f32]) -> Result<(), Complaint> {
        let Some(running) = &mut self.running else {
            return Err(stopped());
        };
        running
            .shared
            .read_step(
                &mut self.observations,
                rewards,
                &mut self.outcomes,
                &mut self.masks,
            )
            .map_err(|error| unreadable(&error))?;
        check_finite(self.observations.as_ref(), self.spec.observation.len())?;
        check_rewards(rewards)?;
        check_masks(&self.masks, self.spec.action.heads(), self.spec.mask_len())
    }

    fn take_step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), Complaint> {
        let running = self.running.as_mut().ok_or_else(stopped)?;
        running
            .shared
            .write_actions(actions)
            .map_err(|error| unreadable(&error))?;
        running.server.step()?;
        let voids_follow_ends = running.answer.autoreset == "next_step";
        for (before, outcome) in self.outcomes.iter().zip(sink.outcomes.iter_mut()) {
            // Kept for a moment where the new outcomes will be written.
            *outcome = StepOutcome::from_byte(*before).unwrap_or_default();
        }
        self.read(sink.rewards)?;
        for index in 0..self.outcomes.len() {
            let byte = self.outcomes[index];
            let ended_before = sink.outcomes[index].is_end();
            let outcome = StepOutcome::from_byte(byte)
                .filter(|outcome| {
                    (*outcome == StepOutcome::Void) == (voids_follow_ends && ended_before)
                })
                .ok_or_else(|| {
                    Complaint::new(format!(
                        "environment {index} reported the outcome {byte} out of turn"
                    ))
                })?;
            sink.outcomes[index] = outcome;
            self.count(index, outcome, sink)?;
        }
        Ok(())
    }

    /// Adds a step to the episode of environment `index`, and ends it if it ended.
    fn count(
        &mut self,
        index: usize,
        outcome: StepOutcome,
        sink: &mut StepSink<'_>,
    ) -> Result<(), Complaint> {
        if !outcome.is_step() {
            return Ok(());
        }
        let episode = &mut self.episodes[index];
        episode.episode_return += f64::from(sink.rewards[index]);
        episode.length = episode.length.saturating_add(1);
        if outcome == StepOutcome::Truncated {
            self.read_final(index)?;
            (sink.on_truncated)(index, self.final_row.as_ref());
        }
        if outcome.is_end() {
            sink.episodes.push(self.episodes[index]);
            self.episodes[index] = BEGUN;
        }
        Ok(())
    }

    fn read_final(&mut self, index: usize) -> Result<(), Complaint> {
        let running = self.running.as_mut().ok_or_else(stopped)?;
        running
            .shared
            .read_final(index, &mut self.final_row)
            .map_err(|error| unreadable(&error))?;
        check_finite(self.final_row.as_ref(), self.spec.observation.len())
    }

    /// Ends the server and keeps what `complaint` says.
    fn failed(&mut self, complaint: Complaint) -> EnvironmentError {
        self.running = None;
        let error = complaint.of_play(&self.id);
        if let EnvironmentError::Failed { reason, .. } = &error {
            reason.clone_into(&mut self.last_failure);
        }
        error
    }

    /// Starts a server with other seeds than any before.
    fn start_again(&mut self) -> Result<(), EnvironmentError> {
        let life = u64::from(self.restarts);
        let seeds = self
            .seeds
            .iter()
            .map(|&seed| small_seed(environment_seed(seed.into(), life)))
            .collect();
        let running = start(&self.id, &self.options, &self.settings, seeds)
            .map_err(|complaint| self.failed(complaint))?;
        if running.answer.spec != self.spec {
            return Err(self.failed(Complaint::new(
                "it shows or takes something else after a restart",
            )));
        }
        self.running = Some(running);
        self.begin().map_err(|complaint| self.failed(complaint))
    }
}

impl VectorEnvironment for PythonVector {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn environments(&self) -> usize {
        self.seeds.len()
    }

    fn observations(&self) -> ElementsRef<'_> {
        self.observations.as_ref()
    }

    fn action_masks(&self) -> &[u8] {
        &self.masks
    }

    fn step(
        &mut self,
        actions: ActionsRef<'_>,
        sink: &mut StepSink<'_>,
    ) -> Result<(), EnvironmentError> {
        self.take_step(actions, sink)
            .map_err(|complaint| self.failed(complaint))
    }

    /// Starts another server, after a wait that grows from one restart to the next.
    fn restart(&mut self) -> Result<(), EnvironmentError> {
        self.running = None;
        loop {
            let limit = self.settings.restarts_max;
            if self.restarts >= limit {
                return Err(EnvironmentError::Failed {
                    environment: self.id.clone(),
                    reason: format!(
                        "its server was started again {limit} times, which `environment.python.restarts_max` allows; \
                         the last failure: {}",
                        self.last_failure
                    ),
                });
            }
            self.restarts += 1;
            thread::sleep(self.backoff.next());
            match self.start_again() {
                Ok(()) => break,
                Err(error) => tracing::warn!(restarts = self.restarts, "{error}"),
            }
        }
        tracing::warn!(
            environment = self.id,
            restarts = self.restarts,
            "Python environments started again"
        );
        Ok(())
    }

    fn render(&mut self, environment: usize, frame: &mut Frame) -> Result<bool, EnvironmentError> {
        let drawn = match &mut self.running {
            Some(running) if running.answer.frame_bytes > 0 => draw(running, environment, frame),
            Some(_) => Ok(false),
            None => Err(stopped()),
        };
        drawn.map_err(|complaint| self.failed(complaint))
    }
}

fn start(
    id: &str,
    options: &toml::Table,
    settings: &PythonSettings,
    seeds: Vec<u32>,
) -> Result<Running, Complaint> {
    let environments = seeds.len();
    let request = Request::new(id, options, seeds, settings);
    let (mut server, answer) = Server::start(settings, &request)?;
    let shared = Shared::new(&answer.spec, environments, answer.frame_bytes)
        .map_err(|error| Complaint::new(error.to_string()))?;
    server.share(&shared, settings)?;
    Ok(Running {
        server,
        shared,
        answer,
    })
}

fn draw(running: &mut Running, environment: usize, frame: &mut Frame) -> Result<bool, Complaint> {
    let index = u32::try_from(environment).unwrap_or(u32::MAX);
    let Some([height, width]) = running.server.render(index)? else {
        return Ok(false);
    };
    let bytes = height
        .checked_mul(width)
        .and_then(|pixels| pixels.checked_mul(3));
    if bytes.is_none_or(|bytes| bytes > running.shared.frame_len()) {
        return Err(Complaint::new(format!(
            "its picture of {height} x {width} pixels is larger than its first one"
        )));
    }
    frame.fill(width, height, [0; 3]);
    running
        .shared
        .read_frame(&mut frame.rgb)
        .map_err(|error| unreadable(&error))?;
    Ok(true)
}

/// The order of a bare loop.
#[derive(Serialize)]
struct Order<'a> {
    table: Vec<Rows<'a>>,
    seconds: f64,
}

/// One batch of actions, `[K, A]`.
#[derive(Serialize)]
#[serde(untagged)]
enum Rows<'a> {
    Indices(Vec<&'a [u32]>),
    Values(Vec<&'a [f32]>),
}

fn rows(actions: &Actions, len: usize) -> Rows<'_> {
    match actions {
        Actions::Indices(indices) => Rows::Indices(indices.chunks(len).collect()),
        Actions::Values(values) => Rows::Values(values.chunks(len).collect()),
    }
}

fn small_seed(seed: u64) -> u32 {
    u32::try_from(seed & SEED_MAX).unwrap_or_default()
}

fn stopped() -> Complaint {
    Complaint::new("it failed before and was not started again")
}

fn unreadable(error: &std::io::Error) -> Complaint {
    Complaint::new(format!(
        "the memory shared with its server is unusable: {error}"
    ))
}
