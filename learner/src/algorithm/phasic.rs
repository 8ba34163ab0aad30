//! The auxiliary phase of phasic policy gradient (Cobbe et al. 2020, "Phasic policy gradient", arXiv 2009.04416, section
//! 2.2 and alg. 1): the policy's network learns to predict values too, while the policy is held where it is.

use burn::tensor::Tensor;
use springbok_common::policy::Distribution;

use super::value_loss::{ValueLossKind, value_loss};

/// Constants of the phases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhasicConfig {
    /// Updates of the policy between two auxiliary phases: N_pi.
    pub policy_updates: usize,
    /// Passes of an auxiliary phase over the batches of those updates: E_aux.
    pub auxiliary_epochs: usize,
    /// Weight of the divergence from the policy before the phase: beta_clone.
    pub beta_clone: f64,
}

/// The joint loss of the auxiliary phase and its parts, `[1]` each.
#[derive(Debug, Clone)]
pub struct AuxiliaryLoss {
    /// auxiliary + `beta_clone` * clone + value: to be minimised.
    pub total: Tensor<1>,
    /// M[(V_aux - v)^2] / 2, of the second value head on the policy's torso.
    pub auxiliary: Tensor<1>,
    /// M[KL(pi_old || pi)] in nats, with pi_old the policy at the start of the phase.
    pub clone: Tensor<1>,
    /// M[(V - v)^2] / 2, of the value network.
    pub value: Tensor<1>,
}

/// The loss over N steps: `auxiliary_values`, `values` and `targets` are `[N]`; `old` is a constant.
#[must_use]
pub fn auxiliary_loss(
    beta_clone: f64,
    auxiliary_values: Tensor<1>,
    values: Tensor<1>,
    targets: Tensor<1>,
    old: &Distribution,
    current: &Distribution,
) -> AuxiliaryLoss {
    let squared = |values: Tensor<1>| {
        value_loss(
            ValueLossKind::Mse,
            values.clone(),
            values,
            targets.clone(),
            None,
        )
    };
    let auxiliary = squared(auxiliary_values);
    let value = squared(values);
    let clone = old.kl(current).mean();
    AuxiliaryLoss {
        total: auxiliary.clone() + clone.clone().mul_scalar(beta_clone) + value.clone(),
        auxiliary,
        clone,
        value,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use serde_json::Value;
    use springbok_common::policy::categorical;

    use super::*;
    use crate::golden;

    fn leaf<const D: usize>(value: &Value, shape: [usize; D]) -> Tensor<D> {
        let data = TensorData::new(golden::numbers_f32(value), shape);
        Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
    }

    #[test]
    fn golden_auxiliary_phase() {
        golden::each_case(
            "ppg",
            |_| true,
            |name, case| {
                let size = |key: &str| golden::integer(&case[key]);
                let (rows, actions) = (size("T") * size("B"), size("A"));
                let (input, expected) = (&case["input"], &case["expected"]);
                assert_eq!(case["config"]["value_coef"], 1.0);
                let logits = leaf(&input["logits"], [rows, actions]);
                let old = leaf(&input["logits_old"], [rows, actions]);
                let values = leaf(&input["value"], [rows]);
                let auxiliary = leaf(&input["value_aux"], [rows]);
                let policy = |logits: &Tensor<2>| {
                    Distribution::Categorical(vec![categorical::log_probs(logits.clone(), None)])
                };
                let loss = auxiliary_loss(
                    golden::number(&case["config"]["beta_clone"]),
                    auxiliary.clone(),
                    values.clone(),
                    leaf(&input["target"], [rows]),
                    &policy(&old).without_autodiff().autodiff(),
                    &policy(&logits),
                );
                let parts = [
                    ("loss", &loss.total),
                    ("aux_value_loss", &loss.auxiliary),
                    ("clone_kl", &loss.clone),
                    ("value_loss", &loss.value),
                ];
                for (field, got) in parts {
                    let got = f64::from(got.clone().into_scalar::<f32>());
                    let wanted = golden::number(&expected[field]);
                    golden::assert_close(&format!("{name} {field}"), &[got], &[wanted], 1e-5);
                }
                let gradients = loss.total.backward();
                let close = |field: &str, got: Vec<f32>| {
                    let wanted = golden::numbers(&expected[field]);
                    golden::assert_close_f32(&format!("{name} {field}"), &got, &wanted, 1e-5);
                };
                let host = |data: TensorData| data.try_into_vec().unwrap();
                close(
                    "dlogits",
                    host(logits.grad(&gradients).unwrap().into_data()),
                );
                close("dvalue", host(values.grad(&gradients).unwrap().into_data()));
                let gradient = auxiliary.grad(&gradients).unwrap();
                close("dvalue_aux", host(gradient.into_data()));
            },
        );
    }
}
