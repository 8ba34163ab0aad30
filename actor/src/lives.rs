//! Lock-step that can be resumed: at fixed versions everything an actor has, its environments, generators and memories,
//! begins anew, seeded by the version. So what an actor makes after such a version depends on nothing before it, and a
//! learner that is restored to it is sent the same again. Unfinished episodes are cut off there and count as nothing.

use std::num::NonZeroU64;

use springbok_common::version::LearnerEpoch;

use crate::{
    environment::EnvironmentError,
    inference::{Inference, mix_seed},
    rollout::{Rollout, RolloutError},
    vector::VectorEnvironment,
    worker::Published,
};

/// Keeps the seeds of lives apart from other consumers of an actor's seed.
const SEED_LIVES: u64 = 2;

/// Environments and a policy out of a seed.
pub(crate) type Beginnings =
    dyn FnMut(u64) -> Result<(Box<dyn VectorEnvironment>, Inference), EnvironmentError> + Send;

/// The lives of one actor; the first, of version 0, has begun already.
pub(crate) struct Lives {
    versions: NonZeroU64,
    seed: u64,
    current: Option<(LearnerEpoch, u64)>,
    begin: Box<Beginnings>,
}

impl Lives {
    /// A new life at each multiple of `versions`; all are seeded from the actor's `seed`.
    pub(crate) fn new(versions: NonZeroU64, seed: u64, begin: Box<Beginnings>) -> Self {
        Self {
            versions,
            seed,
            current: None,
            begin,
        }
    }

    /// Begins the life that `published` belongs to, unless `rollout` is in it. A restored learner is another one: whoever
    /// was further than it begins the same life once more.
    ///
    /// # Errors
    /// The environments cannot be made.
    pub(crate) fn enter(
        &mut self,
        rollout: &mut Rollout,
        published: &Published,
    ) -> Result<(), RolloutError> {
        let newest = published.served.newest.0;
        let life = newest - newest % self.versions;
        let wanted = Some((published.snapshot.epoch(), life));
        let begun_already = self.current.is_none() && life == 0;
        if wanted != self.current && !begun_already {
            let (environments, inference) = (self.begin)(life_seed(self.seed, life))?;
            rollout.begin_anew(environments, inference);
        }
        self.current = wanted;
        Ok(())
    }
}

/// The seed of the life that begins at version `life`.
fn life_seed(seed: u64, life: u64) -> u64 {
    match life {
        0 => seed,
        life => mix_seed(mix_seed(seed, SEED_LIVES), life),
    }
}
