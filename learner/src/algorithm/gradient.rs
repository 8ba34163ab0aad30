//! What is done to gradients between the backward pass and the optimisers.

use std::ops::Range;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

/// Shortens `gradients` `[P]`, those of all parameters together, to the L2 norm `norm_max` if they are longer (Pascanu et
/// al. 2013); the norm before, `[1]`, comes with them. Nothing is read back.
#[must_use]
pub fn clip_norm(gradients: Tensor<1>, norm_max: f64) -> (Tensor<1>, Tensor<1>) {
    let norm = gradients.clone().square().sum().sqrt();
    // Exactly 1 where the norm is within the limit.
    let factor = norm
        .clone()
        .clamp_min(norm_max)
        .recip()
        .mul_scalar(norm_max);
    (gradients * factor, norm)
}

/// Where the parameters `ids` of `module` lie in its flat buffer, in elements, in the order in which they are visited.
#[must_use]
pub fn places<M: Module>(module: &M, ids: &[ParamId]) -> Vec<Range<usize>> {
    let mut places = Places {
        ids,
        next: 0,
        found: Vec::new(),
    };
    module.visit(&mut places);
    places.found
}

/// The gradients `[P]` of the parameters that `wanted` chooses, one after the other, as [`places`] has them; 0 where there
/// is none. `None` if there are no such parameters. Nothing is read back.
pub fn flatten<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    wanted: impl Fn(ParamId) -> bool,
) -> Option<Tensor<1>> {
    let mut flatten = Flatten {
        gradients,
        wanted,
        parts: Vec::new(),
    };
    module.visit(&mut flatten);
    (!flatten.parts.is_empty()).then(|| Tensor::cat(flatten.parts, 0))
}

struct Places<'a> {
    ids: &'a [ParamId],
    next: usize,
    found: Vec<Range<usize>>,
}

impl ModuleVisitor for Places<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let first = self.next;
        self.next += parameter.lazy_shape().num_elements();
        if self.ids.contains(&parameter.id) {
            self.found.push(first..self.next);
        }
    }
}

struct Flatten<'a, F> {
    gradients: &'a GradientsParams,
    wanted: F,
    parts: Vec<Tensor<1>>,
}

impl<F: Fn(ParamId) -> bool> ModuleVisitor for Flatten<'_, F> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if (self.wanted)(parameter.id) {
            let gradient = self.gradients.get::<D>(parameter.id);
            let gradient =
                gradient.unwrap_or_else(|| parameter.val().without_autodiff().zeros_like());
            let elements = gradient.shape().num_elements();
            self.parts.push(gradient.reshape([elements]));
        }
    }
}
