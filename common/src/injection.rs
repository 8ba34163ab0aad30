//! Policy lag on purpose: which past version an actor is served instead of the newest.

use std::{fmt, str::FromStr};

/// Most versions that are injected: the learner keeps that many snapshots.
pub const INJECTED_VERSIONS_MAX: u64 = 1024;

/// By how many versions the snapshots that actors are served lie behind the newest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LagInjection {
    /// Not at all.
    #[default]
    None,
    /// By so many, always.
    Fixed(u64),
    /// By a number drawn anew for each snapshot that is sent, from the first to the last, both included.
    Uniform(u64, u64),
    /// By the entry at the actor's place; the list repeats if there are more actors.
    PerActor(Vec<u64>),
}

impl LagInjection {
    /// Versions behind the newest for the snapshot number `serial` that actor `place` is sent; the same seed gives the
    /// same numbers.
    #[must_use]
    pub fn versions(&self, seed: u64, place: u32, serial: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::Fixed(versions) => *versions,
            Self::Uniform(first, last) => {
                let choices = last - first + 1;
                first + mix(mix(seed ^ mix(u64::from(place))) ^ serial) % choices
            }
            Self::PerActor(list) => {
                let index = place as usize % list.len().max(1);
                list.get(index).copied().unwrap_or(0)
            }
        }
    }

    /// The most versions that are injected.
    #[must_use]
    pub fn versions_max(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Fixed(versions) => *versions,
            Self::Uniform(_, last) => *last,
            Self::PerActor(list) => list.iter().copied().max().unwrap_or(0),
        }
    }

    /// The least versions that are injected.
    #[must_use]
    pub fn versions_min(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Fixed(versions) => *versions,
            Self::Uniform(first, _) => *first,
            Self::PerActor(list) => list.iter().copied().min().unwrap_or(0),
        }
    }

    /// Mean of the injected versions over `actors` that send equally much.
    #[must_use]
    pub fn versions_mean(&self, actors: usize) -> f64 {
        match self {
            Self::Uniform(first, last) => (*first as f64 + *last as f64) / 2.0,
            other => {
                let actors = u32::try_from(actors.max(1)).unwrap_or(u32::MAX);
                let sum: u64 = (0..actors).map(|place| other.versions(0, place, 0)).sum();
                sum as f64 / f64::from(actors)
            }
        }
    }
}

/// The finaliser of `SplitMix64` (Steele et al. 2014): every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Display for LagInjection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Fixed(versions) => write!(formatter, "fixed:{versions}"),
            Self::Uniform(first, last) => write!(formatter, "uniform:{first}..{last}"),
            Self::PerActor(list) => {
                let list: Vec<_> = list.iter().map(ToString::to_string).collect();
                write!(formatter, "per-actor:{}", list.join(","))
            }
        }
    }
}

/// The text names no [`LagInjection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "lag is injected as \"none\", \"fixed:8\", \"uniform:0..16\" or \"per-actor:0,4,16\", by at most {INJECTED_VERSIONS_MAX} versions"
)]
pub struct NotAnInjection;

impl FromStr for LagInjection {
    type Err = NotAnInjection;

    fn from_str(text: &str) -> Result<Self, NotAnInjection> {
        let number = |text: &str| {
            let number = text.trim().parse::<u64>().map_err(|_| NotAnInjection)?;
            (number <= INJECTED_VERSIONS_MAX)
                .then_some(number)
                .ok_or(NotAnInjection)
        };
        if text == "none" {
            return Ok(Self::None);
        }
        if let Ok(versions) = number(text) {
            return Ok(Self::Fixed(versions));
        }
        match text.split_once(':').ok_or(NotAnInjection)? {
            ("fixed", versions) => number(versions).map(Self::Fixed),
            ("uniform", range) => {
                let (first, last) = range.split_once("..").ok_or(NotAnInjection)?;
                let (first, last) = (number(first)?, number(last)?);
                (first <= last)
                    .then_some(Self::Uniform(first, last))
                    .ok_or(NotAnInjection)
            }
            ("per-actor", list) => {
                let list: Result<Vec<_>, _> = list.split(',').map(number).collect();
                list.map(Self::PerActor)
            }
            _ => Err(NotAnInjection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_not() {
        for text in ["none", "fixed:8", "uniform:0..16", "per-actor:0,4,16"] {
            assert_eq!(text.parse::<LagInjection>().unwrap().to_string(), text);
        }
        assert_eq!("8".parse(), Ok(LagInjection::Fixed(8)));
        for text in [
            "",
            "fixed",
            "fixed:-1",
            "fixed:1025",
            "uniform:5..4",
            "uniform:5",
            "per-actor:",
            "per-actor:1,,2",
            "normal:3",
        ] {
            assert_eq!(text.parse::<LagInjection>(), Err(NotAnInjection), "{text}");
        }
    }

    #[test]
    fn draws_are_uniform_reproducible_and_differ_between_actors() {
        let injection = LagInjection::Uniform(2, 5);
        let draws = |seed, place| -> Vec<u64> {
            (0..4000)
                .map(|serial| injection.versions(seed, place, serial))
                .collect()
        };
        assert_eq!(draws(1, 0), draws(1, 0));
        assert_ne!(draws(1, 0), draws(1, 1));
        assert_ne!(draws(1, 0), draws(2, 0));
        for versions in 2..=5 {
            let count = draws(1, 0)
                .iter()
                .filter(|&&drawn| drawn == versions)
                .count();
            // 1000 expected, standard deviation 27.
            assert!((850..1150).contains(&count), "{versions}: {count}");
        }
    }

    #[test]
    fn places_take_their_own_entry_and_the_list_repeats() {
        let injection = LagInjection::PerActor(vec![0, 4, 16]);
        let lags: Vec<_> = (0..5)
            .map(|place| injection.versions(9, place, 3))
            .collect();
        assert_eq!(lags, [0, 4, 16, 0, 4]);
        assert_eq!(injection.versions_max(), 16);
        assert_eq!(injection.versions_mean(5), 24.0 / 5.0);
        assert_eq!(LagInjection::Uniform(0, 8).versions_mean(2), 4.0);
    }
}
