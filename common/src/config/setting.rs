//! How one value of the configuration is read, written and described.

use std::{net::SocketAddr, path::PathBuf};

use figment::value::Value;

use crate::{injection::LagInjection, spec::Activation};

/// The word that stands for an absent value; TOML has no null.
pub(super) const NONE: &str = "none";

/// A limit on an importance ratio; `None`, written `"none"`, caps nothing.
pub type Cap = Option<f64>;

/// A type that a key may have.
pub(super) trait Setting: Sized {
    /// What a value of this type looks like, as a noun phrase.
    const EXPECTED: &'static str;
    /// Whether text from the environment or the command line is meant as it stands, without TOML quotes.
    const IS_TEXT: bool = false;
    /// The value, if it is of this type.
    fn read(value: &Value) -> Option<Self>;
    /// The value as TOML; [`Setting::read`] gives it back.
    fn write(&self) -> toml::Value;
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value) -> Option<Self> {
        value.deserialize().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::Boolean(*self)
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: &Value) -> Option<Self> {
        match value {
            // TOML integers end at 2^63 - 1; larger ones are written as text.
            Value::String(_, text) => text.parse().ok(),
            _ => value.deserialize().ok(),
        }
    }

    fn write(&self) -> toml::Value {
        i64::try_from(*self).map_or_else(
            |_| toml::Value::String(self.to_string()),
            toml::Value::Integer,
        )
    }
}

impl Setting for usize {
    const EXPECTED: &'static str = u64::EXPECTED;

    fn read(value: &Value) -> Option<Self> {
        u64::read(value)?.try_into().ok()
    }

    fn write(&self) -> toml::Value {
        (*self as u64).write()
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &Value) -> Option<Self> {
        value.deserialize().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::Float(*self)
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "text";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        value.deserialize().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.clone())
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        value.deserialize().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string_lossy().into_owned())
    }
}

impl Setting for LagInjection {
    const EXPECTED: &'static str = "\"none\" or \"fixed:8\" or \"uniform:0..16\" or \"per-actor:0,4,16\" (at most 1024 versions)";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some(text) => text.parse().ok(),
            None => u64::read(value)?.to_string().parse().ok(),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an IP address and port, such as \"127.0.0.1:0\"";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

impl Setting for Vec<usize> {
    const EXPECTED: &'static str = "a list of whole numbers";

    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(usize::read).collect()
    }

    fn write(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(Setting::write).collect())
    }
}

impl Setting for toml::Table {
    const EXPECTED: &'static str = "a table";

    fn read(value: &Value) -> Option<Self> {
        value.as_dict()?;
        value.deserialize().ok()
    }

    fn write(&self) -> toml::Value {
        toml::Value::Table(self.clone())
    }
}

macro_rules! optional {
    ($($inner:ty: $expected:literal),+ $(,)?) => {$(
        impl Setting for Option<$inner> {
            const EXPECTED: &'static str = $expected;
            const IS_TEXT: bool = <$inner as Setting>::IS_TEXT;

            fn read(value: &Value) -> Option<Self> {
                match value.as_str() {
                    Some(NONE) => Some(None),
                    _ => <$inner as Setting>::read(value).map(Some),
                }
            }

            fn write(&self) -> toml::Value {
                match self {
                    None => toml::Value::String(NONE.to_owned()),
                    Some(inner) => inner.write(),
                }
            }
        }
    )+};
}

optional! {
    f64: "a number or \"none\"",
    u64: "a whole number or \"none\"",
    String: "text, or \"none\"",
    PathBuf: "a path, or \"none\"",
    Vec<usize>: "a list of whole numbers or \"none\"",
    SocketAddr: "an IP address and port, such as \"127.0.0.1:9090\", or \"none\"",
}

