//! The report, as a table for people and as JSON for programs.

use serde::Serialize;

use super::{machine::Machine, runner::Row, subject::Subject};
use crate::output;

/// What was measured, on what, and how.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) rows: Vec<Row>,
}

/// What the stages worked on.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    environment: String,
    /// Numbers in one observation: O.
    observation_len: usize,
    encoder: String,
    parameters: usize,
    /// T.
    unroll_length: usize,
    /// K.
    environments: usize,
    batch_unrolls: usize,
    epochs: usize,
    minibatches: usize,
    device: String,
    slice_s: f64,
    rounds: u32,
    quick: bool,
}

impl Settings {
    pub(super) fn of(subject: &Subject) -> Self {
        let (config, agreement) = (&subject.config, &subject.agreement);
        Self {
            environment: agreement.environment.id.clone(),
            observation_len: agreement.environment.observation.len(),
            encoder: subject.encoder().to_owned(),
            parameters: springbok_common::policy::parameter_count(&agreement.network),
            unroll_length: agreement.rollout.unroll_length,
            environments: agreement.rollout.environments,
            batch_unrolls: config.learner.batch_unrolls,
            epochs: config.algorithm.epochs,
            minibatches: config.algorithm.minibatches,
            device: subject.device_name.clone(),
            slice_s: subject.pace.slice.as_secs_f64(),
            rounds: subject.pace.rounds,
            quick: subject.pace.is_quick,
        }
    }
}

/// Prints `report`.
pub(super) fn print(report: &Report, json: bool) {
    if json {
        output::json(report);
        return;
    }
    lines(report).iter().for_each(|line| output::line(line));
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = head(report);
    let widths = [
        width(&report.rows, |row| row.stage.len()),
        width(&report.rows, |row| row.case.chars().count()),
        width(&report.rows, |row| row.unit.len()),
    ];
    let [stage, case, unit] = widths;
    lines.push(format!(
        "{:stage$}  {:case$}  {:>10}  {:>10}  {:unit$}  ratio (rounds)       A/A          the ceiling is",
        "stage", "case", "rate", "ceiling", ""
    ));
    let mut last = "";
    for row in &report.rows {
        let name = if row.stage == last { "" } else { &row.stage };
        last = &row.stage;
        let (rounds, equal) = (row.ratio_of_rounds, row.a_a);
        lines.push(format!(
            "{name:stage$}  {:case$}  {:>10}  {:>10}  {:unit$}  {:.2} ({:.2} to {:.2})  {:.2} to {:.2}  {}",
            row.case,
            number(row.rate),
            number(row.ceiling),
            row.unit,
            row.ratio,
            rounds.least,
            rounds.most,
            equal.least,
            equal.most,
            row.against,
        ));
        for (what, value) in &row.notes {
            let value = number(*value);
            lines.push(format!("{:stage$}    {what}: {value}", ""));
        }
    }
    lines
}

/// What was measured, where, and how to read it.
fn head(report: &Report) -> Vec<String> {
    let (machine, settings) = (&report.machine, &report.settings);
    let load = machine
        .load_before
        .map_or_else(String::new, |load| format!(", load before {load:.2}"));
    let mut lines = vec![
        format!("{} x {}{load}", machine.cores, machine.processor),
        format!(
            "{} ({} numbers), {} of {} parameters, T {} K {}, batches of {} unrolls in {} x {} minibatches on {}",
            settings.environment,
            settings.observation_len,
            settings.encoder,
            settings.parameters,
            settings.unroll_length,
            settings.environments,
            settings.batch_unrolls,
            settings.epochs,
            settings.minibatches,
            settings.device,
        ),
        format!(
            "medians of {} rounds (ours, ours, ceiling) of {} s each, where there are processes to start fewer and longer \
             ones; compare ratios, not rates: those are this machine's, at this hour",
            settings.rounds, settings.slice_s
        ),
    ];
    if !machine.is_optimised {
        lines.push(
            "this program is not optimised (build it with --release): nothing here counts"
                .to_owned(),
        );
    }
    lines
}

fn width(rows: &[Row], of: impl Fn(&Row) -> usize) -> usize {
    rows.iter().map(of).max().unwrap_or_default().max(5)
}

/// Four digits or more, with thousands set apart.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decimals = match value.abs() {
        below if below < 10.0 => 3,
        below if below < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut spaced = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && digit.is_ascii_digit() {
            spaced.push(' ');
        }
        spaced.push(digit);
    }
    match rest {
        "" => spaced,
        rest => format!("{spaced}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_can_be_read() {
        let cases = [
            (0.7564, "0.756"),
            (42.25, "42.2"),
            (1234.4, "1 234"),
            (12_345_678.0, "12 345 678"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
