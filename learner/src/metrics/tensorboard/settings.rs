//! The configuration in an event file: as text, and for the table of hyperparameters.

use std::fmt::Write as _;

use springbok_common::config::{Config, KEYS, KeyDoc};

use super::event::{
    Experiment, HparamInfo, Hparams, MetricInfo, MetricName, SessionEnd, SessionStart, Setting,
    Value,
};
use crate::metrics::{METRICS, Metric};

/// Keys, and sections of them, that say nothing about what is learned, or how fast.
const NO_HYPERPARAMETERS: [&str; 8] = [
    "run.out",
    "run.name",
    "learner.listen",
    "environment.python.",
    "security.",
    "limits.",
    "checkpoint.",
    "telemetry.",
];

/// The columns of results in the table of hyperparameters.
const RESULTS: [Metric; 5] = [
    Metric::EpisodicReturn,
    Metric::StepsPerSecond,
    Metric::LagMean,
    Metric::Ess,
    Metric::GlobalStep,
];

/// `DataType` of `api.proto`.
const TEXT: i32 = 1;
const TRUTH: i32 = 2;
const NUMBER: i32 = 3;

/// What a file begins with.
pub(super) fn values(config: &Config, start_time_secs: f64) -> Vec<Value> {
    let entries = config.entries();
    let mut table = "| key | value |\n| --- | --- |\n".to_owned();
    let mut start = SessionStart {
        start_time_secs,
        ..SessionStart::default()
    };
    let mut hparam_infos = Vec::new();
    // Both are in the order of the reference.
    for (doc, (key, value)) in KEYS.iter().zip(entries) {
        let text = match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        // A bar would end the cell.
        let cell = text
            .replace('\\', "\\\\")
            .replace('|', "\\|")
            .replace('\n', " ");
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {key} | {cell} |");
        if NO_HYPERPARAMETERS
            .iter()
            .any(|other| key.starts_with(other))
        {
            continue;
        }
        let kind = kind(doc);
        hparam_infos.push(HparamInfo {
            name: key.to_owned(),
            description: doc.doc.clone(),
            kind,
        });
        let whole = value.as_integer().map(|whole| whole as f64);
        let setting = match kind {
            TRUTH => Setting::of_truth(value.as_bool()),
            // A number that is "none" has an empty cell.
            NUMBER => Setting::of_number(value.as_float().or(whole)),
            _ => Setting::of_text(text),
        };
        if setting != Setting::default() {
            start.hparams.insert(key.to_owned(), setting);
        }
    }
    let experiment = Hparams {
        experiment: Some(Experiment {
            hparam_infos,
            metric_infos: RESULTS.map(result).to_vec(),
        }),
        ..Hparams::default()
    };
    let start = Hparams {
        session_start_info: Some(start),
        ..Hparams::default()
    };
    vec![
        Value::text("configuration/text_summary", table),
        Value::hparams("_hparams_/experiment", &experiment),
        Value::hparams("_hparams_/session_start_info", &start),
    ]
}

/// How the run ended.
pub(super) fn end(succeeded: bool, end_time_secs: f64) -> Value {
    let end = Hparams {
        session_end_info: Some(SessionEnd {
            status: if succeeded { 1 } else { 2 },
            end_time_secs,
        }),
        ..Hparams::default()
    };
    Value::hparams("_hparams_/session_end_info", &end)
}

/// The type of a key's column: the same for every value, so that runs can be compared.
fn kind(doc: &KeyDoc) -> i32 {
    if doc.expected.starts_with("true") {
        TRUTH
    } else if doc.expected.starts_with("a number") || doc.expected.starts_with("a whole number") {
        NUMBER
    } else {
        TEXT
    }
}

fn result(metric: Metric) -> MetricInfo {
    let doc = METRICS[metric as usize];
    MetricInfo {
        name: Some(MetricName {
            tag: doc.name.to_owned(),
        }),
        description: doc.meaning.to_owned(),
    }
}
