//! Accepted connections, bounded: at most so many at a time, and each has to say something soon. Where they come from
//! is lent, so that the network can be a simulated one.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use springbok_common::config::LimitsConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Waits after a failed accept: out of file descriptors, for example, it would fail again at once.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Connections beyond one per actor: reconnects, health checks, status.
const CONNECTIONS_SPARE: usize = 64;

/// Where connections come from.
pub trait Listen: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection and tells who called.
    ///
    /// # Errors
    /// What the operating system says; another attempt may succeed.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Acknowledgements are small and wanted at once; without the option they are only later.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// A connection that gives its place back when it is dropped.
pub(super) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    /// Until the first byte arrives.
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections until `stop` is cancelled.
pub(super) fn accept<L: Listen>(
    listener: L,
    limits: &LimitsConfig,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection<L::Stream>>> {
    let (connections, incoming) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(limits.actors_max + CONNECTIONS_SPARE));
    let patience = Duration::from_secs(limits.first_message_s_max);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = accept_all(&listener, places, patience, &connections) => {}
        }
    });
    ReceiverStream::new(incoming)
}

async fn accept_all<L: Listen>(
    listener: &L,
    places: Arc<Semaphore>,
    patience: Duration,
    connections: &mpsc::Sender<io::Result<Connection<L::Stream>>>,
) {
    let mut backoff = ACCEPT_BACKOFF.0;
    loop {
        // The place first: the connections beyond the limit wait in the listener's backlog.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
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
        tracing::debug!(%peer, "connection accepted");
        let connection = Connection {
            stream,
            peer,
            deadline: Some(Box::pin(sleep(patience))),
            _place: place,
        };
        if connections.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: None,
            remote_addr: Some(self.peer),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.deadline = None;
        } else if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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
