//! What an update was made of: its steps, and how old they were.

use std::time::Instant;

use super::{Taken, Trainer, Training};
use crate::{
    lag::{LagMeter, causes::LagCauses},
    trainer::PolicyUpdater,
};

impl<U: PolicyUpdater> Trainer<U> {
    /// Counts the steps of an update; gives its lag alone.
    pub(super) fn count_trained(
        &mut self,
        taken: &[Taken],
        trained_at: Instant,
        training: Training,
    ) -> LagMeter {
        let mut window = LagMeter::default();
        for taken in taken {
            self.measure(taken, trained_at, &mut window);
            let steps = taken.unroll.steps() as u64;
            match training {
                Training::First => self.tally.trained_steps += steps,
                Training::Again => self.tally.reused_steps += steps,
            }
        }
        let mut books = self.links.books.lock();
        let first = training == Training::First;
        for taken in taken {
            let (actor, unroll) = (taken.actor, &taken.unroll);
            self.steering
                .trained(&mut books, actor, self.version, unroll, first);
        }
        window
    }

    /// Measures the lag of one unroll, each stretch of steps by the version that made it.
    fn measure(&mut self, taken: &Taken, trained_at: Instant, window: &mut LagMeter) {
        let first = taken.unroll.header().version;
        let rows = taken.unroll.steps().max(1) as f64;
        let env_steps = self.steering.odometer.since(taken.moments.opened);
        for (version, stretch) in taken.unroll.stretches() {
            let served = if version == first {
                taken.unroll.parts().timing.served.newest
            } else {
                version
            };
            let moments = taken.moments.after(stretch.start as f64 / rows);
            let versions = [version, served, self.version];
            let causes = LagCauses::split(&self.timeline, versions, &moments, trained_at);
            let lag = self.version.lag_behind(version).unwrap_or(taken.lag);
            let steps = stretch.len() as u64;
            window.record(steps, lag, &causes, env_steps);
            self.tally.lag.record(steps, lag, &causes, env_steps);
        }
    }
}
