//! The categorical distribution over discrete actions, on tensors: row n of logits [N, A] is one distribution.

use burn::tensor::{Bool, Int, Tensor, activation::log_softmax};

/// Stands for minus infinity: its exponential is exactly 0, yet 0 times it is 0 and not NaN.
const LOG_ZERO: f32 = -1e30;

/// Log-probabilities [N, A]. Where `mask` [N, A] is false the action is not allowed: its probability and its
/// gradient are exactly 0.
#[must_use]
pub fn log_probs(logits: Tensor<2>, mask: Option<Tensor<2, Bool>>) -> Tensor<2> {
    let logits = match mask {
        Some(allowed) => logits.mask_fill(allowed.bool_not(), LOG_ZERO),
        None => logits,
    };
    log_softmax(logits, 1)
}

/// Log-probabilities `[N]` of the actions taken, out of those of all actions [N, A].
#[must_use]
pub fn of_actions(log_probs: Tensor<2>, actions: Tensor<1, Int>) -> Tensor<1> {
    log_probs.gather(1, actions.unsqueeze_dim(1)).squeeze_dim(1)
}

/// Entropies `[N]` in nats, of log-probabilities [N, A].
#[must_use]
pub fn entropy(log_probs: Tensor<2>) -> Tensor<1> {
    -(log_probs.clone().exp() * log_probs)
        .sum_dim(1)
        .squeeze_dim(1)
}

/// KL(left || right) `[N]` in nats, of log-probabilities [N, A] under the same mask.
#[must_use]
pub fn kl(left: Tensor<2>, right: Tensor<2>) -> Tensor<1> {
    (left.clone().exp() * (left - right))
        .sum_dim(1)
        .squeeze_dim(1)
}

/// Means `[N]` of `values` [N, A] of the actions under distributions given by log-probabilities [N, A].
#[must_use]
pub fn expectation(log_probs: Tensor<2>, values: Tensor<2>) -> Tensor<1> {
    (log_probs.exp() * values).sum_dim(1).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_forbidden_action_has_no_share_in_anything() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[0.0_f32, 50.0, 0.0]], &device);
        let mask = Tensor::<2, Bool>::from_data([[true, false, true]], &device);
        let log_probs = log_probs(logits, Some(mask));
        let entropy = entropy(log_probs.clone()).into_scalar::<f32>();
        assert!((entropy - 2.0_f32.ln()).abs() < 1e-6);
        assert_eq!(
            kl(log_probs.clone(), log_probs.clone()).into_scalar::<f32>(),
            0.0
        );
        let taken = of_actions(log_probs, Tensor::from_data([2], &device));
        assert!((taken.into_scalar::<f32>() + 2.0_f32.ln()).abs() < 1e-6);
    }
}
