//! Files for decoders that read files: in memory where there is such a file system.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

thread_local! {
    static DIRECTORY: TempDir = {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        made.expect("a temporary directory")
    };
}

/// A directory that is there until the thread ends.
pub(super) fn directory() -> PathBuf {
    DIRECTORY.with(|directory| directory.path().to_owned())
}

/// A file with this content that only its owner can read.
pub(super) fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = directory().join(name);
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let written = file.and_then(|mut file| file.write_all(content));
    written.expect("a temporary file");
    path
}

/// Removes a file, if it is there.
pub(super) fn remove(name: &str) {
    let _ = fs::remove_file(directory().join(name));
}
