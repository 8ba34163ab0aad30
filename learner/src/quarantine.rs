//! Quarantine: an actor whose unrolls are poisoned again and again is kept out for a while. Time is an argument.
//!
//! An actor's id is new in each of its lives, so what is remembered is where it came from: its address and its place on
//! the roster together. A broken actor that is started again has both and waits; an honest one behind the same address
//! has another place. A newcomer that names no place, from an address that is remembered, may be either: it is let in,
//! and its first poisoned unroll is one too many.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Origins that are remembered; beyond, the one that was quiet for longest is forgotten.
const ORIGINS_MAX: usize = 1024;

/// When an actor is kept out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// Poisoned unrolls within `window` that are too many.
    pub strikes_max: usize,
    /// How long a poisoned unroll is held against its actor.
    pub window: Duration,
    /// The first quarantine; each further one is twice as long.
    pub shortest: Duration,
    /// The longest one, and the time without fault after which all is forgotten.
    pub longest: Duration,
}

impl Default for QuarantineLimits {
    /// Three strikes in a minute; from 10 s to 10 minutes.
    fn default() -> Self {
        Self {
            strikes_max: 3,
            window: Duration::from_secs(60),
            shortest: Duration::from_secs(10),
            longest: Duration::from_secs(600),
        }
    }
}

/// Where an actor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Its address; none where the transport has no addresses.
    pub address: Option<IpAddr>,
    /// Its place on the roster.
    pub place: u32,
}

/// What a poisoned unroll leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// Nothing yet.
    Warned,
    /// The actor is to be kept out for so long.
    Quarantined(Duration),
}

/// What one place of the roster did: an element of `quarantine.actors` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffenderCounts {
    /// The place.
    pub actor: u32,
    /// Poisoned unrolls.
    pub strikes: u64,
    /// Times that its holder was kept out.
    pub quarantines: u64,
}

/// What poisoned unrolls led to: `quarantine` in `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuarantineSummary {
    /// Poisoned unrolls.
    pub strikes: u64,
    /// Times that an actor was kept out.
    pub quarantines: u64,
    /// Joins that were refused for it.
    pub refused_joins: u64,
    /// The places of the roster that had a poisoned unroll.
    pub actors: Vec<OffenderCounts>,
}

