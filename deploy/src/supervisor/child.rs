//! One child process: how it is started, asked to leave, and killed; and what its end means.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use springbok_learner::checkpoint;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    sync::watch,
};

use super::{Phase, socket::PrivateSocket};
use crate::{
    exit::{Exit, Failure},
    run_directory::RunDirectory,
};

/// This program, as the launcher starts it again for each child.
pub(super) struct Program {
    executable: PathBuf,
    directory: Arc<RunDirectory>,
    /// Where the learner listens for its actors besides.
    socket: Option<PrivateSocket>,
    /// What the launcher did, and when: each child's process id is in it.
    pub(super) log: LauncherLog,
}

impl Program {
    pub(super) fn new(directory: Arc<RunDirectory>, private_socket: bool) -> Result<Self, Failure> {
        let executable = std::env::current_exe().map_err(|error| {
            Failure::internal(format!("cannot find this program's own file: {error}"))
        })?;
        let log = LauncherLog::open(&directory.log("launcher"))?;
        let socket = private_socket.then(PrivateSocket::make).transpose();
        let socket = socket.unwrap_or_else(|error| {
            log.line(&format!("no Unix socket, so actors use TCP: {error}"));
            None
        });
        Ok(Self {
            executable,
            directory,
            socket,
            log,
        })
    }

    /// The learner; one that is to `resume` goes on with what is in the run directory, and one that takes the place of
    /// another listens where that did.
    pub(super) fn learner(
        &self,
        resume: bool,
        listen: Option<&str>,
        http: Option<&str>,
    ) -> Result<Child, Failure> {
        let mut command = self.command("learner");
        command
            .arg("--run-directory")
            .arg(&self.directory.path)
            .stdout(Stdio::piped());
        if resume {
            command.arg("--resume").arg(&self.directory.path);
        }
        if let Some(address) = listen {
            command.args(["--listen", address]);
        }
        if let Some(socket) = &self.socket {
            let path = socket.path().display();
            command.args(["--set", &format!("learner.listen_unix={path}")]);
        }
        if let Some(address) = http {
            command.args(["--http", address]);
        }
        self.start("learner", command)
    }

    pub(super) fn actor(&self, index: usize, learner: &str) -> Result<Child, Failure> {
        let mut command = self.command("actor");
        command
            .args(["--learner", learner])
            .args(["--index", &index.to_string()])
            .stdout(Stdio::null());
        // Actors are many and their matrices small: one thread each, unless the user knows better.
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", "1");
        }
        self.start(&format!("actor-{index}"), command)
    }

    /// Whether a learner left anything to go on from.
    pub(super) fn has_checkpoint(&self) -> bool {
        checkpoint::exists(&self.directory.path)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args([verb, "--supervised", "--config"])
            .arg(self.directory.config())
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        // These are in the effective configuration already; a child that read them again would let them win over
        // the flags of the command line.
        for (name, _) in std::env::vars_os() {
            if is_configuration(&name) {
                command.env_remove(name);
            }
        }
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    fn start(&self, name: &str, mut command: Command) -> Result<Child, Failure> {
        let log = self.directory.log(name);
        let stderr = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| Failure::files(format!("cannot write {}: {error}", log.display())))?;
        let mut process = command
            .stderr(stderr)
            .spawn()
            .map_err(|error| Failure::internal(format!("cannot start {name}: {error}")))?;
        let pid = process.id().unwrap_or_default();
        self.log.line(&format!("started {name} pid {pid}"));
        Ok(Child {
            stdin: process.stdin.take(),
            process,
            log,
        })
    }
}

fn is_configuration(name: &OsString) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with("SPRINGBOK__"))
}

/// A process that the launcher started.
pub(super) struct Child {
    process: Process,
    /// Closed to ask for a drain.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Child {
    /// The pipe from the child's stdout, the first time it is asked for.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Waits until the child has ended. Asks it to leave as soon as the run's phase is `leave_at`, and kills it
    /// when time is up or nobody directs the run any more.
    ///
    /// # Errors
    /// If the operating system lost track of the child.
    pub(super) async fn ended(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
        leave_at: Phase,
    ) -> Result<Ended, Failure> {
        let lost = |error| Failure::internal(format!("cannot wait for a child process: {error}"));
        loop {
            let now = *phase.borrow_and_update();
            if now >= leave_at {
                self.stdin = None;
            }
            if now == Phase::Killing {
                break;
            }
            tokio::select! {
                status = self.process.wait() => {
                    return Ok(Ended { status: status.map_err(lost)?, log: self.log.clone() });
                }
                changed = phase.changed() => if changed.is_err() { break },
            }
        }
        // An error here means that it has ended by itself.
        let _ = self.process.start_kill();
        let status = self.process.wait().await.map_err(lost)?;
        Ok(Ended {
            status,
            log: self.log.clone(),
        })
    }
}

/// The exit code that Rust's runtime gives a process whose main thread panicked.
const EXIT_OF_A_PANIC: i32 = 101;

/// How a child ended.
pub(super) struct Ended {
    /// Exit code or signal.
    pub(super) status: ExitStatus,
    log: PathBuf,
}

impl Ended {
    /// Whether it was killed or crashed, rather than having ended with an exit code of its own.
    pub(super) fn by_accident(&self) -> bool {
        self.status
            .code()
            .is_none_or(|code| code == EXIT_OF_A_PANIC)
    }

    /// Status and last words, for people.
    pub(super) fn reason(&self) -> String {
        match last_line(&self.log) {
            Some(line) => format!("{}: {line}", self.status),
            None => self.status.to_string(),
        }
    }

    /// The failure that this end of `who` means: its own exit code and sentence; exit 70 for a signal.
    pub(super) fn failure(&self, who: &str) -> Failure {
        let code = self.status.code().and_then(|code| u8::try_from(code).ok());
        let exit = code.map_or(Exit::Internal, Exit::Passed);
        Failure::new(
            exit,
            format!(
                "{who} failed ({}); see {}",
                self.reason(),
                self.log.display()
            ),
        )
    }
}

/// The last line of a log that is not blank, without this program's name in front.
fn last_line(log: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 16 * 1024;
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let line = line.trim();
    Some(line.strip_prefix("springbok: ").unwrap_or(line).to_owned())
}

/// `logs/launcher.log`.
pub(super) struct LauncherLog(Mutex<File>);

impl LauncherLog {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = fs::File::create(path)
            .map_err(|error| Failure::files(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Adds a line with the time. A full disk does not stop the run: the log is a convenience.
    pub(super) fn line(&self, text: &str) {
        let now = OffsetDateTime::now_utc();
        let now = now.format(&Rfc3339).unwrap_or_default();
        let mut file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let _: io::Result<()> = writeln!(file, "{now} {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_found_behind_blank_ones() {
        let log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_line(log.path()), None);
        fs::write(log.path(), "first\nspringbok: the reason\n\n").unwrap();
        assert_eq!(last_line(log.path()).as_deref(), Some("the reason"));
    }

    #[test]
    fn only_configuration_variables_are_kept_from_children() {
        assert!(is_configuration(&"SPRINGBOK__RUN__SEED".into()));
        assert!(!is_configuration(&"SPRINGBOK_LOG".into()));
        assert!(!is_configuration(&"PATH".into()));
    }
}
