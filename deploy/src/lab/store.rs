//! The directory of a grid: its rows, its runs, and who may write there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use springbok_common::config::Config;
use springbok_learner::output::write_whole;

use super::{
    curve::Curve,
    measured::Measured,
    rows::{self, Row, Run},
};
use crate::exit::Failure;

/// The directory of a grid.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    /// Held until the end, so that no second laboratory clears what this one is writing.
    _lock: Option<File>,
}

/// What is known of a cell before anything is run.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that can be used.
    Nothing,
    /// A finished run of this very configuration that has no row yet.
    Finished(Box<Measured>),
    /// A finished run of another configuration.
    Other(Box<Config>),
}

impl Store {
    /// Makes the directory if necessary, and keeps it for this process.
    ///
    /// # Errors
    /// Exit 64 if another laboratory is writing there; exit 74 if the file system refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let runs = path.join("runs");
        fs::create_dir_all(&runs).map_err(|error| refused(&runs, &error))?;
        let cells = path.join("cells");
        fs::create_dir_all(&cells).map_err(|error| refused(&cells, &error))?;
        let lock = path.join(".lock");
        let file = File::create(&lock).map_err(|error| refused(&lock, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(file),
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::usage(format!(
                "another `springbok lab` is writing to {}; wait for it, or choose another --out",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(refused(&lock, &error)),
        }
    }

    /// The directory, for reading and for the report.
    pub(crate) fn existing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _lock: None,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that holds the directories of the runs.
    pub(crate) fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// The directory of one run.
    pub(crate) fn run(&self, cell: &str) -> PathBuf {
        self.runs().join(cell)
    }

    /// The configuration of one run, which `springbok train --config` takes.
    pub(crate) fn config(&self, cell: &str) -> PathBuf {
        self.path.join("cells").join(format!("{cell}.toml"))
    }

    /// Whether there are rows.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows_path().is_file()
    }

    fn rows_path(&self) -> PathBuf {
        self.path.join("results.jsonl")
    }

    /// The rows of all runs so far; none if there are none yet.
    ///
    /// # Errors
    /// Exit 74 if they cannot be read.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Failure> {
        let path = self.rows_path();
        if !path.exists() {
            return Ok(Vec::new());
        }
        rows::from_jsonl(&read(&path)?).map_err(|error| {
            Failure::files(format!(
                "{} cannot be read: {error}; remove that line, and its run will be looked at again",
                path.display()
            ))
        })
    }

    /// Writes `results.jsonl` and `results.csv`, each whole.
    ///
    /// # Errors
    /// Exit 74 if the file system refuses.
    pub(crate) fn write_rows(&self, runs: &[Run]) -> Result<(), Failure> {
        let rows: Vec<&Row> = runs.iter().map(|run| &run.row).collect();
        self.write("results.csv", &rows::to_csv(&rows))?;
        self.write("results.jsonl", &rows::to_jsonl(rows.iter().copied()))
    }

    /// Writes a file of the grid, whole.
    ///
    /// # Errors
    /// Exit 74 if the file system refuses.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        write_whole(&self.path.join(name), content.as_bytes()).map_err(Failure::files)
    }

    /// Adds to a row what its run's directory tells.
    pub(crate) fn with_files(&self, row: Row) -> Run {
        Self::with_files_of(&self.run(&row.cell), row)
    }

    /// Adds to a row what the run directory `directory` tells.
    pub(crate) fn with_files_of(directory: &Path, row: Row) -> Run {
        let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Run {
            curve: Curve::read(&text("metrics.jsonl")),
            config: flat(&text("config.toml")),
            row,
        }
    }

    /// What the directory of `cell` holds, for a run that is to have the configuration `wanted`.
    pub(crate) fn find(&self, cell: &str, wanted: &Config) -> Found {
        let directory = self.run(cell);
        let Ok(summary) = fs::read_to_string(directory.join("summary.json")) else {
            return Found::Nothing;
        };
        let Ok(measured) = Measured::read(&summary) else {
            return Found::Nothing;
        };
        let config = directory.join("config.toml");
        match Config::load(Some(&config), std::iter::empty(), &[]) {
            Ok(loaded) if measured.is_complete(loaded.config.run.total_steps) => {
                if identity(&loaded.config) == identity(wanted) {
                    Found::Finished(Box::new(measured))
                } else {
                    Found::Other(Box::new(loaded.config))
                }
            }
            _ => Found::Nothing,
        }
    }

    /// What a run that has just ended measured.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub(crate) fn measured(&self, cell: &str) -> Result<Measured, String> {
        let path = self.run(cell).join("summary.json");
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Measured::read(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    /// Removes what an interrupted or failed run of `cell` left behind.
    ///
    /// # Errors
    /// Exit 74 if the file system refuses, or if the directory is not that of a run.
    pub(crate) fn clear(&self, cell: &str) -> Result<(), Failure> {
        let directory = self.run(cell);
        if !directory.exists() {
            return Ok(());
        }
        // A run directory has its configuration before anything else; whatever has none was made by someone else.
        if !directory.join("config.toml").is_file() {
            return Err(Failure::files(format!(
                "{} is in the way and is no run of this program; move it away, or choose another --out",
                directory.display()
            )));
        }
        fs::remove_dir_all(&directory).map_err(|error| refused(&directory, &error))
    }
}

