//! How much arithmetic a network takes.

use super::layout;
use crate::spec::{EncoderSpec, ImageLayout, NetworkSpec};

/// Multiply-adds of one row through all of `network`. Each weight of a layer that is fully connected counts once, each of a
/// convolution once for each place of its output. A registered encoder counts as fully connected.
#[must_use]
pub fn multiply_adds(network: &NetworkSpec) -> f64 {
    let weights = layout(network);
    let matrices = weights.iter().filter(|(_, shape)| shape.len() >= 2);
    matrices
        .map(|(name, shape)| {
            let numbers: usize = shape.iter().product();
            (numbers * places(network, name)) as f64
        })
        .sum()
}

/// Places at which the convolution `name` is applied; 1 for another layer.
fn places(network: &NetworkSpec, name: &str) -> usize {
    let shape = network.observation.shape.as_slice();
    let &[first, second, third] = shape else {
        return 1;
    };
    let of = |image: &ImageLayout| match image {
        ImageLayout::ChannelsFirst => [second, third],
        ImageLayout::ChannelsLast => [first, second],
    };
    let number_after = |mark: &str| -> Option<usize> {
        let (_, rest) = name.split_once(mark)?;
        rest.split('.').next()?.parse().ok()
    };
    match &network.encoder {
        EncoderSpec::MinatarConv { layout, .. } if name.contains("conv.") => of(layout)
            .map(|side| side.saturating_sub(2))
            .iter()
            .product(),
        EncoderSpec::NatureConv { layout, .. } => match number_after("conv.") {
            Some(layer) => of(layout)
                .map(|side| nature_side(side, layer))
                .iter()
                .product(),
            None => 1,
        },
        EncoderSpec::ImpalaResnet { layout, .. } => match number_after("stage.") {
            // Each stage halves the sides after its first convolution.
            Some(stage) => {
                let halvings = stage + usize::from(name.contains("block."));
                let halved = |side: usize| (0..halvings).fold(side, |side, _| side.div_ceil(2));
                of(layout).map(halved).iter().product()
            }
            None => 1,
        },
        _ => 1,
    }
}

/// Side of what convolution `layer` of Mnih et al. 2015 gives for an image of this side.
fn nature_side(side: usize, layer: usize) -> usize {
    let layers = [(8, 4), (4, 2), (3, 1)];
    layers[..=layer.min(2)]
        .iter()
        .fold(side, |side, (size, stride)| {
            side.saturating_sub(*size) / stride + 1
        })
}

#[cfg(test)]
mod tests {
    use crate::spec::{ActionSpec, Activation, EnvironmentSpec, ObservationSpec};

    use super::*;

    fn network(encoder: EncoderSpec) -> NetworkSpec {
        let observation = ObservationSpec::bytes([4, 84, 84], 255);
        let environment = EnvironmentSpec::new("E", observation, ActionSpec::Discrete(6));
        let mut network = NetworkSpec::mlp(&environment, vec![], Activation::Relu, true);
        network.encoder = encoder;
        network
    }

    #[test]
    fn weights_count_once_for_each_place() {
        let (layout, hidden_sizes) = (ImageLayout::ChannelsFirst, vec![512]);
        let nature = network(EncoderSpec::NatureConv {
            layout,
            hidden_sizes: hidden_sizes.clone(),
        });
        // 20 x 20, 9 x 9 and 7 x 7 places; then 3136 x 512, and heads of 6 and 1.
        let convolutions = 400 * 32 * 4 * 64 + 81 * 64 * 32 * 16 + 49 * 64 * 64 * 9;
        let expected = convolutions + 3136 * 512 + 512 * 7;
        assert_eq!(multiply_adds(&nature), f64::from(expected));

        let impala = network(EncoderSpec::ImpalaResnet {
            layout,
            hidden_sizes: vec![256],
        });
        let stage = |inputs: u32, outputs: u32, side: u32, half: u32| {
            9 * outputs * (inputs * side * side + 4 * outputs * half * half)
        };
        let stages = stage(4, 16, 84, 42) + stage(16, 32, 42, 21) + stage(32, 32, 21, 11);
        let expected = stages + 32 * 11 * 11 * 256 + 256 * 7;
        assert_eq!(multiply_adds(&impala), f64::from(expected));

        let mlp = network(EncoderSpec::Mlp { hidden_sizes });
        assert_eq!(multiply_adds(&mlp), f64::from(4 * 84 * 84 * 512 + 512 * 7));
    }
}
