//! Numbers of a status in words, for the table and for the screen.

use springbok_learner::{metrics::Metric, monitor::status::Status};

/// Causes of lag in the order of an unroll's life, with their metrics.
pub(crate) const CAUSES: [(&str, Metric); 7] = [
    ("injected", Metric::LagInjected),
    ("publish", Metric::LagPublish),
    ("unroll", Metric::LagUnroll),
    ("outbox", Metric::LagOutbox),
    ("transport", Metric::LagTransport),
    ("queue", Metric::LagQueue),
    ("batch", Metric::LagBatch),
];

/// A metric's value, if it has one that is a number.
pub(crate) fn value(status: &Status, metric: Metric) -> Option<f64> {
    status.metric(metric).filter(|value| value.is_finite())
}

/// A metric's value with so many decimal places, or a dash.
pub(crate) fn shown(status: &Status, metric: Metric, places: usize) -> String {
    let value = value(status, metric);
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
}

/// A share in percent, or a dash.
pub(crate) fn percent(status: &Status, metric: Metric) -> String {
    let value = value(status, metric);
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.0}", 100.0 * value))
}
