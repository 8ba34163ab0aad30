//! Distributions over the actions of an environment: one categorical, several independent ones, or a diagonal normal.

use burn::tensor::{Bool, Int, Tensor};

use super::{categorical, gaussian};
use crate::spec::{ActionSpec, NetworkSpec};

/// Which distribution the parameters of a policy describe, and what the drawn actions mean to the environment.
#[derive(Debug, Clone, PartialEq)]
pub enum DistributionKind {
    /// Independent heads; head h chooses one of `heads[h]` actions. Parameters are the logits of all heads, P = their sum.
    Categorical {
        /// Actions of each head.
        heads: Vec<usize>,
    },
    /// A normal distribution for each of D dimensions. Parameters are D means, then the logarithms of D standard
    /// deviations.
    Gaussian {
        /// Lowest value that the environment takes, for each dimension; may be infinite unless `squash`.
        low: Vec<f32>,
        /// Highest value.
        high: Vec<f32>,
        /// Whether draws go onto the bounds by tanh; otherwise they are clipped to them.
        squash: bool,
    },
}

/// Actions on a device.
#[derive(Debug, Clone)]
pub enum ActionTensor {
    /// Numbers of discrete actions [N, heads].
    Indices(Tensor<2, Int>),
    /// Draws of continuous actions [N, D], before they are squashed or clipped.
    Values(Tensor<2>),
}

/// N distributions of one kind on a device.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "there are a handful at a time, and a tensor of this size is what each of them holds"
)]
pub enum Distribution {
    /// For each head the log-probabilities [N, actions of the head] of all its actions.
    Categorical(Vec<Tensor<2>>),
    /// Normal distributions.
    Gaussian {
        /// Means [N, D].
        means: Tensor<2>,
        /// Logarithms of the standard deviations [N, D].
        log_stds: Tensor<2>,
        /// Whether actions are squashed.
        squash: bool,
    },
}

impl DistributionKind {
    /// That of a network.
    #[must_use]
    pub fn of(spec: &NetworkSpec) -> Self {
        match &spec.action {
            ActionSpec::Box { low, high } => Self::Gaussian {
                low: low.clone(),
                high: high.clone(),
                squash: spec.gaussian.squash,
            },
            discrete => Self::Categorical {
                heads: discrete.heads().iter().map(|&n| n as usize).collect(),
            },
        }
    }

    /// Parameters of one distribution: P.
    #[must_use]
    pub fn parameters_len(&self) -> usize {
        match self {
            Self::Categorical { heads } => heads.iter().sum(),
            Self::Gaussian { low, .. } => 2 * low.len(),
        }
    }

    /// Numbers that make up one action: heads or dimensions.
    #[must_use]
    pub fn action_len(&self) -> usize {
        match self {
            Self::Categorical { heads } => heads.len(),
            Self::Gaussian { low, .. } => low.len(),
        }
    }
}

impl Distribution {
    /// The distributions that `parameters` [N, P] describe.
    ///
    /// `mask` [N, P] says which discrete actions are allowed, at least one of each head; the probability and the
    /// gradient of all others are exactly 0. It has no meaning for continuous actions.
    #[must_use]
    pub fn new(
        kind: &DistributionKind,
        parameters: Tensor<2>,
        mask: Option<Tensor<2, Bool>>,
    ) -> Self {
        match kind {
            DistributionKind::Categorical { heads } => {
                if heads.len() == 1 {
                    return Self::Categorical(vec![categorical::log_probs(parameters, mask)]);
                }
                let mut first = 0;
                let log_probs = heads.iter().map(|&actions| {
                    let mask = mask.clone().map(|mask| mask.narrow(1, first, actions));
                    let logits = parameters.clone().narrow(1, first, actions);
                    first += actions;
                    categorical::log_probs(logits, mask)
                });
                Self::Categorical(log_probs.collect())
            }
            DistributionKind::Gaussian { low, squash, .. } => {
                let dimensions = low.len();
                Self::Gaussian {
                    means: parameters.clone().narrow(1, 0, dimensions),
                    log_stds: parameters.narrow(1, dimensions, dimensions),
                    squash: *squash,
                }
            }
        }
    }

