//! A step within a trust region: the pure part of TRPO (Schulman et al. 2015, "Trust region policy optimization", arXiv
//! 1502.05477, section 6 and appendix C; constants as in OpenAI Baselines).
//!
//! With g the gradient of the surrogate and F the Fisher matrix of the policy, the step is along x, the solution of
//! (F + damping I) x = g, and as long as a divergence of `kl_max` allows to second order. Vectors are in f64: sums of
//! many products of f32 would not be conjugate.

/// Squared relative residual at which an equation counts as solved: far below the error of products in f32.
const RESIDUAL_MIN: f64 = 1e-16;
/// Factor by which a step is shortened until it is accepted.
const BACKTRACK: f64 = 0.5;
/// Lengths that are tried.
const TRIALS_MAX: i32 = 10;

/// Constants of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrustRegionConfig {
    /// Largest mean divergence KL(pi_prox || pi) of one step, in nats.
    pub kl_max: f64,
    /// Times the identity, what is added to the Fisher matrix.
    pub damping: f64,
    /// Products with the Fisher matrix that solving may take.
    pub cg_iterations: usize,
    /// The Fisher matrix is that of every so-many-th row (with a memory: column) of the batch.
    pub fisher_stride: usize,
}

/// What [`conjugate_gradient`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// x.
    pub x: Vec<f64>,
    /// |b - A x| / |b|, as the recursion has it.
    pub residual: f64,
}

/// Solves A x = b by conjugate gradients (Hestenes and Stiefel 1952) from x = 0, for a symmetric positive definite A
/// that only `product` knows: v to A v.
///
/// It ends after `iterations_max` products, or when the equation is solved, or when A is not positive along a direction;
/// `None` if a product is.
pub fn conjugate_gradient(
    mut product: impl FnMut(&[f64]) -> Option<Vec<f64>>,
    b: &[f64],
    iterations_max: usize,
) -> Option<Solution> {
    let total = dot(b, b);
    let mut x = vec![0.0; b.len()];
    let mut residual = b.to_vec();
    let mut direction = b.to_vec();
    let mut left = total;
    for _ in 0..iterations_max {
        if left <= RESIDUAL_MIN * total {
            break;
        }
        let image = product(&direction)?;
        let curvature = dot(&direction, &image);
        // A comparison with NaN is false too.
        if curvature.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            break;
        }
        add(&mut x, left / curvature, &direction);
        add(&mut residual, -left / curvature, &image);
        let next = dot(&residual, &residual);
        for (own, residual) in direction.iter_mut().zip(&residual) {
            *own = residual + next / left * *own;
        }
        left = next;
    }
    let residual = (left / total).sqrt();
    Some(Solution { x, residual })
}

/// The longest step along `x` for which step' A step / 2 is at most `kl_max`: sqrt(2 kl_max / x'Ax) x, where `image` is
/// A x. `None` if there is no such length.
#[must_use]
pub fn full_step(x: &[f64], image: &[f64], kl_max: f64) -> Option<Vec<f64>> {
    let factor = (2.0 * kl_max / dot(x, image)).sqrt();
    factor
        .is_finite()
        .then(|| x.iter().map(|element| factor * element).collect())
}

/// What one length of the step does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// How much the surrogate grows.
    pub gain: f64,
    /// Mean divergence from the policy before, in nats.
    pub kl: f64,
}

/// An accepted step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accepted {
    /// Share of the full step.
    pub fraction: f64,
    /// What it does.
    pub trial: Trial,
}

/// The first of the shares 1, 1/2, 1/4, ... (ten of them) of the step that `attempt` says makes the surrogate grow by a
/// divergence of at most `kl_max`; `None` if none does or an attempt is `None`.
pub fn line_search(kl_max: f64, mut attempt: impl FnMut(f64) -> Option<Trial>) -> Option<Accepted> {
    for trial in 0..TRIALS_MAX {
        let fraction = BACKTRACK.powi(trial);
        let trial = attempt(fraction)?;
        if trial.gain > 0.0 && trial.kl <= kl_max {
            return Some(Accepted { fraction, trial });
        }
    }
    None
}

/// The scalar product.
#[must_use]
pub fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// `to` + `factor` * `vector`.
fn add(to: &mut [f64], factor: f64, vector: &[f64]) {
    for (to, element) in to.iter_mut().zip(vector) {
        *to += factor * element;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A = B'B + I is positive definite; n iterations solve n equations.
        #[test]
        fn it_solves_as_many_equations_as_it_has_iterations(
            (matrix, b) in (1_usize..=6).prop_flat_map(|n| (
                prop::collection::vec(-1.0..1.0_f64, n * n),
                prop::collection::vec(-1.0..1.0_f64, n),
            )),
        ) {
            let n = b.len();
            let rows = || matrix.chunks(n);
            let product = |v: &[f64]| -> Vec<f64> {
                let images: Vec<f64> = rows().map(|row| dot(row, v)).collect();
                let mut out = v.to_vec();
                rows().zip(images).for_each(|(row, image)| add(&mut out, image, row));
                out
            };
            let solution = conjugate_gradient(|v| Some(product(v)), &b, n).unwrap();
            let image = product(&solution.x);
            for (got, expected) in image.iter().zip(&b) {
                prop_assert!((got - expected).abs() < 1e-6, "{got} {expected}");
            }
            prop_assert!(solution.residual < 1e-6 || b.iter().all(|b| *b == 0.0));
            if let Some(step) = full_step(&solution.x, &image, 0.02) {
                prop_assert!((dot(&step, &product(&step)) / 2.0 - 0.02).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn nothing_to_solve_or_nothing_to_solve_it_with_gives_no_step() {
        let still = conjugate_gradient(|v| Some(v.to_vec()), &[0.0, 0.0], 5).unwrap();
        assert_eq!(full_step(&still.x, &still.x, 0.01), None);
        let nan = conjugate_gradient(|v| Some(v.to_vec()), &[f64::NAN, 1.0], 5).unwrap();
        assert_eq!(full_step(&nan.x, &nan.x, 0.01), None);
        let downhill = conjugate_gradient(|v| Some(vec![-v[0]]), &[1.0], 5).unwrap();
        assert_eq!(downhill.x, [0.0]);
        assert_eq!(conjugate_gradient(|_| None, &[1.0], 5), None);
    }

    #[test]
    fn the_first_share_that_gains_within_the_divergence_is_taken() {
        let search = |gain: f64, kl: f64| {
            line_search(0.01, |fraction| {
                let kl = kl * fraction * fraction;
                Some(Trial { gain, kl })
            })
        };
        assert_eq!(search(1.0, 0.01).unwrap().fraction, 1.0);
        assert_eq!(search(1.0, 0.1).unwrap().fraction, 0.25);
        assert_eq!(search(0.0, 0.0), None);
        assert_eq!(search(f64::NAN, 0.0), None);
        assert_eq!(search(1.0, 1e9), None);
        let mut tried = 0;
        let none = line_search(0.01, |_| {
            tried += 1;
            Some(Trial {
                gain: -1.0,
                kl: 0.0,
            })
        });
        assert_eq!((none, tried), (None, 10));
        assert_eq!(line_search(0.01, |_| None), None);
    }
}
