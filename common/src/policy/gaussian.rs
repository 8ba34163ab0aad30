//! The diagonal normal distribution over continuous actions, on tensors: row n of means [N, D] and of logarithms of
//! standard deviations [N, D] is one distribution.

use std::f32::consts::{LN_2, PI};

use burn::tensor::Tensor;

/// Log-probability densities `[N]` of draws [N, D].
///
/// With `squash` the action is tanh(draw), onto (-1, 1), and the density is that of the action: the change of variables
/// subtracts log(1 - tanh(u)^2) of each dimension (Haarnoja et al. 2018, appendix C). The linear map from (-1, 1) onto
/// the environment's bounds would subtract a constant more; it is left out, on tensors and on the host alike, so that a
/// log-probability does not depend on the units of the bounds. It cancels in every ratio.
pub(super) fn log_prob(
    means: Tensor<2>,
    log_stds: Tensor<2>,
    draws: Tensor<2>,
    squash: bool,
) -> Tensor<1> {
    let normal = (2.0 * PI).ln() / 2.0;
    let distances = (draws.clone() - means) * log_stds.clone().neg().exp();
    let mut densities = -(distances.square() * 0.5 + log_stds).add_scalar(normal);
    if squash {
        densities = densities - log_slope(draws);
    }
    rows(densities)
}

/// log(1 - tanh(u)^2) = 2 (ln 2 - |u| - ln(1 + exp(-2 |u|))), which neither overflows nor loses digits: the usual
/// 2 (ln 2 - u - softplus(-2 u)) with the sign of u taken out.
fn log_slope(draws: Tensor<2>) -> Tensor<2> {
    let sizes = draws.abs();
    let tails = (sizes.clone() * -2.0).exp().log1p();
    (sizes + tails).neg().add_scalar(LN_2) * 2.0
}

/// Entropies `[N]` in nats. That of a squashed distribution has no closed form: callers take this one, which is larger.
pub(super) fn entropy(log_stds: Tensor<2>) -> Tensor<1> {
    rows(log_stds.add_scalar(((2.0 * PI).ln() + 1.0) / 2.0))
}

/// KL(left || right) `[N]` in nats, each given as means and logarithms of standard deviations; squashing both changes
/// nothing.
pub(super) fn kl(left: [Tensor<2>; 2], right: [Tensor<2>; 2]) -> Tensor<1> {
    let ([mean, log_std], [other_mean, other_log_std]) = (left, right);
    let log_ratio = log_std - other_log_std.clone();
    let distance = (mean - other_mean) * other_log_std.neg().exp();
    let spread = (log_ratio.clone() * 2.0).exp() + distance.square();
    rows((spread * 0.5 - log_ratio).sub_scalar(0.5))
}

/// Sums `[N]` over the rows of [N, D].
fn rows(tensor: Tensor<2>) -> Tensor<1> {
    tensor.sum_dim(1).squeeze_dim(1)
}
