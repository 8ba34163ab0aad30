//! The promise: each query of the dashboard and of the alerts names a metric that the learner has.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use springbok_learner::monitor::exposition::families;

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards");
    fs::read_to_string(folder.join(name)).expect(name)
}

/// The names of metrics in `text`.
fn names(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("springbok_"))
        .collect()
}

/// Names that no family has; the series of a histogram count as its own.
fn unknown(text: &str) -> Vec<String> {
    let known: BTreeMap<_, _> = families().into_iter().collect();
    let of_histogram = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().any(|suffix| {
            let stem = name.strip_suffix(suffix);
            stem.is_some_and(|stem| known.get(stem) == Some(&"histogram"))
        })
    };
    let names = names(text).into_iter();
    let names = names.filter(|name| !known.contains_key(*name) && !of_histogram(name));
    names.map(str::to_owned).collect()
}

#[test]
fn every_query_names_a_metric_that_exists() {
    let planted = "rate(springbok_no_such_total[1m]) + springbok_queue_fill_sum";
    assert_eq!(
        unknown(planted),
        ["springbok_no_such_total", "springbok_queue_fill_sum"]
    );

    let dashboard: Value = serde_json::from_str(&read("springbok.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        assert!(
            panel["description"].as_str().unwrap().ends_with('.'),
            "{}",
            panel["title"]
        );
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(!names(query).is_empty(), "{query}");
            assert_eq!(unknown(query), [""; 0], "{query}");
        }
    }
    let alerts = read("alerts.yaml");
    let queries: Vec<_> = alerts
        .lines()
        .filter(|line| line.contains("expr:"))
        .collect();
    assert_eq!(queries.len(), alerts.matches("- alert:").count());
    for query in queries {
        assert!(!names(query).is_empty(), "{query}");
        assert_eq!(unknown(query), [""; 0], "{query}");
    }
}
