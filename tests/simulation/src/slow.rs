//! A connection from which its owner reads as slowly as it likes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use turmoil::net::TcpStream;

/// How an actor reads what its connections bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// So many bytes in a second at most; `None` for as fast as they come.
    pub bytes_per_s: Option<u64>,
    /// For how long nothing is read at all, and how long after the beginning that begins.
    pub pause: Option<(Duration, Duration)>,
}

/// The connection.
pub(crate) struct Slow {
    stream: TcpStream,
    reading: Reading,
    /// When it all began.
    began: Instant,
    /// When the next read may be.
    next: Pin<Box<Sleep>>,
}

impl Slow {
    pub(crate) fn new(stream: TcpStream, reading: Reading, began: Instant) -> Self {
        Self {
            stream,
            reading,
            began,
            next: Box::pin(sleep_until(began)),
        }
    }

    /// After `bytes` were read.
    fn wait_for(&mut self, bytes: usize) {
        let now = Instant::now();
        if let Some(rate) = self.reading.bytes_per_s {
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let next = self.next.deadline().max(now) + cost;
            self.next.as_mut().reset(next);
        }
    }

    /// When a pause that goes on ends.
    fn pause_ends(&self) -> Option<Instant> {
        let (length, after) = self.reading.pause?;
        let (begin, end) = (self.began + after, self.began + after + length);
        (begin..end).contains(&Instant::now()).then_some(end)
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = self.pause_ends() {
            self.next.as_mut().reset(end);
        }
        if self.next.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.wait_for(bytes);
        }
        read
    }
}

impl AsyncWrite for Slow {
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
