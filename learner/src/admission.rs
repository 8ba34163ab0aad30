//! Admission: which unrolls are trained on. Checks in order, cheapest first: run, epoch, duplicate or gap, future
//! version, lag, then the content. A refusal is data, not an error; the ledger counts each.

mod state;

use std::{net::IpAddr, time::Instant};

use springbok_common::{
    ids::{ActorId, RunId, UnrollSequence},
    reject::{RejectReason, Verdict},
    unroll::{Unroll, UnrollHeader},
    version::{LearnerEpoch, PolicyLag, PolicyVersion},
};

pub use self::state::BooksState;
use crate::{
    ledger::Ledger,
    quarantine::{Origin, Quarantine, Sentence},
    roster::{JoinRefusal, Place, Roster},
    steered::Steered,
    traffic::TrafficCounts,
};

/// Unrolls that an actor may skip at once. No honest actor skips more than its outbox; the limit keeps invented
/// numbers from overflowing the ledger.
pub const GAP_UNROLLS_MAX: u64 = 1_000_000;

/// What every unroll of this learner's life must match.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    /// The training run.
    pub run_id: RunId,
    /// The life of the learner.
    pub epoch: LearnerEpoch,
    /// Versions by which an unroll may be behind; `None` admits any.
    pub lag_versions_max: Option<u64>,
}

impl Fence {
    /// Whether `lag` is more than the configured limit.
    #[must_use]
    pub fn is_too_stale(&self, lag: PolicyLag) -> bool {
        self.lag_versions_max
            .is_some_and(|max| lag.versions() > max)
    }

    fn versions(&self, header: &UnrollHeader, newest: PolicyVersion) -> Result<(), RejectReason> {
        match newest.lag_behind(header.version) {
            None => Err(RejectReason::FutureVersion),
            Some(lag) if self.is_too_stale(lag) => Err(RejectReason::TooStale),
            Some(_) => Ok(()),
        }
    }
}

/// What an actor says about its own numbers makes no sense: the stream is closed, nothing is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceFault {
    /// The actor never joined, or left long ago.
    #[error("the actor has not joined")]
    UnknownActor,
    /// Too many numbers are skipped at once.
    #[error("unroll {to} does not follow unroll {from}: the gap is too large")]
    Gap {
        /// Last settled number.
        from: u64,
        /// Number claimed.
        to: u64,
    },
    /// A Goodbye that forgets unrolls which already arrived.
    #[error("the final unroll is said to be {claimed}, but unroll {settled} has arrived")]
    Backwards {
        /// Last settled number.
        settled: u64,
        /// Number claimed.
        claimed: u64,
    },
}

/// Result of the checks that need no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screened {
    /// The unroll is settled already.
    Settled(Verdict),
    /// Its content is to be checked, and then [`Admission::settle`] decides.
    Content,
}

/// The door: fence, roster and ledger, which change together.
#[derive(Debug)]
pub struct Admission {
    fence: Fence,
    /// The actors.
    pub roster: Roster,
    /// The accounts.
    pub ledger: Ledger,
    /// What steering did to whom.
    pub steered: Steered,
    /// Who is kept out.
    pub quarantine: Quarantine,
    /// What went over the wire.
    pub traffic: TrafficCounts,
}

impl Admission {
    /// An open door with empty books.
    #[must_use]
    pub fn new(fence: Fence, actors_max: usize) -> Self {
        Self {
            fence,
            roster: Roster::new(actors_max),
            ledger: Ledger::default(),
            steered: Steered::default(),
            quarantine: Quarantine::default(),
            traffic: TrafficCounts::default(),
        }
    }

