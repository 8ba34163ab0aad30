//! Learning curves from `metrics.jsonl`. Pure.

use serde_json::Value;

/// Points that are kept of a curve: more than a plot can show.
const POINTS_MAX: usize = 240;
/// Places at which curves of several seeds are compared.
const PLACES: usize = 120;

/// How one run went.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Curve {
    /// In the order of time.
    pub(crate) points: Vec<CurvePoint>,
}

/// One update.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CurvePoint {
    /// Environment steps made.
    pub(crate) env_steps: f64,
    /// Seconds since the learner was ready.
    pub(crate) wall_s: f64,
    /// Mean return of the last 100 episodes.
    pub(crate) mean_return: Option<f64>,
    /// Mean lag of this update, in versions.
    pub(crate) lag_mean: Option<f64>,
    /// 95th percentile of the lag of this update, in versions.
    pub(crate) lag_p95: Option<f64>,
    /// Effective sample size as a share of the steps.
    pub(crate) ess: Option<f64>,
    /// Share of steps outside the clip range.
    pub(crate) clip_fraction: Option<f64>,
}

/// Several curves at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// Environment steps.
    pub(crate) x: f64,
    /// Median return.
    pub(crate) median: f64,
    /// Smallest return.
    pub(crate) low: f64,
    /// Largest return.
    pub(crate) high: f64,
}

impl Curve {
    /// Reads `metrics.jsonl`; lines that are no object (the last one of a killed run) are left out, and a long file is
    /// thinned evenly. The last point is always kept.
    pub(crate) fn read(metrics: &str) -> Self {
        let points: Vec<CurvePoint> = metrics.lines().filter_map(point).collect();
        let stride = points.len().div_ceil(POINTS_MAX).max(1);
        let last = points.len().saturating_sub(1);
        let points = points.into_iter().enumerate();
        Self {
            points: points
                .filter(|(at, _)| at % stride == 0 || *at == last)
                .map(|(_, point)| point)
                .collect(),
        }
    }

    /// The return when `env_steps` had been made.
    pub(crate) fn at_env_steps(&self, env_steps: f64) -> Option<f64> {
        self.last_return(|point| point.env_steps <= env_steps)
    }

    /// The return when `wall_s` had passed.
    pub(crate) fn at_wall_s(&self, wall_s: f64) -> Option<f64> {
        self.last_return(|point| point.wall_s <= wall_s)
    }

    fn last_return(&self, counts: impl Fn(&CurvePoint) -> bool) -> Option<f64> {
        let before = self.points.iter().take_while(|point| counts(point));
        before.filter_map(|point| point.mean_return).last()
    }

    fn end(&self) -> Option<f64> {
        self.points.last().map(|point| point.env_steps)
    }
}

fn point(line: &str) -> Option<CurvePoint> {
    let object: Value = serde_json::from_str(line).ok()?;
    let number = |name: &str| object.get(name).and_then(Value::as_f64);
    Some(CurvePoint {
        env_steps: number("charts/env_steps").or_else(|| number("global_step"))?,
        wall_s: number("charts/wall_s")?,
        mean_return: number("charts/episodic_return"),
        lag_mean: number("lag/versions_mean"),
        lag_p95: number("lag/versions_p95"),
        ess: number("health/ess"),
        clip_fraction: number("losses/clipfrac"),
    })
}

/// Median and range of several curves, at places as far as the shortest of them reaches.
pub(crate) fn spread(curves: &[&Curve]) -> Vec<Spread> {
    let ends = curves.iter().filter_map(|curve| curve.end());
    let end = ends.fold(f64::INFINITY, f64::min);
    if !end.is_finite() {
        return Vec::new();
    }
    (0..=PLACES)
        .filter_map(|place| {
            let x = end * place as f64 / PLACES as f64;
            let returns: Vec<f64> = curves
                .iter()
                .filter_map(|curve| curve.at_env_steps(x))
                .collect();
            let Statistics {
                median, low, high, ..
            } = statistics(&returns)?;
            Some(Spread {
                x,
                median,
                low,
                high,
            })
        })
        .collect()
}

/// Median and range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Statistics {
    /// Middle value; mean of the two in the middle if their number is even.
    pub(crate) median: f64,
    /// Smallest.
    pub(crate) low: f64,
    /// Largest.
    pub(crate) high: f64,
    /// How many.
    pub(crate) n: usize,
}

/// Statistics of the finite ones among `values`; none if there are none.
pub(crate) fn statistics(values: &[f64]) -> Option<Statistics> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let n = finite.len();
    let (low, high) = (*finite.first()?, *finite.last()?);
    let median = f64::midpoint(finite[(n - 1) / 2], finite[n / 2]);
    Some(Statistics {
        median,
        low,
        high,
        n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64, Option<f64>)]) -> Curve {
        let points = points
            .iter()
            .map(|&(env_steps, wall_s, mean_return)| CurvePoint {
                env_steps,
                wall_s,
                mean_return,
                ..CurvePoint::default()
            });
        Curve {
            points: points.collect(),
        }
    }

    #[test]
    fn a_long_file_is_thinned_and_its_last_line_is_kept() {
        let mut text: String = (0..1000)
            .map(|i| {
                format!(
                    "{{\"global_step\":{i},\"charts/wall_s\":1,\"charts/episodic_return\":{i}}}\n"
                )
            })
            .collect();
        text.push_str("{\"global_step\":10");
        let curve = Curve::read(&text);
        assert!(curve.points.len() <= POINTS_MAX + 1);
        assert_eq!(curve.points.last().unwrap().mean_return, Some(999.0));
        assert!(Curve::read("").points.is_empty());
    }

    #[test]
    fn the_return_at_a_place_is_the_last_one_known_by_then() {
        let curve = curve(&[
            (0.0, 0.0, None),
            (100.0, 1.0, Some(5.0)),
            (200.0, 2.0, None),
            (300.0, 9.0, Some(7.0)),
        ]);
        assert_eq!(curve.at_env_steps(99.0), None);
        assert_eq!(curve.at_env_steps(250.0), Some(5.0));
        assert_eq!(curve.at_env_steps(1e9), Some(7.0));
        assert_eq!(curve.at_wall_s(8.9), Some(5.0));
    }

    #[test]
    fn curves_are_compared_only_where_all_have_been() {
        let long = curve(&[
            (0.0, 0.0, Some(0.0)),
            (100.0, 1.0, Some(10.0)),
            (1000.0, 2.0, Some(99.0)),
        ]);
        let short = curve(&[(0.0, 0.0, Some(2.0)), (100.0, 1.0, Some(20.0))]);
        let spread = spread(&[&long, &short]);
        let last = spread.last().unwrap();
        assert_eq!(
            (last.x, last.median, last.low, last.high),
            (100.0, 15.0, 10.0, 20.0)
        );
        assert!(super::spread(&[]).is_empty());
    }

    #[test]
    fn statistics_leave_out_what_is_no_number() {
        let found = statistics(&[3.0, f64::NAN, 1.0, f64::INFINITY, 2.0]).unwrap();
        assert_eq!(
            (found.median, found.low, found.high, found.n),
            (2.0, 1.0, 3.0, 3)
        );
        assert_eq!(statistics(&[1.0, 4.0]).unwrap().median, 2.5);
        assert_eq!(statistics(&[f64::NAN]), None);
    }
}
