//! A TCP proxy that does what networks do: delay, break, starve, fall silent.
//!
//! Threads and blocking sockets: what it does to a connection is then plain to see. A pump that has nothing to do looks
//! at the toxic again every few milliseconds.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_linger;

/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Time between two looks at the toxic.
const LOOK: Duration = Duration::from_millis(5);

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toxic {
    /// They are passed on.
    None,
    /// Each chunk waits for so long.
    Latency(Duration),
    /// They are passed on one at a time, each in a packet of its own.
    OneByteWrites,
    /// At most so many in a second, in each direction.
    BytesPerSecond(u64),
    /// They wait, and the end of a connection is not told either: a cable was pulled, and the connection is half open if
    /// the client ends meanwhile.
    Silent,
    /// As [`Toxic::Silent`], but only for what goes to the client.
    SilentDown,
    /// New connections are closed at once.
    Refuse,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    toxic: Mutex<Toxic>,
    accepted: Mutex<Vec<Instant>>,
    /// Pumps of an earlier generation end with a reset.
    generation: AtomicU64,
    over: AtomicBool,
}

/// A running proxy; its connections are reset when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on a free port and passes everything on to `upstream`.
    #[must_use]
    pub fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            toxic: Mutex::new(Toxic::None),
            accepted: Mutex::default(),
            generation: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where actors connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same for those that speak TLS, of which the proxy knows nothing.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Applies `toxic` to all connections.
    pub fn apply(&self, toxic: Toxic) {
        *lock(&self.shared.toxic) = toxic;
    }

    /// Resets all connections.
    pub fn reset(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// When connections were accepted, those that were refused included.
    #[must_use]
    pub fn accepted(&self) -> Vec<Instant> {
        lock(&self.shared.accepted).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.reset();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        lock(&shared.accepted).push(Instant::now());
        if *lock(&shared.toxic) == Toxic::Refuse {
            continue;
        }
        let upstream = *lock(&shared.upstream);
        // Without a server the client sees its connection close, as behind any load balancer.
        let Ok(server) = TcpStream::connect(upstream) else {
            continue;
        };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(LOOK));
        }
        let (client, server) = (Arc::new(client), Arc::new(server));
        let generation = shared.generation.load(Ordering::SeqCst);
        let pumps = [
            (Arc::clone(&client), Arc::clone(&server), false),
            (server, client, true),
        ];
        for (from, to, down) in pumps {
            let pump = Pump {
                shared: Arc::clone(shared),
                generation,
                down,
            };
            thread::spawn(move || pump.run(&from, &to));
        }
    }
}

/// One direction of one connection.
struct Pump {
    shared: Arc<Shared>,
    generation: u64,
    /// From the server to the client.
    down: bool,
}

/// The connection is to be reset.
struct Reset;

impl Pump {
    fn run(&self, from: &TcpStream, to: &TcpStream) {
        if self.pass_all(from, to).is_err() {
            for stream in [from, to] {
                let _ = set_socket_linger(stream, Some(Duration::ZERO));
                // Wakes whoever writes into it; the other pump sees the generation.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    fn toxic(&self) -> Result<Toxic, Reset> {
        if self.shared.generation.load(Ordering::SeqCst) == self.generation {
            Ok(*lock(&self.shared.toxic))
        } else {
            Err(Reset)
        }
    }

    /// Waits while this direction is silent.
    fn wait(&self) -> Result<Toxic, Reset> {
        loop {
            match self.toxic()? {
                Toxic::Silent => {}
                Toxic::SilentDown if self.down => {}
                toxic => return Ok(toxic),
            }
            thread::park_timeout(LOOK);
        }
    }

    fn pass_all(&self, from: &TcpStream, to: &TcpStream) -> Result<(), Reset> {
        let (mut from, mut buffer) = (from, vec![0; CHUNK_BYTES]);
        loop {
            let read = match from.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if is_timeout(error.kind()) => {
                    self.toxic()?;
                    continue;
                }
                Err(_) => 0,
            };
            let toxic = self.wait()?;
            if read == 0 {
                let _ = to.shutdown(std::net::Shutdown::Write);
                return Ok(());
            }
            self.pass(to, &buffer[..read], toxic).map_err(|_| Reset)?;
        }
    }

    fn pass(&self, mut to: &TcpStream, bytes: &[u8], toxic: Toxic) -> std::io::Result<()> {
        match toxic {
            Toxic::OneByteWrites => bytes.chunks(1).try_for_each(|byte| to.write_all(byte)),
            Toxic::BytesPerSecond(rate) => {
                let nanoseconds = 1_000_000_000 * bytes.len() as u64 / rate.max(1);
                thread::sleep(Duration::from_nanos(nanoseconds));
                to.write_all(bytes)
            }
            Toxic::Latency(wait) => {
                thread::sleep(wait);
                to.write_all(bytes)
            }
            _ => to.write_all(bytes),
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
