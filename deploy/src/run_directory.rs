//! The run directory: made whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use springbok_learner::output::write_whole;
use time::{OffsetDateTime, macros::format_description};

use crate::exit::Failure;

/// What a run directory is made from.
pub(crate) struct Plan<'a> {
    /// The directory that holds all runs.
    pub(crate) out: &'a Path,
    /// A name that the user chose.
    pub(crate) name: Option<&'a str>,
    /// Environment id, for the name that is made up otherwise.
    pub(crate) environment_id: &'a str,
    /// Seed, likewise.
    pub(crate) seed: u64,
    /// Content of `config.toml`.
    pub(crate) config_toml: &'a str,
}

/// The directory of one run.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl RunDirectory {
    /// Makes the directory with `config.toml` and `logs/` in it; if any of it fails, nothing is left behind.
    ///
    /// # Errors
    /// Exit 64 if the chosen name is taken; exit 74 if the file system refuses.
    pub(crate) fn create(plan: &Plan<'_>) -> Result<Self, Failure> {
        let missing_from = first_missing(plan.out);
        let result = Self::try_create(plan);
        if result.is_err()
            && let Some(missing) = missing_from
        {
            // Only directories that this call made, and only if nothing else has appeared in them meanwhile.
            remove_empty(plan.out, &missing);
        }
        result
    }

    fn try_create(plan: &Plan<'_>) -> Result<Self, Failure> {
        fs::create_dir_all(plan.out).map_err(|error| refused(plan.out, &error))?;
        let path = create_unique(plan)?;
        let config = plan.config_toml.as_bytes();
        let filled = fs::create_dir(path.join("logs"))
            .map_err(|error| refused(&path, &error))
            .and_then(|()| write_whole(&path.join("config.toml"), config).map_err(Failure::files));
        if let Err(failure) = filled {
            let _ = fs::remove_dir_all(&path);
            return Err(failure);
        }
        Ok(Self { path })
    }

    /// The directory of a run that is to go on. Its configuration becomes `config_toml`, once everything else is clear.
    ///
    /// # Errors
    /// Exit 74 if the file system refuses.
    pub(crate) fn reopen(path: &Path, config_toml: &str) -> Result<Self, Failure> {
        let directory = Self {
            path: path.to_owned(),
        };
        fs::create_dir_all(path.join("logs")).map_err(|error| refused(path, &error))?;
        write_whole(&directory.config(), config_toml.as_bytes()).map_err(Failure::files)?;
        Ok(directory)
    }

    /// The effective configuration.
    pub(crate) fn config(&self) -> PathBuf {
        Self::config_of(&self.path)
    }

    /// The effective configuration of the run in `directory`.
    pub(crate) fn config_of(directory: &Path) -> PathBuf {
        directory.join("config.toml")
    }

    /// The log of a child process: `learner`, `actor-0`, `launcher` ...
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::files(format!(
        "cannot write the run directory {}: {error}; choose another place with --out",
        path.display()
    ))
}

/// Makes a directory that did not exist: the chosen name, or the made-up one with a number if it is taken.
fn create_unique(plan: &Plan<'_>) -> Result<PathBuf, Failure> {
    if let Some(name) = plan.name {
        let path = plan.out.join(name);
        return match fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(
                format!("{} exists already; choose another --name", path.display()),
            )),
            Err(error) => Err(refused(&path, &error)),
        };
    }
    let base = default_name(plan.environment_id, plan.seed, OffsetDateTime::now_utc());
    let mut path = plan.out.join(&base);
    let mut number = 2_u32;
    loop {
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = plan.out.join(format!("{base}-{number}"));
                number += 1;
            }
            Err(error) => return Err(refused(&path, &error)),
        }
    }
}

/// `<environment>-s<seed>-<YYYYMMDD-HHMMSS>`, in UTC; a `/` in the environment's id would make a directory.
fn default_name(environment_id: &str, seed: u64, now: OffsetDateTime) -> String {
    let stamp = now
        .format(format_description!(
            "[year][month][day]-[hour][minute][second]"
        ))
        .unwrap_or_default();
    let environment: String = environment_id
        .chars()
        .map(|c| {
            if std::path::is_separator(c) || c == ':' {
                '-'
            } else {
                c
            }
        })
        .collect();
    format!("{environment}-s{seed}-{stamp}")
}

/// The topmost directory of `path` that does not exist yet.
fn first_missing(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .take_while(|ancestor| !ancestor.exists())
        .last()
        .map(Path::to_path_buf)
}

/// Removes `path` and its parents up to and including `top`, as long as they are empty.
fn remove_empty(path: &Path, top: &Path) {
    for ancestor in path.ancestors() {
        if fs::remove_dir(ancestor).is_err() && ancestor.exists() {
            return;
        }
        if ancestor == top {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn plan<'a>(out: &'a Path, name: Option<&'a str>) -> Plan<'a> {
        Plan {
            out,
            name,
            environment_id: "CartPole-v1",
            seed: 3,
            config_toml: "[run]\nseed = 3\n",
        }
    }

    #[test]
    fn names_say_environment_seed_and_time() {
        let now = datetime!(2026-02-03 04:05:06 UTC);
        assert_eq!(
            default_name("ALE/Pong-v5", 7, now),
            "ALE-Pong-v5-s7-20260203-040506"
        );
    }

    #[test]
    fn two_runs_never_share_a_directory() {
        let out = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(&plan(out.path(), None)).unwrap();
        let second = RunDirectory::create(&plan(out.path(), None)).unwrap();
        assert_ne!(first.path, second.path);
        assert_eq!(
            fs::read_to_string(second.config()).unwrap(),
            "[run]\nseed = 3\n"
        );
        assert!(second.log("learner").parent().unwrap().is_dir());
    }

    #[test]
    fn a_taken_name_is_a_usage_fault_and_touches_nothing() {
        let out = tempfile::tempdir().unwrap();
        RunDirectory::create(&plan(out.path(), Some("mine"))).unwrap();
        let failure = RunDirectory::create(&plan(out.path(), Some("mine"))).unwrap_err();
        assert_eq!(failure.exit.code(), 64);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refusal_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = RunDirectory::create(&plan(&file.join("runs"), None)).unwrap_err();
        assert_eq!(failure.exit.code(), 74);

        // A name with a missing parent fails after the output directory was made.
        let out = parent.path().join("a").join("b");
        let failure = RunDirectory::create(&plan(&out, Some("missing/name"))).unwrap_err();
        assert_eq!(failure.exit.code(), 74);
        assert!(!parent.path().join("a").exists());
    }
}
