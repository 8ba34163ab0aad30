//! The roster: which actors there are, which place each has, and how far each has come.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use springbok_common::{
    ids::{ActorId, UnrollSequence},
    version::PolicyVersion,
};

use crate::watchdog::ActorSeen;

/// Departed actors that are still known, so that a late resend is recognised as a duplicate.
const DEPARTED_MAX: usize = 1024;

/// How many lives of actors there were. joined = left + lost + present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorCounts {
    /// Lives that ever joined.
    pub joined: u64,
    /// Of these, those that said Goodbye.
    pub left: u64,
    /// Of these, those whose stream ended without it.
    pub lost: u64,
    /// Of the lost, those whose place a new life took.
    pub replaced: u64,
}

/// Why an actor may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// All places are taken.
    #[error("all {actors_max} places for actors are taken (limits.actors_max)")]
    Full {
        /// The number of places.
        actors_max: usize,
    },
    /// Its unrolls were poisoned.
    #[error(
        "place {place} is in quarantine for another {seconds} s because of poisoned unrolls: mend the environment or \
         the actor there, or wait"
    )]
    Quarantined {
        /// The place.
        place: u32,
        /// Seconds until it may join again, rounded up.
        seconds: u64,
    },
}

/// A new place on the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Seeds the actor.
    pub index: u32,
    /// The earlier life that was still present at this index; its streams must be closed.
    pub displaced: Option<ActorId>,
}

/// Tells one stream of an actor from its earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTicket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Has a place, but no stream yet.
    Joined {
        since: Instant,
    },
    Streaming(StreamTicket),
    Left,
    Lost,
}

#[derive(Debug)]
struct Life {
    index: u32,
    mark: u64,
    /// Version of the unroll that arrived last, and how many arrived.
    version: PolicyVersion,
    unrolls: u64,
    presence: Presence,
    /// Lost, and a new life has its place.
    replaced: bool,
}

impl Life {
    fn present(&self) -> bool {
        matches!(
            self.presence,
            Presence::Joined { .. } | Presence::Streaming(_)
        )
    }
}

/// The actors by id. Time is an argument, so that tests need not wait.
#[derive(Debug)]
pub struct Roster {
    actors_max: usize,
    lives: BTreeMap<ActorId, Life>,
    departed: VecDeque<ActorId>,
    counts: ActorCounts,
    tickets: u64,
}

impl Roster {
    /// An empty roster with `actors_max` places.
    #[must_use]
    pub fn new(actors_max: usize) -> Self {
        Self {
            actors_max,
            lives: BTreeMap::new(),
            departed: VecDeque::new(),
            counts: ActorCounts::default(),
            tickets: 0,
        }
    }

    /// How many lives there were.
    #[must_use]
    pub fn counts(&self) -> ActorCounts {
        self.counts
    }

    /// Actors that have a place now.
    #[must_use]
    pub fn present(&self) -> usize {
        self.lives.values().filter(|life| life.present()).count()
    }

    /// The place of `actor` among those present.
    #[must_use]
    pub fn place(&self, actor: ActorId) -> Option<u32> {
        let life = self.lives.get(&actor).filter(|life| life.present())?;
        Some(life.index)
    }

    /// Gives `actor` a place: the one it had, or the one it asks for, or the lowest free one. A place whose holder
    /// is another actor passes to the new life.
    ///
    /// # Errors
    /// [`JoinRefusal::Full`] if there is no place left.
    pub fn join(
        &mut self,
        actor: ActorId,
        wanted: Option<u32>,
        now: Instant,
    ) -> Result<Place, JoinRefusal> {
        let known = self.lives.get(&actor);
        let index = known
            .map(|life| life.index)
            .or(wanted)
            .unwrap_or_else(|| self.lowest_free(|_| false));
        let holder = self
            .lives
            .iter()
            .find(|(id, life)| **id != actor && life.index == index && life.present())
            .map(|(id, _)| *id);
        let is_present = known.is_some_and(Life::present);
        if !is_present && holder.is_none() && self.present() >= self.actors_max {
            return Err(JoinRefusal::Full {
                actors_max: self.actors_max,
            });
        }
        if let Some(holder) = holder {
            self.depart(holder, Presence::Lost);
        }
        self.enter(actor, index, now);
        Ok(Place {
            index,
            displaced: holder,
        })
    }

