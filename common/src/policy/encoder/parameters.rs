//! Parameters of an encoder: tensors of any rank under names.

use std::{any::Any, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::policy::initialise::Initialiser;

/// How a parameter is before any training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initialisation {
    /// Orthogonal rows or columns, whichever are fewer, of length `gain` (Saxe et al. 2014). A tensor of more than two
    /// axes is a matrix [first axis, all others]. A vector is one such row.
    Orthogonal {
        /// The length.
        gain: f64,
    },
    /// All 0.
    Zeros,
    /// All the same number.
    Constant(f32),
}

/// One parameter that a network has.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterShape {
    /// Unique among the parameters of one encoder; dots separate levels, as in `conv.0.weight`.
    pub name: String,
    /// Extent of each axis: 1 to 4 axes. A matrix is [inputs, outputs]: y = x W.
    pub shape: Vec<usize>,
    /// How it is before any training.
    pub initialisation: Initialisation,
}

impl ParameterShape {
    /// A parameter.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        initialisation: Initialisation,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            initialisation,
        }
    }

    /// `{name}.weight` [inputs, outputs], orthogonal with `gain`, and `{name}.bias` `[outputs]`, zero.
    #[must_use]
    pub fn linear(name: &str, inputs: usize, outputs: usize, gain: f64) -> [Self; 2] {
        Self::weight_and_bias(name, &[inputs, outputs], outputs, gain)
    }

    /// `{name}.weight` [outputs, inputs, size, size], orthogonal with `gain`, and `{name}.bias` `[outputs]`, zero.
    #[must_use]
    pub fn convolution(
        name: &str,
        inputs: usize,
        outputs: usize,
        size: usize,
        gain: f64,
    ) -> [Self; 2] {
        Self::weight_and_bias(name, &[outputs, inputs, size, size], outputs, gain)
    }

    fn weight_and_bias(name: &str, shape: &[usize], outputs: usize, gain: f64) -> [Self; 2] {
        [
            Self::new(
                format!("{name}.weight"),
                shape,
                Initialisation::Orthogonal { gain },
            ),
            Self::new(format!("{name}.bias"), [outputs], Initialisation::Zeros),
        ]
    }
}

/// The parameters of one encoder, as tensors.
#[derive(Module, Debug)]
pub struct EncoderParameters {
    values: Vec<AnyParameter>,
    #[module(skip)]
    names: Arc<Vec<String>>,
}

/// A parameter whose number of axes is known only at run time.
#[derive(Module, Debug)]
enum AnyParameter {
    One(Param<Tensor<1>>),
    Two(Param<Tensor<2>>),
    Three(Param<Tensor<3>>),
    Four(Param<Tensor<4>>),
}

impl EncoderParameters {
    pub(in crate::policy) fn new(
        shapes: Vec<ParameterShape>,
        initialiser: &mut Initialiser,
    ) -> Self {
        let values = shapes
            .iter()
            .map(|shape| match *shape.shape.as_slice() {
                [a, b] => AnyParameter::Two(initialiser.parameter([a, b], shape.initialisation)),
                [a, b, c] => {
                    AnyParameter::Three(initialiser.parameter([a, b, c], shape.initialisation))
                }
                [a, b, c, d] => {
                    AnyParameter::Four(initialiser.parameter([a, b, c, d], shape.initialisation))
                }
                // Other ranks are a fault of the specification; flattened they at least have the right length.
                ref other => AnyParameter::One(
                    initialiser.parameter([other.iter().product()], shape.initialisation),
                ),
            })
            .collect();
        Self {
            values,
            names: Arc::new(shapes.into_iter().map(|shape| shape.name).collect()),
        }
    }

    /// The parameter called `name`, which has D axes.
    ///
    /// # Panics
    /// When there is none, or it has another number of axes: the encoder contradicts its own list of parameters.
    #[must_use]
    pub fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        match self.names.iter().position(|own| own == name) {
            Some(index) => self.at(index),
            None => panic!("the encoder has no parameter {name}, only {:?}", self.names),
        }
    }

    /// The parameter at `index` of the encoder's list, which has D axes; faster than by name.
    ///
    /// # Panics
    /// As [`Self::get`].
    #[must_use]
    pub fn at<const D: usize>(&self, index: usize) -> Tensor<D> {
        let found = match self.values.get(index) {
            Some(AnyParameter::One(parameter)) => of_rank(&parameter.val()),
            Some(AnyParameter::Two(parameter)) => of_rank(&parameter.val()),
            Some(AnyParameter::Three(parameter)) => of_rank(&parameter.val()),
            Some(AnyParameter::Four(parameter)) => of_rank(&parameter.val()),
            None => None,
        };
        match found {
            Some(tensor) => tensor,
            None => panic!(
                "the encoder's parameter {index} ({:?}) does not have {D} axes",
                self.names.get(index)
            ),
        }
    }
}

/// The same tensor if it has D axes.
fn of_rank<const R: usize, const D: usize>(tensor: &Tensor<R>) -> Option<Tensor<D>> {
    (tensor as &dyn Any).downcast_ref::<Tensor<D>>().cloned()
}
