//! The network that plays an environment.

use serde::{Deserialize, Serialize};

use super::environment::{ActionSpec, EnvironmentSpec, ObservationSpec};

/// The activation function between the layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0): several times faster than tanh on the CPU.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// Which axis of an image holds its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageLayout {
    /// [channels, height, width], as stacked Atari frames are.
    ChannelsFirst,
    /// [height, width, channels], as MinAtar's boards are.
    ChannelsLast,
}

impl ImageLayout {
    /// The layout of an image: the channels are the axis, first or last, that is the shorter one; of equals, the first.
    #[must_use]
    pub fn of(shape: &[usize]) -> Self {
        match (shape.first(), shape.last()) {
            (Some(first), Some(last)) if last < first => Self::ChannelsLast,
            _ => Self::ChannelsFirst,
        }
    }
}

/// The part of a network that turns an observation into features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderSpec {
    /// Fully connected layers over the flattened observation.
    Mlp {
        /// Width of each layer.
        hidden_sizes: Vec<usize>,
    },
    /// One convolution of 16 filters 3 x 3, then fully connected layers (Young and Tian 2019, arXiv 1903.03176).
    MinatarConv {
        /// Where the channels are.
        layout: ImageLayout,
        /// Width of each fully connected layer.
        hidden_sizes: Vec<usize>,
    },
    /// Convolutions 32 x 8/4, 64 x 4/2, 64 x 3/1, then fully connected layers (Mnih et al. 2015).
    NatureConv {
        /// Where the channels are.
        layout: ImageLayout,
        /// Width of each fully connected layer.
        hidden_sizes: Vec<usize>,
    },
    /// Three stages of a convolution, a max-pool and two residual blocks, with 16, 32 and 32 channels, then fully
    /// connected layers (Espeholt et al. 2018, fig. 3, the large architecture).
    ImpalaResnet {
        /// Where the channels are.
        layout: ImageLayout,
        /// Width of each fully connected layer.
        hidden_sizes: Vec<usize>,
    },
    /// An encoder that the program registered under this name.
    Custom {
        /// Registered name.
        name: String,
    },
}

/// The part of a network that remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoreSpec {
    /// No memory.
    None,
    /// Long short-term memory (Hochreiter and Schmidhuber 1997); its state is [hidden, cell].
    Lstm {
        /// Units: H.
        size: usize,
    },
    /// Gated recurrent unit (Cho et al. 2014, in the form of cuDNN and PyTorch); its state is `[hidden]`.
    Gru {
        /// Units: H.
        size: usize,
    },
}

impl CoreSpec {
    /// Numbers in the state of one environment for one torso.
    #[must_use]
    pub fn state_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Lstm { size } => size.saturating_mul(2),
            Self::Gru { size } => size,
        }
    }
}

/// Where the standard deviation of a Gaussian policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdKind {
    /// One parameter for each dimension.
    StateIndependent,
    /// An output of the network for each dimension.
    StateDependent,
}

/// What the critic's head estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticSpec {
    /// The value of a state: one output.
    #[default]
    V,
    /// The value of each discrete action in a state: as many outputs as the one head has choices. The value of the state
    /// is their mean under the policy.
    Q,
}

/// How a policy over a continuous action is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GaussianSpec {
    /// Where the standard deviation comes from.
    pub std: StdKind,
    /// The logarithm of the standard deviation at the start.
    pub log_std_initial: f32,
    /// Whether the draw is squashed by tanh onto the bounds; otherwise it is clipped to them.
    pub squash: bool,
}

impl Default for GaussianSpec {
    fn default() -> Self {
        Self {
            std: StdKind::StateIndependent,
            log_std_initial: 0.0,
            squash: false,
        }
    }
}

/// The network: a torso (encoder, then core) for the policy and one for the value, or a shared one; a linear policy
/// head and a linear value head; perhaps one more value head on the policy's torso.
///
/// All its parameters travel together, in one layout: an actor holds those of the critic too and never computes with
/// them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// What it sees.
    pub observation: ObservationSpec,
    /// What it chooses.
    pub action: ActionSpec,
    /// The part that turns an observation into features.
    pub encoder: EncoderSpec,
    /// Activation after each fully connected layer; convolutions always use ReLU.
    pub activation: Activation,
    /// The part that remembers.
    pub core: CoreSpec,
    /// How a continuous action is distributed; without meaning for discrete ones.
    pub gaussian: GaussianSpec,
    /// Whether policy and value share one torso.
    pub shared_torso: bool,
    /// Whether observations are normalised by running statistics that travel with the parameters.
    pub normalise_observations: bool,
    /// Whether the value head predicts normalised values (PopArt); its mean and scale travel with the parameters.
    pub popart: bool,
    /// What the critic's head estimates. Files of older versions, without it, mean `v`.
    #[serde(default)]
    pub critic: CriticSpec,
    /// Whether a second value head sits on the policy's torso (PPG, Cobbe et al. 2020). Files of older versions, without
    /// it, mean none.
    #[serde(default)]
    pub auxiliary_value: bool,
}

impl NetworkSpec {
    /// A multi-layer perceptron for `environment`, without memory and normalisation.
    #[must_use]
    pub fn mlp(
        environment: &EnvironmentSpec,
        hidden_sizes: Vec<usize>,
        activation: Activation,
        shared_torso: bool,
    ) -> Self {
        Self {
            observation: environment.observation.clone(),
            action: environment.action.clone(),
            encoder: EncoderSpec::Mlp { hidden_sizes },
            activation,
            core: CoreSpec::None,
            gaussian: GaussianSpec::default(),
            shared_torso,
            normalise_observations: false,
            popart: false,
            critic: CriticSpec::V,
            auxiliary_value: false,
        }
    }

    /// Numbers that describe the distribution over actions in one state, P: a logit for each choice, or the means and
    /// then the logarithms of the standard deviations of all dimensions.
    #[must_use]
    pub fn distribution_len(&self) -> usize {
        match &self.action {
            ActionSpec::Box { low, .. } => 2 * low.len(),
            discrete => discrete.choices(),
        }
    }

    /// Outputs of the critic's head: 1, or one for each choice.
    #[must_use]
    pub fn critic_len(&self) -> usize {
        match self.critic {
            CriticSpec::V => 1,
            CriticSpec::Q => self.distribution_len(),
        }
    }

    /// Numbers in the recurrent state of one environment, S: that of the policy's torso, then that of the value's if
    /// there are two.
    #[must_use]
    pub fn state_len(&self) -> usize {
        let torsos = if self.shared_torso { 1 } else { 2 };
        self.core.state_len().saturating_mul(torsos)
    }
}