    fn enter(&mut self, actor: ActorId, index: u32, now: Instant) {
        let presence = Presence::Joined { since: now };
        if let Some(life) = self.lives.get_mut(&actor) {
            match life.presence {
                Presence::Left => self.counts.left -= 1,
                Presence::Lost => self.counts.lost -= 1,
                Presence::Joined { .. } | Presence::Streaming(_) => {}
            }
            if std::mem::take(&mut life.replaced) {
                self.counts.replaced -= 1;
            }
            life.presence = presence;
            self.departed.retain(|departed| *departed != actor);
            return;
        }
        self.counts.joined += 1;
        let lost_here = |life: &&mut Life| {
            life.index == index && life.presence == Presence::Lost && !life.replaced
        };
        if let Some(lost) = self.lives.values_mut().find(lost_here) {
            lost.replaced = true;
            self.counts.replaced += 1;
        }
        let life = Life {
            index,
            mark: 0,
            version: PolicyVersion::default(),
            unrolls: 0,
            presence,
            replaced: false,
        };
        self.lives.insert(actor, life);
    }

    /// The lowest place that nobody has and that is not `barred`.
    #[must_use]
    pub fn lowest_free(&self, barred: impl Fn(u32) -> bool) -> u32 {
        let taken = |index| {
            self.lives
                .values()
                .any(|life| life.index == index && life.present())
        };
        let mut free = (0..u32::MAX).filter(|index| !taken(*index));
        free.find(|index| !barred(*index)).unwrap_or(0)
    }

    /// Whether `actor` ever joined and is still remembered.
    #[must_use]
    pub fn knows(&self, actor: ActorId) -> bool {
        self.lives.contains_key(&actor)
    }

    /// A trajectory stream of `actor` begins; an earlier one of the same actor ends with it. `None` if the actor
    /// has not joined.
    pub fn open_stream(&mut self, actor: ActorId) -> Option<StreamTicket> {
        let life = self.lives.get_mut(&actor).filter(|life| life.present())?;
        self.tickets += 1;
        let ticket = StreamTicket(self.tickets);
        life.presence = Presence::Streaming(ticket);
        Some(ticket)
    }

    /// The stream `ticket` of `actor` ended; without a Goodbye before, the actor is lost. Nothing happens if a newer
    /// stream has taken its place.
    pub fn close_stream(&mut self, actor: ActorId, ticket: StreamTicket) {
        if self.life_is(actor, Presence::Streaming(ticket)) {
            self.depart(actor, Presence::Lost);
        }
    }

    /// `actor` said Goodbye.
    pub fn leave(&mut self, actor: ActorId) {
        if self.lives.get(&actor).is_some_and(Life::present) {
            self.depart(actor, Presence::Left);
        }
    }

    /// Frees the places of actors that joined more than `patience` before `now` and never opened a stream.
    pub fn expire(&mut self, now: Instant, patience: Duration) {
        let silent = |life: &Life| matches!(life.presence, Presence::Joined { since } if now.duration_since(since) > patience);
        let expired: Vec<ActorId> = self
            .lives
            .iter()
            .filter(|(_, life)| silent(life))
            .map(|(id, _)| *id)
            .collect();
        for actor in expired {
            self.depart(actor, Presence::Lost);
        }
    }

    fn life_is(&self, actor: ActorId, presence: Presence) -> bool {
        self.lives
            .get(&actor)
            .is_some_and(|life| life.presence == presence)
    }

    fn depart(&mut self, actor: ActorId, presence: Presence) {
        if let Some(life) = self.lives.get_mut(&actor) {
            life.presence = presence;
        }
        match presence {
            Presence::Left => self.counts.left += 1,
            _ => self.counts.lost += 1,
        }
        self.departed.push_back(actor);
        if self.departed.len() > DEPARTED_MAX
            && let Some(oldest) = self.departed.pop_front()
        {
            self.lives.remove(&oldest);
        }
    }

    /// Number of the last unroll of `actor` that is settled, 0 before the first; `None` if it never joined.
    #[must_use]
    pub fn mark(&self, actor: ActorId) -> Option<UnrollSequence> {
        self.lives.get(&actor).map(|life| UnrollSequence(life.mark))
    }

    /// An unroll of `actor` arrived that was made with `version`.
    pub fn saw(&mut self, actor: ActorId, version: PolicyVersion) {
        if let Some(life) = self.lives.get_mut(&actor) {
            life.version = version;
            life.unrolls += 1;
        }
    }

