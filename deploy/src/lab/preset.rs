//! Experiments that come with the program: each is nothing but arguments that could be typed.

/// An experiment with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preset {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What it asks, in a sentence.
    pub(crate) question: &'static str,
    /// `--set`.
    pub(crate) sets: &'static [&'static str],
    /// `--variant`.
    pub(crate) variants: &'static [&'static str],
    /// `--sweep`.
    pub(crate) sweeps: &'static [&'static str],
    /// `--seeds`.
    pub(crate) seeds: u32,
}

/// Small, fast to learn and sensitive to lag: one update is 16 environments of 32 steps, so 300 updates are 153 600
/// steps; in lock-step, so that the injected lag is the only one.
const CARTPOLE_IN_LOCK_STEP: &[&str] = &[
    "environment.id=CartPole-v1",
    "run.deterministic=true",
    "run.total_steps=153600",
    "actor.count=1",
    "actor.environments_per_actor=16",
    "actor.unroll_length=32",
    "learner.batch_unrolls=1",
    "learner.queue_unrolls=1",
    "learner.device=cpu",
    "policy.hidden_sizes=[32]",
    "policy.activation=tanh",
    "policy.shared_torso=true",
    "policy.normalise_observations=true",
    "algorithm.reward_scale=0.05",
    "algorithm.policy_learning_rate=0.0025",
    "algorithm.value_learning_rate=0.0025",
    "algorithm.learning_rate_schedule=constant",
    "algorithm.gamma=0.99",
    "algorithm.lambda=0.95",
    "algorithm.epochs=2",
    "algorithm.minibatches=2",
];

/// All presets.
pub(crate) const PRESETS: [Preset; 4] = [
    Preset {
        name: "lag-frontier",
        question: "How much return and throughput does each version of policy lag cost?",
        sets: CARTPOLE_IN_LOCK_STEP,
        variants: &[],
        sweeps: &["lag=0,1,2,4,8,16,32"],
        seeds: 3,
    },
    Preset {
        name: "corrections",
        question: "What does each correction buy? Uncorrected A2C and PPO against V-trace, at growing lag.",
        sets: CARTPOLE_IN_LOCK_STEP,
        variants: &[
            "vtrace-clip:algorithm.critic=vtrace,algorithm.objective=clip,algorithm.ratio=behaviour",
            "impala:algorithm.critic=vtrace,algorithm.objective=weighted_pg,algorithm.lambda=1.0,\
             algorithm.epochs=1,algorithm.minibatches=1",
            "ppo-uncorrected:algorithm.critic=gae,algorithm.objective=clip,algorithm.ratio=proximal",
            "a2c-uncorrected:algorithm.critic=gae,algorithm.objective=a2c,algorithm.lambda=1.0,\
             algorithm.epochs=1,algorithm.minibatches=1",
        ],
        sweeps: &["lag=0,2,8,32"],
        seeds: 3,
    },
    Preset {
        name: "reuse",
        question: "How often can a batch be reused, and how does that change when it is stale?",
        sets: CARTPOLE_IN_LOCK_STEP,
        variants: &[],
        sweeps: &["lag=0,8", "algorithm.epochs=1,2,4,8"],
        seeds: 3,
    },
    Preset {
        name: "actors",
        question: "What do more actors do to throughput, to the lag that arises by itself, and to the bottleneck?",
        sets: &["environment.id=CartPole-v1", "run.total_steps=300000"],
        variants: &[],
        sweeps: &["actor.count=1,2,4,8"],
        seeds: 3,
    },
];

/// The preset called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use springbok_common::config::Config;

    use super::{
        super::plan::{Grid, sweep, variant},
        *,
    };

    #[test]
    fn every_preset_is_a_grid_of_configurations_without_faults() {
        for preset in &PRESETS {
            let grid = Grid::new(
                preset
                    .variants
                    .iter()
                    .map(|text| variant(text).unwrap())
                    .collect(),
                preset
                    .sweeps
                    .iter()
                    .map(|text| sweep(text).unwrap())
                    .collect(),
                preset.seeds,
            )
            .unwrap();
            for cell in grid.cells(1) {
                let mut sets: Vec<String> = preset.sets.iter().map(ToString::to_string).collect();
                sets.extend(cell.sets);
                let loaded = Config::load(None, std::iter::empty(), &sets);
                assert!(loaded.is_ok(), "{} {}: {loaded:?}", preset.name, cell.name);
            }
        }
    }
}