    /// What every unroll must match.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Gives `actor`, which comes from `address`, a place: the one it had, or the one it asks for, or the lowest that is
    /// free and not in quarantine.
    ///
    /// # Errors
    /// [`JoinRefusal`]: that place is in quarantine, or there is none left.
    pub fn join(
        &mut self,
        actor: ActorId,
        wanted: Option<u32>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Place, JoinRefusal> {
        let kept_out = |place| self.quarantine.left(Origin { address, place }, now);
        let known = self.roster.knows(actor);
        let named = known.then(|| self.roster.index(actor)).or(wanted);
        let place =
            named.unwrap_or_else(|| self.roster.lowest_free(|place| kept_out(place).is_some()));
        if let Some(left) = kept_out(place) {
            self.quarantine.refused();
            let seconds = left.as_secs_f64().ceil() as u64;
            return Err(JoinRefusal::Quarantined { place, seconds });
        }
        let joined = self.roster.join(actor, Some(place), now)?;
        if named.is_none() {
            self.quarantine.newcomer(Origin { address, place }, now);
        }
        Ok(joined)
    }

    /// Counts an unroll of `actor`, which comes from `address`, that was refused for `reason`; says what that leads to.
    pub fn judge(
        &mut self,
        actor: ActorId,
        address: Option<IpAddr>,
        reason: RejectReason,
        now: Instant,
    ) -> Sentence {
        if !reason.is_poison() {
            return Sentence::Warned;
        }
        let place = self.roster.index(actor);
        self.quarantine.strike(Origin { address, place }, now)
    }

    /// The checks that need only the header. `newest` is the version that was published last.
    ///
    /// # Errors
    /// [`SequenceFault`] if the number makes no sense.
    pub fn screen(
        &mut self,
        actor: ActorId,
        header: &UnrollHeader,
        newest: PolicyVersion,
    ) -> Result<Screened, SequenceFault> {
        let sequence = header.sequence;
        let fenced = if header.run_id != self.fence.run_id {
            Some(RejectReason::WrongRun)
        } else if header.epoch != self.fence.epoch {
            Some(RejectReason::WrongEpoch)
        } else {
            None
        };
        if let Some(reason) = fenced {
            // The verdict names the reason even if the number was seen before; the ledger still counts it once.
            self.settle(actor, sequence, Err(reason))?;
            return Ok(Screened::Settled(Verdict::Rejected(reason)));
        }
        let mark = self.mark(actor)?;
        if sequence.0 <= mark {
            self.ledger.duplicate();
            return Ok(Screened::Settled(Verdict::Duplicate));
        }
        gap(mark, sequence.0)?;
        // Also if it is refused for its age: that is when it matters which version the actor has.
        self.roster.saw(actor, header.version);
        match self.fence.versions(header, newest) {
            Ok(()) => Ok(Screened::Content),
            Err(reason) => {
                if reason == RejectReason::TooStale {
                    let index = self.roster.index(actor);
                    self.steered.actor(index).dropped_unrolls += 1;
                }
                self.settle(actor, sequence, Err(reason))
                    .map(Screened::Settled)
            }
        }
    }

    /// The check of versions that needs the content: none of its steps may have one that was never published. `newest` is
    /// the version that was published last.
    ///
    /// # Errors
    /// [`RejectReason::FutureVersion`].
    pub fn check_steps(unroll: &Unroll, newest: PolicyVersion) -> Result<(), RejectReason> {
        let lag = newest.lag_behind(unroll.newest_version());
        lag.map(|_| ()).ok_or(RejectReason::FutureVersion)
    }

    /// Settles an unroll once: later copies are duplicates, skipped numbers before it are lost.
    ///
    /// # Errors
    /// [`SequenceFault`] if the number makes no sense.
    pub fn settle(
        &mut self,
        actor: ActorId,
        sequence: UnrollSequence,
        content: Result<(), RejectReason>,
    ) -> Result<Verdict, SequenceFault> {
        let mark = self.mark(actor)?;
        if sequence.0 <= mark {
            // Another stream of the same actor was quicker.
            self.ledger.duplicate();
            return Ok(Verdict::Duplicate);
        }
        self.ledger.lose(gap(mark, sequence.0)?);
        self.roster.advance(actor, sequence);
        Ok(match content {
            Ok(()) => {
                self.ledger.admit();
                Verdict::Admitted
            }
            Err(reason) => {
                self.ledger.reject(reason);
                Verdict::Rejected(reason)
            }
        })
    }

    /// `actor` leaves after `last`, the number of the last unroll it produced; those that never arrived are lost.
    ///
    /// # Errors
    /// [`SequenceFault`] if the number makes no sense; the actor has then not left.
    pub fn goodbye(&mut self, actor: ActorId, last: UnrollSequence) -> Result<(), SequenceFault> {
        let settled = self.mark(actor)?;
        if last.0 < settled {
            return Err(SequenceFault::Backwards {
                settled,
                claimed: last.0,
            });
        }
        if last.0 > settled {
            // The last one itself is missing too.
            self.ledger.lose(gap(settled, last.0)? + 1);
            self.roster.advance(actor, last);
        }
        self.roster.leave(actor);
        Ok(())
    }

    fn mark(&self, actor: ActorId) -> Result<u64, SequenceFault> {
        let mark = self.roster.mark(actor);
        mark.map(|mark| mark.0).ok_or(SequenceFault::UnknownActor)
    }
}

/// Numbers skipped between the settled `mark` and the later number `to`.
fn gap(mark: u64, to: u64) -> Result<u64, SequenceFault> {
    let skipped = to.saturating_sub(mark).saturating_sub(1);
    if skipped <= GAP_UNROLLS_MAX {
        Ok(skipped)
    } else {
        Err(SequenceFault::Gap { from: mark, to })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn door(lag_versions_max: Option<u64>) -> (Admission, ActorId, UnrollHeader) {
        let header = UnrollHeader {
            run_id: RunId::random(),
            epoch: LearnerEpoch::FIRST,
            sequence: UnrollSequence::FIRST,
            version: PolicyVersion(5),
        };
        let fence = Fence {
            run_id: header.run_id,
            epoch: header.epoch,
            lag_versions_max,
        };
        let mut admission = Admission::new(fence, 8);
        let actor = ActorId::random();
        admission.roster.join(actor, None, Instant::now()).unwrap();
        (admission, actor, header)
    }

    #[test]
    fn checks_come_in_the_documented_order() {
        let (mut admission, actor, good) = door(Some(2));
        let newest = PolicyVersion(7);
        let rejected = |reason| Ok(Screened::Settled(Verdict::Rejected(reason)));
        // Everything is wrong at first; one fault is mended at a time.
        let mut header = UnrollHeader {
            run_id: RunId::random(),
            epoch: LearnerEpoch(9),
            version: PolicyVersion(8),
            ..good
        };
        assert_eq!(
            admission.screen(actor, &header, newest),
            rejected(RejectReason::WrongRun)
        );
        header.run_id = good.run_id;
        assert_eq!(
            admission.screen(actor, &header, newest),
            rejected(RejectReason::WrongEpoch)
        );
        header.epoch = good.epoch;
        assert_eq!(
            admission.screen(actor, &header, newest),
            Ok(Screened::Settled(Verdict::Duplicate))
        );
        header.sequence = UnrollSequence(2);
        assert_eq!(
            admission.screen(actor, &header, newest),
            rejected(RejectReason::FutureVersion)
        );
        header.sequence = UnrollSequence(3);
        header.version = PolicyVersion(4);
        assert_eq!(
            admission.screen(actor, &header, newest),
            rejected(RejectReason::TooStale)
        );
        header.sequence = UnrollSequence(4);
        header.version = PolicyVersion(5);
        assert_eq!(
            admission.screen(actor, &header, newest),
            Ok(Screened::Content)
        );
        let verdict = admission.settle(actor, header.sequence, Err(RejectReason::WrongShape));
        assert_eq!(verdict, Ok(Verdict::Rejected(RejectReason::WrongShape)));
        let seen = admission.roster.seen();
        assert_eq!((seen[0].version, seen[0].unrolls), (5, 3));
        let counts = admission.ledger.counts();
        assert_eq!(
            (counts.produced, counts.rejected, counts.duplicates),
            (4, 4, 2)
        );
    }

    #[test]
    fn gaps_and_goodbyes_count_what_never_arrived() {
        let (mut admission, actor, _) = door(None);
        admission.settle(actor, UnrollSequence(4), Ok(())).unwrap();
        assert_eq!(admission.ledger.counts().lost, 3);
        let backwards = SequenceFault::Backwards {
            settled: 4,
            claimed: 3,
        };
        assert_eq!(admission.goodbye(actor, UnrollSequence(3)), Err(backwards));
        admission.goodbye(actor, UnrollSequence(6)).unwrap();
        assert_eq!(admission.ledger.counts().lost, 5);
        assert_eq!(admission.ledger.counts().produced, 6);
        assert_eq!(admission.roster.counts().left, 1);
    }

    #[test]
    fn invented_numbers_change_nothing() {
        let (mut admission, actor, header) = door(None);
        let far = UnrollHeader {
            sequence: UnrollSequence(u64::MAX),
            ..header
        };
        assert!(admission.screen(actor, &far, PolicyVersion(9)).is_err());
        assert!(admission.goodbye(actor, UnrollSequence(u64::MAX)).is_err());
        assert!(
            admission
                .settle(ActorId::random(), UnrollSequence(1), Ok(()))
                .is_err()
        );
        assert_eq!(admission.ledger.counts(), Ledger::default().counts());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn nothing_too_old_and_nothing_of_another_life_is_accepted(
            epoch in 1_u32..5, made_in in 1_u32..5, newest in 0_u64..60, version in 0_u64..60, queued in 0_u64..20,
            limit in prop::option::of(0_u64..30),
        ) {
            let (first, actor, header) = door(limit);
            let fence = Fence { epoch: LearnerEpoch(epoch), ..first.fence };
            let mut admission = Admission::new(fence, 8);
            admission.roster.join(actor, None, Instant::now()).unwrap();
            let header = UnrollHeader { epoch: LearnerEpoch(made_in), version: PolicyVersion(version), ..header };
            let screened = admission.screen(actor, &header, PolicyVersion(newest)).unwrap();
            // The trainer asks again when it takes it from the queue, so many updates later.
            let lag = PolicyVersion(newest + queued).lag_behind(header.version);
            let trained = screened == Screened::Content && lag.is_some_and(|lag| !fence.is_too_stale(lag));
            let may = epoch == made_in
                && version <= newest
                && limit.is_none_or(|limit| newest + queued - version <= limit);
            prop_assert_eq!(trained, may);
            if epoch != made_in {
                prop_assert_eq!(screened, Screened::Settled(Verdict::Rejected(RejectReason::WrongEpoch)));
            }
        }
    }

    proptest! {
        #[test]
        fn resends_gaps_and_lies_keep_the_identity(
            events in prop::collection::vec((0_usize..3, 0_u64..30, 0_u64..12, 0_u8..10, any::<bool>()), 0..200),
        ) {
            let (mut admission, first, header) = door(Some(3));
            let actors = [first, ActorId::random(), ActorId::random()];
            for actor in &actors[1..] {
                admission.roster.join(*actor, None, Instant::now()).unwrap();
            }
            for (who, sequence, version, kind, well_formed) in events {
                let actor = actors[who];
                let header = UnrollHeader {
                    sequence: UnrollSequence(sequence + 1),
                    version: PolicyVersion(version),
                    epoch: if kind == 0 { LearnerEpoch(2) } else { header.epoch },
                    ..header
                };
                if kind == 1 {
                    let _ = admission.goodbye(actor, header.sequence);
                } else if admission.screen(actor, &header, PolicyVersion(8)) == Ok(Screened::Content) {
                    let lag = PolicyVersion(8).lag_behind(header.version).unwrap();
                    prop_assert!(lag.versions() <= 3);
                    let content = if well_formed { Ok(()) } else { Err(RejectReason::NonFiniteReward) };
                    admission.settle(actor, header.sequence, content).unwrap();
                }
                admission.ledger.check().unwrap();
                // Every number up to an actor's mark is in exactly one account.
                let marks: u64 = actors.iter().map(|actor| admission.roster.mark(*actor).unwrap().0).sum();
                prop_assert_eq!(marks, admission.ledger.counts().produced);
            }
        }
    }
}
