//! From numbers to places on an axis, and back to round numbers for its ticks.

/// Larger magnitudes are no measurement; leaving them out keeps every difference finite.
const MAGNITUDE_MAX: f64 = 1e100;
/// Doublings that a logarithmic axis shows at most, from 1 on.
const DOUBLINGS_MAX: i32 = 40;

/// How numbers are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Equal distances for equal differences.
    Linear,
    /// The same, from 0 on.
    FromZero,
    /// log2(1 + x), for x >= 0: 0 has a place, and beyond 1 each doubling takes about the same room.
    Doublings,
}

/// An axis with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    /// Ascending; the first and the last are the ends of the axis.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// An axis whose ticks cover `values`; numbers that are not finite are left out. Without any it goes from 0 to 1.
    pub(crate) fn fit(kind: Kind, values: impl Iterator<Item = f64>, ticks_max: usize) -> Self {
        let (low, high) = values
            .filter(|value| value.abs() < MAGNITUDE_MAX)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let ticks = match kind {
            Kind::Linear => round_ticks(low, high, ticks_max),
            Kind::FromZero => round_ticks(low.min(0.0), high.max(0.0), ticks_max),
            Kind::Doublings => doublings(high, ticks_max),
        };
        let first = ticks.first().copied().unwrap_or(0.0);
        let last = ticks.last().copied().unwrap_or(1.0);
        Self {
            kind,
            low: bend(kind, first),
            high: bend(kind, last),
            ticks,
        }
    }

    /// Where `value` lies, from 0 at the first tick to 1 at the last; what lies outside is put at the nearer end, and
    /// what is not finite has no place.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let share = (bend(self.kind, value) - self.low) / (self.high - self.low);
        value.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

fn bend(kind: Kind, value: f64) -> f64 {
    match kind {
        Kind::Linear | Kind::FromZero => value,
        Kind::Doublings => value.max(0.0).ln_1p() / std::f64::consts::LN_2,
    }
}

/// Multiples of 1, 2 or 5 times a power of ten that cover `low` to `high`.
fn round_ticks(low: f64, high: f64, ticks_max: usize) -> Vec<f64> {
    // A single number still needs room on both sides.
    let (low, high) = if high - low > 1e-9 * high.abs().max(low.abs()) && high > low {
        (low, high)
    } else {
        let room = (0.1 * high.abs()).max(0.5);
        (low - if low == 0.0 { 0.0 } else { room }, high + room)
    };
    let wanted = ticks_max.max(3) - 1;
    let rough = (high - low) / wanted as f64;
    let power = 10_f64.powf(rough.log10().floor());
    for step in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0] {
        let step = step * power;
        // What lies beyond a tick by no more than rounding needs no further one.
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = last - first;
        if count <= wanted as f64 {
            return (0..=count as usize)
                .map(|at| (first + at as f64) * step)
                .collect();
        }
    }
    vec![low, high]
}

/// 0, 1, 2, 4, 8 ... up to the first that is not below `high`; thinned from the small end if there are too many.
fn doublings(high: f64, ticks_max: usize) -> Vec<f64> {
    let all = (0..=DOUBLINGS_MAX).map(|doubling| 2_f64.powi(doubling));
    let mut ticks = vec![0.0];
    for tick in all {
        ticks.push(tick);
        if tick >= high {
            break;
        }
    }
    let last = ticks.len() - 1;
    let stride = last.div_ceil(ticks_max.max(3) - 1).max(1);
    let kept = |at: usize| at == 0 || (last - at).is_multiple_of(stride);
    let ticks = ticks.into_iter().enumerate();
    ticks
        .filter(|(at, _)| kept(*at))
        .map(|(_, tick)| tick)
        .collect()
}

/// A number on an axis or in a table: about three digits, thousands as k and M.
pub(crate) fn label(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    // A small negative number must not become "-0".
    let text = if text == "-0" { "0" } else { text };
    format!("{text}{unit}").replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 3] = [Kind::Linear, Kind::FromZero, Kind::Doublings];

    /// Pairs of numbers of very different sizes.
    fn pairs() -> impl Iterator<Item = (f64, f64)> {
        let numbers = [
            0.0, 1e-9, 0.013, 0.7, 1.0, 2.5, 9.99, 31.0, 499.7, 153_600.0, 7.3e8,
        ];
        numbers
            .into_iter()
            .flat_map(move |a| numbers.into_iter().map(move |b| (a, b)))
    }

    #[test]
    fn ticks_cover_the_data_ascend_and_are_few() {
        for (kind, ticks_max) in KINDS
            .iter()
            .flat_map(|kind| (3..9).map(move |max| (*kind, max)))
        {
            for (a, b) in pairs() {
                let signs: &[f64] = if kind == Kind::Doublings {
                    &[1.0]
                } else {
                    &[1.0, -1.0]
                };
                for sign in signs {
                    let values = [a, sign * b];
                    let ticks = Scale::fit(kind, values.into_iter(), ticks_max).ticks;
                    let context = format!("{kind:?} {ticks_max} {values:?} {ticks:?}");
                    assert!(ticks.is_sorted_by(|a, b| a < b), "{context}");
                    assert!((2..=ticks_max).contains(&ticks.len()), "{context}");
                    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
                    let slack = 1e-9 * (last - first);
                    for value in values {
                        assert!(value >= first - slack && value <= last + slack, "{context}");
                    }
                }
            }
        }
    }

    #[test]
    fn larger_numbers_lie_farther_on() {
        for kind in KINDS {
            let scale = Scale::fit(kind, [0.0, 7.3e8].into_iter(), 6);
            for (a, b) in pairs() {
                let (at_a, at_b) = (scale.place(a).unwrap(), scale.place(b).unwrap());
                assert_eq!(a < b, at_a < at_b, "{kind:?} {a} {b}");
                assert!((0.0..=1.0).contains(&at_a));
            }
        }
    }

    #[test]
    fn nothing_one_number_and_no_number_are_fine() {
        for kind in KINDS {
            for values in [
                vec![],
                vec![0.0],
                vec![7.5],
                vec![1e-12],
                vec![3.0, 3.0],
                vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX],
                vec![-5.0],
            ] {
                let scale = Scale::fit(kind, values.iter().copied(), 5);
                assert!(scale.ticks.len() >= 2, "{kind:?} {values:?}: {scale:?}");
                for value in values {
                    let place = scale.place(value);
                    assert_eq!(place.is_some(), value.is_finite(), "{scale:?}");
                    assert!(place.is_none_or(|place| (0.0..=1.0).contains(&place)));
                }
            }
        }
        let scale = Scale::fit(Kind::FromZero, [250.0, 490.0].into_iter(), 6);
        assert_eq!(scale.ticks, [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
        let scale = Scale::fit(Kind::Doublings, [0.0, 32.0].into_iter(), 8);
        assert_eq!(scale.ticks, [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
    }

    #[test]
    fn labels_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (-3.5, "\u{2212}3.5"),
            (0.25, "0.25"),
            (99.96, "100"),
            (1500.0, "1500"),
            (57_034.0, "57k"),
            (153_600.0, "154k"),
            (1_000_000.0, "1M"),
        ] {
            assert_eq!(label(value), text);
        }
    }
}
