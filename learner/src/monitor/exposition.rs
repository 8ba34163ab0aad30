//! `/metrics`: the table of metrics in the text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Names, help and types come from the table.

use std::fmt::Write as _;

use super::{
    actors::ActorStatus,
    feed::Live,
    status::{Phase, Status, unix_s},
};
use crate::metrics::{Kind, METRICS, MetricDoc};

/// The media type of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The name of the family that a metric belongs to, and its bucket of lag if it is about one.
#[must_use]
pub fn family(doc: &MetricDoc) -> (String, Option<&'static str>) {
    let (name, bucket) = match doc.name.strip_prefix("lag_bucket/") {
        Some(rest) => match rest.split_once('/') {
            Some((bucket, what)) => (format!("lag_bucket_{what}"), Some(bucket)),
            None => (rest.to_owned(), None),
        },
        // "charts" is only a heading of dashboards.
        None => (
            doc.name
                .strip_prefix("charts/")
                .unwrap_or(doc.name)
                .to_owned(),
            None,
        ),
    };
    let mut name = name.to_lowercase().replace(['/', '-'], "_");
    if name == "sps" {
        "steps_per_second".clone_into(&mut name);
    }
    if let Some(stem) = name.strip_suffix("_per_s") {
        name = format!("{stem}_per_second");
    } else if let Some(stem) = name.strip_suffix("_s") {
        name = format!("{stem}_seconds");
    }
    let unit = match doc.unit {
        "1" => String::new(),
        "s" => "seconds".to_owned(),
        "nat" => "nats".to_owned(),
        unit => unit.replace("/s", "_per_second").replace(' ', "_"),
    };
    // A name that says what is counted need not say it again.
    if !unit.is_empty() && !name.contains(unit.trim_end_matches('s')) {
        name = format!("{name}_{unit}");
    }
    let total = match doc.kind {
        Kind::Counter => "_total",
        Kind::Gauge => "",
    };
    (format!("springbok_{name}{total}"), bucket)
}

/// Everything there is to scrape.
#[must_use]
pub fn render(live: &Live, status: &Status) -> String {
    let mut text = Exposition(String::with_capacity(64 * 1024));
    text.identity(status);
    text.table(live);
    text.lag(live);
    text.rejected(status);
    text.actors(status);
    text.0
}

struct Exposition(String);

