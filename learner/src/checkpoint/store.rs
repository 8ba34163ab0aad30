//! The folder of checkpoints: each appears whole or not at all, the newest good one is found, old ones go.
//!
//! A checkpoint is written under a temporary name in the same folder, forced onto the disk, renamed, and the folder forced
//! onto the disk too; then it is read back and verified, and only after that are older ones removed. So there is at every
//! moment a verified one, whatever is lost.

use std::{
    cmp::Reverse,
    io,
    path::{Path, PathBuf},
    process,
};

use super::{
    disk::Disk,
    failpoint::Failpoint,
    format::{self, FormatError, HEADER_BYTES, Header},
};

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest checkpoints, 2 or more.
    pub keep_last: usize,
    /// Whether the one with the best mean return is kept besides.
    pub keep_best: bool,
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What was read back is not what was written.
    #[error("{} was written, but {fault}", path.display())]
    Verification {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FormatError,
    },
}

/// A checkpoint that was read and verified.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// The whole file.
    pub bytes: Vec<u8>,
}

/// A folder of checkpoints.
#[derive(Debug)]
pub struct Store<D> {
    disk: D,
    folder: PathBuf,
    retention: Retention,
    written: u64,
}

/// Ending of a file that was found damaged and set aside.
const CORRUPT: &str = "corrupt";

impl<D: Disk> Store<D> {
    /// The checkpoints in `folder`, which exists before one is written.
    pub fn new(disk: D, folder: PathBuf, retention: Retention) -> Self {
        Self {
            disk,
            folder,
            retention,
            written: 0,
        }
    }

    /// Writes the checkpoint `bytes` of `version`, and removes what is not to be kept.
    ///
    /// # Errors
    /// [`StoreError`]; the checkpoints before it are untouched.
    pub fn save(&mut self, version: u64, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        self.written += 1;
        let temporary = format!(".tmp-{}-{}", process::id(), self.written);
        let temporary = self.folder.join(temporary);
        let path = self.folder.join(file_name(version));
        if let Err(error) = self.put(&temporary, &path, bytes) {
            // A full disk must not stay full because of this.
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        if let Err(error) = self.read_back(&path, bytes) {
            // What cannot be trusted must not stand where a reader looks first.
            self.set_aside(&path);
            return Err(error);
        }
        Failpoint::BeforePrune.reach();
        self.prune(version);
        Ok(path)
    }

    fn put(&mut self, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        Failpoint::BeforeWrite.reach();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.disk.create(temporary).map_err(at(temporary))?;
        self.disk.append(temporary, first).map_err(at(temporary))?;
        Failpoint::MidWrite.reach();
        self.disk.append(temporary, second).map_err(at(temporary))?;
        Failpoint::BeforeSync.reach();
        self.disk.sync_file(temporary).map_err(at(temporary))?;
        Failpoint::BeforeRename.reach();
        self.disk.rename(temporary, path).map_err(at(path))?;
        Failpoint::AfterRename.reach();
        Failpoint::BeforeDirectorySync.reach();
        self.disk
            .sync_directory(&self.folder)
            .map_err(at(&self.folder))
    }

    fn read_back(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let read = self.disk.read(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        let fault = match format::verify(&read) {
            Ok(_) if read == bytes => return Ok(()),
            Ok(_) => FormatError::Checksum("payload"),
            Err(fault) => fault,
        };
        Err(StoreError::Verification {
            path: path.to_owned(),
            fault,
        })
    }

    /// Removes checkpoints that are not to be kept, and what dead processes left. `verified` is the version that was just
    /// verified. A file that cannot be removed is tried again next time.
    fn prune(&mut self, verified: u64) {
        let Ok(files) = self.disk.list(&self.folder) else {
            return;
        };
        let leftovers = files.iter().filter(|path| name(path).starts_with(".tmp-"));
        let mut doomed: Vec<PathBuf> = leftovers.cloned().collect();
        let ordered = newest_first(&files);
        let best = self.retention.keep_best.then(|| self.best(&ordered));
        let best = best.flatten();
        let old = ordered.iter().skip(self.retention.keep_last.max(2));
        let old = old.filter(|(version, path)| {
            *version != verified && best.as_deref() != Some(path.as_path())
        });
        doomed.extend(old.map(|(_, path)| path.clone()));
        for path in doomed {
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "an old checkpoint cannot be removed");
            }
        }
    }

    /// The checkpoint with the best mean return; of equals, the newest.
    fn best(&self, ordered: &[(u64, PathBuf)]) -> Option<PathBuf> {
        let mut best: Option<(f64, &PathBuf)> = None;
        for (_, path) in ordered {
            let value = self.header(path).and_then(|header| header.mean_return);
            if let Some(value) = value
                && best.is_none_or(|(highest, _)| value > highest)
            {
                best = Some((value, path));
            }
        }
        best.map(|(_, path)| path.clone())
    }

    fn header(&self, path: &Path) -> Option<Header> {
        let start = self.disk.read_start(path, HEADER_BYTES).ok()?;
        format::header(&start).ok().map(|(header, _)| header)
    }

    /// The newest checkpoint that `usable` takes; damaged ones on the way to it are set aside, with a warning, if
    /// `sets_aside`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn newest<T>(
        &mut self,
        sets_aside: bool,
        usable: impl Fn(&Found) -> Result<T, FormatError>,
    ) -> Result<Option<(PathBuf, T)>, StoreError> {
        let files = self
            .disk
            .list(&self.folder)
            .map_err(|source| StoreError::Io {
                path: self.folder.clone(),
                source,
            })?;
        for (_, path) in newest_first(&files) {
            let fault = match self.disk.read(&path) {
                Ok(bytes) => {
                    let found = Found {
                        path: path.clone(),
                        bytes,
                    };
                    match usable(&found) {
                        Ok(content) => return Ok(Some((path, content))),
                        Err(fault) => fault.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(path = %path.display(), fault, "this checkpoint cannot be used; trying the one before");
            if sets_aside {
                self.set_aside(&path);
            }
        }
        Ok(None)
    }

    fn set_aside(&mut self, path: &Path) {
        let aside = path.with_extension(CORRUPT);
        if let Err(error) = self.disk.rename(path, &aside) {
            tracing::warn!(path = %path.display(), %error, "it cannot be renamed either");
        }
    }

    /// Files that were set aside as damaged.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn set_aside_count(&self) -> Result<usize, StoreError> {
        let files = self.disk.list(&self.folder);
        let files = files.map_err(|source| StoreError::Io {
            path: self.folder.clone(),
            source,
        })?;
        let corrupt = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == CORRUPT);
        Ok(files.iter().filter(corrupt).count())
    }

    /// The disk.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }
}

/// Name of the checkpoint of `version`.
#[must_use]
pub fn file_name(version: u64) -> String {
    format!("checkpoint-{version:012}.ckpt")
}

/// The checkpoints among `files` with the versions in their names.
fn newest_first(files: &[PathBuf]) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = files
        .iter()
        .filter_map(|path| {
            let digits = name(path)
                .strip_prefix("checkpoint-")?
                .strip_suffix(".ckpt")?;
            Some((digits.parse().ok()?, path.clone()))
        })
        .collect();
    found.sort_by_key(|(version, _)| Reverse(*version));
    found
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}
