//! Recurrent cores: LSTM and GRU, with the equations and gate order of PyTorch.
//!
//! The input projection of all steps is one matrix product; each step then needs one more, for the recurrence.

use burn::{
    module::{Module, Param},
    tensor::{
        Tensor,
        activation::{sigmoid, tanh},
        module::linear,
    },
};

use super::{
    encoder::{Initialisation, ParameterShape},
    initialise::Initialiser,
};
use crate::spec::CoreSpec;

/// Pieces into which [`steps`] splits at a time.
const SPLIT: usize = 4;

/// The parameters of a core; which one it is, the specification says.
#[derive(Module, Debug)]
pub(super) struct Core {
    /// [F, G * H] for G gates: i, f, g, o (LSTM) or r, z, n (GRU).
    input_weight: Param<Tensor<2>>,
    /// [G * H]; for an LSTM the sum of PyTorch's two biases, and for r and z of a GRU too.
    input_bias: Param<Tensor<1>>,
    /// [H, G * H].
    recurrent_weight: Param<Tensor<2>>,
    /// `[H]`, of a GRU's n only: the one that is multiplied by r.
    recurrent_bias: Option<Param<Tensor<1>>>,
}

/// What a core gives for T steps of B environments.
pub(super) struct CoreOutput {
    /// Hidden states [T * B, H], time-major: the features for the heads.
    pub(super) features: Tensor<2>,
    /// States [T * B, S] after each step: hidden, then cell.
    pub(super) states: Tensor<2>,
}

/// Names and shapes of a core's parameters on top of `inputs` features, in the order in which they are visited.
pub(super) fn shapes(core: CoreSpec, inputs: usize) -> Vec<ParameterShape> {
    let (gates, size) = match core {
        CoreSpec::None => return Vec::new(),
        CoreSpec::Lstm { size } => (4, size),
        CoreSpec::Gru { size } => (3, size),
    };
    let orthogonal = Initialisation::Orthogonal { gain: 1.0 };
    let mut shapes = vec![
        ParameterShape::new("core.input.weight", [inputs, gates * size], orthogonal),
        ParameterShape::new("core.input.bias", [gates * size], Initialisation::Zeros),
        ParameterShape::new("core.recurrent.weight", [size, gates * size], orthogonal),
    ];
    if matches!(core, CoreSpec::Gru { .. }) {
        shapes.push(ParameterShape::new(
            "core.recurrent.bias",
            [size],
            Initialisation::Zeros,
        ));
    }
    shapes
}

/// Features that leave a core into which `inputs` go.
pub(super) fn output_len(core: CoreSpec, inputs: usize) -> usize {
    match core {
        CoreSpec::None => inputs,
        CoreSpec::Lstm { size } | CoreSpec::Gru { size } => size,
    }
}

impl Core {
    /// The core that `spec` names on top of `inputs` features; `None` for no memory.
    pub(super) fn new(
        spec: CoreSpec,
        inputs: usize,
        initialiser: &mut Initialiser,
    ) -> Option<Self> {
        let shapes = shapes(spec, inputs);
        let matrix = |index: usize, initialiser: &mut Initialiser| {
            let shape = shapes.get(index)?;
            let &[rows, columns] = shape.shape.as_slice() else {
                return None;
            };
            Some(initialiser.parameter([rows, columns], shape.initialisation))
        };
        let vector = |index: usize, initialiser: &mut Initialiser| {
            let shape = shapes.get(index)?;
            let &[len] = shape.shape.as_slice() else {
                return None;
            };
            Some(initialiser.parameter([len], shape.initialisation))
        };
        Some(Self {
            input_weight: matrix(0, initialiser)?,
            input_bias: vector(1, initialiser)?,
            recurrent_weight: matrix(2, initialiser)?,
            recurrent_bias: vector(3, initialiser),
        })
    }

    /// Runs over `features` [T * B, F], time-major, from `state` [B, S].
    ///
    /// `keep` [T * B, 1] is 0 where the state is forgotten before a step and 1 elsewhere; without it nothing is
    /// forgotten.
    pub(super) fn unroll(
        &self,
        features: Tensor<2>,
        state: Tensor<2>,
        keep: Option<Tensor<2>>,
    ) -> CoreOutput {
        let [batch, _] = state.dims();
        let projected = linear(
            features,
            self.input_weight.val(),
            Some(self.input_bias.val()),
        );
        let [rows, _] = projected.dims();
        let kept = |step: usize, tensor: Tensor<2>| match &keep {
            Some(keep) => tensor * keep.clone().narrow(0, step * batch, batch),
            None => tensor,
        };
        let projected = steps(projected, rows / batch.max(1));
        match &self.recurrent_bias {
            None => self.lstm(projected, state, kept),
            Some(bias) => self.gru(projected, state, bias.val(), kept),
        }
    }