impl Exposition {
    /// Begins a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
    }

    fn identity(&mut self, status: &Status) {
        let run = &status.run;
        self.family(
            "springbok_run_info",
            "gauge",
            "Which run this is; always 1.",
        );
        self.put(format_args!(
            "springbok_run_info{{run_id=\"{}\",environment=\"{}\",device=\"{}\",seed=\"{}\",version=\"{}\"}} 1\n",
            run.run_id,
            label(&run.environment),
            label(&run.device),
            run.seed,
            label(&run.version),
        ));
        self.family(
            "springbok_run_goal_steps",
            "gauge",
            "Environment steps after which the run is done.",
        );
        self.put(format_args!(
            "springbok_run_goal_steps {}\n",
            run.total_steps
        ));
        self.family(
            "springbok_serving",
            "gauge",
            "1 while actors may come, 0 before and while draining.",
        );
        let serving = u8::from(status.phase == Phase::Serving);
        self.put(format_args!("springbok_serving {serving}\n"));
    }

    /// The metrics of the table that have a value. Those about buckets of lag lie apart in it, but belong together.
    fn table(&mut self, live: &Live) {
        let mut samples: Vec<_> = live
            .row
            .values()
            .map(|(doc, value)| (family(doc), doc, value))
            .collect();
        // Stable: the order of the table within each family.
        samples.sort_by(|left, right| left.0.0.cmp(&right.0.0));
        let mut open = String::new();
        for ((name, bucket), doc, value) in samples {
            if name != open {
                self.family(&name, kind(doc), &meaning(doc));
                open.clone_from(&name);
            }
            match bucket {
                Some(bucket) => self.put(format_args!(
                    "{name}{{lag_versions=\"{bucket}\"}} {value}\n"
                )),
                None => self.put(format_args!("{name} {value}\n")),
            }
        }
    }

    fn lag(&mut self, live: &Live) {
        let name = "springbok_policy_lag_versions";
        self.family(
            name,
            "histogram",
            "Policy lag of the trained steps, each training of a step counted.",
        );
        for (largest, steps) in live.lag.cumulative() {
            match largest {
                Some(largest) => {
                    self.put(format_args!("{name}_bucket{{le=\"{largest}\"}} {steps}\n"))
                }
                None => self.put(format_args!("{name}_bucket{{le=\"+Inf\"}} {steps}\n")),
            }
        }
        let (versions, steps) = (live.lag.versions, live.lag.count());
        self.put(format_args!(
            "{name}_sum {versions}\n{name}_count {steps}\n"
        ));
        if let Some((_, at)) = live.updated {
            let name = "springbok_last_update_timestamp_seconds";
            self.family(name, "gauge", "When the last update was made, since 1970.");
            self.put(format_args!("{name} {}\n", unix_s(at)));
        }
    }

    fn rejected(&mut self, status: &Status) {
        let name = "springbok_rejected_unrolls_total";
        self.family(name, "counter", "Unrolls refused, by reason.");
        for (reason, unrolls) in &status.rejected {
            let reason = reason.label();
            self.put(format_args!("{name}{{reason=\"{reason}\"}} {unrolls}\n"));
        }
        let name = "springbok_actor_lives_total";
        self.family(name, "counter", "Lives of actors that ever joined.");
        self.put(format_args!("{name} {}\n", status.lives.joined));
        let name = "springbok_actor_losses_total";
        self.family(
            name,
            "counter",
            "Lives of actors that ended without a Goodbye.",
        );
        self.put(format_args!("{name} {}\n", status.lives.lost));
    }

    fn actors(&mut self, status: &Status) {
        let name = "springbok_actors_unlisted";
        self.family(
            name,
            "gauge",
            "Actors present beyond those that have series of their own.",
        );
        let unlisted = status.present.saturating_sub(status.actors.len() as u64);
        self.put(format_args!("{name} {unlisted}\n"));
        type Value = fn(&ActorStatus) -> f64;
        let series: [(&str, &str, &str, Value); 4] = [
            (
                "springbok_actor_policy_version",
                "gauge",
                "Policy version of the actor's last unroll.",
                |actor| actor.version as f64,
            ),
            (
                "springbok_actor_unrolls_total",
                "counter",
                "Unrolls that arrived from the actor.",
                |actor| actor.unrolls as f64,
            ),
            (
                "springbok_actor_unrolls_per_second",
                "gauge",
                "Unrolls per second from the actor, over about ten seconds.",
                |actor| actor.unrolls_per_s,
            ),
            (
                "springbok_actor_silence_seconds",
                "gauge",
                "Time since the actor's last unroll arrived.",
                |actor| actor.last_seen_s,
            ),
        ];
        for (name, kind, help, value) in series {
            self.family(name, kind, help);
            for actor in &status.actors {
                self.put(format_args!(
                    "{name}{{actor=\"{}\"}} {}\n",
                    actor.actor,
                    value(actor)
                ));
            }
        }
    }
}

fn kind(doc: &MetricDoc) -> &'static str {
    match doc.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    }
}

/// What a metric means; what is about one bucket of lag is told by the label.
fn meaning(doc: &MetricDoc) -> String {
    match doc.name.strip_prefix("lag_bucket/") {
        Some(rest) => {
            let bucket = rest.split('/').next().unwrap_or_default();
            doc.meaning
                .replace(&format!(" {bucket} versions"), " lag_versions versions")
        }
        None => doc.meaning.to_owned(),
    }
}

/// A label's value, escaped.
fn label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Every family that [`render`] may make, with its type, for dashboards and alerts to be checked against.
#[must_use]
pub fn families() -> Vec<(String, &'static str)> {
    let of_table = METRICS.iter().map(|doc| (family(doc).0, kind(doc)));
    let others = [
        ("springbok_run_info", "gauge"),
        ("springbok_run_goal_steps", "gauge"),
        ("springbok_serving", "gauge"),
        ("springbok_policy_lag_versions", "histogram"),
        ("springbok_last_update_timestamp_seconds", "gauge"),
        ("springbok_rejected_unrolls_total", "counter"),
        ("springbok_actor_lives_total", "counter"),
        ("springbok_actor_losses_total", "counter"),
        ("springbok_actors_unlisted", "gauge"),
        ("springbok_actor_policy_version", "gauge"),
        ("springbok_actor_unrolls_total", "counter"),
        ("springbok_actor_unrolls_per_second", "gauge"),
        ("springbok_actor_silence_seconds", "gauge"),
    ];
    let others = others.map(|(name, kind)| (name.to_owned(), kind));
    let mut families: Vec<_> = of_table.chain(others).collect();
    families.sort();
    families.dedup();
    families
}
