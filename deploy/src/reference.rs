//! The reference in Markdown, made of the tables that the program itself works by: `deploy/docs/configuration.md` and
//! `deploy/docs/metrics.md`.

use std::fmt::Write as _;

use springbok_common::config::{KEYS, SECTIONS};
use springbok_learner::metrics::{Kind, METRICS, MetricDoc};

/// All keys of the configuration, section by section.
pub(crate) fn configuration() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Made by `springbok reference config > deploy/docs/configuration.md`; do not edit. -->\n\n\
         Every key, with its default. A value comes from the built-in default, then a preset, then a TOML file (`--config \
         FILE`),\nthen a variable (`SPRINGBOK__ACTOR__COUNT=4`), then `--set actor.count=4` and the flags that stand for a \
         key; the later\none wins. `springbok config print` shows every effective value and where it came from; `springbok \
         config check` lists\nall faults at once.\n",
    );
    for (section, doc) in SECTIONS {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\n## `[{section}]`\n\n{}\n", doc.trim());
        for key in KEYS.iter() {
            let of_section = key.path.rsplit_once('.').map(|(section, _)| section);
            if of_section == Some(section) {
                let name = key.path;
                let (expected, default) = (&key.expected, &key.default);
                let _ = write!(
                    text,
                    "\n### `{name}`\n\n{}\n\nTakes {expected}. Default: `{default}`.\n",
                    key.doc.trim()
                );
            }
        }
    }
    text
}

/// All metrics, group by group.
pub(crate) fn metrics() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made by `springbok reference metrics > deploy/docs/metrics.md`; do not edit. -->\n\n\
         `metrics.jsonl` has one JSON object per update; a metric without a value is absent from it. `springbok status` and \
         the\nlearner's page show the newest ones, and `/metrics` has them for Prometheus. A counter only grows within one \
         life of\nthe learner; a gauge goes up and down. The unit \"1\" is a pure number or a share from 0 to 1.\n",
    );
    let mut open = "";
    for metric in METRICS {
        let group = metric.name.split('/').next().unwrap_or_default();
        let group = if metric.name.contains('/') { group } else { "" };
        if group != open || metric.name == METRICS[0].name {
            open = group;
            let title = if group.is_empty() { "the step" } else { group };
            let _ = write!(
                text,
                "\n## {title}\n\n| metric | kind | unit | meaning |\n| --- | --- | --- | --- |\n"
            );
        }
        let _ = writeln!(text, "{}", row(metric));
    }
    text
}

fn row(metric: &MetricDoc) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    // A bar would end the cell.
    let meaning = metric.meaning.replace('|', "\\|");
    format!(
        "| `{}` | {kind} | {} | {meaning} |",
        metric.name, metric.unit
    )
}
