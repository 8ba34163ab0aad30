//! The critic's loss.

use burn::tensor::Tensor;

use super::surrogate::masked_mean;

/// How the error e = V(x) - v of a value is punished.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueLossKind {
    /// e^2 / 2.
    Mse,
    /// max(e^2, e_c^2) / 2, with e_c the error of a value that moved by at most `clip` since the batch arrived.
    Clipped {
        /// Largest change that is rewarded.
        clip: f64,
    },
    /// e^2 / 2 up to `delta`, linear beyond (Huber 1964).
    Huber {
        /// Error at which it turns linear.
        delta: f64,
    },
}

/// The mean loss `[1]` over the steps whose `mask` `[N]` is 1 (`None`: all).
///
/// All tensors are `[N]`: `values` V(x) is differentiated, `arrival_values` are the learner's values when the batch
/// arrived (not the actor's), `targets` are those of V-trace.
#[must_use]
pub fn value_loss(
    kind: ValueLossKind,
    values: Tensor<1>,
    arrival_values: Tensor<1>,
    targets: Tensor<1>,
    mask: Option<Tensor<1>>,
) -> Tensor<1> {
    let error = values.clone() - targets.clone();
    let loss = match kind {
        ValueLossKind::Mse => error.square().mul_scalar(0.5),
        ValueLossKind::Clipped { clip } => {
            let change = (values - arrival_values.clone()).clamp(-clip, clip);
            let near = (arrival_values + change - targets).square();
            let far = error.square();
            let far_is_more = far.clone().greater_equal(near.clone());
            near.mask_where(far_is_more, far).mul_scalar(0.5)
        }
        ValueLossKind::Huber { delta } => {
            // With c = clip(e): c (e - c/2) is e^2 / 2 inside and delta (|e| - delta/2) outside.
            let near = error.clone().clamp(-delta, delta);
            near.clone() * (error - near.mul_scalar(0.5))
        }
    };
    masked_mean(loss, mask)
}
