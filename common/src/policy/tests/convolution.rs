//! Convolutional encoders against a naive implementation in f64.

use super::*;

/// Channels, height and width, and the elements in this order.
struct Image {
    extent: [usize; 3],
    elements: Vec<f64>,
}

impl Image {
    /// The element at a position that may lie outside, or nothing.
    fn at(&self, channel: usize, row: isize, column: isize) -> Option<f64> {
        let [_, height, width] = self.extent;
        let (row, column) = (usize::try_from(row).ok()?, usize::try_from(column).ok()?);
        (row < height && column < width)
            .then(|| self.elements[(channel * height + row) * width + column])
    }

    /// For each output channel and position what `value` says about the window beginning there.
    fn windows(
        &self,
        channels: usize,
        [size, stride, padding]: [usize; 3],
        value: impl Fn(usize, isize, isize) -> f64,
    ) -> Self {
        let side = |length: usize| (length + 2 * padding - size) / stride + 1;
        let extent = [channels, side(self.extent[1]), side(self.extent[2])];
        let mut elements = Vec::new();
        for channel in 0..channels {
            for row in 0..extent[1] {
                for column in 0..extent[2] {
                    let begin = |index: usize| (index * stride) as isize - padding as isize;
                    elements.push(value(channel, begin(row), begin(column)));
                }
            }
        }
        Self { extent, elements }
    }

    fn convolved(&self, network: &ActorCritic, name: &str, window: [usize; 3]) -> Self {
        let weight = parameter(network, &format!("torso.{name}.weight"));
        let bias = parameter(network, &format!("torso.{name}.bias"));
        let (inputs, size) = (self.extent[0], window[0]);
        self.windows(bias.len(), window, |output, row, column| {
            let mut sum = bias[output];
            for input in 0..inputs {
                for y in 0..size {
                    for x in 0..size {
                        let value = self.at(input, row + y as isize, column + x as isize);
                        let index = ((output * inputs + input) * size + y) * size + x;
                        sum += weight[index] * value.unwrap_or(0.0);
                    }
                }
            }
            sum
        })
    }

    fn pooled(&self) -> Self {
        self.windows(self.extent[0], [3, 2, 1], |channel, row, column| {
            let window = (0..9).filter_map(|i| self.at(channel, row + i / 3, column + i % 3));
            window.fold(f64::NEG_INFINITY, f64::max)
        })
    }

    fn relu(mut self) -> Self {
        self.elements
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        self
    }

    fn plus(mut self, other: &Self) -> Self {
        let pairs = self.elements.iter_mut().zip(&other.elements);
        pairs.for_each(|(own, other)| *own += other);
        self
    }

    fn copied(&self) -> Self {
        Self {
            extent: self.extent,
            elements: self.elements.clone(),
        }
    }
}

fn convolve(network: &ActorCritic, image: Image) -> Image {
    match network.spec().encoder {
        EncoderSpec::MinatarConv { .. } => image.convolved(network, "conv.0", [3, 1, 0]).relu(),
        EncoderSpec::NatureConv { .. } => image
            .convolved(network, "conv.0", [8, 4, 0])
            .relu()
            .convolved(network, "conv.1", [4, 2, 0])
            .relu()
            .convolved(network, "conv.2", [3, 1, 0])
            .relu(),
        _ => (0..3)
            .fold(image, |image, stage| {
                let name = |rest: &str| format!("stage.{stage}.{rest}");
                let pooled = image.convolved(network, &name("conv"), [3, 1, 1]).pooled();
                (0..2).fold(pooled, |image, block| {
                    let name = |index| name(&format!("block.{block}.conv.{index}"));
                    let inner = image.copied().relu();
                    let inner = inner.convolved(network, &name(0), [3, 1, 1]).relu();
                    inner.convolved(network, &name(1), [3, 1, 1]).plus(&image)
                })
            })
            .relu(),
    }
}

/// The value of one image according to the naive convolutions, one fully connected layer and the value head.
fn value(network: &ActorCritic, image: Image) -> f64 {
    let dense = |x: &[f64], name: &str| -> Vec<f64> {
        let weight = parameter(network, &format!("{name}.weight"));
        let bias = parameter(network, &format!("{name}.bias"));
        let outputs = bias.len();
        (0..outputs)
            .map(|column| {
                let products = x.iter().enumerate();
                let sum: f64 = products
                    .map(|(row, x)| x * weight[row * outputs + column])
                    .sum();
                bias[column] + sum
            })
            .collect()
    };
    let features = convolve(network, image).elements;
    let hidden: Vec<f64> = dense(&features, "torso.fc.0")
        .into_iter()
        .map(|value| value.max(0.0))
        .collect();
    dense(&hidden, "value_head")[0]
}

#[test]
fn encoders_agree_with_naive_loops_in_both_layouts() {
    let encoder = |index: usize, layout, hidden_sizes| match index {
        0 => EncoderSpec::MinatarConv {
            layout,
            hidden_sizes,
        },
        1 => EncoderSpec::NatureConv {
            layout,
            hidden_sizes,
        },
        _ => EncoderSpec::ImpalaResnet {
            layout,
            hidden_sizes,
        },
    };
    // Neither square nor a multiple of the strides.
    let extents = [[4, 6, 5], [2, 46, 39], [2, 9, 6]];
    for (index, extent) in extents.into_iter().enumerate() {
        let [channels, height, width] = extent;
        for layout in [ImageLayout::ChannelsFirst, ImageLayout::ChannelsLast] {
            let shape = match layout {
                ImageLayout::ChannelsFirst => [channels, height, width],
                ImageLayout::ChannelsLast => [height, width, channels],
            };
            let mut spec = spec(ObservationSpec::bytes(shape, 255), ActionSpec::Discrete(2));
            spec.encoder = encoder(index, layout, vec![24]);
            spec.activation = Activation::Relu;
            spec.shared_torso = true;
            let network = shaken(&spec, 8);

            let mut generator = Pcg64::seed_from_u64(3);
            let len = spec.observation.len();
            let pixels: Vec<f32> = (0..2 * len)
                .map(|_| f32::from(generator.random::<u8>()))
                .collect();
            let expected: Vec<f32> = pixels
                .chunks_exact(len)
                .map(|pixels| {
                    let at = |flat: usize| match layout {
                        ImageLayout::ChannelsFirst => flat,
                        ImageLayout::ChannelsLast => {
                            flat % (height * width) * channels + flat / (height * width)
                        }
                    };
                    let elements = (0..len).map(|flat| f64::from(pixels[at(flat)]) / 255.0);
                    let elements = elements.collect();
                    value(&network, Image { extent, elements }) as f32
                })
                .collect();
            // Acting and training take different ways to the same numbers.
            let trained = ActorCritic::blank(&spec, &device().autodiff());
            let trained = import_flat(trained, &export_flat(&network)).unwrap();
            let values = trained.values_after(matrix(&pixels, len).autodiff(), None);
            assert_close("training", &host(values.inner()), &expected, 2e-5);
            let got = host(network.values_after(matrix(&pixels, len), None));
            assert_close(&format!("{:?}", spec.encoder), &got, &expected, 2e-5);
            assert!(
                (expected[0] - expected[1]).abs() > 1e-3,
                "images make a difference"
            );
        }
    }
}
