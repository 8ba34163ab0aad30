//! The ceiling of the transport, for measurements: the same messages over a stream of the same server, which reads them,
//! acknowledges them and does nothing else.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use springbok_common::{
    ids::UnrollSequence,
    reject::Verdict,
    unroll::Unroll,
    wire::{acknowledgement, encode_unroll},
};
use springbok_proto::v1::{
    self, ActReply, ActRequest, ActorMessage, JoinReply, JoinRequest, LearnerMessage,
    ParametersRequest, SnapshotChunk, actor_message, learner_message,
    training_client::TrainingClient,
    training_server::{Training, TrainingServer},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// Acknowledgements that wait for the connection.
const REPLIES_AHEAD: usize = 4;

/// What HTTP/2 is told.
#[derive(Debug, Clone, Copy)]
pub struct BareLimits {
    /// Largest frame.
    pub frame_bytes: u32,
    /// What may be sent ahead of the reading.
    pub window_bytes: u32,
    /// Largest message.
    pub message_bytes_max: usize,
}

/// A server that reads unrolls; it ends when it is dropped.
#[derive(Debug)]
pub struct BareServer {
    task: JoinHandle<()>,
}

impl BareServer {
    /// Serves on `listener`.
    #[must_use]
    pub fn on(listener: TcpListener, limits: BareLimits) -> Self {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Self::serve(incoming, limits)
    }

    /// Serves the connections of `incoming`.
    fn serve(
        incoming: impl Stream<
            Item = std::io::Result<
                impl tokio::io::AsyncRead
                + tokio::io::AsyncWrite
                + tonic::transport::server::Connected
                + Unpin
                + Send
                + 'static,
            >,
        > + Send
        + 'static,
        limits: BareLimits,
    ) -> Self {
        let service = TrainingServer::new(Mute)
            .max_decoding_message_size(limits.message_bytes_max)
            .max_encoding_message_size(limits.message_bytes_max);
        let server = Server::builder()
            .max_frame_size(limits.frame_bytes)
            .initial_stream_window_size(limits.window_bytes)
            .initial_connection_window_size(limits.window_bytes)
            .add_service(service)
            .serve_with_incoming(incoming);
        let task = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::warn!(%error, "the bare server failed");
            }
        });
        Self { task }
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads and acknowledges.
#[derive(Debug, Clone, Copy)]
struct Mute;

#[tonic::async_trait]
impl Training for Mute {
    type StreamTrajectoriesStream = ReceiverStream<Result<LearnerMessage, Status>>;
    type StreamParametersStream = ReceiverStream<Result<SnapshotChunk, Status>>;
    type ActStream = ReceiverStream<Result<ActReply, Status>>;

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Err(Status::unimplemented("only trajectories are read here"))
    }

    async fn stream_trajectories(
        &self,
        request: Request<Streaming<ActorMessage>>,
    ) -> Result<Response<Self::StreamTrajectoriesStream>, Status> {
        let mut inbound = request.into_inner();
        let (replies, stream) = mpsc::channel(REPLIES_AHEAD);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let Some(actor_message::Kind::Unroll(unroll)) = message.kind else {
                    continue;
                };
                let sequence = UnrollSequence(unroll.sequence);
                let kind = acknowledgement(sequence, Verdict::Admitted);
                let kind = Some(learner_message::Kind::Acknowledgement(kind));
                if replies.send(Ok(LearnerMessage { kind })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn act(
        &self,
        _: Request<Streaming<ActRequest>>,
    ) -> Result<Response<Self::ActStream>, Status> {
        Err(Status::unimplemented("only trajectories are read here"))
    }

    async fn stream_parameters(
        &self,
        _: Request<ParametersRequest>,
    ) -> Result<Response<Self::StreamParametersStream>, Status> {
        Err(Status::unimplemented("only trajectories are read here"))
    }
}

/// A stream to a [`BareServer`] with one message that is sent again and again.
#[derive(Debug)]
pub struct BareStream {
    up: mpsc::Sender<ActorMessage>,
    down: Streaming<LearnerMessage>,
    message: v1::Unroll,
    /// Messages that may be on their way.
    ahead: u64,
    sent: u64,
    acknowledged: u64,
}

impl BareStream {
    /// Connects to `url`, to send `unroll` with at most `ahead` messages unacknowledged.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn open(
        url: String,
        unroll: &Unroll,
        ahead: usize,
        limits: BareLimits,
    ) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(url).map_err(said)?.tcp_nodelay(true);
        let channel: Channel = endpoint.connect().await.map_err(said)?;
        let mut client = TrainingClient::new(channel)
            .max_encoding_message_size(limits.message_bytes_max)
            .max_decoding_message_size(limits.message_bytes_max);
        let (up, messages) = mpsc::channel(ahead.max(1));
        let opened = client.stream_trajectories(ReceiverStream::new(messages));
        Ok(Self {
            up,
            down: opened.await.map_err(said)?.into_inner(),
            message: encode_unroll(unroll),
            ahead: ahead.max(1) as u64,
            sent: 0,
            acknowledged: 0,
        })
    }

    /// Sends for about `slice`; gives the messages that were acknowledged each second.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn pump(&mut self, slice: Duration) -> Result<f64, String> {
        let (begun, before) = (Instant::now(), self.acknowledged);
        while begun.elapsed() < slice {
            while self.sent - self.acknowledged < self.ahead {
                self.sent += 1;
                let unroll = v1::Unroll {
                    sequence: self.sent,
                    ..self.message.clone()
                };
                let kind = Some(actor_message::Kind::Unroll(unroll));
                let sent = self.up.send(ActorMessage { kind }).await;
                sent.map_err(|_| "the stream has ended".to_owned())?;
            }
            self.acknowledge().await?;
        }
        let acknowledged = self.acknowledged - before;
        Ok(acknowledged as f64 / begun.elapsed().as_secs_f64())
    }

    async fn acknowledge(&mut self) -> Result<(), String> {
        match self.down.message().await.map_err(said)? {
            Some(_) => {
                self.acknowledged += 1;
                Ok(())
            }
            None => Err("the stream has ended".to_owned()),
        }
    }
}

fn said(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{agreement, unroll};

    #[tokio::test]
    async fn every_message_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let limits = BareLimits {
            frame_bytes: 16 * 1024,
            window_bytes: 65_535,
            message_bytes_max: 1 << 20,
        };
        let server = BareServer::on(listener, limits);
        let unroll = unroll(&agreement(), 1);
        let mut stream = BareStream::open(url, &unroll, 3, limits).await.unwrap();
        let mut rates = 0.0;
        while stream.acknowledged < 10 {
            rates += stream.pump(Duration::from_millis(1)).await.unwrap();
        }
        assert!(rates > 0.0);
        assert!(stream.sent >= 10 && stream.sent <= stream.acknowledged + 3);
        drop(server);
    }
}
