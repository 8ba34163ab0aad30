//! The loop of the trainer's thread: collect a batch, drop what grew too old, update, publish, report.

mod ahead;
mod counting;
mod following;
mod parts;
mod saving;

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use springbok_common::{config::Config, version::PolicyVersion};

use self::{
    ahead::Ahead,
    parts::{Reported, Settings, Taken, Training},
};
pub use self::{
    parts::{Meters, TrainerLinks, TrainerReport},
    saving::{Checkpoints, TrainerState},
};
use super::{
    PolicyUpdater,
    batch::{Batch, Member},
    steering::Steering,
    tally::Tally,
    update::{UpdateFault, UpdateMetrics},
};
use crate::{
    admission::BooksState,
    checkpoint::failpoint::Failpoint,
    error::LearnerError,
    lag::{
        LagMeter,
        causes::{Moments, Timeline},
    },
    metrics::{Metric, Row},
    queue::{Arrived, NothingToTake},
    reservoir::Reservoir,
    summary::{LearnerEvent, Progress, Threshold},
    traced::Traced,
};

/// Longest wait before the trainer looks whether it should stop.
const POLL: Duration = Duration::from_millis(50);

/// Rolled-back updates in a row after which the run ends.
const NON_FINITE_UPDATES_MAX: u32 = 3;

struct Trainer<U: PolicyUpdater> {
    updater: U,
    links: TrainerLinks,
    settings: Settings,
    version: PolicyVersion,
    parameters: Bytes,
    timeline: Timeline,
    /// In lock-step, what has come of the next batch, in the order of arrival.
    round: Vec<(u32, Arrived)>,
    collected: Vec<Taken>,
    batch: Batch,
    ahead: Ahead<U::Staged>,
    reservoir: Reservoir<Vec<Taken>>,
    tally: Tally,
    steering: Steering,
    non_finite_in_a_row: u32,
    started: Instant,
    /// Duration of the earlier lives of the learner.
    wall_before: Duration,
    /// The books as they were just before this version was published, if a checkpoint of it is to be taken.
    books_then: Option<BooksState>,
    reported: Reported,
    /// The spans of the unrolls in the update under way that are followed.
    followed: Vec<Traced>,
}

/// Publishes version 0 and then trains until the run is done or `links.stop` is cancelled.
///
/// # Errors
/// [`LearnerError::NonFinite`] after three rolled-back updates in a row; [`LearnerError::Output`] if metrics cannot be
/// written.
pub fn run<U: PolicyUpdater>(
    updater: U,
    config: &Config,
    links: TrainerLinks,
) -> Result<TrainerReport, LearnerError> {
    let started = Instant::now();
    let mut trainer = Trainer {
        updater,
        links,
        settings: Settings::of(config),
        version: PolicyVersion::default(),
        parameters: Bytes::new(),
        timeline: Timeline::default(),
        round: Vec::new(),
        collected: Vec::new(),
        batch: Batch::default(),
        ahead: Ahead::default(),
        reservoir: Reservoir::new(
            config.learner.reservoir_batches,
            config.learner.reuse,
            config.run.seed,
        ),
        tally: Tally::default(),
        steering: Steering::new(config, started),
        non_finite_in_a_row: 0,
        started,
        wall_before: Duration::ZERO,
        books_then: None,
        reported: Reported {
            at: started,
            trained_steps: 0,
            ess: 1.0,
            clip_fraction: 0.0,
        },
        followed: Vec::new(),
    };
    let past = trainer.resume();
    trainer.publish(past);
    let outcome = trainer.train_until_done();
    let incomplete = trainer.collected.len() + trainer.round.len() + trainer.ahead.unrolls();
    trainer.links.books.lock().ledger.discard(incomplete as u64);
    trainer.links.metrics.close(outcome.is_ok())?;
    let saved = trainer.save_last(outcome.is_ok());
    outcome?;
    saved?;
    Ok(TrainerReport {
        wall: trainer.wall(),
        checkpoints: trainer.checkpoint_summary(),
        prediction: trainer.steering.conclude(&trainer.tally),
        tally: trainer.tally,
        steering: trainer.steering,
        version: trainer.version,
        parameters: trainer.parameters,
    })
}

