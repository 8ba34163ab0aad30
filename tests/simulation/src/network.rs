//! The simulated network where the real parts expect sockets.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rand::RngExt;
use rand_pcg::Pcg64;
use springbok_actor::world::Dial;
use springbok_learner::service::{Listen, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::truth::Shared;

/// Where the learner listens.
pub(crate) const PORT: u16 = 5555;

/// The learner's ear.
pub(crate) struct Ear(pub(crate) TcpListener);

impl Listen for Ear {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        Ok((stream, address.into()))
    }
}

/// Connects an actor; `wrap` lies between it and the connection.
pub(crate) fn dial_through<S, W>(wrap: W) -> Dial
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    W: Fn(TcpStream) -> S + Send + Sync + 'static,
{
    let wrap = Arc::new(wrap);
    Arc::new(move |endpoint| {
        let wrap = Arc::clone(&wrap);
        let connector = tower::service_fn(move |_| {
            let wrap = Arc::clone(&wrap);
            async move {
                let stream = TcpStream::connect(("learner", PORT)).await?;
                Ok::<_, io::Error>(TokioIo::new(wrap(stream)))
            }
        });
        Box::pin(async move { endpoint.connect_with_connector(connector).await })
    })
}

/// Connects an actor; snapshots that come down may be damaged.
pub(crate) fn dial(shared: &Shared, draw: Pcg64) -> Dial {
    let (shared, draw) = (shared.clone(), std::sync::Mutex::new(draw));
    dial_through(move |stream| {
        let seed = draw.lock().map_or(0, |mut draw| draw.random());
        Damaging {
            stream,
            draw: rand::SeedableRng::seed_from_u64(seed),
            shared: shared.clone(),
        }
    })
}

/// A connection on which parameters may be damaged.
struct Damaging {
    stream: TcpStream,
    draw: Pcg64,
    shared: Shared,
}

/// As many bytes that repeat every four are parameters: nothing else that comes down looks like that.
const RUN_BYTES: usize = 64;

impl Damaging {
    fn damage(&mut self, bytes: &mut [u8]) {
        let per_mille = self.shared.damaged_per_mille();
        if per_mille == 0 {
            return;
        }
        // Large parameters are damaged as often as small ones, not more often.
        let parts = (self.shared.task.payload_bytes() / 512).max(1) as u32;
        let mut run = 0;
        for at in 4..bytes.len() {
            run = if bytes[at] == bytes[at - 4] {
                run + 1
            } else {
                0
            };
            if run == RUN_BYTES {
                if self.draw.random_ratio(per_mille, 1000 * parts) {
                    bytes[at] ^= 1 << self.draw.random_range(0..8);
                    self.shared.event("a snapshot is damaged on the way");
                }
                run = 0;
            }
        }
    }
}

impl AsyncRead for Damaging {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.damage(&mut buffer.filled_mut()[before..]);
        read
    }
}

impl AsyncWrite for Damaging {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
