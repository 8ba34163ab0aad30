//! How many multiply-adds a device makes in a second when it does nothing else.

use std::time::Duration;

use super::stage::repeat;
use crate::exit::Failure;
use burn::tensor::{Device, Distribution, Tensor};

/// A backward pass takes twice the multiply-adds of the forward pass: for the gradients of the weights and of the inputs.
pub(super) const BACKWARD: f64 = 2.0;

/// Sides of the square matrices whose product is the device's best.
const SIDE: usize = 512;
const SIDE_OF_A_GPU: usize = 4096;

/// Multiply-adds each second of a product of square matrices on `device`.
pub(super) struct Product {
    left: Tensor<2>,
    right: Tensor<2>,
    multiply_adds: f64,
}

impl Product {
    pub(super) fn on(device: &Device) -> Self {
        let side = if *device == Device::flex() {
            SIDE
        } else {
            SIDE_OF_A_GPU
        };
        let matrix = || Tensor::<2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        Self {
            left: matrix(),
            right: matrix(),
            multiply_adds: (side * side * side) as f64,
        }
    }

    pub(super) fn rate(&self, slice: Duration) -> Result<f64, Failure> {
        repeat(slice, || {
            let product = self.left.clone().matmul(self.right.clone());
            // One number is read, so that a device that works ahead has finished.
            std::hint::black_box(product.slice([0..1, 0..1]).into_data());
            Ok(self.multiply_adds)
        })
    }
}
