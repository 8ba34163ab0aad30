//! Advantage normalisation.

use super::real::Real;

/// Added to the standard deviation, so that equal advantages become zeros and not NaN.
pub(super) const EPSILON: f64 = 1e-8;

/// Mean and population standard deviation of the valid entries, before normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// Mean; 0 when no entry is valid.
    pub mean: f64,
    /// Population standard deviation (divided by N); 0 when no entry is valid.
    pub std: f64,
}

/// Replaces each advantage by (A - mean) / (std + 1e-8) over the valid steps and returns what was subtracted and
/// divided by. Masked entries become 0. `mask` has the length of `advantages`; `None` means that all are valid.
///
/// Apply it to the raw advantage, before any importance weight: subtracting a constant from A leaves the expected
/// weighted policy gradient where it is, subtracting one from weight times A does not. The sums run in f64.
///
/// # Panics
/// When the mask has another length.
pub fn normalise<F: Real>(advantages: &mut [F], mask: Option<&[bool]>) -> Moments {
    let found = moments(advantages, mask);
    let scale = 1.0 / (found.std + EPSILON);
    for (i, advantage) in advantages.iter_mut().enumerate() {
        *advantage = if is_valid(mask, i) {
            F::from_f64((advantage.to_f64() - found.mean) * scale)
        } else {
            F::ZERO
        };
    }
    found
}

/// Mean and population standard deviation over the valid entries.
///
/// # Panics
/// When the mask has another length.
#[must_use]
pub fn moments<F: Real>(values: &[F], mask: Option<&[bool]>) -> Moments {
    if let Some(mask) = mask {
        assert_eq!(mask.len(), values.len(), "one flag per entry");
    }
    let valid = || {
        let entries = values.iter().enumerate();
        entries
            .filter(|(i, _)| is_valid(mask, *i))
            .map(|(_, x)| x.to_f64())
    };
    let Some(origin) = valid().next() else {
        return Moments::default();
    };
    let count = valid().count() as f64;
    // Measured from one of the entries: equal entries give exactly that mean and a deviation of exactly 0.
    let offset = valid().map(|x| x - origin).sum::<f64>() / count;
    let variance = valid().map(|x| (x - origin - offset).powi(2)).sum::<f64>() / count;
    Moments {
        mean: origin + offset,
        std: variance.sqrt(),
    }
}

fn is_valid(mask: Option<&[bool]>, i: usize) -> bool {
    mask.is_none_or(|mask| mask[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::testing::{narrow, widen};
    use crate::golden;

    fn check<F: Real>(tol: f64) {
        let wanted = |case: &serde_json::Value| golden::name(case).starts_with("normalise_adv");
        golden::each_case("misc", wanted, |name, case| {
            assert_eq!(golden::number(&case["config"]["eps"]), EPSILON);
            let mask = golden::flags(&case["input"]["mask"]);
            let mut got: Vec<F> = narrow(&golden::numbers(&case["input"]["adv"]));
            normalise(&mut got, Some(&mask));
            let expected = golden::numbers(&case["expected"]["adv"]);
            golden::assert_close(name, &widen(&got), &expected, tol);
        });
    }

    #[test]
    fn golden_normalise_f64() {
        check::<f64>(1e-9);
    }

    #[test]
    fn golden_normalise_f32() {
        check::<f32>(1e-5);
    }

    #[test]
    fn equal_advantages_become_exact_zeros() {
        for constant in [0.1_f64, -3e7, 0.0] {
            let mut advantages = vec![constant; 1000];
            let found = normalise(&mut advantages, None);
            assert!(advantages.iter().all(|x| *x == 0.0), "{constant}");
            assert_eq!((found.mean, found.std), (constant, 0.0));
        }
    }

    #[test]
    fn no_valid_entry_gives_zeros() {
        let mut advantages = [f32::NAN, 2.0];
        let found = normalise(&mut advantages, Some(&[false, false]));
        assert_eq!(advantages, [0.0, 0.0]);
        assert_eq!(found, Moments::default());
        normalise::<f32>(&mut [], None);
    }
}