/// The configuration without where its run is written: equal for runs that do the same.
pub(crate) fn normalised(config: &Config) -> Config {
    let defaults = Config::default();
    let mut config = config.clone();
    config.run.out = defaults.run.out;
    config.run.name = defaults.run.name;
    config.telemetry = defaults.telemetry;
    config
}

/// Equal for configurations whose runs do the same.
pub(crate) fn identity(config: &Config) -> String {
    normalised(config).hash()
}

/// The keys in which two configurations differ, as `key is A, now B`.
pub(crate) fn differences(old: &Config, new: &Config) -> Vec<String> {
    let keys = |config: &Config| -> BTreeMap<String, String> {
        flat(&normalised(config).to_toml()).into_iter().collect()
    };
    let (old, new) = (keys(old), keys(new));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let of = |map: &BTreeMap<String, String>, key: &String| {
        map.get(key).map_or("not set", String::as_str).to_owned()
    };
    all.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| format!("{key} was {}, now {}", of(&old, key), of(&new, key)))
        .collect()
}

/// `section.key` and its value of each key in a TOML text.
pub(crate) fn flat(toml: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(table) = toml.parse::<toml::Table>() {
        flatten("", &table, &mut found);
    }
    found
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&path, inner, into),
            value => into.push((path, value.to_string())),
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::files(format!("cannot read {}: {error}", path.display())))
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    Failure::files(format!(
        "cannot write {}: {error}; choose another place with --out",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config
    }

    /// Puts a run into the store as `train` leaves it.
    fn put(store: &Store, cell: &str, config: &Config, trained_steps: u64) {
        let directory = store.run(cell);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.toml"), config.to_toml()).unwrap();
        let summary = format!("{{\"trained_steps\": {trained_steps}}}");
        fs::write(directory.join("summary.json"), summary).unwrap();
    }

    #[test]
    fn a_finished_run_is_recognised_by_its_configuration() {
        let out = tempfile::tempdir().unwrap();
        let store = Store::open(out.path()).unwrap();
        let wanted = config(&["run.total_steps=1000"]);
        assert!(matches!(store.find("a", &wanted), Found::Nothing));

        let elsewhere = config(&["run.total_steps=1000", "run.out=elsewhere", "run.name=a"]);
        put(&store, "a", &elsewhere, 1024);
        assert!(matches!(store.find("a", &wanted), Found::Finished(_)));
        put(&store, "a", &elsewhere, 512);
        assert!(
            matches!(store.find("a", &wanted), Found::Nothing),
            "interrupted"
        );

        put(
            &store,
            "a",
            &config(&["run.total_steps=1000", "algorithm.gamma=0.5"]),
            1024,
        );
        let Found::Other(other) = store.find("a", &wanted) else {
            panic!("another configuration was taken for the same");
        };
        assert_eq!(
            differences(&other, &wanted),
            ["algorithm.gamma was 0.5, now 0.99"]
        );
    }

    #[test]
    fn only_runs_are_cleared_away() {
        let out = tempfile::tempdir().unwrap();
        let store = Store::open(out.path()).unwrap();
        put(&store, "a", &config(&[]), 1);
        store.clear("a").unwrap();
        store.clear("a").unwrap();
        assert!(!store.run("a").exists());
        fs::create_dir(store.run("mine")).unwrap();
        fs::write(store.run("mine").join("thesis.tex"), "").unwrap();
        assert_eq!(store.clear("mine").unwrap_err().exit.code(), 74);
        assert!(store.run("mine").join("thesis.tex").exists());
    }

    #[test]
    fn two_laboratories_do_not_share_a_directory() {
        let out = tempfile::tempdir().unwrap();
        let first = Store::open(out.path()).unwrap();
        assert_eq!(Store::open(out.path()).unwrap_err().exit.code(), 64);
        drop(first);
        Store::open(out.path()).unwrap();
    }
}
