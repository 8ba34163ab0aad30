//! What is varied: axes, the grid that they span, and its cells. Pure.

use std::collections::BTreeSet;

use super::{LAG_KEY, VARIANT, short_key};

/// Runs in one grid: far above use, far below a directory that no tool can list.
const RUNS_MAX: usize = 10_000;
/// Characters in the name of a cell; file systems allow 255 bytes.
const NAME_CHARS_MAX: usize = 120;
/// Keys that the laboratory itself sets for each run.
const OWN_KEYS: [(&str, &str); 3] = [
    (
        "run.seed",
        "use --seeds N, and --seed S for the first of them",
    ),
    ("run.out", "use --out DIR"),
    ("run.name", "leave it out: each run is named after its cell"),
];

/// One value of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    /// As it was typed.
    pub(crate) label: String,
    /// What it sets, each `section.key=value`.
    pub(crate) sets: Vec<String>,
}

/// One thing that is varied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    /// The key, or [`VARIANT`].
    pub(crate) key: String,
    /// Its values, in the order given.
    pub(crate) points: Vec<Point>,
}

/// One run: a point of every axis, and a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Names the run's directory; no other cell of the grid has it.
    pub(crate) name: String,
    /// (axis, label), in the order of the axes.
    pub(crate) settings: Vec<(String, String)>,
    /// `run.seed`.
    pub(crate) seed: u64,
    /// What distinguishes the run, each `section.key=value`; the seed is not among them.
    pub(crate) sets: Vec<String>,
}

/// A grid of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grid {
    /// What is varied.
    pub(crate) axes: Vec<Axis>,
    /// Runs of each combination, which differ in nothing but the seed.
    pub(crate) seeds: u32,
}

/// Longest key of an axis.
const KEY_BYTES_MAX: usize = 256;

/// Reads `KEY=VALUE,VALUE`.
///
/// # Errors
/// One sentence that says what is wrong with `text`.
pub(crate) fn sweep(text: &str) -> Result<Axis, String> {
    let usage = "write --sweep KEY=VALUE,VALUE (values with commas in them: separate with `;`)";
    let Some((key, values)) = text.split_once('=') else {
        return Err(format!("--sweep {text} has no `=`; {usage}"));
    };
    let key = full_key(key.trim());
    if key.len() > KEY_BYTES_MAX {
        // It is repeated for every value.
        return Err(format!(
            "--sweep has a key of {} bytes, but no key has more than {KEY_BYTES_MAX}; {usage}",
            key.len()
        ));
    }
    let values = split_values(values);
    if values.is_empty() || values.iter().any(String::is_empty) {
        return Err(format!("--sweep {text} has an empty value; {usage}"));
    }
    let point = |label: String| Point {
        sets: vec![format!("{key}={}", full_value(&key, &label))],
        label,
    };
    let points = values.into_iter().map(point).collect();
    Ok(Axis { key, points })
}

/// Reads `NAME:KEY=VALUE,KEY=VALUE`, a bundle of settings with a name.
///
/// # Errors
/// One sentence that says what is wrong with `text`.
pub(crate) fn variant(text: &str) -> Result<Point, String> {
    let usage =
        "write --variant NAME:KEY=VALUE,KEY=VALUE (values with commas in them: separate with `;`)";
    let Some((name, sets)) = text.split_once(':') else {
        return Err(format!("--variant {text} has no name; {usage}"));
    };
    let name = name.trim();
    if name.is_empty() || name.contains('=') {
        return Err(format!("--variant {text} has no name; {usage}"));
    }
    let sets = split_values(sets)
        .iter()
        .filter(|set| !set.is_empty())
        .map(|set| match set.split_once('=') {
            Some((key, value)) => {
                let key = full_key(key.trim());
                Ok(format!("{key}={}", full_value(&key, value.trim())))
            }
            None => Err(format!("--variant {text}: `{set}` has no `=`; {usage}")),
        })
        .collect::<Result<_, _>>()?;
    Ok(Point {
        label: name.to_owned(),
        sets,
    })
}

fn full_key(key: &str) -> String {
    if key == "lag" { LAG_KEY } else { key }.to_owned()
}

/// A plain number of injected versions stands for that many, always.
fn full_value(key: &str, value: &str) -> String {
    if key == LAG_KEY && value.parse::<u64>().is_ok() {
        format!("fixed:{value}")
    } else {
        value.to_owned()
    }
}