    /// What each actor that is present was last seen to do.
    #[must_use]
    pub fn seen(&self) -> Vec<ActorSeen<ActorId>> {
        let present = self.lives.iter().filter(|(_, life)| life.present());
        present
            .map(|(id, life)| ActorSeen {
                actor: *id,
                version: life.version.0,
                unrolls: life.unrolls,
            })
            .collect()
    }

    /// The place of `actor`, 0 if it was never seen.
    #[must_use]
    pub fn index(&self, actor: ActorId) -> u32 {
        self.lives.get(&actor).map_or(0, |life| life.index)
    }

    /// Everything of `actor` up to `sequence` is settled. The mark never goes back.
    pub fn advance(&mut self, actor: ActorId, sequence: UnrollSequence) {
        if let Some(life) = self.lives.get_mut(&actor) {
            life.mark = life.mark.max(sequence.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<ActorId> {
        (0..count).map(|_| ActorId::random()).collect()
    }

    #[test]
    fn places_are_filled_from_the_lowest_and_kept_on_reconnect() {
        let now = Instant::now();
        let mut roster = Roster::new(2);
        let [first, second, third] = ids(3).try_into().unwrap();
        assert_eq!(roster.join(first, None, now).unwrap().index, 0);
        assert_eq!(roster.join(second, None, now).unwrap().index, 1);
        assert!(roster.join(third, None, now).is_err());
        let ticket = roster.open_stream(first).unwrap();
        roster.advance(first, UnrollSequence(9));
        roster.close_stream(first, ticket);
        assert_eq!(roster.counts().lost, 1);
        assert_eq!(roster.join(first, None, now).unwrap().index, 0);
        assert_eq!(roster.mark(first), Some(UnrollSequence(9)));
        assert_eq!((roster.counts().joined, roster.counts().lost), (2, 0));
    }

    #[test]
    fn a_new_life_takes_the_place_of_a_lost_one() {
        let now = Instant::now();
        let mut roster = Roster::new(1);
        let [first, second, third] = ids(3).try_into().unwrap();
        roster.join(first, Some(0), now).unwrap();
        let ticket = roster.open_stream(first).unwrap();
        // Still present: displaced, even though all places are taken.
        let place = roster.join(second, Some(0), now).unwrap();
        assert_eq!(place.displaced, Some(first));
        roster.close_stream(first, ticket);
        roster.open_stream(second).unwrap();
        roster.leave(second);
        roster.join(third, Some(0), now).unwrap();
        // The second took the place of the first; the third that of the second, which had left on purpose, so that
        // the place was lost only once.
        let expected = ActorCounts {
            joined: 3,
            left: 1,
            lost: 1,
            replaced: 1,
        };
        assert_eq!(roster.counts(), expected);
    }

    #[test]
    fn an_old_stream_cannot_end_a_newer_one() {
        let now = Instant::now();
        let mut roster = Roster::new(4);
        let actor = ActorId::random();
        assert_eq!(roster.open_stream(actor), None);
        roster.join(actor, None, now).unwrap();
        let old = roster.open_stream(actor).unwrap();
        roster.open_stream(actor).unwrap();
        roster.close_stream(actor, old);
        assert_eq!(roster.present(), 1);
    }

    #[test]
    fn a_place_without_a_stream_is_freed() {
        let now = Instant::now();
        let mut roster = Roster::new(1);
        roster.join(ActorId::random(), None, now).unwrap();
        let patience = Duration::from_secs(5);
        roster.expire(now + patience, patience);
        assert_eq!(roster.present(), 1);
        roster.expire(now + patience * 2, patience);
        assert_eq!((roster.present(), roster.counts().lost), (0, 1));
    }

    proptest! {
        #[test]
        fn every_life_is_present_or_has_departed_one_way(events in prop::collection::vec((0_u8..5, 0_usize..6, 0_u32..3), 0..200)) {
            let now = Instant::now();
            let actors = ids(6);
            let mut roster = Roster::new(3);
            let mut tickets = [None; 6];
            for (event, who, place) in events {
                let actor = actors[who];
                match event {
                    0 => { let _ = roster.join(actor, None, now); }
                    1 => { let _ = roster.join(actor, Some(place), now); }
                    2 => tickets[who] = roster.open_stream(actor).or(tickets[who]),
                    3 => roster.leave(actor),
                    _ => if let Some(ticket) = tickets[who] { roster.close_stream(actor, ticket) },
                }
                let counts = roster.counts();
                prop_assert_eq!(counts.joined, counts.left + counts.lost + roster.present() as u64);
                prop_assert!(roster.present() <= 3);
            }
        }
    }
}
