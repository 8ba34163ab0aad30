//! Slices in turns: ours, ours again, the ceiling, and so on, so that a change of the machine's mood hits all of them, and
//! what two equal loops differ by is seen beside what they are compared with.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Suite, stage::Stage};
use crate::exit::Failure;

/// Seconds of a slice, and rounds of them.
const USUAL: (f64, u32) = (0.5, 7);
/// The same where all is to be over within a minute.
const QUICK: (f64, u32) = (0.08, 3);
/// A first slice that does not count is this share of the others: caches and allocators fill up.
const WARM_UP: f64 = 0.5;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Of one loop at a time.
    pub(super) slice: Duration,
    /// Each has two slices of ours and one of the ceiling.
    pub(super) rounds: u32,
    /// Whether there is time for the essential cases only.
    pub(super) is_quick: bool,
    /// Whether a first slice of each does not count.
    pub(super) warms_up: bool,
}

impl Pace {
    /// What `suite` asks for.
    pub(super) fn of(suite: &Suite) -> Self {
        let (seconds, rounds) = if suite.quick { QUICK } else { USUAL };
        Self {
            slice: Duration::from_secs_f64(suite.seconds.unwrap_or(seconds)),
            rounds: suite.rounds.unwrap_or(rounds),
            is_quick: suite.quick,
            warms_up: true,
        }
    }
}

/// The middle of several numbers, and the outermost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// The median.
    pub(super) median: f64,
    /// The least.
    pub(super) least: f64,
    /// The most.
    pub(super) most: f64,
}

impl Spread {
    /// That of `values`, of which there is at least one.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Self {
            median,
            least: values.first().copied().unwrap_or(f64::NAN),
            most: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The stage.
    pub(super) stage: String,
    /// What exactly.
    pub(super) case: String,
    /// What the rates count in a second.
    pub(super) unit: String,
    /// Median of all slices.
    pub(super) rate: f64,
    /// Median of all slices of the bare loop.
    pub(super) ceiling: f64,
    /// `rate` / `ceiling`.
    pub(super) ratio: f64,
    /// The same round by round.
    pub(super) ratio_of_rounds: Spread,
    /// Second slice / first slice of each round: what equal loops differ by.
    pub(super) a_a: Spread,
    /// What the ceiling is.
    pub(super) against: String,
    /// Seconds of a slice.
    pub(super) slice_s: f64,
    /// Rounds of slices.
    pub(super) rounds: u32,
    /// What else was seen.
    #[serde(default)]
    pub(super) notes: BTreeMap<String, f64>,
}

/// Measures one case of `stage`.
pub(super) fn measure(stage: &str, case: &mut dyn Stage, pace: &Pace) -> Result<Row, Failure> {
    let pace = case.pace(pace);
    if pace.warms_up {
        let warm_up = pace.slice.mul_f64(WARM_UP);
        case.ours(warm_up)?;
        case.ceiling(warm_up)?;
    }
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (mut ratios, mut equals) = (Vec::new(), Vec::new());
    for _ in 0..pace.rounds.max(1) {
        let (first, second) = (case.ours(pace.slice)?, case.ours(pace.slice)?);
        let ceiling = case.ceiling(pace.slice)?;
        ours.extend([first, second]);
        bare.push(ceiling);
        ratios.push(f64::midpoint(first, second) / ceiling);
        equals.push(second / first);
    }
    let (rate, ceiling) = (Spread::of(ours).median, Spread::of(bare).median);
    Ok(Row {
        stage: stage.to_owned(),
        case: case.case(),
        unit: case.unit().to_owned(),
        rate,
        ceiling,
        ratio: rate / ceiling,
        ratio_of_rounds: Spread::of(ratios),
        a_a: Spread::of(equals),
        against: case.against().to_owned(),
        slice_s: pace.slice.as_secs_f64(),
        rounds: pace.rounds.max(1),
        notes: case.notes().into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates from a list, first ours and ours, then the ceiling.
    struct Scripted(std::vec::IntoIter<f64>);

    impl Stage for Scripted {
        fn case(&self) -> String {
            "case".to_owned()
        }

        fn unit(&self) -> &'static str {
            "units/s"
        }

        fn against(&self) -> &'static str {
            "a list"
        }

        fn ours(&mut self, _: Duration) -> Result<f64, Failure> {
            Ok(self.0.next().unwrap())
        }

        fn ceiling(&mut self, _: Duration) -> Result<f64, Failure> {
            Ok(self.0.next().unwrap())
        }
    }

    #[test]
    fn a_slow_slice_moves_the_spread_and_not_the_medians() {
        let warm_up = vec![1e9, 1e9];
        let rounds = [[8.0, 8.0, 10.0], [8.0, 2.0, 10.0], [8.0, 8.8, 11.0]];
        let rates: Vec<f64> = warm_up.into_iter().chain(rounds.concat()).collect();
        let pace = Pace {
            slice: Duration::ZERO,
            rounds: 3,
            is_quick: true,
            warms_up: true,
        };
        let row = measure("stage", &mut Scripted(rates.into_iter()), &pace).unwrap();
        assert_eq!((row.rate, row.ceiling, row.ratio), (8.0, 10.0, 0.8));
        let spread = |least, median, most| Spread {
            median,
            least,
            most,
        };
        assert_eq!(row.a_a, spread(0.25, 1.0, 1.1));
        assert_eq!(row.ratio_of_rounds, spread(0.5, 8.4 / 11.0, 0.8));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }
}
