//! A Unix socket: the way in for actors of this machine. Who may open the file may connect.

use std::{io, path::Path};

use super::incoming::{Listen, Peer};

/// A socket in the file system that only this user can open; its file is removed with it.
#[cfg(unix)]
#[derive(Debug)]
pub struct LocalListener {
    listener: tokio::net::UnixListener,
    path: std::path::PathBuf,
    /// Device and number of the file, so that no other is removed.
    file: (u64, u64),
}

/// There are none on this system.
#[cfg(not(unix))]
#[derive(Debug)]
pub enum LocalListener {}

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    };

    use rustix::fs::{Mode, fchmod};
    use tokio::net::{UnixListener, UnixSocket, UnixStream};

    use super::{Listen, LocalListener, Path, Peer, io};

    /// Connections that wait to be accepted, as tokio has it for TCP.
    const BACKLOG: u32 = 1024;
    /// Read and write, for the owner.
    const MODE: u32 = 0o600;

    impl LocalListener {
        /// Listens at `path`. A socket that a process left there when it died is replaced.
        ///
        /// # Errors
        /// Somebody listens there; something that is no socket is there; what else the operating system says.
        pub async fn bind(path: &Path) -> io::Result<Self> {
            remove_stale(path).await?;
            let socket = UnixSocket::new_stream()?;
            // On Linux the file is made with the mode of the socket, so that nobody else connects even for a moment.
            let _ = fchmod(&socket, Mode::from_raw_mode(MODE));
            socket.bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
            let listener = socket.listen(BACKLOG)?;
            let file = identity(path)?;
            Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            })
        }

        /// Where it is.
        #[must_use]
        pub fn path(&self) -> &Path {
            &self.path
        }
    }

    impl Drop for LocalListener {
        fn drop(&mut self) {
            if identity(&self.path).is_ok_and(|file| file == self.file) {
                // Whatever is in the way, the next learner replaces it.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    impl Listen for LocalListener {
        type Stream = UnixStream;

        async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
            let (stream, _) = UnixListener::accept(&self.listener).await?;
            Ok((stream, Peer::Local))
        }
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let metadata = fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Removes a socket at `path` on which nobody listens.
    async fn remove_stale(path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                let text = "there is something else that is no socket";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) => {}
        }
        // Does not wait: with a full backlog it fails, and with another error than that nobody listens.
        match UnixStream::connect(path).await {
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens there",
            )),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        }
    }
}

#[cfg(not(unix))]
impl LocalListener {
    /// Fails.
    ///
    /// # Errors
    /// Always.
    pub async fn bind(_path: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match *self {}
    }
}

#[cfg(not(unix))]
impl Listen for LocalListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        match *self {}
    }
}

#[cfg(all(test, unix))]
#[path = "local_tests.rs"]
mod tests;
