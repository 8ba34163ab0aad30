//! Rows put together: which runs differ in nothing but the seed, and which groups make a line.

use super::super::{
    LAG_KEY, VARIANT,
    curve::{Statistics, statistics},
    measured::Measured,
    plan::short_keys,
    rows::{Row, Run, axes},
};

/// Finished runs that differ in nothing but the seed.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// The line that it belongs to.
    pub(crate) series: usize,
    /// Its place on that line: the label on the axis that the lines follow; empty if there is none.
    pub(crate) at: &'a str,
    /// Its runs.
    pub(crate) runs: Vec<&'a Run>,
}

/// All finished runs of a grid in groups.
#[derive(Debug)]
pub(crate) struct Groups<'a> {
    /// The axis that the lines follow, as the grid calls it.
    pub(crate) along: Option<&'a str>,
    /// The same, short.
    pub(crate) along_short: &'a str,
    /// Names of the lines.
    pub(crate) series: Vec<String>,
    /// Line by line, and along each line in order.
    pub(crate) groups: Vec<Group<'a>>,
}

/// A number of a finished run.
pub(crate) type Quantity = fn(&Row) -> Option<f64>;

impl<'a> Groups<'a> {
    /// Groups the finished ones among `runs`.
    pub(crate) fn new(runs: &'a [Run]) -> Self {
        let done: Vec<&Run> = runs.iter().filter(|run| run.row.is_done()).collect();
        let axes = axes(runs.iter().map(|run| &run.row));
        let along = along(&axes, &done);
        let others: Vec<&str> = axes
            .iter()
            .copied()
            .filter(|axis| Some(*axis) != along && labels(axis, &done).len() > 1)
            .collect();
        let short = short_keys(&others);
        let mut series: Vec<String> = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for run in done {
            let name = series_name(&run.row, &others, &short);
            let line = series.iter().position(|known| *known == name);
            let line = line.unwrap_or_else(|| {
                series.push(name);
                series.len() - 1
            });
            let at = along.map_or("", |axis| run.row.setting(axis));
            match groups
                .iter_mut()
                .find(|group| group.series == line && group.at == at)
            {
                Some(group) => group.runs.push(run),
                None => groups.push(Group {
                    series: line,
                    at,
                    runs: vec![run],
                }),
            }
        }
        // A stable sort: labels that are no numbers keep the order of the plan, after those that are.
        groups.sort_by(|a, b| {
            let number = |label: &str| label.parse().unwrap_or(f64::INFINITY);
            (a.series.cmp(&b.series)).then(number(a.at).total_cmp(&number(b.at)))
        });
        Self {
            along,
            along_short: along.map_or("", |axis| super::super::short_key(axis)),
            series,
            groups,
        }
    }

    /// What a group is called where the line is not plain from the context.
    pub(crate) fn name(&self, group: &Group) -> String {
        let series = &self.series[group.series];
        match (self.series.len() > 1, group.at) {
            (_, "") => series.clone(),
            (true, at) => format!("{series}, {} {at}", self.along_short),
            (false, at) => format!("{} {at}", self.along_short),
        }
    }

    /// The same where space is short: the caption says what the number is.
    pub(crate) fn brief(&self, group: &Group) -> String {
        match (self.series.len() > 1, group.at) {
            (true, at) if !at.is_empty() => format!("{}, {at}", self.series[group.series]),
            _ => self.name(group),
        }
    }

    /// What the number in a brief name is, as a sentence.
    pub(crate) fn brief_legend(&self) -> String {
        match (self.series.len() > 1, self.along) {
            (true, Some(_)) => format!(" The number in a name: {}.", self.along_short),
            _ => String::new(),
        }
    }

    /// Labels along the lines, in order.
    pub(crate) fn places(&self) -> Vec<&'a str> {
        let mut places = Vec::new();
        for group in &self.groups {
            if !places.contains(&group.at) {
                places.push(group.at);
            }
        }
        let number = |label: &str| label.parse().unwrap_or(f64::INFINITY);
        places.sort_by(|a, b| number(a).total_cmp(&number(b)));
        places
    }
}

impl Group<'_> {
    /// Median and range over the seeds of whatever `quantity` is.
    pub(crate) fn statistics(&self, quantity: Quantity) -> Option<Statistics> {
        let values: Vec<f64> = self
            .runs
            .iter()
            .filter_map(|run| quantity(&run.row))
            .collect();
        statistics(&values)
    }

    /// The median alone.
    pub(crate) fn median(&self, quantity: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let values = self
            .runs
            .iter()
            .filter_map(|run| quantity(&run.row.measured));
        Some(statistics(&values.collect::<Vec<_>>())?.median)
    }
}

