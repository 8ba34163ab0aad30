//! Convolutional encoders for images and boards.

use burn::tensor::{
    Device, Tensor,
    activation::relu,
    module::{conv2d, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions},
};

use super::{Encoder, EncoderParameters, ParameterShape, gain, mlp::Mlp};
use crate::spec::{Activation, ImageLayout, ObservationSpec};

/// Filters of MinAtar's convolution.
const MINATAR_FILTERS: usize = 16;
/// Filters, kernel size and stride of each convolution (Mnih et al. 2015).
const NATURE: [(usize, usize, usize); 3] = [(32, 8, 4), (64, 4, 2), (64, 3, 1)];
/// Channels of each stage (Espeholt et al. 2018, fig. 3).
const IMPALA_CHANNELS: [usize; 3] = [16, 32, 32];
/// Residual blocks of one stage, of two convolutions each.
const IMPALA_BLOCKS: usize = 2;
/// Lists entries of one stage: weight and bias of its first convolution and of those of its blocks.
const IMPALA_STAGE_PARAMETERS: usize = 2 * (1 + 2 * IMPALA_BLOCKS);

/// Which convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stack {
    /// One of 16 filters 3 x 3.
    Minatar,
    /// Three without padding.
    Nature,
    /// Three residual stages.
    Impala,
}

/// Convolutions with ReLU, then fully connected layers.
pub(super) struct Convolutions {
    stack: Stack,
    layout: ImageLayout,
    connected: Mlp,
}

impl Convolutions {
    pub(super) fn new(
        stack: Stack,
        layout: ImageLayout,
        hidden_sizes: Vec<usize>,
        activation: Activation,
    ) -> Self {
        Self {
            stack,
            layout,
            connected: Mlp::new(hidden_sizes, activation),
        }
    }

    /// Channels, height and width of an image; `None` if it does not have three axes.
    fn image(&self, observation: &ObservationSpec) -> Option<[usize; 3]> {
        let &[first, second, third] = observation.shape.as_slice() else {
            return None;
        };
        Some(match self.layout {
            ImageLayout::ChannelsFirst => [first, second, third],
            ImageLayout::ChannelsLast => [third, first, second],
        })
    }

    /// Channels, height and width of what the convolutions give; 0 where the image is too small.
    fn output(&self, [_, height, width]: [usize; 3]) -> [usize; 3] {
        match self.stack {
            Stack::Minatar => {
                let side = |length| valid(length, 3, 1);
                [MINATAR_FILTERS, side(height), side(width)]
            }
            Stack::Nature => NATURE.into_iter().fold(
                [0, height, width],
                |[_, height, width], (filters, size, stride)| {
                    let side = |length| valid(length, size, stride);
                    [filters, side(height), side(width)]
                },
            ),
            Stack::Impala => IMPALA_CHANNELS
                .into_iter()
                .fold([0, height, width], |[_, height, width], channels| {
                    [channels, height.div_ceil(2), width.div_ceil(2)]
                }),
        }
    }

    /// Numbers that the convolutions keep of one image until the backward pass: each before and after its ReLU; of a
    /// residual stage the convolution before its pooling, and of each block two of each and the sum.
    fn kept(&self, image: [usize; 3]) -> usize {
        let numbers = |sides: [usize; 3]| -> usize { sides.iter().product() };
        match self.stack {
            Stack::Minatar => 2 * numbers(self.output(image)),
            Stack::Nature => {
                let [_, mut height, mut width] = image;
                let layers = NATURE.into_iter().map(|(filters, size, stride)| {
                    height = valid(height, size, stride);
                    width = valid(width, size, stride);
                    2 * numbers([filters, height, width])
                });
                layers.sum()
            }
            Stack::Impala => {
                let [_, mut height, mut width] = image;
                let stages = IMPALA_CHANNELS.into_iter().map(|channels| {
                    let whole = numbers([channels, height, width]);
                    height = height.div_ceil(2);
                    width = width.div_ceil(2);
                    whole + (1 + 5 * IMPALA_BLOCKS) * numbers([channels, height, width])
                });
                stages.sum()
            }
        }
    }

    /// Numbers in what the convolutions give for one observation.
    fn flattened(&self, observation: &ObservationSpec) -> usize {
        self.image(observation)
            .map_or(0, |image| self.output(image).iter().product())
    }

    fn convolutions(&self, channels: usize) -> Vec<ParameterShape> {
        let mut shapes = Vec::new();
        let mut convolution = |name: &str, inputs, outputs, size| {
            let gain = gain(Activation::Relu);
            shapes.extend(ParameterShape::convolution(
                name, inputs, outputs, size, gain,
            ));
        };
        match self.stack {
            Stack::Minatar => convolution("conv.0", channels, MINATAR_FILTERS, 3),
            Stack::Nature => {
                let mut inputs = channels;
                for (index, (filters, size, _)) in NATURE.into_iter().enumerate() {
                    convolution(&format!("conv.{index}"), inputs, filters, size);
                    inputs = filters;
                }
            }
            Stack::Impala => {
                let mut inputs = channels;
                for (stage, outputs) in IMPALA_CHANNELS.into_iter().enumerate() {
                    convolution(&format!("stage.{stage}.conv"), inputs, outputs, 3);
                    for block in 0..IMPALA_BLOCKS {
                        for index in 0..2 {
                            let name = format!("stage.{stage}.block.{block}.conv.{index}");
                            convolution(&name, outputs, outputs, 3);
                        }
                    }
                    inputs = outputs;
                }
            }
        }
        shapes
    }

