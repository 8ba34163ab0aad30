//! Everything that happens by chance follows from one seed.

use rand::SeedableRng;
use rand_pcg::Pcg64;

/// Who draws. Each has numbers of its own, so that one more draw here changes nothing there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Plan,
    Link(u32),
    ActorCrashes(u32),
    LearnerEnds,
    Disk,
    Trainer(u32),
    Actor(u32, u32),
    Damage(u32, u32),
    Hangs(u32),
    Tokens,
    Stranger,
}

impl Who {
    fn number(self) -> u64 {
        let (kind, one, other) = match self {
            Self::Plan => (0, 0, 0),
            Self::Link(actor) => (1, actor, 0),
            Self::ActorCrashes(actor) => (2, actor, 0),
            Self::LearnerEnds => (3, 0, 0),
            Self::Disk => (4, 0, 0),
            Self::Trainer(life) => (5, life, 0),
            Self::Actor(actor, life) => (6, actor, life),
            Self::Damage(actor, life) => (7, actor, life),
            Self::Hangs(actor) => (8, actor, 0),
            Self::Tokens => (9, 0, 0),
            Self::Stranger => (10, 0, 0),
        };
        (kind << 48) | (u64::from(one) << 24) | u64::from(other)
    }
}

/// A generator whose numbers follow from `seed` and `who` draws.
pub(crate) fn chance(seed: u64, who: Who) -> Pcg64 {
    // The constant is that of a Weyl sequence: neighbouring seeds and drawers lie far apart.
    let mixed =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ who.number().wrapping_mul(0xd1b5_4a32_d192_ed03);
    Pcg64::seed_from_u64(mixed)
}