impl<U: PolicyUpdater> Trainer<U> {
    fn train_until_done(&mut self) -> Result<(), LearnerError> {
        while !self.is_done() && self.collect()? {
            self.delay();
            let mut taken = mem::take(&mut self.collected);
            self.follow_update(&mut taken);
            if self.train(&taken, Training::First)? {
                self.reservoir.keep(taken);
            }
            self.followed.clear();
            self.report_progress();
            self.train_again()?;
            self.save_if_due()?;
        }
        Ok(())
    }

    /// Trains on the batches of the reservoir whose turn it is, as far as they are young enough still.
    fn train_again(&mut self) -> Result<(), LearnerError> {
        while !self.links.stop.is_cancelled()
            && self.tally.trained_steps < self.settings.total_steps
            && let Some(mut kept) = self.reservoir.take_due()
        {
            self.delay();
            let version = self.version;
            let is_young = kept.batch.iter_mut().all(|taken| {
                let lag = version.lag_behind(taken.unroll.header().version);
                taken.lag = lag.unwrap_or(taken.lag);
                self.steering.may_reuse(taken.lag.versions())
            });
            if is_young && self.train(&kept.batch, Training::Again)? {
                self.reservoir.give_back(kept);
            }
            self.report_progress();
        }
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        let mean = self.tally.evident_return();
        if let (Some(target), Some(mean)) = (self.settings.stop_return, mean)
            && mean >= target
        {
            self.tally.threshold = Some(Threshold {
                mean_return: mean,
                env_steps: self.env_steps(),
                wall_s: self.wall().as_secs_f64(),
            });
            return true;
        }
        self.tally.trained_steps >= self.settings.total_steps
    }

