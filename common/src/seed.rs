//! Seeds for the many consumers of one seed.

/// Consumers of an actor's seed.
const SEED_ENVIRONMENTS: u64 = 0;
const SEED_ACTIONS: u64 = 1;

/// A seed for the `index`-th consumer of `seed`: both go through the finaliser of SplitMix64, so that neighbouring
/// seeds and indices give unrelated generators.
#[must_use]
pub fn mix_seed(seed: u64, index: u64) -> u64 {
    finalise(finalise(seed).wrapping_add(finalise(!index)))
}

fn finalise(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of the actor at place `index`: it decorrelates the actors of one run.
#[must_use]
pub fn actor_seed(seed: u64, index: u32) -> u64 {
    mix_seed(seed, u64::from(index))
}

/// The seed of the environments of the actor with this seed.
#[must_use]
pub fn environments_seed(actor: u64) -> u64 {
    mix_seed(actor, SEED_ENVIRONMENTS)
}

/// The seed of what the actor with this seed draws its actions from, wherever they are drawn.
#[must_use]
pub fn actions_seed(actor: u64) -> u64 {
    mix_seed(actor, SEED_ACTIONS)
}
