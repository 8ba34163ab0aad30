//! The tokens of a seed, in files as the real parts read them, and how they change.
//!
//! Without TLS: its handshake draws from the operating system's chance, and no seed would decide what happens.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use springbok_actor::Security as ActorSecurity;
use springbok_common::{
    config::{Config, SecurityConfig},
    credentials::CredentialsError,
};
use springbok_learner::Security as LearnerSecurity;

use crate::plan::Rotation;

/// The learner looks at its file so often. Not a multiple of a tick, so that it does not meet what arrives at one.
const REFRESH_MS: u64 = 997;

/// So long after its end a token is not taken any more.
const REVOKED_AFTER: Duration = Duration::from_secs(2);

/// Who reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Learner,
    Actors,
    Stranger,
}

/// The files; they are gone with it.
#[derive(Debug)]
pub(crate) struct Keys {
    directory: PathBuf,
    seed: u64,
    /// The number of the token that actors show.
    shown: u64,
    /// That of the token which was revoked last, and when.
    revoked: Option<(u64, Duration)>,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> io::Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("springbok-simulation-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let keys = Self {
            directory,
            seed,
            shown: 1,
            revoked: None,
        };
        keys.write(Reader::Learner, &[1])?;
        keys.write(Reader::Actors, &[1])?;
        keys.write(Reader::Stranger, &[0])?;
        Ok(keys)
    }

    /// Takes a step; a revoked token may be `kept` by mistake.
    pub(crate) fn rotate(&mut self, step: Rotation, now: Duration, kept: bool) -> io::Result<()> {
        let next = self.shown + 1;
        match step {
            Rotation::Accept => self.write(Reader::Learner, &[self.shown, next]),
            Rotation::Show => {
                self.shown = next;
                self.write(Reader::Actors, &[next])
            }
            Rotation::Revoke => {
                let old = self.shown - 1;
                self.revoked = Some((old, now));
                let both = [self.shown, old];
                self.write(Reader::Learner, if kept { &both } else { &both[..1] })
            }
        }
    }

    /// Gives the stranger the token that was revoked last, if that is long enough ago; otherwise one that never was.
    pub(crate) fn tempt(&self, now: Duration) -> io::Result<()> {
        let old = self
            .revoked
            .filter(|(_, at)| *at + REVOKED_AFTER <= now)
            .map_or(0, |(number, _)| number);
        self.write(Reader::Stranger, &[old])
    }

    /// How the learner guards its port.
    pub(crate) fn of_learner(&self) -> Result<LearnerSecurity, CredentialsError> {
        let mut config = Config::default();
        config.security = self.config(Reader::Learner);
        LearnerSecurity::load(&config, None)
    }

    /// What an actor shows, or a stranger.
    pub(crate) fn of(&self, reader: Reader) -> Result<ActorSecurity, CredentialsError> {
        ActorSecurity::load(&self.config(reader), None)
    }

    fn config(&self, reader: Reader) -> SecurityConfig {
        SecurityConfig {
            insecure: true,
            token_file: Some(self.path(reader)),
            refresh_ms: REFRESH_MS,
            ..SecurityConfig::default()
        }
    }

    fn path(&self, reader: Reader) -> PathBuf {
        self.directory.join(match reader {
            Reader::Learner => "learner",
            Reader::Actors => "actors",
            Reader::Stranger => "stranger",
        })
    }

    fn write(&self, reader: Reader, numbers: &[u64]) -> io::Result<()> {
        let tokens = numbers
            .iter()
            .map(|number| format!("{:032x}{number:032x}\n", self.seed));
        let path = self.path(reader);
        fs::write(&path, tokens.collect::<String>())?;
        keep_to_oneself(&path)
    }
}

#[cfg(unix)]
fn keep_to_oneself(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn keep_to_oneself(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What is left in the directory for temporary files does no harm.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
