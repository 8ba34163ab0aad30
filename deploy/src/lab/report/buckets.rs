//! Figures of the health of experience by its lag.

use std::collections::BTreeMap;

use super::{
    super::measured::{BUCKETS, Bucket, Measured},
    figures::Figure,
    groups::Groups,
    plot::{Axis, Kind, Line, Mark, Plot, Series, XAxis, scale::label},
};

/// A number of each bucket, one line for each line of the grid.
pub(super) fn figure(
    groups: &Groups,
    name: &str,
    title: &str,
    caption: &str,
    y: &str,
    value: fn(&Bucket) -> Option<f64>,
) -> Figure {
    let buckets = used_buckets(groups);
    let series = groups.series.iter().enumerate().map(|(line, name)| {
        let runs = groups.groups.iter().filter(|group| group.series == line);
        let means = weighted(
            runs.flat_map(|group| &group.runs)
                .map(|run| &run.row.measured),
            value,
        );
        let marks = buckets.iter().enumerate().filter_map(|(at, bucket)| {
            let (mean, steps) = means.get(bucket.as_str())?;
            Some(Mark {
                x: at as f64,
                y: *mean,
                tip: format!(
                    "{name}, lag {bucket}: {} over {} steps",
                    label(*mean),
                    label(*steps)
                ),
                ..Mark::default()
            })
        });
        Series {
            name: name.clone(),
            style: line,
            line: Line::Joined,
            marks: marks.collect(),
            band: Vec::new(),
        }
    });
    let plot = Plot {
        series: series.collect(),
        x: XAxis::Names(
            "policy lag of the step (versions)".to_owned(),
            buckets.clone(),
        ),
        y: Axis::new(y, Kind::FromZero)
            .reaching(&[0.0, if name.starts_with("ess") { 1.0 } else { 0.05 }]),
        diagonal: None,
    };
    Figure::plot(name, title, caption, &plot)
}

/// Buckets with steps, in order.
fn used_buckets(groups: &Groups) -> Vec<String> {
    let mut found: Vec<&str> = groups
        .groups
        .iter()
        .flat_map(|group| &group.runs)
        .flat_map(|run| &run.row.measured.lag_buckets)
        .filter(|bucket| bucket.steps > 0.0)
        .map(|bucket| bucket.bucket.as_str())
        .collect();
    let order = |name: &&str| {
        BUCKETS
            .iter()
            .position(|known| known == name)
            .unwrap_or(BUCKETS.len())
    };
    found.sort_by_key(order);
    found.dedup();
    found.into_iter().map(str::to_owned).collect()
}

/// Mean of a number in each bucket, weighted by steps, and the steps.
fn weighted<'a>(
    runs: impl Iterator<Item = &'a Measured>,
    value: fn(&Bucket) -> Option<f64>,
) -> BTreeMap<&'a str, (f64, f64)> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for bucket in runs.flat_map(|measured| &measured.lag_buckets) {
        if let Some(value) = value(bucket).filter(|value| value.is_finite())
            && bucket.steps > 0.0
        {
            let (sum, steps) = sums.entry(&bucket.bucket).or_default();
            *sum += value * bucket.steps;
            *steps += bucket.steps;
        }
    }
    for (sum, steps) in sums.values_mut() {
        *sum /= *steps;
    }
    sums
}
