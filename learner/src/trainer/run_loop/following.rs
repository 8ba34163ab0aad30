//! The spans of the unrolls in an update that are followed.

use std::mem;

use tracing::Span;

use super::{Taken, Trainer};
use crate::{traced::Traced, trainer::PolicyUpdater};

impl<U: PolicyUpdater> Trainer<U> {
    /// The update of `taken` begins.
    pub(super) fn follow_update(&mut self, taken: &mut [Taken]) {
        let traced = taken.iter_mut().map(|taken| mem::take(&mut taken.traced));
        self.followed = traced.filter(Traced::is_followed).collect();
        for traced in &mut self.followed {
            traced.update(self.version);
        }
    }

    /// What the update made is published, until what is given is dropped.
    pub(super) fn follow_publication(&self) -> Vec<Span> {
        self.followed.iter().filter_map(Traced::publish).collect()
    }
}
