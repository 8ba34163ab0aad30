//! What is measured: an environment, the network that plays it, and the experience that its initial policy makes.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use burn::tensor::Device;
use springbok_actor::{
    environment::Registry,
    inference::Inference,
    python::PythonSettings,
    rollout::{Order, Rollout},
    vector::VectorEnvironment,
};
use springbok_common::{
    config::Config,
    ids::{ActorId, RunId, UnrollSequence},
    policy::{ActorCritic, export_flat, layout_fingerprint},
    snapshot::ParameterSnapshot,
    spec::{EncoderSpec, EnvironmentSpec},
    unroll::{Agreement, Served, Unroll},
    version::{LearnerEpoch, PolicyVersion},
};
use springbok_learner::{
    race,
    trainer::batch::{Batch, Member},
};
use tokio_util::sync::CancellationToken;

use super::{Suite, runner::Pace};
use crate::{cli::Layers, exit::Failure};

/// What every stage works on.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) config: Config,
    pub(super) agreement: Agreement,
    pub(super) registry: Arc<Registry>,
    /// Where the learner computes.
    pub(super) device: Device,
    pub(super) device_name: String,
    pub(super) pace: Pace,
    pub(super) recording: Option<PathBuf>,
    pub(super) run_id: RunId,
    /// Where the configuration came from, for other processes.
    pub(super) layers: Layers,
    /// What [`Self::snapshot`] makes: large orthogonal matrices take seconds.
    initial: OnceLock<ParameterSnapshot>,
}

impl Subject {
    /// What `config` says, measured at `pace`.
    ///
    /// # Errors
    /// There is no device as asked for.
    pub(super) fn new(
        config: Config,
        environment: EnvironmentSpec,
        registry: Arc<Registry>,
        pace: Pace,
        suite: &Suite,
        layers: &Layers,
    ) -> Result<Self, Failure> {
        let agreement = Agreement {
            network: config.network(&environment),
            rollout: config.rollout(),
            environment,
        };
        let never = CancellationToken::new();
        let chosen = race::select(&config, &agreement, &never).map_err(Failure::usage)?;
        Ok(Self {
            config,
            agreement,
            registry,
            device: chosen.device,
            device_name: chosen.name,
            pace,
            recording: suite.recording.clone(),
            run_id: RunId::random(),
            layers: layers.clone(),
            initial: OnceLock::new(),
        })
    }

    /// The same with observations of so many bytes, and so many of them in an unroll.
    ///
    /// # Errors
    /// There is no such environment.
    pub(super) fn of_bytes(&self, observation_len: usize, rows: usize) -> Result<Self, Failure> {
        let mut config = self.config.clone();
        let options = format!("element = \"uint8\"\nobservation_len = {observation_len}");
        config.environment.id = "Synthetic".to_owned();
        config.environment.options = options.parse().map_err(Failure::internal)?;
        config.actor.unroll_length = rows;
        config.actor.environments_per_actor = 1;
        // As small as a network can be: it is not what is measured.
        config.policy.encoder = "mlp".to_owned();
        config.policy.hidden_sizes = Some(vec![1]);
        config.policy.shared_torso = true;
        self.configured(config)
    }

    /// The same with another configuration.
    ///
    /// # Errors
    /// There is no such environment.
    pub(super) fn configured(&self, config: Config) -> Result<Self, Failure> {
        let environment = &config.environment;
        let spec = self
            .registry
            .spec(&environment.id, &environment.options, &self.python())
            .map_err(Failure::usage)?;
        Ok(Self {
            agreement: Agreement {
                network: config.network(&spec),
                rollout: config.rollout(),
                environment: spec,
            },
            config,
            initial: OnceLock::new(),
            ..self.clone()
        })
    }

    /// The same for at least so many actors on this machine.
    pub(super) fn with_room(&self, actors: usize) -> Self {
        let mut config = self.config.clone();
        make_room(&mut config, actors);
        Self {
            config,
            ..self.clone()
        }
    }

    /// Name of the network's encoder.
    pub(super) fn encoder(&self) -> &str {
        match &self.agreement.network.encoder {
            EncoderSpec::Mlp { .. } => "mlp",
            EncoderSpec::MinatarConv { .. } => "minatar_conv",
            EncoderSpec::NatureConv { .. } => "nature_conv",
            EncoderSpec::ImpalaResnet { .. } => "impala_resnet",
            EncoderSpec::Custom { name } => name,
        }
    }

