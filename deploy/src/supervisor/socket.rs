//! The Unix socket over which the actors of one local run reach their learner, in a directory that only this user can
//! enter.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The place for a socket. It is removed with everything in it.
pub(super) struct PrivateSocket {
    path: PathBuf,
    _directory: TempDir,
}

impl PrivateSocket {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
mod unix {
    use std::{fs, io, os::unix::fs::PermissionsExt as _};

    use springbok_common::config::UNIX_PATH_BYTES_MAX;

    use super::{Path, PathBuf, PrivateSocket};

    /// Where temporary directories are, if the configured place has too long a name.
    const USUAL: &str = "/tmp";

    impl PrivateSocket {
        /// Makes one among the temporary files: a run directory may be on a file system without sockets, or have a path that
        /// no socket can have.
        ///
        /// # Errors
        /// What is in the way at the last place that was tried.
        pub(in crate::supervisor) fn make() -> io::Result<Self> {
            Self::make_in(&std::env::temp_dir()).or_else(|_| Self::make_in(Path::new(USUAL)))
        }

        pub(super) fn make_in(parent: &Path) -> io::Result<Self> {
            let directory = tempfile::Builder::new()
                .prefix("springbok-")
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(parent)?;
            let path: PathBuf = directory.path().join("learner");
            let bytes = path.as_os_str().len();
            if bytes > UNIX_PATH_BYTES_MAX {
                return Err(io::Error::other(format!(
                    "{} has {bytes} bytes, more than {UNIX_PATH_BYTES_MAX}",
                    path.display()
                )));
            }
            // The learner says so in its configuration, which is text.
            if path.to_str().is_none() {
                return Err(io::ErrorKind::InvalidFilename.into());
            }
            // Not every file system takes sockets: tried before anything depends on it.
            drop(std::os::unix::net::UnixListener::bind(&path)?);
            fs::remove_file(&path)?;
            Ok(Self {
                path,
                _directory: directory,
            })
        }
    }
}

#[cfg(not(unix))]
impl PrivateSocket {
    /// Fails.
    ///
    /// # Errors
    /// Always.
    pub(super) fn make() -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Where actors of this machine reach a learner that listens on `address`, and perhaps on the socket at `unix`.
pub(super) fn url_for_actors(scheme: &str, address: &str, unix: Option<&str>) -> String {
    if let Some(path) = unix {
        return format!("unix:{path}");
    }
    let mut address = address.to_owned();
    if let Ok(mut socket) = address.parse::<SocketAddr>() {
        // Listening everywhere is no place to connect to, and in no certificate.
        match socket.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => socket.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => socket.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        address = socket.to_string();
    }
    format!("{scheme}://{address}")
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn actors_take_the_socket_where_there_is_one_and_never_connect_to_everywhere() {
        let url = |address, unix| url_for_actors("https", address, unix);
        assert_eq!(url("127.0.0.1:5", Some("/s")), "unix:/s");
        assert_eq!(url("0.0.0.0:5", None), "https://127.0.0.1:5");
        assert_eq!(url("[::]:5", None), "https://[::1]:5");
        assert_eq!(url("10.0.0.1:5", None), "https://10.0.0.1:5");
    }

    #[test]
    fn nobody_else_can_enter_where_the_socket_is_and_it_goes_with_the_run() {
        let parent = tempfile::tempdir().unwrap();
        let socket = PrivateSocket::make_in(parent.path()).unwrap();
        let directory = socket.path().parent().unwrap().to_owned();
        let mode = fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(!socket.path().exists(), "it is the learner's to make");
        drop(socket);
        assert!(!directory.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_not_tried() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("d".repeat(100));
        fs::create_dir(&long).unwrap();
        assert!(PrivateSocket::make_in(&long).is_err());
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0, "nothing is left");
        assert!(PrivateSocket::make().is_ok());
    }
}
