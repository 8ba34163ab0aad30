//! In how many parts a minibatch is worth computing.

use super::Config;
use crate::{
    policy::multiply_adds,
    spec::{CoreSpec, NetworkSpec},
};

/// Multiply-adds for which a part is worth while: some milliseconds of a core, beside which its some hundred operations,
/// of a microsecond each whatever their size, count little.
const MULTIPLY_ADDS_OF_A_PART: f64 = 5e7;
/// Those of the forward and the backward pass, in forward passes.
const PASSES: f64 = 3.0;

impl Config {
    /// Parts of each minibatch of `network` whose gradients a processor with so many `cores` computes at the same time.
    /// Networks with memory take whole columns, in one piece.
    #[must_use]
    pub fn gradient_parts(&self, network: &NetworkSpec, cores: usize) -> usize {
        if network.core != CoreSpec::None {
            return 1;
        }
        match self.learner.gradient_parts {
            0 if self.run.deterministic => 1,
            0 => {
                let minibatches = self.algorithm.minibatches.max(1);
                let rows = self.batch_rows().div_ceil(minibatches);
                let work = PASSES * rows as f64 * multiply_adds(network);
                let most = (work / MULTIPLY_ADDS_OF_A_PART) as usize;
                most.clamp(1, cores.max(1))
            }
            parts => parts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        ActionSpec, Activation, EncoderSpec, EnvironmentSpec, ImageLayout, ObservationSpec,
    };

    #[test]
    fn large_networks_take_all_cores_and_small_ones_one() {
        let environment = EnvironmentSpec::new(
            "E",
            ObservationSpec::bytes([4, 84, 84], 255),
            ActionSpec::Discrete(3),
        );
        let small = NetworkSpec::mlp(&environment, vec![], Activation::Relu, true);
        let mut large = small.clone();
        large.encoder = EncoderSpec::NatureConv {
            layout: ImageLayout::ChannelsFirst,
            hidden_sizes: vec![512],
        };
        let mut remembering = large.clone();
        remembering.core = CoreSpec::Gru { size: 8 };
        let parts = |sets: &[&str], network: &NetworkSpec, cores: usize| {
            let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
            let loaded = Config::load(None, std::iter::empty(), &sets).unwrap();
            loaded.config.gradient_parts(network, cores)
        };
        assert_eq!(parts(&[], &small, 8), 1);
        assert_eq!(parts(&[], &large, 8), 8);
        assert_eq!(parts(&[], &large, 1), 1);
        assert_eq!(parts(&[], &remembering, 8), 1);
        // 32 rows of 9.3 million multiply-adds, three times over.
        let few = ["actor.unroll_length=16", "actor.environments_per_actor=4"];
        assert_eq!(parts(&few, &large, 100), 17);
        assert_eq!(parts(&["run.deterministic=true"], &large, 8), 1);
        let asked = ["run.deterministic=true", "learner.gradient_parts=3"];
        assert_eq!(parts(&asked, &small, 8), 3);
    }
}