/// Defines an enum whose variants are chosen by a word.
macro_rules! choice {
    ($(#[$attribute:meta])* $name:ident {
        $(#[$first_attribute:meta])* $first:ident = $first_word:literal,
        $($(#[$other_attribute:meta])* $other:ident = $other_word:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[$first_attribute])* $first,
            $($(#[$other_attribute])* $other,)+
        }

        impl $name {
            /// The word that chooses this variant in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$other => $other_word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl Setting for $name {
            const EXPECTED: &'static str =
                concat!("\"", $first_word, "\"", $(" or \"", $other_word, "\""),+);
            const IS_TEXT: bool = true;

            fn read(value: &Value) -> Option<Self> {
                match value.as_str()? {
                    $first_word => Some(Self::$first),
                    $($other_word => Some(Self::$other),)+
                    _ => None,
                }
            }

            fn write(&self) -> toml::Value {
                toml::Value::String(self.as_str().to_owned())
            }
        }
    };
}

mod acting;

pub use acting::{InferencePlace, Refresh};

impl Setting for Activation {
    const EXPECTED: &'static str = "\"relu\" or \"tanh\"";
    const IS_TEXT: bool = true;

    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "relu" => Some(Self::Relu),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }

    fn write(&self) -> toml::Value {
        let word = match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
        };
        toml::Value::String(word.to_owned())
    }
}

choice! {
    /// What remembers earlier observations.
    Core {
        /// Nothing: the policy sees only the present observation.
        None = "none",
        /// Long short-term memory.
        Lstm = "lstm",
        /// Gated recurrent unit.
        Gru = "gru",
    }
}

choice! {
    /// Where the standard deviation of a continuous action comes from.
    Std {
        /// One parameter for each dimension.
        StateIndependent = "state_independent",
        /// An output of the network for each dimension.
        StateDependent = "state_dependent",
    }
}

choice! {
    /// Where the learner computes.
    DeviceChoice {
        /// The fastest device for this network and batch.
        Auto = "auto",
        /// The processor.
        Cpu = "cpu",
        /// The graphics processor, or an error if there is none.
        Gpu = "gpu",
    }
}

choice! {
    /// Which probability ratios the policy loss weights and clips.
    Ratio {
        /// Clip current / behaviour around 1 (PPO, arXiv 1707.06347, eq. 7, with stale behaviour): the safest at a high lag.
        Behaviour = "behaviour",
        /// Clip current / proximal, weighted by proximal / behaviour (decoupled PPO, arXiv 2110.00641).
        Decoupled = "decoupled",
        /// Clip current / proximal, unweighted: biased by lag.
        Proximal = "proximal",
        /// As decoupled, and no gradient where either current ratio has left its interval.
        Dual = "dual",
        /// Clip current / target, with a target network that follows slowly (IMPACT, arXiv 1912.00167, as RLlib's APPO).
        TargetNetwork = "target_network",
    }
}

choice! {
    /// What an update of the policy maximises.
    Objective {
        /// A ratio times the advantage, clipped (PPO, arXiv 1707.06347, eq. 7): `ratio` says which ratio.
        Clip = "clip",
        /// Current / proximal times the advantage, minus an adaptive penalty on the divergence (the same, section 4).
        KlPenalty = "kl_penalty",
        /// The same with KL(current || proximal) on a schedule (mirror descent, MDPO, arXiv 2005.09814).
        Mdpo = "mdpo",
        /// Proximal / behaviour times the advantage times log pi: IMPALA; without `weight_bar` Off-PAC (arXiv 1205.4839).
        WeightedPg = "weighted_pg",
        /// The advantage times log pi, uncorrected (A2C, arXiv 1602.01783): biased by lag, kept as a control.
        A2c = "a2c",
        /// Current / proximal times the advantage, in one step of at most `trust_region_kl_max` a batch (TRPO, arXiv
        /// 1502.05477); the minibatches of a pass are added up for it. Policy and value share nothing.
        TrustRegion = "trust_region",
        /// As "clip", and from time to time a phase in which the policy's network learns the values too (PPG, arXiv
        /// 2009.04416). Policy and value share nothing.
        Ppg = "ppg",
    }
}

choice! {
    /// Where the critic's targets and the advantages come from.
    Critic {
        /// Corrected for lag by truncated importance ratios (V-trace, arXiv 1802.01561, eq. 1).
        Vtrace = "vtrace",
        /// Generalised advantage estimation (arXiv 1506.02438): uncorrected.
        Gae = "gae",
        /// Returns of `n_step` steps (arXiv 1602.01783): uncorrected.
        NStep = "n_step",
        /// Values of actions, corrected for lag by truncated traces (Retrace, arXiv 1606.02647); the advantage is the target
        /// minus the mean value under the policy. For one discrete action without masks.
        Retrace = "retrace",
    }
}

choice! {
    /// Form of the interval that a ratio is clipped to.
    ClipRange {
        /// From 1 - epsilon to 1 + epsilon.
        Symmetric = "symmetric",
        /// From 1 / (1 + epsilon) to 1 + epsilon, symmetric in the logarithm.
        Reciprocal = "reciprocal",
    }
}

choice! {
    /// Which divergence between current and proximal policy the objective "kl_penalty" penalises.
    KlDirection {
        /// KL(proximal || current), as PPO's paper.
        Forward = "forward",
        /// KL(current || proximal).
        Reverse = "reverse",
    }
}

choice! {
    /// How the weight of the penalty follows the divergence of each update.
    KlAdaptation {
        /// Doubled above 1.5 targets, halved below 1 / 1.5 of the target (PPO, arXiv 1707.06347, section 4).
        Paper = "paper",
        /// Times 1.5 above 2 targets, halved below half the target (RLlib).
        Rllib = "rllib",
        /// Not at all.
        Fixed = "fixed",
    }
}

choice! {
    /// How the weight of the divergence changes in the objective "mdpo".
    MdpoSchedule {
        /// `kl_coefficient` / (1 - share of the run that is done): grows, as the paper's code.
        PaperLinear = "paper_linear",
        /// `kl_coefficient` / number of the update: falls.
        InverseStep = "inverse_step",
    }
}

choice! {
    /// The loss of the value function.
    ValueLoss {
        /// Half the squared error.
        Mse = "mse",
        /// The larger of the squared errors with and without clipping the change of the value (PPO's code).
        Clipped = "clipped",
        /// Quadratic near zero, linear beyond `huber_delta`.
        Huber = "huber",
    }
}

choice! {
    /// The advantage estimate that the policy gradient uses.
    PgTarget {
        /// The V-trace targets mixed over lengths by lambda.
        LambdaMix = "lambda_mix",
        /// rho (r + gamma v_{t+1} - V_t) as IMPALA writes it (arXiv 1802.01561, section 4.2).
        Vs = "vs",
    }
}

choice! {
    /// Over what the advantages are brought to mean 0 and standard deviation 1.
    AdvantageNormalisation {
        /// Over the whole batch.
        Batch = "batch",
        /// Over each minibatch.
        Minibatch = "minibatch",
        /// Not at all.
        None = "none",
    }
}

choice! {
    /// How a coefficient changes over the run.
    Schedule {
        /// Not at all.
        Constant = "constant",
        /// Linearly to 0 at `run.total_steps`.
        Linear = "linear",
    }
}

choice! {
    /// How often value targets and advantages are computed while a batch is trained.
    RecomputeTargets {
        /// Once, when the batch arrives.
        Once = "once",
        /// Before each epoch, with the values of that moment.
        Epoch = "epoch",
    }
}

choice! {
    /// What is done with experience that is, or would become, older than `lag.max_versions`.
    OverLimit {
        /// It is refused or dropped.
        DropStale = "drop_stale",
        /// It is not made: acknowledgements are held back, so that actors wait; nothing is dropped.
        Pace = "pace",
        /// When the queue is full its oldest unroll is dropped, whatever its age: actors never wait.
        DropOldest = "drop_oldest",
        /// It is trained on, but for the value function only.
        Mask = "mask",
        /// It is trained on, with limit / lag as the weight of its policy gradient.
        DownWeight = "down_weight",
    }
}

choice! {
    /// Settings that belong together.
    Preset {
        /// Nothing is preset.
        None = "none",
        /// Atari as DQN played it (Mnih et al., 2015): no sticky actions, lost lives cut the value.
        AtariDqn = "atari.dqn",
        /// Atari as Machado et al. recommend (arXiv 1709.06009): sticky actions, all 18 actions, whole games.
        AtariMachado = "atari.machado",
    }
}

choice! {
    /// How log lines are written.
    LogFormat {
        /// For people, one line each.
        Text = "text",
        /// For people who look for something: several lines each, with the place in the source.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
    }
}
