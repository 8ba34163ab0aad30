//! Every seed keeps every invariant and recovers; the same seed is the same story.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use springbok_simulation::{Planted, simulate};

/// Seeds of the ordinary test; `SPRINGBOK_SEEDS` sets another number.
const SEEDS: u64 = 200;

/// Seeds that are run twice; `SPRINGBOK_SEEDS_TWICE` sets another number.
const SEEDS_TWICE: u64 = 20;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| {
        let parsed = text.parse();
        parsed.unwrap_or_else(|_| panic!("{variable} is not a number: {text}"))
    })
}

fn seeds() -> u64 {
    number("SPRINGBOK_SEEDS", SEEDS)
}

fn first() -> u64 {
    number("SPRINGBOK_SEED_FIRST", 0)
}

/// How to see it again.
fn again(seed: u64) -> String {
    format!(
        "SPRINGBOK_SEED_FIRST={seed} SPRINGBOK_SEEDS=1 cargo test -p springbok-simulation --test seeds every_seed"
    )
}

#[test]
fn every_seed_keeps_the_invariants_and_recovers() {
    let (mut trained, mut restarts, mut drains, mut refused) = (0, 0, 0, 0);
    let mut slowest = (Duration::ZERO, 0);
    for seed in first()..first() + seeds() {
        let outcome = simulate(seed, None).unwrap();
        if let Some(violation) = outcome.violation {
            let tail = &outcome.log[outcome.log.len().saturating_sub(60)..];
            panic!(
                "seed {seed}: {violation:?}\n{}\nagain: {}",
                tail.join("\n"),
                again(seed)
            );
        }
        trained += outcome.trained_unrolls;
        restarts += outcome.learner_lives - 1;
        drains += u64::from(outcome.drains);
        refused += outcome.strangers_refused;
        slowest = slowest.max((outcome.recovered_after, seed));
    }
    eprintln!(
        "{trained} unrolls, {restarts} restarts, {drains} drains; slowest recovery {slowest:?}"
    );
    // Something did happen.
    assert!(
        trained as u64 >= 20 * seeds(),
        "{trained} unrolls trained on"
    );
    assert!(
        seeds() < 10 || u64::from(restarts) >= seeds() / 2,
        "{restarts} restarts of learners"
    );
    assert!(
        seeds() < 100 || (drains >= seeds() / 4 && refused >= seeds() / 2),
        "{drains} drains, {refused} strangers refused"
    );
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in first()..first() + number("SPRINGBOK_SEEDS_TWICE", SEEDS_TWICE) {
        let [one, other] = [0; 2].map(|_| simulate(seed, None).unwrap().log);
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!(
                "seed {seed} differs at event {at}:\n{}\n{}",
                one[at], other[at]
            );
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

#[test]
fn every_planted_defect_is_found() {
    for planted in Planted::ALL {
        let found = (0..200).find_map(|seed| {
            let violation = simulate(seed, Some(planted)).unwrap().violation;
            violation.map(|violation| (seed, violation))
        });
        let Some((seed, violation)) = found else {
            panic!("{planted:?} is not found by 200 seeds");
        };
        eprintln!(
            "{planted:?}: found by {} after {} seeds: {}",
            violation.invariant,
            seed + 1,
            violation.seen
        );
        assert!(
            planted.found_by().contains(&violation.invariant),
            "{planted:?}: {violation:?}"
        );
    }
}
