//! The page: one file, no script, nothing loaded from anywhere.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    super::{
        curve::Statistics,
        measured::words,
        plan::short_keys,
        rows::{Row, Run, axes},
    },
    figures::{Figure, TABLE},
    groups::Groups,
    plot::{scale::label, style, svg::escape},
};

const STYLE: &str = include_str!("page.css");

/// A page in the making.
pub(super) struct Page {
    body: String,
}

impl Page {
    /// A page with a heading and a line below it.
    pub(super) fn new(title: &str, subtitle: &str) -> Self {
        let (title, subtitle) = (escape(title), escape(subtitle));
        Self {
            body: format!("<header><h1>{title}</h1><p>{subtitle}</p></header>\n"),
        }
    }

    fn put(&mut self, html: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.body.write_fmt(html);
        self.body.push('\n');
    }

    /// Sentences that sum up what came out.
    pub(super) fn findings(&mut self, findings: &[String]) {
        if findings.is_empty() {
            return;
        }
        let items: String = findings
            .iter()
            .map(|text| format!("<li>{}</li>", escape(text)))
            .collect();
        self.put(format_args!(
            "<section class=\"findings\"><h2>In short</h2><ul>{items}</ul></section>"
        ));
    }

    /// The figures that have something on them; the names of the others.
    pub(super) fn figures(&mut self, figures: &[Figure]) {
        self.put(format_args!(
            "<section><h2>Figures</h2><div class=\"figures\">"
        ));
        for figure in figures {
            let Some(drawing) = &figure.drawing else {
                continue;
            };
            let (title, caption) = (escape(&figure.title), escape(&figure.caption));
            let svg = drawing.inline(&figure.title);
            self.put(format_args!(
                "<figure><h3>{title}</h3>{svg}<figcaption>{caption}</figcaption></figure>"
            ));
        }
        self.put(format_args!("</div>"));
        let missing = figures.iter().filter(|figure| figure.drawing.is_none());
        let missing: Vec<String> = missing.map(|figure| escape(&figure.title)).collect();
        if !missing.is_empty() {
            let missing = missing.join("; ");
            self.put(format_args!(
                "<p class=\"soft\">Not measured by these runs: {missing}.</p>"
            ));
        }
        self.put(format_args!("</section>"));
    }

    /// Median and range of every combination.
    pub(super) fn combinations(&mut self, groups: &Groups) {
        if groups.groups.is_empty() {
            self.put(format_args!(
                "<section><h2>Results</h2><p>No run has finished.</p></section>"
            ));
            return;
        }
        let used: Vec<_> = TABLE
            .iter()
            .filter(|(_, quantity)| {
                groups
                    .groups
                    .iter()
                    .any(|group| group.statistics(*quantity).is_some())
            })
            .collect();
        let mut head = vec!["runs".to_owned(), "n".to_owned()];
        head.extend(used.iter().map(|(name, _)| (*name).to_owned()));
        let rows = groups.groups.iter().map(|group| {
            let mut cells = vec![groups.name(group), group.runs.len().to_string()];
            cells.extend(used.iter().map(|(_, quantity)| {
                group
                    .statistics(*quantity)
                    .map_or("\u{2013}".to_owned(), in_two_lines)
            }));
            cells
        });
        let table = table(&head, rows, 1);
        self.put(format_args!(
            "<section><h2>Results</h2><p class=\"soft\">Median over the n seeds, and the range below it. Lag in versions.</p>\
             {table}</section>"
        ));
    }

    /// The keys in which runs differ, with a column for each run.
    pub(super) fn differences(&mut self, runs: &[Run]) {
        let mut head = vec!["key".to_owned()];
        head.extend(runs.iter().map(|run| run.row.cell.clone()));
        let rows = varied(runs).into_iter().map(|(key, _)| {
            let of_run = |run: &Run| {
                let found = run.config.iter().find(|(other, _)| *other == key);
                found.map_or("\u{2013}".to_owned(), |(_, value)| value.clone())
            };
            let cells = std::iter::once(key.clone()).chain(runs.iter().map(of_run));
            cells.collect()
        });
        let rows: Vec<Vec<String>> = rows.collect();
        let content = if rows.is_empty() {
            "<p>No key of their configurations differs.</p>".to_owned()
        } else {
            table(&head, rows.into_iter(), 1)
        };
        self.put(format_args!(
            "<section><h2>What differs</h2>{content}</section>"
        ));
    }

    /// Every run that failed, with the reason.
    pub(super) fn failures(&mut self, runs: &[Run]) {
        let failed: Vec<Vec<String>> = runs
            .iter()
            .filter(|run| !run.row.is_done())
            .map(|run| {
                vec![
                    run.row.cell.clone(),
                    run.row.error.clone().unwrap_or_default(),
                ]
            })
            .collect();
        if failed.is_empty() {
            return;
        }
        let table = table(&["run".to_owned(), "why".to_owned()], failed.into_iter(), 2);
        self.put(format_args!(
            "<section><h2>Failed runs</h2>{table}</section>"
        ));
    }