    /// K environments that have just begun.
    ///
    /// # Errors
    /// They cannot be made.
    pub(super) fn vector(&self) -> Result<Box<dyn VectorEnvironment>, Failure> {
        let environment = &self.config.environment;
        self.registry
            .make_vector(
                &environment.id,
                &environment.options,
                &self.python(),
                self.agreement.rollout.environments,
                self.config.run.seed,
            )
            .map_err(Failure::usage)
    }

    /// How Python environments are run here.
    pub(super) fn python(&self) -> PythonSettings {
        PythonSettings::from(&self.config.environment.python)
    }

    /// The policy that the learner would begin with, as it would publish it.
    pub(super) fn snapshot(&self) -> ParameterSnapshot {
        let make = || {
            let network = &self.agreement.network;
            let policy = ActorCritic::new(network, self.config.run.seed, &Device::flex());
            ParameterSnapshot::seal(
                LearnerEpoch::FIRST,
                PolicyVersion(0),
                layout_fingerprint(network),
                export_flat(&policy),
            )
        };
        self.initial.get_or_init(make).clone()
    }

    /// The policy of an actor, with the parameters of [`Self::snapshot`].
    ///
    /// # Errors
    /// They cannot be loaded.
    pub(super) fn inference(&self) -> Result<Inference, Failure> {
        let environments = self.agreement.rollout.environments;
        let mut inference =
            Inference::new(&self.agreement.network, environments, self.config.run.seed);
        inference
            .load(self.snapshot().payload())
            .map_err(Failure::internal)?;
        Ok(inference)
    }

    /// An actor's rollout with the parameters of [`Self::snapshot`].
    ///
    /// # Errors
    /// The environments cannot be made, or the parameters not loaded.
    pub(super) fn rollout(&self) -> Result<Rollout, Failure> {
        let (vector, inference) = (self.vector()?, self.inference()?);
        let mut rollout = Rollout::new(self.agreement.clone(), vector, inference);
        rollout.load(&self.snapshot()).map_err(Failure::internal)?;
        Ok(rollout)
    }

    /// The order for an unroll with this number.
    pub(super) fn order(&self, sequence: u64) -> Order {
        Order {
            run_id: self.run_id,
            sequence: UnrollSequence(sequence),
            blocked: Duration::ZERO,
            served: Served::default(),
        }
    }

    /// So many unrolls, played one after the other by the initial policy.
    ///
    /// # Errors
    /// The environments fail.
    pub(super) fn unrolls(&self, count: usize) -> Result<Vec<Unroll>, Failure> {
        let mut rollout = self.rollout()?;
        (1..=count as u64)
            .map(|sequence| fill(&mut rollout, self.order(sequence)))
            .collect()
    }

    /// `unrolls` as one batch without lag.
    pub(super) fn batch(&self, unrolls: &[Unroll]) -> Batch {
        let mut batch = Batch::default();
        assemble(&mut batch, unrolls, &self.agreement);
        batch
    }
}

/// Raises the limits of `config` to so many actors, each with a connection and its calls.
pub(super) fn make_room(config: &mut Config, actors: usize) {
    let limits = &mut config.limits;
    for limit in [
        &mut limits.actors_max,
        &mut limits.connections_max,
        &mut limits.connections_per_peer_max,
    ] {
        *limit = (*limit).max(actors);
    }
    limits.streams_max = limits.streams_max.max(4 * actors);
}

/// One unroll in buffers of its own.
///
/// # Errors
/// The environments fail.
pub(super) fn fill(rollout: &mut Rollout, order: Order) -> Result<Unroll, Failure> {
    let filled = rollout.fill(order, None, &mut || false);
    let filled = filled.map_err(Failure::internal)?;
    // Nobody stops it.
    filled.ok_or_else(|| Failure::internal("the rollout was stopped"))
}

/// Puts `unrolls` into `batch`, without lag.
pub(super) fn assemble(batch: &mut Batch, unrolls: &[Unroll], agreement: &Agreement) {
    let (newest, actor) = (PolicyVersion(0), ActorId::random());
    let members: Vec<Member<'_>> = unrolls
        .iter()
        .filter_map(|unroll| {
            let lag = newest.lag_behind(newest)?;
            Some(Member { unroll, lag, actor })
        })
        .collect();
    batch.assemble(&members, agreement.rollout);
}

/// Seconds that `work` takes, the median of `times`.
pub(super) fn seconds(times: usize, mut work: impl FnMut()) -> f64 {
    let mut taken: Vec<f64> = (0..times.max(1))
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken[taken.len() / 2]
}
