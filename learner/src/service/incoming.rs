//! Accepted connections, bounded: at most so many at a time, and each has to say something soon. Where they come from
//! is lent, so that the network can be a simulated one.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{
    certificates::Entrance,
    places::{Conduct, Patience, Place, Places},
};
use crate::network::NetworkBytes;

/// Waits after a failed accept: out of file descriptors, for example, it would fail again at once.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process with this address.
    Address(SocketAddr),
    /// A process of this machine, over a socket in the file system. All of them count as one peer.
    Local,
}

impl Peer {
    /// The address, without the port; none where the transport has no addresses.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::Local => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Local => formatter.write_str("a process of this machine"),
        }
    }
}

/// Where connections come from.
pub trait Listen: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection and tells who called.
    ///
    /// # Errors
    /// What the operating system says; another attempt may succeed.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Acknowledgements are small and wanted at once; without the option they are only later.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.into()))
    }
}

/// What is known of who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct PeerInfo {
    pub(super) peer: Peer,
    pub(super) conduct: Arc<Conduct>,
}

/// A connection that gives its place back when it is dropped, and ends when its time is over.
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    has_spoken: bool,
    patience: Patience,
    traffic: NetworkBytes,
    /// When its conduct is to be looked at.
    look: Pin<Box<Sleep>>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
    /// Keeps the server alive that it is in.
    _server: Option<Entrance<S>>,
}

impl<S> Connection<S> {
    pub(super) fn new(
        stream: S,
        peer: Peer,
        place: Place,
        patience: Patience,
        traffic: NetworkBytes,
    ) -> Self {
        Self {
            stream,
            peer,
            has_spoken: false,
            patience,
            traffic,
            look: Box::pin(sleep(Duration::ZERO)),
            evicted: Box::pin(place.conduct.evicted().clone().cancelled_owned()),
            place,
            _server: None,
        }
    }

    /// The same on its way into a server.
    pub(super) fn entering(self, server: Entrance<S>) -> Self {
        Self {
            _server: Some(server),
            ..self
        }
    }

    fn count_sent(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.sent(*bytes);
        }
    }

    /// Whether the connection has to end now.
    fn poll_over(&mut self, context: &mut Context<'_>) -> bool {
        if self.evicted.as_mut().poll(context).is_ready() {
            return true;
        }
        while self.look.as_mut().poll(context).is_ready() {
            let (conduct, now) = (&self.place.conduct, Instant::now());
            match conduct.next_look(now, self.has_spoken, &self.patience) {
                Some(next) => self.look.as_mut().reset(next),
                None => {
                    tracing::debug!(peer = %self.peer, "a connection without a call was closed");
                    return true;
                }
            }
        }
        false
    }
}

/// Accepts connections until `stop` is cancelled, as many as there are `places`.
pub(super) fn accept<L: Listen>(
    listener: L,
    places: Places,
    patience: Patience,
    traffic: NetworkBytes,
    stop: CancellationToken,
) -> mpsc::Receiver<Connection<L::Stream>> {
    let (connections, incoming) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = accept_all(&listener, places, patience, &traffic, &connections) => {}
        }
    });
    incoming
}

async fn accept_all<L: Listen>(
    listener: &L,
    places: Places,
    patience: Patience,
    traffic: &NetworkBytes,
    connections: &mpsc::Sender<Connection<L::Stream>>,
) {
    let mut backoff = ACCEPT_BACKOFF.0;
    let mut turned_away: u64 = 0;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(backoff).await;
                backoff = (backoff * 2).min(ACCEPT_BACKOFF.1);
                continue;
            }
        };
        backoff = ACCEPT_BACKOFF.0;
        // Nobody waits in the listener's backlog behind those for whom there is no place.
        let Some(place) = places.take(peer.ip()) else {
            turned_away += 1;
            if turned_away.is_power_of_two() {
                tracing::warn!(%peer, turned_away, "no place for a connection (limits.connections_max)");
            }
            continue;
        };
        tracing::debug!(%peer, "connection accepted");
        let connection = Connection::new(stream, peer, place, patience, traffic.clone());
        if connections.send(connection).await.is_err() {
            return;
        }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo {
            peer: self.peer,
            conduct: Arc::clone(&self.place.conduct),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before reading: a peer that never stops sending would never be looked at.
        if self.poll_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = buffer.filled().len() - before;
        if received > 0 {
            self.traffic.received(received);
            self.has_spoken = true;
            self.place.conduct.hear(Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