    /// Fills `collected` with a batch of unrolls that are young enough; `false` if the loop is to end first.
    fn collect(&mut self) -> Result<bool, LearnerError> {
        while self.collected.len() < self.settings.batch_unrolls {
            if self.links.stop.is_cancelled() {
                return Ok(false);
            }
            let asked = Instant::now();
            let taken = match self.ahead.take() {
                Some(arrived) => Ok(arrived),
                None => self.links.queue.take(POLL),
            };
            if self.tally.updates > 0 || !self.collected.is_empty() {
                // Before the first unroll the actors are still starting: that says nothing about their speed.
                self.tally.waiting += asked.elapsed();
            }
            match taken {
                Ok(arrived) if self.settings.lock_step => self.line_up(arrived)?,
                Ok(arrived) => self.accept(arrived),
                Err(NothingToTake::Timeout) => {
                    self.check_company()?;
                    self.report_progress();
                }
                Err(NothingToTake::Closed) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// In lock-step, waits for a whole batch and takes it in the order of places and numbers, so that it does not matter
    /// which actor was quicker.
    fn line_up(&mut self, arrived: Arrived) -> Result<(), LearnerError> {
        let place = self.links.books.lock().roster.place(arrived.actor);
        self.round
            .push((place.ok_or(LearnerError::LockStep)?, arrived));
        if self.round.len() == self.settings.batch_unrolls {
            let mut round = mem::take(&mut self.round);
            round.sort_by_key(|(place, arrived)| (*place, arrived.unroll.header().sequence.0));
            round
                .into_iter()
                .for_each(|(_, arrived)| self.accept(arrived));
        }
        Ok(())
    }

    /// A lock-step that an actor has left would wait for it for ever.
    fn check_company(&self) -> Result<(), LearnerError> {
        let counts = self.links.books.lock().roster.counts();
        if self.settings.lock_step && counts.left + counts.lost > 0 {
            return Err(LearnerError::LockStep);
        }
        Ok(())
    }

    fn accept(&mut self, arrived: Arrived) {
        let taken = Instant::now();
        self.steering.odometer.read(taken, self.env_steps());
        let Arrived {
            unroll,
            actor,
            arrival,
            issued,
            mut traced,
        } = arrived;
        traced.batch();
        let parts = unroll.parts();
        self.tally.unroll(&parts.episodes, &parts.timing);
        let moments = Moments::new(&parts.timing, issued, arrival, taken);
        // The version stays as it is until this batch is trained, so the lag is that of the training.
        let lag = self.version.lag_behind(unroll.header().version);
        let mut books = self.links.books.lock();
        match lag.filter(|lag| !books.fence().is_too_stale(*lag)) {
            Some(lag) => self.collected.push(Taken {
                unroll,
                actor,
                lag,
                moments,
                traced,
            }),
            None => {
                books.ledger.expire(1);
                let index = books.roster.index(actor);
                books.steered.actor(index).dropped_unrolls += 1;
                self.links.pacing.settle([unroll.header().version]);
            }
        }
    }

    /// Sleeps as configured, in slices, so that a stop is seen.
    fn delay(&mut self) {
        let begun = Instant::now();
        while let Some(left) = self.settings.update_delay.checked_sub(begun.elapsed())
            && !left.is_zero()
            && !self.links.stop.is_cancelled()
        {
            thread::sleep(left.min(POLL));
        }
        self.tally.busy += begun.elapsed();
    }

    /// Updates with `taken`, put together now or while the last update was computed.
    fn update(
        &mut self,
        taken: &[Taken],
        training: Training,
    ) -> Result<UpdateMetrics, UpdateFault> {
        let (unrolls, shape) = (self.settings.batch_unrolls, self.settings.rollout);
        let members: Vec<Member<'_>> = taken.iter().map(Taken::member).collect();
        let ahead = match training {
            Training::First => self.ahead.exchange(taken, &mut self.batch),
            Training::Again => None,
        };
        let staged = if let Some(staged) = ahead {
            self.batch.date(&members, shape);
            staged
        } else {
            self.batch.assemble(&members, shape);
            self.updater.stage(&self.batch)
        };
        self.batch.reused = training == Training::Again;
        self.batch.weigh(|lag| self.steering.weight(lag) as f32);
        let done = self.tally.trained_steps as f64 / self.settings.total_steps.max(1) as f64;
        let (ahead, queue) = (&mut self.ahead, &self.links.queue);
        // In lock-step nothing comes before this update is published.
        let mut meanwhile =
            |updater: &U| ahead.prepare(queue, unrolls, shape, |batch| updater.stage(batch));
        self.updater
            .update(&self.batch, staged, (1.0 - done).max(0.0), &mut meanwhile)
    }

    /// One update; says whether it was made.
    fn train(&mut self, taken: &[Taken], training: Training) -> Result<bool, LearnerError> {
        let begun = Instant::now();
        self.steering.odometer.read(begun, self.env_steps());
        let outcome = self.update(taken, training);
        // Ledger and gate have settled what is trained on again.
        let unsettled = match training {
            Training::First => taken,
            Training::Again => &[],
        };
        let versions = unsettled.iter().map(|taken| taken.unroll.header().version);
        let unsettled = unsettled.len() as u64;
        match outcome {
            Ok(metrics) => {
                Failpoint::MidUpdate.reach();
                self.non_finite_in_a_row = 0;
                let window = self.count_trained(taken, begun, training);
                self.links.books.lock().ledger.train(unsettled);
                self.version = self.version.next();
                self.reach_version()?;
                self.publish(Vec::new());
                self.links.pacing.settle(versions);
                self.tally.updates += 1;
                let elapsed = begun.elapsed();
                self.tally.health(metrics.ess_prox, metrics.clip_fraction);
                self.reported.ess = metrics.ess_prox;
                self.reported.clip_fraction = metrics.clip_fraction;
                self.tally.queue(self.queue_fill());
                let mut row = if self.links.metrics.is_silent() {
                    Row::default()
                } else {
                    self.row(&metrics, &window, elapsed)
                };
                if let Some(mean) = self.tally.take_recent_return() {
                    row.set(Metric::ReturnOfUpdate, mean);
                }
                let actors = self.links.books.lock().roster.present();
                let pacing = &self.links.pacing;
                self.steering
                    .updated(&metrics, &window, &self.tally, actors, pacing, &mut row);
                self.links.metrics.write(&row)?;
                let all = begun.elapsed();
                self.tally.busy += all;
                self.tally.measuring += metrics.measuring + (all - elapsed);
                Ok(true)
            }
            Err(UpdateFault::Stopped) => {
                // The run ends: these wait for a training that does not come.
                self.links.books.lock().ledger.discard(unsettled);
                Ok(false)
            }
            Err(fault) => {
                self.links.pacing.settle(versions);
                self.tally.busy += begun.elapsed();
                self.roll_back(unsettled, fault)?;
                Ok(false)
            }
        }
    }

    /// The updater has restored what it had; the data that broke it are dropped.
    fn roll_back(&mut self, unrolls: u64, fault: UpdateFault) -> Result<(), LearnerError> {
        self.links.books.lock().ledger.evict(unrolls);
        self.tally.updates_rolled_back += 1;
        self.non_finite_in_a_row += 1;
        tracing::warn!(%fault, unrolls, "update rolled back");
        if self.non_finite_in_a_row < NON_FINITE_UPDATES_MAX {
            if self.settings.lock_step {
                // The actors wait for the parameters of the next round, which are those of the last.
                self.publish(Vec::new());
            }
            return Ok(());
        }
        Err(LearnerError::NonFinite {
            updates: self.non_finite_in_a_row,
            fault,
        })
    }

    /// Publishes the version that was just made; before it come, in a restored life, the `past` ones of its shelf.
    fn publish(&mut self, past: Vec<(PolicyVersion, Bytes)>) {
        let _publishing = self.follow_publication();
        self.parameters = self.updater.parameters();
        if self.steering.publishes(self.version, Instant::now()) {
            let parameters = self.parameters.clone();
            let publisher = &self.links.publisher;
            publisher.publish_after(past, self.version, parameters);
            self.links.books.lock().traffic.published();
        }
        // First the version, then what it settles: the gate must never think that there is more room than there is.
        let published = self.steering.published();
        self.links.pacing.advance(self.version, published);
        self.timeline.publish(self.version, Instant::now());
    }

    /// Share of the queue's places that are taken.
    fn queue_fill(&self) -> f64 {
        let queue = &self.links.queue;
        queue.fill() + queue.share(self.ahead.unrolls())
    }

    fn env_steps(&self) -> u64 {
        let produced = self.links.books.lock().ledger.counts().produced;
        produced * self.settings.rollout.steps() as u64
    }

    fn report_progress(&mut self) {
        self.steering.tick(Instant::now(), &self.links.books);
        let since = self.reported.at.elapsed();
        if since < self.settings.progress_interval {
            return;
        }
        let lag = self.tally.lag.summary();
        let steps = self.tally.trained_steps - self.reported.trained_steps;
        let progress = Progress {
            env_steps: self.env_steps(),
            trained_steps: self.tally.trained_steps,
            updates: self.tally.updates,
            steps_per_s: steps as f64 / since.as_secs_f64().max(f64::MIN_POSITIVE),
            return_mean_100: self.tally.return_mean(),
            lag_mean: lag.mean,
            lag_p95: lag.p95,
            ess: self.reported.ess,
            clip_fraction: self.reported.clip_fraction,
            queue_fill: self.queue_fill(),
            actors: self.links.books.lock().roster.present() as u64,
            wall_s: self.wall().as_secs_f64(),
        };
        self.reported.at = Instant::now();
        self.reported.trained_steps = self.tally.trained_steps;
        (self.links.on_event)(LearnerEvent::Progress(progress));
    }

    fn row(&self, update: &UpdateMetrics, window: &LagMeter, elapsed: Duration) -> Row {
        let mut row = Row::default();
        let wall_s = self.wall().as_secs_f64();
        row.set(Metric::GlobalStep, self.tally.trained_steps as f64);
        row.set(Metric::EnvSteps, self.env_steps() as f64);
        row.set(Metric::Updates, self.tally.updates as f64);
        row.set(Metric::ReusedSteps, self.tally.reused_steps as f64);
        row.set(Metric::RolledBack, self.tally.updates_rolled_back as f64);
        row.set(Metric::WallSeconds, wall_s);
        let rate = self.tally.trained_steps as f64 / wall_s.max(f64::MIN_POSITIVE);
        row.set(Metric::StepsPerSecond, rate);
        row.set(Metric::Episodes, self.tally.episodes as f64);
        let none = f64::NAN;
        let mean_return = self.tally.return_mean().unwrap_or(none);
        row.set(Metric::EpisodicReturn, mean_return);
        let mean_length = self.tally.length_mean().unwrap_or(none);
        row.set(Metric::EpisodicLength, mean_length);
        let shares = self.tally.time_shares();
        row.set_time(&shares);
        row.set(Metric::UpdateSeconds, elapsed.as_secs_f64());
        row.set(Metric::QueueFill, self.queue_fill());
        if let Some(bytes) = self.updater.device_memory_bytes() {
            row.set(Metric::DeviceMemory, bytes as f64);
        }
        row.set_update(update);
        row.set_lag(window);
        let books = self.links.books.lock();
        row.set(Metric::Actors, books.roster.present() as f64);
        self.row_of_checkpoints(&mut row);
        row.set_ledger(books.ledger.counts());
        row.set_traffic(&books.traffic);
        row.set_meters(&self.links.meters);
        row.set_quarantine(&books.quarantine, Instant::now());
        row
    }
}