    /// Features [N, channels, height, width] of images [N, channels, height, width], and the parameters used.
    fn convolve(&self, images: Tensor<4>, parameters: &EncoderParameters) -> (Tensor<4>, usize) {
        match self.stack {
            Stack::Minatar => (relu(convolve(images, parameters, 0, 1, 0)), 2),
            Stack::Nature => {
                let layers = NATURE.into_iter().enumerate();
                let features = layers.fold(images, |input, (layer, (_, _, stride))| {
                    relu(convolve(input, parameters, 2 * layer, stride, 0))
                });
                (features, 2 * NATURE.len())
            }
            Stack::Impala => {
                let stages = IMPALA_CHANNELS.len();
                let features = (0..stages).fold(images, |input, stage| {
                    residual_stage(input, parameters, stage * IMPALA_STAGE_PARAMETERS)
                });
                (relu(features), stages * IMPALA_STAGE_PARAMETERS)
            }
        }
    }
}

impl Encoder for Convolutions {
    fn fault(&self, observation: &ObservationSpec) -> Option<String> {
        let shape = &observation.shape;
        let Some(image) = self.image(observation) else {
            return Some(format!(
                "a convolutional encoder needs an observation of 3 axes, but it has shape {shape:?}: use encoder mlp"
            ));
        };
        if self.output(image).contains(&0) {
            return Some(format!(
                "an observation of shape {shape:?} is too small for the convolutions: use encoder mlp or minatar_conv"
            ));
        }
        self.connected.fault_of_sizes()
    }

    fn parameters(&self, observation: &ObservationSpec) -> Vec<ParameterShape> {
        let channels = self.image(observation).map_or(0, |[channels, ..]| channels);
        let mut shapes = self.convolutions(channels);
        shapes.extend(self.connected.layers("fc.", self.flattened(observation)));
        shapes
    }

    fn output_len(&self, observation: &ObservationSpec) -> usize {
        self.connected.width(self.flattened(observation))
    }

    fn kept_len(&self, observation: &ObservationSpec) -> usize {
        let convolved = self.image(observation).map_or(0, |image| self.kept(image));
        convolved + self.connected.kept()
    }

    fn forward(
        &self,
        observations: Tensor<2>,
        observation: &ObservationSpec,
        parameters: &EncoderParameters,
    ) -> Tensor<2> {
        let [rows, _] = observations.dims();
        let Some([channels, height, width]) = self.image(observation) else {
            return observations;
        };
        let images = match self.layout {
            ImageLayout::ChannelsFirst => observations.reshape([rows, channels, height, width]),
            ImageLayout::ChannelsLast => observations
                .reshape([rows, height, width, channels])
                .permute([0, 3, 1, 2]),
        };
        let (features, used) = self.convolve(images, parameters);
        let flat = features.reshape([rows, self.flattened(observation)]);
        self.connected.apply(flat, parameters, used)
    }
}

/// Positions of a window of `size` along `length` without padding; 0 if it does not fit.
fn valid(length: usize, size: usize, stride: usize) -> usize {
    length
        .checked_sub(size)
        .map_or(0, |beyond| beyond / stride + 1)
}

/// A convolution with the weight and the bias at `index` and the one after it.
fn convolve(
    input: Tensor<4>,
    parameters: &EncoderParameters,
    index: usize,
    stride: usize,
    padding: usize,
) -> Tensor<4> {
    let (weight, bias) = (parameters.at(index), parameters.at(index + 1));
    if padding == 0 && !input.is_autodiff() && input.device() == Device::flex() {
        return convolve_as_product(input, weight, bias, stride);
    }
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    conv2d(input, weight, Some(bias), options)
}

/// The same convolution as a matrix product with all windows next to each other. On the CPU backend this is several
/// times faster than its own convolution, which is what acting costs most of its time; but the windows take memory,
/// and their gradient would be slow.
fn convolve_as_product(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
) -> Tensor<4> {
    let [rows, channels, _, _] = input.dims();
    let [filters, _, size, _] = weight.dims();
    let lines: Tensor<5> = input.unfold(2, size, stride);
    let windows: Tensor<6> = lines.unfold(3, size, stride);
    let [_, _, height, width, _, _] = windows.dims();
    let window = channels * size * size;
    let columns = windows
        .permute([0, 1, 4, 5, 2, 3])
        .reshape([rows, window, height * width]);
    let outputs = weight.reshape([1, filters, window]).matmul(columns);
    (outputs + bias.reshape([1, filters, 1])).reshape([rows, filters, height, width])
}

/// Convolution, max-pool 3 x 3 of stride 2, then blocks x + conv(relu(conv(relu(x)))); its parameters begin at `first`.
fn residual_stage(input: Tensor<4>, parameters: &EncoderParameters, first: usize) -> Tensor<4> {
    let pooling = MaxPoolOptions::new([3; 2])
        .with_stride([2; 2])
        .with_padding([1; 2]);
    let mut features = max_pool2d(convolve(input, parameters, first, 1, 1), pooling);
    for block in 0..IMPALA_BLOCKS {
        let index = first + 2 + 4 * block;
        let inner = convolve(relu(features.clone()), parameters, index, 1, 1);
        features = features + convolve(relu(inner), parameters, index + 2, 1, 1);
    }
    features
}
