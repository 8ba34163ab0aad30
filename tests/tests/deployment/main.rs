//! The files under `deploy/` say nothing that the program does not know: each command line, key, port, path and probe in
//! them is compared with the program itself, and the scripts run with it.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod commands;
mod keeping;
mod manifests;
mod slurm;
mod watched;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");

/// Certificates, keys and a token, as the program makes them for a learner called "learner", in the folder `keys` of a
/// directory that vanishes.
pub(crate) fn keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(BINARY)
        .args(["keys", "--host", "learner", "--out"])
        .arg(folder.path().join("keys"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    folder
}

/// A path of the repository.
pub(crate) fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files in `folder` of the repository and below whose names end in one of `endings`, sorted.
pub(crate) fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at(folder)).unwrap().flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| path.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of `text` without comments, where `#` begins one at the start of a line or after a space.
pub(crate) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| {
        let end = if line.trim_start().starts_with('#') {
            0
        } else {
            line.find(" #").unwrap_or(line.len())
        };
        line[..end].trim_end()
    })
}
