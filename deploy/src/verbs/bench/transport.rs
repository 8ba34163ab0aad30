//! Unrolls on their way to a learner that trains on nothing: the real client, session, service and queue beside a bare
//! stream of the same messages; and that stream beside a socket.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use springbok_common::{
    unroll::Unroll,
    wire::{encode_unroll, message_bytes},
};
use springbok_learner::service::{
    FRAME_BYTES,
    bare::{BareLimits, BareServer, BareStream},
};
use tokio::runtime::Runtime;

use super::{
    null_learner::{NullLearner, Way},
    scripted::{Habits, world},
    stage::{Cases, MIB, Note, Stage},
    subject::Subject,
};
use crate::{exit::Failure, verbs::runtime};

/// Unrolls on their way at a time where the configuration does not say how many.
const AHEAD: usize = 8;
/// Rows of an unroll of a given size.
const ROWS: usize = 16;
/// Sizes of messages, in KiB.
const SIZES_KIB: [usize; 3] = [16, 256, 4096];
/// Sizes of HTTP/2's frames, in KiB.
const FRAMES_KIB: [u32; 4] = [16, 64, 256, 1024];
/// The size of the messages that frames are tried with, in KiB.
const FRAMED_KIB: usize = 1024;
/// What a socket is read with at a time.
const READ_BYTES: usize = 256 * 1024;

/// Messages of the configured environment, of several sizes, and in frames of several sizes.
pub(super) fn cases(subject: &Subject) -> Cases {
    let own = subject.unrolls(1)?.remove(0);
    let configured = subject.config.actor.outbox_unrolls;
    let mut cases: Vec<Box<dyn Stage>> = Vec::new();
    for (ahead, way) in [
        (configured, Way::Tcp),
        (AHEAD, Way::Tcp),
        (AHEAD, Way::Unix),
    ] {
        if way == Way::Tcp || cfg!(unix) {
            cases.push(Box::new(Sent::new(subject, own.clone(), ahead, way)?));
        }
    }
    let is_quick = subject.pace.is_quick;
    let sizes = SIZES_KIB.into_iter().skip(usize::from(is_quick));
    for kib in sizes.take(if is_quick { 1 } else { SIZES_KIB.len() }) {
        let sized = subject.of_bytes(kib * 1024 / ROWS, ROWS)?;
        let unroll = sized.unrolls(1)?.remove(0);
        cases.push(Box::new(Sent::new(&sized, unroll, AHEAD, Way::Tcp)?));
    }
    let sized = subject.of_bytes(FRAMED_KIB * 1024 / ROWS, ROWS)?;
    let unroll = sized.unrolls(1)?.remove(0);
    let frames = FRAMES_KIB.into_iter().skip(usize::from(is_quick));
    for kib in frames.take(if is_quick { 1 } else { FRAMES_KIB.len() }) {
        cases.push(Box::new(Framed::new(subject, &unroll, kib)?));
    }
    Ok(cases)
}

/// Size of a message, as people say it.
fn size(bytes: usize) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{kib:.0} KiB"),
        kib => format!("{:.1} MiB", kib / 1024.0),
    }
}

/// A bare stream and its server.
struct Bare {
    runtime: Runtime,
    stream: BareStream,
    _server: BareServer,
}

impl Bare {
    fn new(
        subject: &Subject,
        unroll: &Unroll,
        ahead: usize,
        frame_bytes: u32,
    ) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let limits = BareLimits {
            frame_bytes,
            window_bytes: u32::try_from(subject.config.limits.window_bytes).unwrap_or(u32::MAX),
            message_bytes_max: subject.config.limits.message_bytes_max,
        };
        let (server, stream) = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.map_err(Failure::internal)?;
            let address = listener.local_addr().map_err(Failure::internal)?;
            let server = BareServer::on(listener, limits);
            let opened = BareStream::open(format!("http://{address}"), unroll, ahead, limits);
            Ok::<_, Failure>((server, opened.await.map_err(Failure::internal)?))
        })?;
        Ok(Self {
            runtime,
            stream,
            _server: server,
        })
    }

    /// Messages each second.
    fn rate(&mut self, slice: Duration) -> Result<f64, Failure> {
        let pumped = self.runtime.block_on(self.stream.pump(slice));
        pumped.map_err(Failure::internal)
    }
}

/// Unrolls of one actor.
struct Sent {
    learner: NullLearner,
    bare: Bare,
    bytes: usize,
    ahead: usize,
    way: Way,
    last: f64,
}

impl Sent {
    fn new(subject: &Subject, unroll: Unroll, ahead: usize, way: Way) -> Result<Self, Failure> {
        let learner = NullLearner::start(subject, ahead, way)?;
        learner.invite(world(&subject.agreement, &unroll, &Habits::default()));
        Ok(Self {
            learner,
            bare: Bare::new(subject, &unroll, ahead, FRAME_BYTES)?,
            bytes: message_bytes(&encode_unroll(&unroll)).len(),
            ahead,
            way,
            last: f64::NAN,
        })
    }
}

impl Stage for Sent {
    fn case(&self) -> String {
        let way = match self.way {
            Way::Tcp => "TCP",
            Way::Unix => "Unix socket",
        };
        format!("{}, {} ahead, {way}", size(self.bytes), self.ahead)
    }

    fn unit(&self) -> &'static str {
        "MiB/s"
    }

    fn against(&self) -> &'static str {
        "a bare tonic stream of the same messages over TCP"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        self.last = self.learner.rate(slice)?;
        Ok(self.last * self.bytes as f64 / MIB)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        Ok(self.bare.rate(slice)? * self.bytes as f64 / MIB)
    }

    fn notes(&self) -> Vec<Note> {
        vec![("unrolls each second".to_owned(), self.last)]
    }
}

/// The bare stream itself, in frames of one size.
struct Framed {
    bare: Bare,
    message: Arc<[u8]>,
    frame_kib: u32,
}

impl Framed {
    fn new(subject: &Subject, unroll: &Unroll, frame_kib: u32) -> Result<Self, Failure> {
        Ok(Self {
            bare: Bare::new(subject, unroll, AHEAD, frame_kib * 1024)?,
            message: message_bytes(&encode_unroll(unroll)).to_vec().into(),
            frame_kib,
        })
    }
}

impl Stage for Framed {
    fn case(&self) -> String {
        let frame = size(self.frame_kib as usize * 1024);
        format!("bare, {} in frames of {frame}", size(self.message.len()))
    }

    fn unit(&self) -> &'static str {
        "MiB/s"
    }

    fn against(&self) -> &'static str {
        "a loopback socket"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        Ok(self.bare.rate(slice)? * self.message.len() as f64 / MIB)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        socket(&self.message, slice).map_err(Failure::internal)
    }
}

/// MiB each second of `message` through a socket of this machine, again and again for about `slice`.
pub(super) fn socket(message: &Arc<[u8]>, slice: Duration) -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut writer = TcpStream::connect(listener.local_addr()?)?;
    writer.set_nodelay(true)?;
    let (mut reader, _) = listener.accept()?;
    let message = Arc::clone(message);
    let writing = thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed() < slice && writer.write_all(&message).is_ok() {}
        let _ = writer.shutdown(Shutdown::Write);
    });
    let (begun, mut read, mut buffer) = (Instant::now(), 0, vec![0; READ_BYTES]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            bytes => read += bytes,
        }
    }
    let elapsed = begun.elapsed();
    let _ = writing.join();
    Ok(read as f64 / MIB / elapsed.as_secs_f64())
}