    /// i, f, o = sigmoid(x W_i + b + h W_h), g = tanh(the same); c' = f c + i g; h' = o tanh(c').
    fn lstm(
        &self,
        projected: Vec<Tensor<2>>,
        state: Tensor<2>,
        kept: impl Fn(usize, Tensor<2>) -> Tensor<2>,
    ) -> CoreOutput {
        let recurrent = self.recurrent_weight.val();
        let [size, _] = recurrent.dims();
        let mut hidden = state.clone().narrow(1, 0, size);
        let mut cell = state.narrow(1, size, size);
        let (mut hiddens, mut cells) = (Vec::new(), Vec::new());
        for (step, input) in projected.into_iter().enumerate() {
            let gates = input + kept(step, hidden).matmul(recurrent.clone());
            let input_forget = sigmoid(gates.clone().narrow(1, 0, 2 * size));
            let candidate = tanh(gates.clone().narrow(1, 2 * size, size));
            let output = sigmoid(gates.narrow(1, 3 * size, size));
            let input_gate = input_forget.clone().narrow(1, 0, size);
            let forget_gate = input_forget.narrow(1, size, size);
            cell = forget_gate * kept(step, cell) + input_gate * candidate;
            hidden = output * tanh(cell.clone());
            hiddens.push(hidden.clone());
            cells.push(cell.clone());
        }
        let features = joined(hiddens);
        CoreOutput {
            states: Tensor::cat(vec![features.clone(), joined(cells)], 1),
            features,
        }
    }

    /// r, z = sigmoid(x W_i + b + h W_h); n = tanh(x W_in + b_n + r (h W_hn + b_hn)); h' = n + z (h - n).
    fn gru(
        &self,
        projected: Vec<Tensor<2>>,
        state: Tensor<2>,
        bias: Tensor<1>,
        kept: impl Fn(usize, Tensor<2>) -> Tensor<2>,
    ) -> CoreOutput {
        let recurrent = self.recurrent_weight.val();
        let [size, _] = recurrent.dims();
        let bias = bias.unsqueeze::<2>();
        let mut hidden = state;
        let mut hiddens = Vec::new();
        for (step, input) in projected.into_iter().enumerate() {
            let before = kept(step, hidden);
            let memory = before.clone().matmul(recurrent.clone());
            let gates = sigmoid(
                input.clone().narrow(1, 0, 2 * size) + memory.clone().narrow(1, 0, 2 * size),
            );
            let reset = gates.clone().narrow(1, 0, size);
            let update = gates.narrow(1, size, size);
            let remembered = memory.narrow(1, 2 * size, size) + bias.clone();
            let candidate = tanh(input.narrow(1, 2 * size, size) + reset * remembered);
            hidden = candidate.clone() + update * (before - candidate);
            hiddens.push(hidden.clone());
        }
        let features = joined(hiddens);
        CoreOutput {
            states: features.clone(),
            features,
        }
    }
}

/// Rows of `tensor` [T * B, X] for each of T steps: [B, X].
///
/// They are cut out a few at a time: the gradient of one cut is as large as what it was cut from, so that cutting T
/// steps out of the whole would cost T^2 instead of T log T.
fn steps(tensor: Tensor<2>, count: usize) -> Vec<Tensor<2>> {
    if count <= 1 {
        return vec![tensor];
    }
    let [rows, _] = tensor.dims();
    let batch = rows / count;
    let piece = count.div_ceil(SPLIT);
    let mut parts = Vec::with_capacity(count);
    for first in (0..count).step_by(piece) {
        let own = piece.min(count - first);
        let rows = tensor.clone().narrow(0, first * batch, own * batch);
        parts.extend(steps(rows, own));
    }
    parts
}

/// T tensors [B, X] one below the other: [T * B, X].
fn joined(mut steps: Vec<Tensor<2>>) -> Tensor<2> {
    match steps.len() {
        1 => steps.swap_remove(0),
        _ => Tensor::cat(steps, 0),
    }
}