/// Splits at `;` if there is one, or else at commas that are in no bracket and no quotation marks.
fn split_values(text: &str) -> Vec<String> {
    if text.contains(';') {
        return text.split(';').map(|part| part.trim().to_owned()).collect();
    }
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == ',' && depth == 0 && quote.is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// The key that `set` sets.
fn key_of(set: &str) -> &str {
    set.split_once('=').map_or(set, |(key, _)| key.trim())
}

impl Grid {
    /// The grid that `variants` and `sweeps` span.
    ///
    /// # Errors
    /// Every contradiction, one sentence each.
    pub(crate) fn new(
        variants: Vec<Point>,
        sweeps: Vec<Axis>,
        seeds: u32,
    ) -> Result<Self, Vec<String>> {
        let mut axes = Vec::new();
        if !variants.is_empty() {
            axes.push(Axis {
                key: VARIANT.to_owned(),
                points: variants,
            });
        }
        axes.extend(sweeps);
        let grid = Self { axes, seeds };
        let faults = grid.faults();
        if faults.is_empty() {
            Ok(grid)
        } else {
            Err(faults)
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut swept = BTreeSet::new();
        for axis in &self.axes {
            if !swept.insert(axis.key.as_str()) {
                faults.push(format!(
                    "{} is swept twice; give all its values to one --sweep",
                    axis.key
                ));
            }
            let mut labels = BTreeSet::new();
            for point in &axis.points {
                if !labels.insert(&point.label) {
                    faults.push(format!(
                        "{} has {} twice; leave one of them out",
                        axis.key, point.label
                    ));
                }
            }
        }
        for (axis, point) in self
            .axes
            .iter()
            .flat_map(|axis| axis.points.iter().map(move |point| (axis, point)))
        {
            for key in point.sets.iter().map(|set| key_of(set)) {
                if axis.key == VARIANT && swept.contains(key) {
                    faults.push(format!(
                        "variant {} sets {key}, which is swept too; leave it out of one of them",
                        point.label
                    ));
                }
                if let Some((_, way_out)) = OWN_KEYS.iter().find(|(own, _)| *own == key) {
                    faults.push(format!("{key} cannot be varied; {way_out}"));
                }
            }
        }
        let runs = self.runs();
        if runs > RUNS_MAX {
            faults.push(format!(
                "the grid has {runs} runs, but at most {RUNS_MAX} are possible; sweep fewer values or seeds"
            ));
        }
        faults.dedup();
        faults
    }

    /// Number of runs.
    pub(crate) fn runs(&self) -> usize {
        let points = self.axes.iter().map(|axis| axis.points.len());
        points.fold(self.seeds as usize, usize::saturating_mul)
    }

    /// Every run: all combinations with the first seed, then all with the second, and so on, so that an early look at
    /// the results sees the whole grid. The last axis changes fastest.
    pub(crate) fn cells(&self, first_seed: u64) -> Vec<Cell> {
        let mut combinations: Vec<Vec<&Point>> = vec![Vec::new()];
        for axis in &self.axes {
            combinations = combinations
                .iter()
                .flat_map(|chosen| {
                    axis.points.iter().map(move |point| {
                        let mut chosen = chosen.clone();
                        chosen.push(point);
                        chosen
                    })
                })
                .collect();
        }
        let mut names = BTreeSet::new();
        let mut cells = Vec::with_capacity(self.runs());
        for offset in 0..u64::from(self.seeds) {
            for points in &combinations {
                cells.push(self.cell(points, first_seed.saturating_add(offset), &mut names));
            }
        }
        cells
    }

    fn cell(&self, points: &[&Point], seed: u64, names: &mut BTreeSet<String>) -> Cell {
        let settings: Vec<(String, String)> = self
            .axes
            .iter()
            .zip(points)
            .map(|(axis, point)| (axis.key.clone(), point.label.clone()))
            .collect();
        let base = name(&settings, seed);
        let mut name = base.clone();
        let mut number = 2_u32;
        while !names.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        Cell {
            name,
            settings,
            seed,
            sets: points.iter().flat_map(|point| point.sets.clone()).collect(),
        }
    }
}

/// Axes with what they are called where space is short; the whole key where last words collide.
pub(crate) fn short_keys<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let short = |key: &'a str| short_key(key);
    keys.iter()
        .map(|key| {
            let alone = keys
                .iter()
                .filter(|other| short(other) == short(key))
                .count()
                == 1;
            if alone { short(key) } else { key }
        })
        .collect()
}

/// A name for a directory that says what is in it.
fn name(settings: &[(String, String)], seed: u64) -> String {
    let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
    let mut parts: Vec<String> = settings
        .iter()
        .zip(short_keys(&keys))
        .map(|((key, label), short)| {
            if key == VARIANT {
                label.clone()
            } else {
                format!("{short}-{label}")
            }
        })
        .collect();
    parts.push(format!("seed-{seed}"));
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = parts
        .join("_")
        .chars()
        .map(|c| if safe(c) { c } else { '-' })
        .take(NAME_CHARS_MAX)
        .collect();
    // A name that begins with a dot would be hidden, or be the directory itself.
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(variants: &[&str], sweeps: &[&str], seeds: u32) -> Result<Grid, Vec<String>> {
        Grid::new(
            variants.iter().map(|text| variant(text).unwrap()).collect(),
            sweeps.iter().map(|text| sweep(text).unwrap()).collect(),
            seeds,
        )
    }

    #[test]
    fn every_combination_occurs_once_and_the_first_seed_comes_first() {
        let cells = grid(
            &["a:x.y=1,x.z=[2,3]", "b:"],
            &["lag=0,uniform:0..4", "learner.queue_unrolls=2,4,8"],
            2,
        )
        .unwrap()
        .cells(7);
        assert_eq!(cells.len(), 2 * 2 * 3 * 2);
        let names: BTreeSet<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names.len(), cells.len());
        assert_eq!(
            cells[0].sets,
            [
                "x.y=1",
                "x.z=[2,3]",
                "lag.inject=fixed:0",
                "learner.queue_unrolls=2"
            ]
        );
        assert_eq!(cells[0].name, "a_lag-0_queue_unrolls-2_seed-7");
        assert_eq!(
            cells[11].sets,
            ["lag.inject=uniform:0..4", "learner.queue_unrolls=8"]
        );
        assert!(cells[..12].iter().all(|cell| cell.seed == 7));
        assert_eq!(cells[12].settings, cells[0].settings);
        assert_eq!(cells[12].seed, 8);
    }

    #[test]
    fn a_grid_of_nothing_is_one_run_for_each_seed() {
        let cells = grid(&[], &[], 3).unwrap().cells(7);
        let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names, ["seed-7", "seed-8", "seed-9"]);
    }

    #[test]
    fn values_with_commas_are_kept_whole() {
        let labels = |text: &str| -> Vec<String> {
            let axis = sweep(text).unwrap();
            axis.points.into_iter().map(|point| point.label).collect()
        };
        assert_eq!(
            labels("policy.hidden_sizes=[32], [64,64]"),
            ["[32]", "[64,64]"]
        );
        assert_eq!(labels("lag=0;per-actor:0,4,16"), ["0", "per-actor:0,4,16"]);
        assert_eq!(labels("environment.id='a,b',c"), ["'a,b'", "c"]);
    }

    #[test]
    fn labels_that_a_file_system_cannot_tell_apart_still_get_directories_of_their_own() {
        let cells = grid(&[], &["a.b=x/y,x:y"], 1).unwrap().cells(7);
        assert_eq!(cells[0].name, "b-x-y_seed-7");
        assert_eq!(cells[1].name, "b-x-y_seed-7-2");
        let hidden = grid(&["..:"], &[], 1).unwrap().cells(7);
        assert!(!hidden[0].name.starts_with('.'), "{hidden:?}");
    }

    #[test]
    fn contradictions_are_all_found_at_once() {
        let faults = grid(
            &["a:lag=3", "a:run.out=x"],
            &["lag=1,1", "lag=2", "run.seed=1,2"],
            5000,
        )
        .unwrap_err();
        let text = faults.join("\n");
        for part in [
            "lag.inject is swept twice",
            "lag.inject has 1 twice",
            "variant has a twice",
            "variant a sets lag.inject, which is swept too",
            "run.out cannot be varied; use --out DIR",
            "run.seed cannot be varied; use --seeds N",
            "the grid has 40000 runs, but at most 10000",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        for bad in ["lag", "lag=", "lag=1,,2"] {
            assert!(sweep(bad).is_err(), "{bad}");
        }
        for bad in ["x.y=1", ":x.y=1", "a:x.y"] {
            assert!(variant(bad).is_err(), "{bad}");
        }
    }
}