    /// Every run.
    pub(super) fn runs(&mut self, runs: &[Run]) {
        let axes = axes(runs.iter().map(|run| &run.row));
        let mut head: Vec<String> = short_keys(&axes).iter().map(ToString::to_string).collect();
        let names = head.len() + 1;
        head.extend(["seed", "status"].map(str::to_owned));
        head.extend(TABLE.iter().map(|(name, _)| (*name).to_owned()));
        head.push("bottleneck".to_owned());
        let cells = |row: &Row| {
            let mut cells: Vec<String> = axes
                .iter()
                .map(|axis| row.setting(axis).to_owned())
                .collect();
            cells.push(row.seed.to_string());
            cells.push(if row.is_done() { "done" } else { "failed" }.to_owned());
            let numbers = TABLE.iter().map(|(_, quantity)| quantity(row));
            cells.extend(numbers.map(|number| number.map_or("\u{2013}".to_owned(), label)));
            let bottleneck = words(&row.measured.bottleneck);
            let short = bottleneck.split([':', '(']).next().unwrap_or_default();
            cells.push(short.trim().to_owned());
            cells
        };
        let table = table(&head, runs.iter().map(|run| cells(&run.row)), names + 1);
        let count = runs.len();
        self.put(format_args!(
            "<section><details><summary>Every run ({count})</summary>{table}</details></section>"
        ));
    }

    /// What was varied, what was the same for all runs, and where they ran.
    pub(super) fn settings(&mut self, runs: &[Run], plan: &str) {
        self.put(format_args!("<section><h2>Settings</h2>"));
        let varied = varied(runs);
        if !varied.is_empty() {
            let rows = varied
                .iter()
                .map(|(key, values)| vec![key.clone(), values.join("; ")]);
            let table = table(&["varied".to_owned(), "values".to_owned()], rows, 2);
            self.put(format_args!("{table}"));
        }
        let of_rows = |name: &str, value: fn(&Row) -> String| {
            let mut values: Vec<String> = runs.iter().map(|run| value(&run.row)).collect();
            values.retain(|value| !value.is_empty());
            values.sort();
            values.dedup();
            vec![name.to_owned(), values.join("; ")]
        };
        let where_from = [
            of_rows("environment", |row| row.measured.environment.clone()),
            of_rows("device", |row| row.measured.device.clone()),
            of_rows("machine", |row| row.host.clone()),
            of_rows("springbok", |row| row.version.clone()),
        ];
        let where_from = where_from.into_iter().filter(|row| !row[1].is_empty());
        let place = table(&["run on".to_owned(), String::new()], where_from, 2);
        self.put(format_args!("{place}"));
        let fixed = fixed(runs).into_iter().map(|(key, value)| vec![key, value]);
        let fixed = table(
            &["the same for all runs".to_owned(), "value".to_owned()],
            fixed,
            2,
        );
        self.put(format_args!(
            "<details><summary>All other keys</summary>{fixed}</details>"
        ));
        if !plan.is_empty() {
            let plan = escape(plan);
            self.put(format_args!(
                "<details><summary>The plan as a command</summary><pre>{plan}</pre></details>"
            ));
        }
        self.put(format_args!("</section>"));
    }

    /// The whole file.
    pub(super) fn finish(self, title: &str) -> String {
        let (title, colours, body) = (escape(title), style::of_a_page(), self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{colours}\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

/// The median, and below it the range if there is one.
fn in_two_lines(statistics: Statistics) -> String {
    let Statistics {
        median, low, high, ..
    } = statistics;
    if low == high {
        label(median)
    } else {
        format!("{}\n{} to {}", label(median), label(low), label(high))
    }
}

/// A table whose first `names` columns are text and whose others are numbers. Text is broken only if there is no number.
fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>, names: usize) -> String {
    let class = |at: usize| match (at < names, names < head.len()) {
        (true, true) => " class=\"t\"",
        (true, false) => "",
        (false, _) => " class=\"n\"",
    };
    let mut html = "<div class=\"table\"><table><thead><tr>".to_owned();
    for (at, name) in head.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(at), escape(name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(at), escape(cell));
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// Values of each key over all runs, in the order of the configuration.
fn values(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let mut order = Vec::new();
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in runs.iter().flat_map(|run| &run.config) {
        let values = found.entry(key).or_insert_with(|| {
            order.push(key.as_str());
            Vec::new()
        });
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    order
        .into_iter()
        .filter(|key| !["run.out", "run.name"].contains(key))
        .filter_map(|key| Some((key.to_owned(), found.remove(key)?)))
        .collect()
}

/// Keys that have several values, or that some runs lack.
fn varied(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let mut values = values(runs);
    let lacks = |key: &str| {
        let configured = runs.iter().filter(|run| !run.config.is_empty());
        let has = |run: &&Run| run.config.iter().any(|(other, _)| other == key);
        !configured.clone().all(|run| has(&run))
    };
    values.retain(|(key, values)| values.len() > 1 || lacks(key));
    values
}

fn fixed(runs: &[Run]) -> Vec<(String, String)> {
    let varied: Vec<String> = varied(runs).into_iter().map(|(key, _)| key).collect();
    let values = values(runs).into_iter();
    values
        .filter(|(key, _)| !varied.contains(key))
        .map(|(key, values)| (key, values.concat()))
        .collect()
}
