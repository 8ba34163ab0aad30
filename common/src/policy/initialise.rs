//! Parameters before any training, made on the host: the same for the same seed on every device.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::encoder::Initialisation;

/// Makes the parameters of one network, one after the other.
pub(super) struct Initialiser<'a> {
    /// None makes zeros of everything that would be random.
    random: Option<Pcg64>,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    pub(super) fn seeded(seed: u64, device: &'a Device) -> Self {
        Self {
            random: Some(Pcg64::seed_from_u64(seed)),
            device,
        }
    }

    pub(super) fn blank(device: &'a Device) -> Self {
        Self {
            random: None,
            device,
        }
    }

    /// A parameter that is trained.
    pub(super) fn parameter<const D: usize>(
        &mut self,
        shape: [usize; D],
        initialisation: Initialisation,
    ) -> Param<Tensor<D>> {
        let elements = shape.iter().product();
        let values = match (initialisation, &mut self.random) {
            (Initialisation::Orthogonal { gain }, Some(random)) => {
                let (rows, columns) = match D {
                    1 => (1, elements),
                    _ => (shape[0], elements / shape[0].max(1)),
                };
                orthogonal(rows, columns, gain, random)
            }
            (Initialisation::Constant(value), _) => vec![value; elements],
            (Initialisation::Orthogonal { .. }, None) | (Initialisation::Zeros, _) => {
                vec![0.0; elements]
            }
        };
        Param::from_tensor(Tensor::from_data(
            TensorData::new(values, shape),
            self.device,
        ))
    }

    /// A vector that travels with the parameters but is never trained.
    pub(super) fn statistic(&self, len: usize, value: f32) -> Param<Tensor<1>> {
        let values = TensorData::new(vec![value; len], [len]);
        Param::from_tensor(Tensor::from_data(values, self.device)).set_require_grad(false)
    }

    /// y = x W + b with W [inputs, outputs] orthogonal times `gain` and b zero.
    pub(super) fn linear(&mut self, inputs: usize, outputs: usize, gain: f64) -> Linear {
        Linear {
            weight: self.parameter([inputs, outputs], Initialisation::Orthogonal { gain }),
            bias: Some(self.parameter([outputs], Initialisation::Zeros)),
        }
    }
}

/// A matrix [rows, columns], row-major, whose shorter side is a set of orthogonal vectors of length `gain`:
/// normal random vectors made orthogonal one after the other (Saxe et al. 2014).
fn orthogonal(rows: usize, columns: usize, gain: f64, rng: &mut Pcg64) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| standard_normal(rng)).collect();
        let mut norm = dot(&vector, &vector).sqrt();
        // Where much of the vector cancels, rounding leaves something behind that a second pass removes (Kahan's
        // "twice is enough"; Giraud et al. 2005).
        for _ in 0..2 {
            for earlier in &vectors {
                let overlap = dot(earlier, &vector);
                for (element, other) in vector.iter_mut().zip(earlier) {
                    *element -= overlap * other;
                }
            }
            let before = norm;
            norm = dot(&vector, &vector).sqrt();
            if norm > 0.5 * before {
                break;
            }
        }
        // A draw that lies within the others' span is drawn again.
        if norm > 1e-9 {
            vector.iter_mut().for_each(|element| *element /= norm);
            vectors.push(vector);
        }
    }
    let element = |row: usize, column: usize| {
        if rows <= columns {
            vectors[row][column]
        } else {
            vectors[column][row]
        }
    };
    (0..rows * columns)
        .map(|flat| (gain * element(flat / columns, flat % columns)) as f32)
        .collect()
}

/// The scalar product, in eight sums: large matrices take seconds otherwise.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// One draw from N(0, 1) (Box and Muller 1958).
pub(super) fn standard_normal<R: RngExt + ?Sized>(rng: &mut R) -> f64 {
    // 1 - u lies in (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_matrices_are_orthogonal() {
        for (rows, columns) in [(4, 7), (7, 4), (5, 5), (3, 1), (40, 41)] {
            let matrix = orthogonal(rows, columns, 2.0, &mut Pcg64::seed_from_u64(3));
            let at = |row: usize, column: usize| f64::from(matrix[row * columns + column]);
            let count = rows.min(columns);
            for left in 0..count {
                for right in 0..count {
                    let product: f64 = if rows <= columns {
                        (0..columns).map(|k| at(left, k) * at(right, k)).sum()
                    } else {
                        (0..rows).map(|k| at(k, left) * at(k, right)).sum()
                    };
                    let expected = if left == right { 4.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-5, "{rows}x{columns}");
                }
            }
        }
    }
}
