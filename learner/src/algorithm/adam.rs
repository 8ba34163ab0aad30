//! Adam ([Kingma & Ba 2015](https://arxiv.org/abs/1412.6980), algorithm 1) for all parameters of a network at once.
//!
//! They lie one after the other in one tensor, so that a step takes a dozen operations and not a dozen for each of them:
//! small networks, and all networks on a GPU, wait for the beginning of an operation rather than for its end.

use burn::tensor::Tensor;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;

/// The moments of the gradients of P parameters.
#[derive(Debug, Clone)]
pub struct Adam {
    epsilon: f32,
    /// t: steps so far.
    steps: u32,
    /// m and v, `[P]` each, not corrected for their bias; `None` before the first step.
    moments: Option<[Tensor<1>; 2]>,
}

impl Adam {
    /// An optimiser that has seen nothing; `epsilon` keeps its steps finite.
    #[must_use]
    pub fn new(epsilon: f64) -> Self {
        Self::resumed(epsilon, 0, None)
    }

    /// One that goes on after `steps` with these moments m and v, `[P]` each.
    #[must_use]
    pub fn resumed(epsilon: f64, steps: u32, moments: Option<[Tensor<1>; 2]>) -> Self {
        Self {
            epsilon: epsilon as f32,
            steps,
            moments,
        }
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// m and v, `[P]` each; `None` before the first step.
    #[must_use]
    pub fn moments(&self) -> Option<&[Tensor<1>; 2]> {
        self.moments.as_ref()
    }

    /// The `parameters` `[P]` after a step against `gradients` `[P]`, each at its own rate of `rates` `[P]`. A parameter whose
    /// gradient was always 0 stays exactly what it is.
    #[must_use]
    pub fn step(
        &mut self,
        parameters: Tensor<1>,
        gradients: Tensor<1>,
        rates: &Tensor<1>,
    ) -> Tensor<1> {
        let first = gradients.clone().mul_scalar(1.0 - BETA_1);
        let second = gradients.square().mul_scalar(1.0 - BETA_2);
        let [first, second] = match self.moments.take() {
            Some([m, v]) => [m.mul_scalar(BETA_1) + first, v.mul_scalar(BETA_2) + second],
            None => [first, second],
        };
        self.steps = self.steps.saturating_add(1);
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        // m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon), with both corrections outside of the tensors.
        let correction_1 = 1.0 - BETA_1.powi(exponent);
        let correction_2 = (1.0 - BETA_2.powi(exponent)).sqrt();
        let denominator = second
            .clone()
            .sqrt()
            .add_scalar(self.epsilon * correction_2);
        let direction = (first.clone() / denominator).mul_scalar(correction_2 / correction_1);
        self.moments = Some([first, second]);
        parameters - direction * rates.clone()
    }
}
