//! What each preset sets: explicit values for keys that can be read, printed and overridden one by one.

use super::Preset;

/// What Atari environments have in common, whatever the protocol.
const ATARI: [(&str, &str); 9] = [
    ("environment.options.vector", "\"auto\""),
    ("environment.options.frame_skip", "4"),
    ("environment.options.frame_stack", "4"),
    ("environment.options.max_pool", "true"),
    ("environment.options.screen_size", "84"),
    ("environment.options.grayscale", "true"),
    ("environment.options.frames_max", "108000"),
    ("environment.options.threads", "1"),
    ("algorithm.reward_clip", "1.0"),
];

/// Mnih et al., 2015 (doi 10.1038/nature14236), methods and extended data table 1.
const DQN: [(&str, &str); 5] = [
    ("environment.options.sticky", "0.0"),
    ("environment.options.noop_max", "30"),
    ("environment.options.fire_reset", "true"),
    ("environment.options.full_actions", "false"),
    ("environment.options.life_loss", "true"),
];

/// Machado et al., 2018 (arXiv 1709.06009), section 5 and table 5.
const MACHADO: [(&str, &str); 5] = [
    ("environment.options.sticky", "0.25"),
    ("environment.options.noop_max", "0"),
    ("environment.options.fire_reset", "false"),
    ("environment.options.full_actions", "true"),
    ("environment.options.life_loss", "false"),
];

impl Preset {
    /// The keys that it sets, each with its value as TOML.
    pub(super) fn values(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::None => Vec::new(),
            Self::AtariDqn => [ATARI.as_slice(), &DQN].concat(),
            Self::AtariMachado => [ATARI.as_slice(), &MACHADO].concat(),
        }
    }
}