/// The axis that lines follow: injected lag if it is varied, or else the last axis that has numbers only.
fn along<'a>(axes: &[&'a str], runs: &[&Run]) -> Option<&'a str> {
    let varied = |axis: &&&str| labels(axis, runs).len() > 1;
    let numbers = |axis: &&&str| {
        let labels = labels(axis, runs);
        labels
            .iter()
            .all(|label| label.parse::<f64>().is_ok_and(f64::is_finite))
    };
    let lag = axes.iter().find(|axis| **axis == LAG_KEY).filter(varied);
    lag.or_else(|| {
        axes.iter()
            .rev()
            .filter(|axis| **axis != VARIANT)
            .filter(varied)
            .find(numbers)
    })
    .copied()
}

fn labels<'a>(axis: &str, runs: &[&'a Run]) -> Vec<&'a str> {
    let mut labels: Vec<&str> = runs.iter().map(|run| run.row.setting(axis)).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn series_name(row: &Row, axes: &[&str], short: &[&str]) -> String {
    let parts: Vec<String> = axes
        .iter()
        .zip(short)
        .filter(|(axis, _)| !row.setting(axis).is_empty())
        .map(|(axis, short)| match (*axis, row.setting(axis)) {
            (VARIANT, label) => label.to_owned(),
            // A word says by itself what it is; a number does not.
            (_, label) if label.starts_with(char::is_alphabetic) && !is_word(label) => {
                label.to_owned()
            }
            (_, label) => format!("{short} {label}"),
        })
        .collect();
    if parts.is_empty() {
        row.measured.environment.clone()
    } else {
        parts.join(", ")
    }
}

/// Whether a label could belong to any switch.
fn is_word(label: &str) -> bool {
    matches!(
        label,
        "true" | "false" | "none" | "auto" | "constant" | "linear"
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::rows::{Status, tests::run},
        *,
    };

    #[test]
    fn seeds_are_put_together_and_lines_follow_the_lag() {
        let mut runs = Vec::new();
        for seed in [1, 2] {
            for variant in ["b", "a"] {
                for lag in ["16", "2", "uniform:0..4"] {
                    runs.push(run(
                        &[(VARIANT, variant), (LAG_KEY, lag)],
                        seed,
                        100,
                        seed as f64,
                    ));
                }
            }
        }
        runs[0].row.status = Status::Failed;
        let groups = Groups::new(&runs);
        assert_eq!(groups.along, Some(LAG_KEY));
        let found: Vec<(String, usize)> = groups
            .groups
            .iter()
            .map(|group| (groups.name(group), group.runs.len()))
            .collect();
        let found: Vec<(&str, usize)> = found.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(
            found,
            [
                ("b, lag 2", 2),
                ("b, lag 16", 1),
                ("b, lag uniform:0..4", 2),
                ("a, lag 2", 2),
                ("a, lag 16", 2),
                ("a, lag uniform:0..4", 2),
            ]
        );
        assert_eq!(groups.places(), ["2", "16", "uniform:0..4"]);
        let statistics = groups.groups[0]
            .statistics(|row| row.measured.return_mean_100)
            .unwrap();
        assert_eq!(
            (statistics.median, statistics.low, statistics.n),
            (1.5, 1.0, 2)
        );
    }

    #[test]
    fn without_lag_lines_follow_the_last_axis_of_numbers() {
        let runs = [
            run(
                &[
                    ("actor.count", "1"),
                    ("algorithm.epochs", "4"),
                    ("algorithm.ratio", "dual"),
                ],
                1,
                100,
                1.0,
            ),
            run(
                &[
                    ("actor.count", "2"),
                    ("algorithm.epochs", "8"),
                    ("algorithm.ratio", "proximal"),
                ],
                1,
                100,
                1.0,
            ),
        ];
        let groups = Groups::new(&runs);
        assert_eq!(groups.along, Some("algorithm.epochs"));
        assert_eq!(groups.series, ["count 1, dual", "count 2, proximal"]);

        let one = [run(&[], 1, 100, 1.0), run(&[], 2, 100, 1.0)];
        let groups = Groups::new(&one);
        assert_eq!((groups.along, groups.series.len()), (None, 1));
        assert_eq!(groups.groups[0].runs.len(), 2);
        assert!(Groups::new(&[]).groups.is_empty());
    }
}