#[derive(Debug)]
struct Offence {
    /// Poisoned unrolls within the window.
    strikes: VecDeque<Instant>,
    /// Quarantines so far.
    times: u32,
    /// End of the last one.
    until: Option<Instant>,
    /// One more strike is enough.
    on_probation: bool,
    /// The last strike, or the end of the last quarantine.
    quiet_since: Instant,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Quarantine {
    limits: QuarantineLimits,
    offences: BTreeMap<Origin, Offence>,
    by_place: BTreeMap<u32, OffenderCounts>,
    strikes: u64,
    quarantines: u64,
    refused_joins: u64,
}

impl Quarantine {
    /// Nobody is kept out.
    #[must_use]
    pub fn new(limits: QuarantineLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A poisoned unroll came from `origin`.
    pub fn strike(&mut self, origin: Origin, now: Instant) -> Sentence {
        self.forget(now);
        let limits = self.limits;
        self.strikes += 1;
        let offence = self.remember(origin, now);
        offence.quiet_since = offence.quiet_since.max(now);
        offence.strikes.push_back(now);
        while let Some(&first) = offence.strikes.front()
            && now.saturating_duration_since(first) > limits.window
        {
            offence.strikes.pop_front();
        }
        let strikes_max = if offence.on_probation {
            1
        } else {
            limits.strikes_max
        };
        let mut sentence = Sentence::Warned;
        if offence.strikes.len() >= strikes_max {
            let time = limits.shortest * 2_u32.saturating_pow(offence.times.min(16));
            let time = time.min(limits.longest);
            offence.times = offence.times.saturating_add(1);
            offence.strikes.clear();
            offence.until = Some(now + time);
            offence.quiet_since = now + time;
            offence.on_probation = false;
            self.quarantines += 1;
            sentence = Sentence::Quarantined(time);
        }
        if self.by_place.len() < ORIGINS_MAX || self.by_place.contains_key(&origin.place) {
            let counts = self.by_place.entry(origin.place).or_default();
            counts.actor = origin.place;
            counts.strikes += 1;
            counts.quarantines += u64::from(sentence != Sentence::Warned);
        }
        sentence
    }

    /// For how long `origin` is still kept out; `None` if it is not.
    #[must_use]
    pub fn left(&self, origin: Origin, now: Instant) -> Option<Duration> {
        let until = self.offences.get(&origin)?.until?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A join of an actor that is kept out was refused.
    pub fn refused(&mut self) {
        self.refused_joins += 1;
    }

    /// A newcomer that named no place was given that of `origin`. If its address is remembered, it is on probation, and
    /// its quarantine would be as long as the next one of the worst there.
    pub fn newcomer(&mut self, origin: Origin, now: Instant) {
        self.forget(now);
        let same = |other: &Origin| other.address == origin.address;
        let known = self.offences.iter().filter(|(other, _)| same(other));
        let Some(times) = known.map(|(_, offence)| offence.times).max() else {
            return;
        };
        if times > 0 {
            let offence = self.remember(origin, now);
            offence.times = times;
            offence.on_probation = true;
        }
    }

    /// Origins that are kept out at `now`.
    #[must_use]
    pub fn kept_out(&self, now: Instant) -> usize {
        let kept_out = |offence: &&Offence| offence.until.is_some_and(|until| until > now);
        self.offences.values().filter(kept_out).count()
    }

    /// The counts.
    #[must_use]
    pub fn summary(&self) -> QuarantineSummary {
        QuarantineSummary {
            strikes: self.strikes,
            quarantines: self.quarantines,
            refused_joins: self.refused_joins,
            actors: self.by_place.values().copied().collect(),
        }
    }

    fn remember(&mut self, origin: Origin, now: Instant) -> &mut Offence {
        if self.offences.len() >= ORIGINS_MAX && !self.offences.contains_key(&origin) {
            let quietest = self.offences.iter().min_by_key(|(_, one)| one.quiet_since);
            if let Some(quietest) = quietest.map(|(origin, _)| *origin) {
                self.offences.remove(&quietest);
            }
        }
        self.offences.entry(origin).or_insert_with(|| Offence {
            strikes: VecDeque::new(),
            times: 0,
            until: None,
            on_probation: false,
            quiet_since: now,
        })
    }

    fn forget(&mut self, now: Instant) {
        let longest = self.limits.longest;
        self.offences
            .retain(|_, one| now.saturating_duration_since(one.quiet_since) <= longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn origin(host: u8, place: u32) -> Origin {
        Origin {
            address: Some(IpAddr::from([10, 0, 0, host])),
            place,
        }
    }

    /// Strikes at these seconds; gives the last sentence.
    fn strikes(quarantine: &mut Quarantine, who: Origin, from: Instant, at: &[u32]) -> Sentence {
        let sentences = at
            .iter()
            .map(|s| quarantine.strike(who, from + *s * SECOND));
        sentences.last().unwrap()
    }

    #[test]
    fn three_strikes_in_a_minute_are_too_many_and_three_in_two_minutes_are_not() {
        let start = Instant::now();
        let mut quarantine = Quarantine::default();
        let (slow, quick) = (origin(1, 0), origin(1, 1));
        assert_eq!(
            strikes(&mut quarantine, slow, start, &[0, 31, 61, 92, 122]),
            Sentence::Warned
        );
        assert_eq!(
            strikes(&mut quarantine, quick, start, &[130, 150]),
            Sentence::Warned
        );
        let sentence = strikes(&mut quarantine, quick, start, &[190]);
        assert_eq!(sentence, Sentence::Quarantined(10 * SECOND));
        assert_eq!(quarantine.left(quick, start + 199 * SECOND), Some(SECOND));
        assert_eq!(quarantine.left(quick, start + 200 * SECOND), None);
        assert_eq!(quarantine.left(slow, start + 190 * SECOND), None);
        let of_quick = OffenderCounts {
            actor: 1,
            strikes: 3,
            quarantines: 1,
        };
        assert_eq!(quarantine.summary().actors[1], of_quick);
    }

    #[test]
    fn each_quarantine_is_twice_as_long_up_to_the_longest_and_good_conduct_is_forgiven() {
        let mut now = Instant::now();
        let mut quarantine = Quarantine::default();
        let who = origin(1, 0);
        let mut times = Vec::new();
        for _ in 0..9 {
            let Sentence::Quarantined(time) = strikes(&mut quarantine, who, now, &[0, 0, 0]) else {
                panic!("three at once are too many");
            };
            times.push(time.as_secs());
            now += time;
        }
        assert_eq!(times, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        now += 601 * SECOND;
        let sentence = strikes(&mut quarantine, who, now, &[0, 0, 0]);
        assert_eq!(sentence, Sentence::Quarantined(10 * SECOND));
    }

    #[test]
    fn a_newcomer_from_a_remembered_address_has_one_strike_and_one_from_elsewhere_three() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        strikes(&mut quarantine, origin(1, 0), now, &[0, 0, 0]);
        let (same, elsewhere) = (origin(1, 5), origin(2, 0));
        quarantine.newcomer(same, now);
        quarantine.newcomer(elsewhere, now);
        // Neither is kept out for what another did.
        assert_eq!(quarantine.left(same, now), None);
        assert_eq!(quarantine.left(elsewhere, now), None);
        let sentence = quarantine.strike(same, now);
        assert_eq!(sentence, Sentence::Quarantined(20 * SECOND));
        assert_eq!(quarantine.strike(elsewhere, now), Sentence::Warned);
        assert_eq!(quarantine.kept_out(now), 2);
    }

    #[test]
    fn invented_origins_take_no_more_memory_than_planned() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        for place in 0..3000 {
            quarantine.strike(origin(1, place), now + place * SECOND / 100);
        }
        assert_eq!(quarantine.offences.len(), ORIGINS_MAX);
        assert_eq!(quarantine.summary().actors.len(), ORIGINS_MAX);
        assert_eq!(quarantine.summary().strikes, 3000);
    }
}
