//! What is done to gradients between the backward pass and the optimisers.

use std::ops::Range;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};

/// Shortens all gradients of `module` together to the L2 norm `norm_max` if they are longer (Pascanu et al. 2013).
///
/// Returns the norm before, `[1]`, as a tensor on the device; `None` if there are no gradients. Nothing is read back.
pub fn clip_global_norm<M: Module>(
    module: &M,
    gradients: &mut GradientsParams,
    norm_max: f64,
) -> Option<Tensor<1>> {
    let mut squares = SumOfSquares {
        gradients,
        sum: None,
    };
    module.visit(&mut squares);
    let norm = squares.sum?.sqrt();
    // Exactly 1 where the norm is within the limit.
    let factor = norm
        .clone()
        .clamp_min(norm_max)
        .recip()
        .mul_scalar(norm_max);
    module.visit(&mut Scale { gradients, factor });
    Some(norm)
}

/// Takes the gradients of the parameters `ids` out of `gradients`.
pub fn split_off<M: Module>(
    module: &M,
    gradients: &mut GradientsParams,
    ids: &[ParamId],
) -> GradientsParams {
    let mut split = Split {
        from: gradients,
        ids,
        to: GradientsParams::new(),
    };
    module.visit(&mut split);
    split.to
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

/// The gradients of the parameters `ids` one after the other, as [`places`] has them; 0 where there is none. `None` if
/// there are no such parameters. Nothing is read back.
pub fn flatten<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    ids: &[ParamId],
) -> Option<Tensor<1>> {
    let mut flatten = Flatten {
        gradients,
        ids,
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

struct Flatten<'a> {
    gradients: &'a GradientsParams,
    ids: &'a [ParamId],
    parts: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flatten<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if self.ids.contains(&parameter.id) {
            let gradient = self.gradients.get::<D>(parameter.id);
            let gradient =
                gradient.unwrap_or_else(|| parameter.val().without_autodiff().zeros_like());
            let elements = gradient.shape().num_elements();
            self.parts.push(gradient.reshape([elements]));
        }
    }
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            let scaled = gradient * self.factor.clone().unsqueeze::<D>();
            self.gradients.register(parameter.id, scaled);
        }
    }
}

struct Split<'a> {
    from: &'a mut GradientsParams,
    ids: &'a [ParamId],
    to: GradientsParams,
}

impl ModuleVisitor for Split<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if self.ids.contains(&parameter.id)
            && let Some(gradient) = self.from.remove::<D>(parameter.id)
        {
            self.to.register(parameter.id, gradient);
        }
    }
}