    /// Log-probabilities (densities for continuous actions) `[N]` of `actions`; heads and dimensions add up.
    ///
    /// # Panics
    /// When the actions are of the other kind: a mistake in the calling code.
    #[must_use]
    pub fn log_prob(&self, actions: ActionTensor) -> Tensor<1> {
        match (self, actions) {
            (Self::Categorical(heads), ActionTensor::Indices(indices)) => {
                sum(heads.iter().enumerate().map(|(head, log_probs)| {
                    let taken = indices.clone().narrow(1, head, 1);
                    log_probs.clone().gather(1, taken).squeeze_dim(1)
                }))
            }
            (
                Self::Gaussian {
                    means,
                    log_stds,
                    squash,
                },
                ActionTensor::Values(draws),
            ) => gaussian::log_prob(means.clone(), log_stds.clone(), draws, *squash),
            _ => panic!("discrete actions for a continuous policy, or the reverse"),
        }
    }

    /// Entropies `[N]` in nats. For squashed actions it is that of the draws, before squashing: the entropy of the
    /// actions has no closed form.
    #[must_use]
    pub fn entropy(&self) -> Tensor<1> {
        match self {
            Self::Categorical(heads) => sum(heads.iter().cloned().map(categorical::entropy)),
            Self::Gaussian { log_stds, .. } => gaussian::entropy(log_stds.clone()),
        }
    }

    /// KL(self || other) `[N]` in nats, for distributions of the same kind under the same mask.
    ///
    /// # Panics
    /// When they are of different kinds: a mistake in the calling code.
    #[must_use]
    pub fn kl(&self, other: &Self) -> Tensor<1> {
        match (self, other) {
            (Self::Categorical(heads), Self::Categorical(others)) => {
                let pairs = heads.iter().cloned().zip(others.iter().cloned());
                sum(pairs.map(|(own, other)| categorical::kl(own, other)))
            }
            (
                Self::Gaussian {
                    means, log_stds, ..
                },
                Self::Gaussian {
                    means: other_means,
                    log_stds: other_log_stds,
                    ..
                },
            ) => gaussian::kl(
                [means.clone(), log_stds.clone()],
                [other_means.clone(), other_log_stds.clone()],
            ),
            _ => panic!("the divergence between a discrete and a continuous policy"),
        }
    }

    /// The Fisher matrix of each distribution, in the space of its parameters, times a row of `directions` [N, P]: [N, P].
    ///
    /// It is the Hessian of the divergence from a distribution to its neighbours, in either direction: diag(p) - p p' for
    /// the logits of a head (0 for actions that are not allowed), 1 / std^2 for a mean and 2 for the logarithm of a
    /// standard deviation.
    #[must_use]
    pub fn fisher_product(&self, directions: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Categorical(heads) => {
                let mut first = 0;
                let products = heads.iter().map(|log_probs| {
                    let [_, actions] = log_probs.dims();
                    let own = directions.clone().narrow(1, first, actions);
                    first += actions;
                    let probabilities = log_probs.clone().exp();
                    let mean = (probabilities.clone() * own.clone()).sum_dim(1);
                    probabilities * (own - mean)
                });
                Tensor::cat(products.collect(), 1)
            }
            Self::Gaussian { log_stds, .. } => {
                let [_, dimensions] = log_stds.dims();
                let means = directions.clone().narrow(1, 0, dimensions);
                let means = means * log_stds.clone().mul_scalar(-2.0).exp();
                let spreads = directions.narrow(1, dimensions, dimensions);
                Tensor::cat(vec![means, spreads.mul_scalar(2.0)], 1)
            }
        }
    }

    /// The same as constants of a graph of gradients.
    #[must_use]
    pub fn autodiff(self) -> Self {
        self.mapped(Tensor::autodiff)
    }

    /// The same without gradient tracking.
    #[must_use]
    pub fn without_autodiff(self) -> Self {
        self.mapped(Tensor::without_autodiff)
    }

    fn mapped(self, change: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        match self {
            Self::Categorical(heads) => Self::Categorical(heads.into_iter().map(change).collect()),
            Self::Gaussian {
                means,
                log_stds,
                squash,
            } => Self::Gaussian {
                means: change(means),
                log_stds: change(log_stds),
                squash,
            },
        }
    }
}

/// The sum of terms `[N]`, one of each head; there is at least one.
fn sum(terms: impl Iterator<Item = Tensor<1>>) -> Tensor<1> {
    match terms.reduce(|total, term| total + term) {
        Some(total) => total,
        None => panic!("a policy without heads"),
    }
}
