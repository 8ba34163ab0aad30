//! The few operations of a file system that checkpoints need, so that a test can put a disk in their place that forgets
//! what was not forced onto it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// A file system. Paths are those of one directory and its files.
pub trait Disk {
    /// Makes an empty file, or empties one that is there.
    ///
    /// # Errors
    /// What the operating system says; so for all operations.
    fn create(&mut self, path: &Path) -> io::Result<()>;

    /// Appends to a file.
    ///
    /// # Errors
    /// As above.
    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Forces the content of a file onto the disk.
    ///
    /// # Errors
    /// As above.
    fn sync_file(&mut self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever has that name.
    ///
    /// # Errors
    /// As above.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Forces the names in a directory onto the disk.
    ///
    /// # Errors
    /// As above.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As above.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// The whole content of a file.
    ///
    /// # Errors
    /// As above.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The first bytes of a file, at most `bytes_max`.
    ///
    /// # Errors
    /// As above.
    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// The files in a directory; none if there is no such directory.
    ///
    /// # Errors
    /// As above.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The disk of this machine. It keeps the file open that is being written.
#[derive(Debug, Default)]
pub struct RealDisk {
    open: Option<(PathBuf, File)>,
}

impl RealDisk {
    fn opened(&mut self, path: &Path) -> io::Result<&mut File> {
        match &mut self.open {
            Some((open, file)) if open == path => Ok(file),
            _ => Err(io::Error::other("the file is not being written")),
        }
    }
}

impl Disk for RealDisk {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.open = Some((path.to_owned(), File::create(path)?));
        Ok(())
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.opened(path)?.write_all(content)
    }

    fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        self.opened(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.open = None;
        fs::rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::with_capacity(bytes_max);
        File::open(path)?
            .take(bytes_max as u64)
            .read_to_end(&mut start)?;
        Ok(start)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(directory) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
