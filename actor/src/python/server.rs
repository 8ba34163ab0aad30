//! One server process: how it is started, asked and ended.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal, kill_process, kill_process_group},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use springbok_common::spec::EnvironmentSpec;

use super::{PythonSettings, complaint::Complaint, shared::Shared, stderr::Keeper};

/// Bytes of one message in either direction; those of steps are single bytes.
const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long an environment that is no longer needed may take to close its files and windows.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the traceback of a process that hangs may take.
const TRACEBACK_WAIT_MAX: Duration = Duration::from_secs(2);

/// The program that an interpreter starts with.
const BOOTSTRAP: &str = include_str!("server/bootstrap.py");
/// The modules that it is then sent, in the order of their imports.
const SOURCES: [(&str, &str); 7] = [
    ("springbok_channel", include_str!("server/channel.py")),
    ("springbok_spaces", include_str!("server/spaces.py")),
    ("springbok_singles", include_str!("server/singles.py")),
    ("springbok_vectors", include_str!("server/vectors.py")),
    ("springbok_factory", include_str!("server/factory.py")),
    ("springbok_atari", include_str!("server/atari.py")),
    ("springbok_serve", include_str!("server/serve.py")),
];

/// What a server is to make.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    id: &'a str,
    options: &'a toml::Table,
    /// One for each environment, below 2^31: some environments take no larger ones.
    seeds: Vec<u32>,
    render: bool,
    modules: Option<&'a std::path::Path>,
    /// Process id of the actor, without which the server has no purpose.
    actor: u32,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        id: &'a str,
        options: &'a toml::Table,
        seeds: Vec<u32>,
        settings: &'a PythonSettings,
    ) -> Self {
        Self {
            id,
            options,
            seeds,
            render: settings.render,
            modules: settings.modules.as_deref(),
            actor: std::process::id(),
        }
    }
}

/// What a server has made.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) spec: EnvironmentSpec,
    /// `same_step`, `next_step` or `disabled`: how the environments behind it reset.
    pub(super) autoreset: String,
    /// What steps the environments.
    pub(super) back_end: String,
    /// Names and versions of what it uses.
    pub(super) versions: std::collections::BTreeMap<String, String>,
    /// Bytes of a picture; 0 if there are none.
    pub(super) frame_bytes: usize,
}

#[derive(Deserialize)]
struct Reply<T> {
    ok: Option<T>,
    error: Option<Complaint>,
}

/// A server process. Dropping it ends the process and all that it started.
pub(super) struct Server {
    socket: UnixStream,
    child: Child,
    keeper: Keeper,
    interpreter: String,
    /// The limit that the socket has now, and the key that sets it.
    deadline: (Duration, &'static str),
    ended: bool,
}

impl Server {
    /// Starts an interpreter and lets it make what `request` says.
    pub(super) fn start(
        settings: &PythonSettings,
        request: &Request<'_>,
    ) -> Result<(Self, Answer), Complaint> {
        let program = settings.program();
        let interpreter = program.display().to_string();
        let (socket, theirs) =
            UnixStream::pair().map_err(|error| Complaint::new(format!("no socket: {error}")))?;
        let mut command = Command::new(&program);
        command
            .args(["-u", "-c", BOOTSTRAP, "springbok-environments", request.id])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Its own group: interrupts of the terminal are the actor's business, and its children die with it.
            .process_group(0);
        // Actors are many: one thread each, unless the user knows better.
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", "1");
        }
        let (child, keeper) = Keeper::start(command)
            .map_err(|error| Complaint::no_interpreter(&interpreter, &error))?;
        let mut server = Self {
            socket,
            child,
            keeper,
            interpreter,
            deadline: (settings.start_deadline_max, "start_deadline_s_max"),
            ended: false,
        };
        let answer = server.introduce(request);
        let answer = server.judged("making the environment", answer)?;
        Ok((server, answer))
    }

    fn introduce(&mut self, request: &Request<'_>) -> Result<Answer, Trouble> {
        self.set_deadline(self.deadline)?;
        self.write_frame(&SOURCES)?;
        self.write_frame(request)?;
        self.read_reply()
    }

    /// Passes the shared file and waits until the first observations are in it; from now on steps have their own limit.
    pub(super) fn share(
        &mut self,
        shared: &Shared,
        settings: &PythonSettings,
    ) -> Result<(), Complaint> {
        let begun = self.pass(shared).and_then(|()| self.expect_done());
        self.judged("the first observation", begun)?;
        let limit = (settings.step_deadline_max, "step_deadline_s_max");
        let set = self.set_deadline(limit).map_err(Trouble::from);
        self.judged("a step", set)
    }

