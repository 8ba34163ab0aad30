//! What a server wrote is checked before anything is learnt from it.

use springbok_common::arrays::ElementsRef;

use super::complaint::Complaint;

/// No element of `observations`, `[K, O]` with O = `row`, is infinite or no number.
pub(super) fn check_finite(observations: ElementsRef<'_>, row: usize) -> Result<(), Complaint> {
    let Some(values) = observations.as_f32() else {
        return Ok(());
    };
    // Without a way out of the loop it runs over many elements at a time.
    if values
        .iter()
        .fold(true, |finite, value| finite & value.is_finite())
    {
        return Ok(());
    }
    let at = values.iter().position(|value| !value.is_finite());
    let at = at.unwrap_or_default();
    Err(Complaint::new(format!(
        "environment {} showed {} as number {} of its observation, but observations must be finite",
        at / row,
        values[at],
        at % row
    )))
}

/// Each mask allows at least one choice of each head and holds nothing but 0 and 1.
pub(super) fn check_masks(masks: &[u8], heads: &[u32], mask_len: usize) -> Result<(), Complaint> {
    if mask_len == 0 {
        return Ok(());
    }
    for (index, mask) in masks.chunks(mask_len).enumerate() {
        let mut rest = mask;
        for &n in heads {
            let (head, others) = rest.split_at(n as usize);
            rest = others;
            if !head.contains(&1) || head.iter().any(|&choice| choice > 1) {
                return Err(Complaint::new(format!(
                    "the action mask of environment {index} is {mask:?}, but it must consist of 0 and 1 and allow a choice"
                )));
            }
        }
    }
    Ok(())
}

/// Every reward is a finite number.
pub(super) fn check_rewards(rewards: &[f32]) -> Result<(), Complaint> {
    match rewards.iter().position(|reward| !reward.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Complaint::new(format!(
            "environment {index} gave the reward {}, but rewards must be finite numbers",
            rewards[index]
        ))),
    }
}
