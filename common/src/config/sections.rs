//! Every key of the configuration, written once: name, type, default and meaning.

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock};

use figment::value::Value;

use super::setting::{
    AdvantageNormalisation, Cap, ClipRange, Core, Critic, DeviceChoice, InferencePlace,
    KlAdaptation, KlDirection, LogFormat, MdpoSchedule, Objective, OverLimit, PgTarget, Preset,
    Ratio, RecomputeTargets, Refresh, Schedule, Setting, Std, ValueLoss,
};
use super::transport::{ObservationEncoding, SnapshotEncoding, UnixListen};
use crate::{injection::LagInjection, spec::Activation};

/// What there is to know about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDoc {
    /// `section.key`.
    pub path: &'static str,
    /// What a value looks like, as a noun phrase.
    pub expected: &'static str,
    /// The default, as TOML.
    pub default: String,
    /// What it means.
    pub doc: String,
    /// Whether text from the environment or the command line is taken as it stands.
    pub(super) is_text: bool,
}

sections! {
    /// The training run.
    run: RunConfig {
        /// Seed of every random number: parameters, actions, environments, minibatches.
        seed: u64 = 1;
        /// Environment steps to train on before the run is done.
        total_steps: u64 = 1_000_000;
        /// Mean return of the last 100 episodes at which the run is done early.
        stop_return: Option<f64> = None;
        /// Lock-step: the learner waits for each actor and the actors for the learner, so that the same seed gives the
        /// same interleaving, the same policy lags and, on the processor, the same parameters bit for bit. Slow.
        deterministic: bool = false;
        /// Directory that holds the directories of runs.
        out: PathBuf = PathBuf::from("runs");
        /// Name of the run's directory; "none" makes one from the environment and the time.
        name: Option<String> = None;
    }
    /// What is played.
    environment: EnvironmentConfig {
        /// Name of a registered environment, or of one in Python: `gym:ID`, `gym:module:ID`, `py:package.module:factory`.
        id: String = "CartPole-v1".to_owned();
        /// Settings that belong together: values for several keys, below whatever else sets those keys.
        preset: Preset = Preset::None;
        /// Options of that environment.
        options: toml::Table = toml::Table::new();
        section {
            /// How Python environments are run; each machine has its own.
            python: PythonConfig {
                /// Interpreter that has the environment's packages; "auto" is that of the active virtual environment,
                /// or else `python3` on PATH.
                interpreter: String = "auto".to_owned();
                /// Seconds that one step of all environments of an actor may take.
                step_deadline_s_max: u64 = 60;
                /// Seconds that making and resetting all environments of an actor may take.
                start_deadline_s_max: u64 = 120;
                /// Times that an actor may start environments again that failed.
                restarts_max: u64 = 10;
            }
        }
    }
    /// The network that plays it.
    policy: PolicyConfig {
        /// What turns an observation into features: "auto", "mlp", "minatar_conv", "nature_conv", "impala_resnet" or a
        /// registered name; "auto" takes a convolution for images of three axes and else "mlp".
        encoder: String = "auto".to_owned();
        /// Width of each fully connected layer; "none" takes those usual for the encoder: [64, 64] for "mlp", and one of
        /// 128, 512 or 256 after the convolutions of "minatar_conv", "nature_conv" or "impala_resnet".
        hidden_sizes: Option<Vec<usize>> = None;
        /// Activation after each fully connected layer.
        activation: Activation = Activation::Relu;
        /// What remembers earlier observations.
        core: Core = Core::None;
        /// Units of the core.
        core_size: usize = 64;
        /// Whether policy and value share encoder and core.
        shared_torso: bool = false;
        /// Where the standard deviation of a continuous action comes from.
        std: Std = Std::StateIndependent;
        /// Logarithm of the standard deviation of a continuous action at the start.
        log_std_initial: f64 = 0.0;
        /// Whether a continuous action is squashed onto its bounds by tanh; otherwise it is clipped to them.
        squash: bool = false;
        /// Whether observations are normalised by their running mean and deviation, which travel with the parameters.
        normalise_observations: bool = false;
        /// Whether the value head predicts normalised values (PopArt, arXiv 1602.07714).
        popart: bool = false;
    }
    /// The actors, which make experience.
    actor: ActorConfig {
        /// Actor processes that `train` starts.
        count: usize = 2;
        /// Environments that one actor steps together: K.
        environments_per_actor: usize = 16;
        /// Steps of each environment in one unroll: T.
        unroll_length: usize = 32;
        /// Unrolls that an actor may have begun and not seen acknowledged; each adds to the policy lag.
        outbox_unrolls: usize = 1;
        /// Who chooses the actions: each actor, with parameters that it is sent, or the learner, with the newest ones, out of
        /// observations that the actors send it before each step (the shape of SEED RL, arXiv 1910.06591).
        inference: InferencePlace = InferencePlace::Local;
        /// When an actor takes up newer parameters.
        refresh: Refresh = Refresh::Unroll;
        /// Bytes of parameters that may be on their way to an actor: the window of HTTP/2, for its connection and each call in
        /// it. A network with a round trip of R seconds carries at most this many bytes / R in a second.
        window_bytes: usize = 2 * 1024 * 1024;
        /// How observations travel to the learner. "zstd" compresses those of bytes, such as frames of a game, which costs an
        /// actor and the learner a little processor time and often saves nearly all of the network; "auto" does so unless the
        /// learner is on the actor's machine. Those of floating-point numbers travel as they are.
        observation_encoding: ObservationEncoding = ObservationEncoding::Auto;
        /// Seconds that an actor goes on looking for a learner that does not answer.
        learner_wait_s_max: u64 = 600;
        /// Seconds that one step of all built-in environments of an actor may take; then the actor ends with an error, and
        /// a launcher starts it again. Python environments have `environment.python.step_deadline_s_max`.
        step_deadline_s_max: u64 = 60;
    }
    /// The learner, which trains on it.
    learner: LearnerConfig {
        /// Address that actors connect to; port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        /// Unix socket on which actors of this machine connect besides, with less work than over TCP: "auto" makes one for the
        /// actors of `train`, in a directory that only this user can enter; "none" makes none; a path makes it there, with
        /// access for this user only. No TLS is spoken on it; tokens are asked for as on the address.
        listen_unix: UnixListen = UnixListen::Auto;
        /// Updates from one version that is published to the next; actors never see those in between. P of them save network
        /// and cost no throughput, and add (P - 1) / 2 versions of policy lag on average.
        publish_interval_updates: u64 = 1;
        /// Milliseconds from one version that is published to the next, at least; 0 knows only
        /// `learner.publish_interval_updates`.
        publish_interval_ms: u64 = 0;
        /// How the numbers of a snapshot travel to the actors. With "bf16" weights are rounded to 16 bits, and the policy that
        /// acts is the rounded one.
        snapshot_encoding: SnapshotEncoding = SnapshotEncoding::F32;
        /// Where the learner computes. With "auto" a GPU, if there is one and the network is large enough that it may pay, and
        /// the processor each make an update before the run, and the faster one gets it; in lock-step the GPU does.
        device: DeviceChoice = DeviceChoice::Auto;
        /// Parts of a minibatch whose gradients are computed at the same time on the processor, which makes convolutions
        /// faster; 0 takes as many as there are cores and work for, in lock-step 1. Networks with memory and GPUs take 1.
        gradient_parts: usize = 0;
        /// Unrolls in one batch, which makes one policy version.
        batch_unrolls: usize = 2;
        /// Unrolls that may wait for the trainer; each adds to the policy lag.
        queue_unrolls: usize = 2;
        /// Last batches out of which one may be trained on again.
        reservoir_batches: usize = 1;
        /// Updates on each batch, the first included: each further one makes a version of its own, and so adds to the
        /// policy lag.
        reuse: usize = 1;
        /// Environments, those of several actors, for which "central" inference acts in one pass at most.
        inference_batch_rows_max: usize = 1024;
        /// Microseconds that a request to act waits at most for those of other actors, to share a pass with them. It does not
        /// wait when all actors have asked, or the pass is full.
        inference_deadline_us: u64 = 1000;
        /// Milliseconds to wait before each update: a slow learner on purpose, to study policy lag.
        update_delay_ms: u64 = 0;
    }
    /// How the learner trains.
    algorithm: AlgorithmConfig {
        /// Discount of the reward one step later: gamma.
        gamma: f64 = 0.99;
        /// Mix of short (0) and long (1) returns: lambda.
        lambda: f64 = 0.95;
        /// Where the critic's targets and the advantages come from.
        critic: Critic = Critic::Vtrace;
        /// Rewards in one return of the critic "n_step"; fewer before an end of the episode or the unroll.
        n_step: usize = 5;
        /// Cap of the importance ratio that weights a temporal difference (V-trace, arXiv 1802.01561, eq. 1).
        rho_bar: Cap = Some(1.0);
        /// Cap of the importance ratio that carries later differences back (V-trace, arXiv 1802.01561, eq. 1).
        c_bar: Cap = Some(1.0);
        /// Cap of the importance ratio proximal / behaviour that weights a step of the policy gradient, where the objective
        /// has such a weight.
        weight_bar: Cap = Some(1.0);
        /// Advantage estimate that the policy gradient uses.
        pg_target: PgTarget = PgTarget::LambdaMix;
        /// What an update of the policy maximises.
        objective: Objective = Objective::Clip;
        /// Which probability ratios the objective "clip" weights and clips.
        ratio: Ratio = Ratio::Behaviour;
        /// Distance from 1 at which the objective "clip" clips the ratio.
        clip_epsilon: f64 = 0.2;
        /// Form of the interval that the ratio is clipped to.
        clip_range: ClipRange = ClipRange::Symmetric;
        /// Factor on a negative advantage below which the clipped objective does not fall (arXiv 1912.09729); "none" for no
        /// such bound.
        dual_clip: Option<f64> = None;
        /// Bound of the ratio, and of its inverse, before it is clipped (20 in Sample Factory, arXiv 2006.11751); "none" for no
        /// such bound.
        ratio_clamp: Option<f64> = None;
        /// Updates between two refreshes of the target network of the ratio "target_network".
        target_refresh_updates: u64 = 2;
        /// Cap of behaviour / target within the ratio "target_network".
        target_ratio_bar: Cap = Some(2.0);
        /// Whether the ratio "target_network" and the objectives "kl_penalty", "mdpo" and "trust_region" weight each step by
        /// proximal / behaviour, which corrects for lag.
        staleness_weight: bool = true;
        /// Weight of the divergence from the proximal policy when the run begins: objectives "kl_penalty" and "mdpo".
        kl_coefficient: f64 = 1.0;
        /// Which divergence the objective "kl_penalty" penalises.
        kl_direction: KlDirection = KlDirection::Forward;
        /// Divergence of one update, in nats, that the weight of the objective "kl_penalty" is adapted to.
        kl_target: f64 = 0.01;
        /// How that weight is adapted.
        kl_adaptation: KlAdaptation = KlAdaptation::Paper;
        /// How the weight of the divergence changes in the objective "mdpo".
        mdpo_schedule: MdpoSchedule = MdpoSchedule::PaperLinear;
        /// Divergence from the proximal policy, in nats, beyond 1.5 times which no further pass is begun; "none" makes
        /// every pass.
        kl_stop: Option<f64> = None;
        /// Largest mean divergence KL(proximal || current) of one step of the objective "trust_region", in nats.
        trust_region_kl_max: f64 = 0.01;
        /// What is added to the curvature of that divergence, times the identity.
        trust_region_damping: f64 = 0.1;
        /// Iterations of conjugate gradients in which the step is found.
        trust_region_cg_iterations: usize = 10;
        /// The curvature is that of every so-many-th row (with a memory: column) of a batch.
        trust_region_fisher_stride: usize = 1;
        /// Passes over each batch by which the value function is trained under the objective "trust_region".
        trust_region_critic_epochs: usize = 5;
        /// Updates of the objective "ppg" between two auxiliary phases. Until then observations, masks and targets of that
        /// many batches are kept in memory: this times T * K * `learner.batch_unrolls` rows.
        ppg_policy_updates: usize = 32;
        /// Passes of an auxiliary phase over those batches.
        ppg_auxiliary_epochs: usize = 6;
        /// Weight of the divergence from the policy before an auxiliary phase.
        ppg_beta_clone: f64 = 1.0;
        /// Passes over each batch.
        epochs: usize = 4;
        /// Minibatches in each pass.
        minibatches: usize = 4;
        /// Step size of Adam for the policy (and for a shared torso).
        policy_learning_rate: f64 = 0.0025;
        /// Step size of Adam for the value function.
        value_learning_rate: f64 = 0.0025;
        /// How both step sizes change over the run.
        learning_rate_schedule: Schedule = Schedule::Linear;
        /// Added to Adam's denominator.
        adam_epsilon: f64 = 1e-5;
        /// Weight of the policy's entropy, which rewards exploration.
        entropy_coefficient: f64 = 0.01;
        /// How that weight changes over the run.
        entropy_schedule: Schedule = Schedule::Constant;
        /// Weight of the value loss.
        value_coefficient: f64 = 0.5;
        /// Loss of the value function.
        value_loss: ValueLoss = ValueLoss::Mse;
        /// Largest change of a value that the clipped value loss rewards.
        value_clip: f64 = 0.2;
        /// Error at which the Huber value loss turns linear.
        huber_delta: f64 = 1.0;
        /// Norm to which longer gradients are shortened.
        gradient_norm_max: f64 = 0.5;
        /// Over what the advantages are normalised.
        advantage_normalisation: AdvantageNormalisation = AdvantageNormalisation::Batch;
        /// Factor on rewards before training; returns are reported unscaled.
        reward_scale: f64 = 1.0;
        /// Largest absolute reward; larger ones are cut before they are scaled; returns are reported uncut.
        reward_clip: Option<f64> = None;
        /// Whether rewards are divided by the running deviation of the discounted return.
        normalise_rewards: bool = false;
        /// Rows at the start of each unroll that only warm up the memory: nothing is learnt from them.
        burn_in: usize = 0;
        /// How often targets and advantages are computed while a batch is trained.
        recompute_targets: RecomputeTargets = RecomputeTargets::Once;
    }
    /// How old experience may be.
    lag: LagConfig {
        /// Policy lag on purpose: the learner serves parameters that are so many versions behind the newest: "none",
        /// "fixed:8", "uniform:0..16" (drawn for each snapshot, both ends included) or "per-actor:0,4,16". Natural lag
        /// comes on top of it, except in lock-step, which has none.
        inject: LagInjection = LagInjection::None;
        /// Policy versions by which an unroll may be behind the learner; "none" trains on any.
        max_versions: Option<u64> = None;
        /// What is done with experience over that limit.
        over_limit: OverLimit = OverLimit::DropStale;
        /// Mean policy lag, in versions, that the governor holds; "none" lets the lag be.
        target_lag: Option<f64> = None;
        /// Effective sample size, as a share of a batch, that the governor holds; "none" lets it be.
        target_ess: Option<f64> = None;
        /// Effective sample size, as a share of a batch, below which the watchdog warns.
        ess_floor: f64 = 0.5;
    }
    /// Who may connect, and how that is proved. Secrets are in files, never in the configuration.
    security: SecurityConfig {
        /// Whether other machines may connect although nothing proves who they are or hides what is sent.
        insecure: bool = false;
        /// Certificate chain of the learner, PEM; with it, the learner speaks TLS.
        certificate_file: Option<PathBuf> = None;
        /// Private key of that certificate, PEM.
        key_file: Option<PathBuf> = None;
        /// Certificate authority, PEM, of which every actor must show a certificate (mutual TLS).
        client_ca_file: Option<PathBuf> = None;
        /// Certificate authority, PEM, that actors trust to have signed the learner's certificate, and no other.
        ca_file: Option<PathBuf> = None;
        /// Name in the learner's certificate that actors expect; "none" is the host that they connect to.
        server_name: Option<String> = None;
        /// Certificate chain that an actor shows, PEM.
        actor_certificate_file: Option<PathBuf> = None;
        /// Private key of that certificate, PEM.
        actor_key_file: Option<PathBuf> = None;
        /// Tokens, one a line: the learner lets in whoever has one of them, an actor shows the first.
        token_file: Option<PathBuf> = None;
        /// Whether the tokens, separated by commas, are in the variable SPRINGBOK_TOKEN; true if there is such a variable.
        token_in_environment: bool = false;
        /// Milliseconds between two looks of the learner at its certificate, key, authority and tokens, which may be replaced
        /// while it runs.
        refresh_ms: u64 = 1000;
    }
    /// What a peer may ask of the learner.
    limits: LimitsConfig {
        /// Actors connected at one time.
        actors_max: usize = 64;
        /// Connections at one time. The oldest one that has not proved who it is makes room for a new one.
        connections_max: usize = 192;
        /// Connections from one address at one time, with the same rule. All on the Unix socket count as one.
        connections_per_peer_max: usize = 192;
        /// Calls open at one time on one connection; an actor has two or three.
        streams_per_connection_max: usize = 8;
        /// Calls open at one time on all connections.
        streams_max: usize = 288;
        /// Bytes in one message.
        message_bytes_max: usize = 64 * 1024 * 1024;
        /// Largest absolute reward that an honest environment gives: an unroll with a larger one is refused, and counts
        /// against its actor; "none" admits any finite reward.
        reward_abs_max: Option<f64> = None;
        /// Bytes in the headers of one call.
        header_bytes_max: usize = 16 * 1024;
        /// Bytes that a connection may send ahead of the learner's reading: the window of HTTP/2, for a connection and for
        /// each call in it. A network with a round trip of R seconds carries at most this many bytes / R in a second.
        window_bytes: usize = 1024 * 1024;
        /// Seconds from connecting to the first byte.
        first_byte_s_max: u64 = 5;
        /// Seconds that the handshake of TLS may take.
        tls_handshake_s_max: u64 = 5;
        /// Seconds from connecting to the first call that proves who calls, and from opening a stream to its first message.
        first_message_s_max: u64 = 5;
        /// Seconds of silence after which a stream, or a connection without one, is closed.
        idle_s_max: u64 = 30;
        /// Seconds that a stopping process has to finish what it began. An actor from which not a byte comes for half of them
        /// hangs, and is not waited for.
        drain_s_max: u64 = 8;
        /// MiB that the learner may be made to hold in the worst case, as `springbok config check` adds it up.
        memory_mib: u64 = 16 * 1024;
    }
    /// The state of the learner on the disk, from which a run is resumed.
    checkpoint: CheckpointConfig {
        /// Whether checkpoints are written at all. With them, one is written at the end and when a run drains.
        enabled: bool = true;
        /// Seconds between two checkpoints; "none" for no such interval. Lock-step knows no time and pays no heed to it.
        interval_s: Option<u64> = Some(60);
        /// Updates between two checkpoints. In lock-step all environments begin anew at each of these versions, so that a
        /// resumed run goes on exactly as one that was never interrupted; "none" writes only the last one there.
        interval_updates: Option<u64> = None;
        /// Checkpoints that are kept, the newest ones; more than one, in case the newest is damaged.
        keep_last: usize = 2;
        /// Whether the checkpoint with the best mean return of the last 100 episodes is kept besides.
        keep_best: bool = true;
        /// Times that `train` starts a learner again that was killed, from its last checkpoint; 0 ends the run.
        restarts_max: u64 = 3;
    }
    /// What is reported, and how.
    telemetry: TelemetryConfig {
        /// How log lines are written.
        log_format: LogFormat = LogFormat::Text;
        /// Whether `metrics.jsonl` is written, one line an update; the summary does without it.
        metrics: bool = true;
        /// Whether TensorBoard's event files are written to `tensorboard/` in the run directory: at most ten points a second, and
        /// one a thousandth of the time so far.
        tensorboard: bool = false;
        /// Address at which the learner shows itself over HTTP: a page, `/metrics` for Prometheus, `/health`; "none" does not.
        /// Port 0 takes a free one. On an address that other machines can reach, whoever asks must show one of
        /// `security.token_file`, except for `/health`.
        http: Option<SocketAddr> = None;
        /// OpenTelemetry collector that traces are sent to over gRPC, such as "http://127.0.0.1:4317"; needs a program built with
        /// the feature `otlp`.
        otlp_endpoint: Option<String> = None;
        /// Unrolls of an actor of which one is followed by a trace, from its first step to its update.
        trace_every_unrolls: u64 = 100;
        /// Milliseconds between two reports of progress.
        progress_interval_ms: u64 = 500;
        /// Seconds without an update, or with an actor that loads no newer parameters, after which the watchdog warns.
        stall_s: u64 = 30;
    }
}
