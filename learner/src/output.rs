//! Files that appear whole or not at all.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::error::LearnerError;

/// Writes `content` to `path`: to a temporary file in the same directory, which is forced to the disk and then takes
/// the name. A reader, or a crash, sees the old file or the new one.
///
/// # Errors
/// [`LearnerError::Output`] with the path and the cause.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), LearnerError> {
    try_write(path, content).map_err(|source| failed(path, source))
}

/// The error of a file that could not be written.
pub(crate) fn failed(path: &Path, source: io::Error) -> LearnerError {
    LearnerError::Output {
        path: PathBuf::from(path),
        source,
    }
}

fn try_write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Temporary files are private by default, results are ordinary files: the umask decides.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The name is only on the disk once the directory is.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_remains() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_path_and_is_exit_74() {
        let error = write_whole(Path::new("/nonexistent/summary.json"), b"").unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(error.to_string().contains("/nonexistent/summary.json"));
    }
}
