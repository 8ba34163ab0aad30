//! Accepted connections, bounded: at most so many at a time, and each has to say something soon.

use std::{
    io,
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

/// A connection that gives its place back when it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    /// Until the first byte arrives.
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections until `stop` is cancelled.
pub(super) fn accept(
    listener: TcpListener,
    limits: &LimitsConfig,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (connections, incoming) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(limits.actors_max + CONNECTIONS_SPARE));
    let patience = Duration::from_secs(limits.first_message_s_max);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept_all(&listener, places, patience, &connections) => {}
        }
    });
    ReceiverStream::new(incoming)
}

async fn accept_all(
    listener: &TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
    connections: &mpsc::Sender<io::Result<Connection>>,
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
        // Acknowledgements are small and wanted at once; without the option they are only later.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            stream,
            deadline: Some(Box::pin(sleep(patience))),
            _place: place,
        };
        if connections.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
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

impl AsyncWrite for Connection {
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
