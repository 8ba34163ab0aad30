//! What steering did to whom, and whether it changed what is learnt from: unrolls and steps by actor, and the lengths of
//! the episodes that were made beside those that were trained on. Dropping by age can prefer some episodes to others;
//! then the two distributions differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lengths up to this have a bin each; longer ones share 64 bins per doubling, so that memory stays bounded.
const EXACT_LENGTHS: u32 = 1024;

/// What was done to the experience from one place of the roster: an element of `steering.actors` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SteeredActor {
    /// The place.
    pub actor: u32,
    /// Acknowledgements that were held back.
    pub paused: u64,
    /// For how long, in seconds, all together.
    pub paused_s: f64,
    /// Unrolls refused or dropped because they were older than the limit.
    pub dropped_unrolls: u64,
    /// Unrolls dropped because the queue was full.
    pub evicted_unrolls: u64,
    /// Steps trained on for the value function only.
    pub masked_steps: u64,
    /// Steps whose policy gradient was weighted down.
    pub down_weighted_steps: u64,
    /// Steps trained on although they were older than the limit; masked and weighted ones are among them.
    pub over_limit_steps: u64,
}

/// Episode lengths made and trained on: `bias_audit` in `summary.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BiasSummary {
    /// Episodes that ended in unrolls that arrived.
    pub episodes_generated: u64,
    /// Episodes that ended in unrolls that were trained on; masked ones count nothing, weighted ones their weight.
    pub episodes_trained: f64,
    /// Mean length of the former, in steps; none without an episode.
    pub length_mean_generated: Option<f64>,
    /// Mean length of the latter, in steps; none without an episode.
    pub length_mean_trained: Option<f64>,
    /// Largest distance between the two distribution functions (Kolmogorov-Smirnov), 0 to 1; none without episodes.
    pub ks_distance: Option<f64>,
}

/// A histogram of lengths with weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Lengths {
    bins: BTreeMap<u32, f64>,
    weight: f64,
    sum: f64,
}

impl Lengths {
    fn add(&mut self, length: u32, weight: f64) {
        *self.bins.entry(bin(length)).or_default() += weight;
        self.weight += weight;
        self.sum += weight * f64::from(length);
    }

    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn distance(&self, other: &Self) -> Option<f64> {
        if self.weight <= 0.0 || other.weight <= 0.0 {
            return None;
        }
        let mut differences: BTreeMap<u32, f64> = BTreeMap::new();
        for (sign, lengths) in [(1.0, self), (-1.0, other)] {
            for (bin, weight) in &lengths.bins {
                *differences.entry(*bin).or_default() += sign * weight / lengths.weight;
            }
        }
        let mut sum = 0.0_f64;
        let distances = differences.values().map(|difference| {
            sum += difference;
            sum.abs()
        });
        // Rounding must not take it beyond its range.
        Some(distances.fold(0.0, f64::max).min(1.0))
    }
}

fn bin(length: u32) -> u32 {
    if length < EXACT_LENGTHS {
        return length;
    }
    // Keeps the 7 highest bits.
    let shift = length.ilog2() - 6;
    (length >> shift) << shift
}

/// Counts for each place of the roster, and the audit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Steered {
    actors: BTreeMap<u32, SteeredActor>,
    generated: Lengths,
    trained: Lengths,
}

impl Steered {
    /// The counts of the place `index`, to be changed.
    pub fn actor(&mut self, index: u32) -> &mut SteeredActor {
        let actor = self.actors.entry(index).or_default();
        actor.actor = index;
        actor
    }

    /// The counts by place, for places with any.
    #[must_use]
    pub fn actors(&self) -> Vec<SteeredActor> {
        let touched = |counts: &&SteeredActor| {
            let untouched = SteeredActor {
                actor: counts.actor,
                ..SteeredActor::default()
            };
            **counts != untouched
        };
        self.actors.values().filter(touched).copied().collect()
    }

    /// Episodes of these lengths ended in an unroll that arrived.
    pub fn generated(&mut self, lengths: impl IntoIterator<Item = u32>) {
        for length in lengths {
            self.generated.add(length, 1.0);
        }
    }

    /// Episodes of these lengths ended in an unroll that was trained on, with this weight of its policy gradient.
    pub fn trained(&mut self, lengths: impl IntoIterator<Item = u32>, weight: f64) {
        if weight > 0.0 {
            for length in lengths {
                self.trained.add(length, weight);
            }
        }
    }

    /// Whether what is trained on has episodes like those that are made.
    #[must_use]
    pub fn bias(&self) -> BiasSummary {
        BiasSummary {
            episodes_generated: self.generated.weight as u64,
            episodes_trained: self.trained.weight,
            length_mean_generated: self.generated.mean(),
            length_mean_trained: self.trained.mean(),
            ks_distance: self.generated.distance(&self.trained),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_for_short_episodes_shows_as_distance_and_mean() {
        let mut steered = Steered::default();
        assert_eq!(steered.bias(), BiasSummary::default());
        steered.generated([10, 10, 30, 30]);
        steered.trained([10, 10], 1.0);
        steered.trained([30], 0.0);
        let bias = steered.bias();
        assert_eq!((bias.episodes_generated, bias.episodes_trained), (4, 2.0));
        assert_eq!(bias.length_mean_generated, Some(20.0));
        assert_eq!(
            (bias.length_mean_trained, bias.ks_distance),
            (Some(10.0), Some(0.5))
        );
        steered.trained([30, 30], 1.0);
        assert_eq!(steered.bias().ks_distance, Some(0.0));
        // Half the weight: 2 of 5 below 30.
        steered.trained([30, 30], 0.5);
        let distance = steered.bias().ks_distance.unwrap();
        assert!((distance - 0.1).abs() < 1e-12);
    }

    #[test]
    fn bins_are_few_and_close() {
        let mut bins = std::collections::BTreeSet::new();
        for length in (0..200_000).chain([u32::MAX]) {
            let bin = bin(length);
            assert!(bin <= length && f64::from(length - bin) <= f64::from(length) / 64.0);
            bins.insert(bin);
        }
        assert!(bins.len() < 1024 + 64 * 9);
    }

    #[test]
    fn only_places_that_were_touched_are_listed() {
        let mut steered = Steered::default();
        steered.actor(2).dropped_unrolls += 1;
        steered.actor(0).masked_steps += 0;
        assert_eq!(steered.actors().len(), 1);
        assert_eq!(steered.actors()[0].actor, 2);
    }
}
