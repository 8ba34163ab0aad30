//! From rows to a page with plots. Pure: text and numbers in, text out.

use super::{
    measured::words,
    rows::{Run, axes},
};

mod buckets;
pub(crate) mod comparison;
mod figures;
mod groups;
mod inference;
mod one_run;
mod page;
pub(crate) mod plot;
#[cfg(test)]
mod tests;

use figures::Figure;
use groups::{Group, Groups};
use page::Page;
use plot::scale::label;

/// A report: files that need nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    /// `report.html`.
    pub(crate) html: String,
    /// Name and content of each file in `plots/`.
    pub(crate) plots: Vec<(String, String)>,
}

/// The report of a grid; `plan` is the command that made it.
pub(crate) fn of_grid(runs: &[Run], plan: &str) -> Report {
    let groups = Groups::new(runs);
    let environments = distinct(runs, |run| run.row.measured.environment.clone()).join(", ");
    let title = match environments.as_str() {
        "" => "Springbok lab".to_owned(),
        environments => format!("Springbok lab: {environments}"),
    };
    let failed = runs.iter().filter(|run| !run.row.is_done()).count();
    let mut subtitle = format!("{} runs, {} combinations", runs.len(), groups.groups.len());
    let axes = axes(runs.iter().map(|run| &run.row));
    if !axes.is_empty() {
        subtitle += &format!(" of {}", axes.join(", "));
    }
    if failed > 0 {
        subtitle += &format!("; {failed} failed");
    }
    let figures = figures::of_grid(&groups, runs);
    let mut page = Page::new(&title, &subtitle);
    let mut sentences = findings(&groups);
    sentences.extend(inference::findings(runs));
    page.findings(&sentences);
    page.figures(&figures);
    page.combinations(&groups);
    page.failures(runs);
    page.settings(runs, plan);
    page.runs(runs);
    finish(page, &title, &figures)
}

/// The report of runs that someone chose, after [`comparison::name`].
pub(crate) fn of_comparison(runs: &[Run]) -> Report {
    let groups = Groups::new(runs);
    let environments = distinct(runs, |run| run.row.measured.environment.clone()).join(", ");
    let title = format!("Springbok: {} runs of {environments}", runs.len());
    let subtitle = match groups.series.len() {
        alike if alike < runs.len() => {
            format!(
                "{alike} configurations; runs that differ in nothing but the seed are taken together"
            )
        }
        _ => "Each of a configuration of its own".to_owned(),
    };
    let figures = comparison::figures(&groups, runs);
    let mut page = Page::new(&title, &subtitle);
    page.findings(&findings(&groups));
    page.differences(runs);
    page.combinations(&groups);
    page.figures(&figures);
    page.failures(runs);
    page.settings(runs, "");
    page.runs(runs);
    finish(page, &title, &figures)
}

/// The report of one run.
pub(crate) fn of_run(run: &Run) -> Report {
    let runs = std::slice::from_ref(run);
    let groups = Groups::new(runs);
    let measured = &run.row.measured;
    let title = format!("Springbok: {}", measured.environment);
    let subtitle = format!(
        "{}: {} environment steps, {} updates, {} s on {}",
        run.row.cell,
        label(measured.env_steps as f64),
        measured.updates,
        label(measured.wall_s),
        measured.device
    );
    let figures = one_run::of_run(&groups, run);
    let mut page = Page::new(&title, &subtitle);
    page.findings(&verdict(run));
    page.figures(&figures);
    page.combinations(&groups);
    page.settings(runs, "");
    finish(page, &title, &figures)
}

fn finish(page: Page, title: &str, figures: &[Figure]) -> Report {
    let plots = figures.iter().filter_map(|figure| {
        let drawing = figure.drawing.as_ref()?;
        Some((format!("{}.svg", figure.name), drawing.file(&figure.title)))
    });
    Report {
        html: page.finish(title),
        plots: plots.collect(),
    }
}

fn distinct(runs: &[Run], value: impl Fn(&Run) -> String) -> Vec<String> {
    let mut values: Vec<String> = runs
        .iter()
        .map(value)
        .filter(|value| !value.is_empty())
        .collect();
    values.sort();
    values.dedup();
    values
}

/// What each line does from its first to its last place, in a sentence.
fn findings(groups: &Groups) -> Vec<String> {
    let lines = groups.series.iter().enumerate();
    lines
        .filter_map(|(line, name)| {
            let of_line: Vec<&Group> = groups
                .groups
                .iter()
                .filter(|group| group.series == line)
                .collect();
            let (first, last) = (of_line.first()?, of_line.last()?);
            let value = |group: &Group| group.statistics(|row| row.equal.return_at_env_steps);
            let (before, after) = (value(first)?, value(last)?);
            if of_line.len() < 2 {
                return Some(format!("{name}: return {}", figures::in_words(&before)));
            }
            let along = groups.along_short;
            let kept = if before.median > 0.0 && after.median >= 0.0 {
                format!(", {:.0} % of it", 100.0 * after.median / before.median)
            } else {
                String::new()
            };
            Some(format!(
                "{name}: return {} at {along} {}, and {} at {along} {}{kept}",
                figures::in_words(&before),
                first.at,
                figures::in_words(&after),
                last.at
            ))
        })
        .collect()
}

/// What came of one run, in sentences.
fn verdict(run: &Run) -> Vec<String> {
    let measured = &run.row.measured;
    let mut sentences = Vec::new();
    let number = |value: Option<f64>| value.map_or_else(|| "not measured".to_owned(), label);
    sentences.push(match (&measured.threshold, measured.return_mean_100) {
        (Some(reached), _) => format!(
            "A mean return of {} was reached after {} environment steps and {} s.",
            label(reached.mean_return),
            label(reached.env_steps as f64),
            label(reached.wall_s)
        ),
        (None, Some(last)) => format!(
            "The mean return was {} at the end, and {} at best.",
            label(last),
            number(measured.return_best_100)
        ),
        (None, None) => "No episode has ended.".to_owned(),
    });
    sentences.push(format!(
        "Policy lag: mean {}, 95th percentile {}, largest {} versions; effective sample size {}.",
        number(measured.lag.mean),
        number(measured.lag.p95),
        number(measured.lag.max),
        number(measured.ess)
    ));
    if let Some(predicted) = &measured.lag_predicted {
        let agrees = match predicted.agrees {
            Some(true) => "which agrees with what was measured".to_owned(),
            Some(false) => format!("which does not agree: {}", words(&predicted.cause)),
            None => "which cannot be compared".to_owned(),
        };
        sentences.push(format!(
            "Predicted were {} versions, {agrees}.",
            number(predicted.versions)
        ));
    }
    let bottleneck = words(&measured.bottleneck);
    if !bottleneck.is_empty() {
        sentences.push(format!("Bottleneck: {bottleneck}."));
    }
    sentences
}