    fn pass(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let descriptors = [shared.file().as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let byte = [IoSlice::new(b"f")];
        sendmsg(&self.socket, &byte, &mut ancillary, SendFlags::empty())
            .map_err(io::Error::from)?;
        self.write_frame(shared.layout())
    }

    /// Lets all environments take one step with the actions in the shared file.
    pub(super) fn step(&mut self) -> Result<(), Complaint> {
        let done = self.command(b"s");
        self.judged("a step", done)
    }

    /// Draws environment `index` into the shared file: height and width, unless it cannot be watched.
    pub(super) fn render(&mut self, index: u32) -> Result<Option<[usize; 2]>, Complaint> {
        let mut order = [b'r', 0, 0, 0, 0];
        order[1..].copy_from_slice(&index.to_le_bytes());
        let drawn = self.command(&order).and_then(|()| self.read_frame());
        self.judged("drawing", drawn)
    }

    /// Steps the environments for `seconds` with the action rows of `table` `[batches, K, A]`, without the actor.
    pub(super) fn bare(&mut self, order: &impl Serialize) -> Result<(u64, f64), Complaint> {
        #[derive(Deserialize)]
        struct Count {
            steps: u64,
            seconds: f64,
        }
        let counted = (|| {
            self.socket.write_all(b"b")?;
            self.write_frame(order)?;
            self.expect_done()?;
            self.read_frame::<Count>()
        })();
        let counted = self.judged("the bare loop", counted)?;
        Ok((counted.steps, counted.seconds))
    }

    fn command(&mut self, order: &[u8]) -> Result<(), Trouble> {
        self.socket.write_all(order)?;
        self.expect_done()
    }

    fn expect_done(&mut self) -> Result<(), Trouble> {
        let mut byte = [0];
        self.socket.read_exact(&mut byte)?;
        match byte[0] {
            b'k' => Ok(()),
            b'e' => self.read_reply::<()>(),
            other => Err(Trouble::Told(Complaint::new(format!(
                "the server answered with the byte {other}, which means nothing"
            )))),
        }
    }

    fn read_reply<T: DeserializeOwned>(&mut self) -> Result<T, Trouble> {
        read_reply(&mut self.socket)
    }

    fn read_frame<T: DeserializeOwned>(&mut self) -> Result<T, Trouble> {
        read_frame(&mut self.socket)
    }

    fn write_frame(&mut self, value: &impl Serialize) -> Result<(), Trouble> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::from)?;
        let length = u32::try_from(bytes.len())
            .ok()
            .filter(|length| *length as usize <= FRAME_BYTES_MAX)
            .ok_or_else(|| {
                Trouble::Told(Complaint::new(format!(
                    "a message to the server has {} bytes, more than {FRAME_BYTES_MAX}",
                    bytes.len()
                )))
            })?;
        self.socket.write_all(&length.to_le_bytes())?;
        self.socket.write_all(&bytes)?;
        Ok(())
    }

    fn set_deadline(&mut self, deadline: (Duration, &'static str)) -> io::Result<()> {
        self.deadline = deadline;
        self.socket.set_read_timeout(Some(deadline.0))?;
        self.socket.set_write_timeout(Some(deadline.0))
    }

    /// `result` of `what`; trouble ends the process and becomes a complaint with its last words.
    fn judged<T>(&mut self, what: &str, result: Result<T, Trouble>) -> Result<T, Complaint> {
        let trouble = match result {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        let complaint = match trouble {
            Trouble::Told(complaint) => {
                self.end();
                complaint
            }
            Trouble::Io(error) if is_late(&error) => {
                // The interpreter answers this signal with a traceback of all threads.
                let _ = kill_process(Pid::from_child(&self.child), Signal::ABORT);
                self.keeper.wait_silent(TRACEBACK_WAIT_MAX);
                self.end();
                let (limit, key) = self.deadline;
                Complaint::late(what, limit, key).with_last_words(&self.keeper.last_words())
            }
            Trouble::Io(error) => {
                // A process that is crashing has a traceback to write.
                self.keeper.wait_silent(TRACEBACK_WAIT_MAX);
                self.end();
                let status = self.child.wait().map_or_else(
                    |_| format!("its socket broke ({error})"),
                    |status| format!("its process ended ({status})"),
                );
                Complaint::new(format!("{status} during {what}"))
                    .with_last_words(&self.keeper.last_words())
            }
        };
        Err(complaint.in_interpreter(&self.interpreter))
    }

    /// Ends the process and all that it started, now.
    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        // The child is not yet waited for, so its id is still its own. Failing means that it is gone.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Process id, for tests.
    pub(super) fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            // The end of its input asks it to close its environments.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
            self.keeper.wait_silent(CLOSE_WAIT_MAX);
            self.end();
        }
    }
}

fn read_reply<T: DeserializeOwned>(from: &mut impl io::Read) -> Result<T, Trouble> {
    let reply: Reply<T> = read_frame(from)?;
    match (reply.ok, reply.error) {
        (Some(value), _) => Ok(value),
        (None, Some(complaint)) => Err(Trouble::Told(complaint)),
        (None, None) => Err(Trouble::Told(Complaint::new("the server answered nothing"))),
    }
}

fn read_frame<T: DeserializeOwned>(from: &mut impl io::Read) -> Result<T, Trouble> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        let message =
            format!("the server's message has {length} bytes, more than {FRAME_BYTES_MAX}");
        return Err(Trouble::Told(Complaint::new(message)));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Trouble::Told(Complaint::new(format!(
            "the server's message cannot be understood: {error}"
        )))
    })
}

/// The answer that `bytes` are, as [`Server::start`] reads it from the socket.
pub(super) fn answer(mut bytes: &[u8]) -> Result<Answer, Complaint> {
    read_reply(&mut bytes).map_err(|trouble| match trouble {
        Trouble::Told(complaint) => complaint,
        Trouble::Io(error) => Complaint::new(error.to_string()),
    })
}

/// What kept an exchange with the server from ending well.
enum Trouble {
    /// The server says so, or its answer is none.
    Told(Complaint),
    /// The socket did not answer, or not in time.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
