//! The promise: what is larger than a window arrives all the same. And what HTTP/2's windows and frames let through: messages of unrolls up, and parameters down, over a Unix socket and over
//! lines of several round trips. A line has no other limit than the time it takes, so what it carries is decided by windows,
//! frames, and this machine.
//!
//! `SPRINGBOK_CAMPAIGN=1` measures and prints a table: each figure is the median of three turns of `SPRINGBOK_TURN_MS`
//! (300), in MB/s. Turns go through all settings before any comes again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use springbok_proto::v1::{
    self, ActReply, ActRequest, ActorMessage, JoinReply, JoinRequest, LearnerMessage,
    ParametersRequest, SnapshotChunk,
    actor_message::Kind,
    training_client::TrainingClient,
    training_server::{Training, TrainingServer},
};
use springbok_tests::farm::campaign;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream, UnixListener,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

type Fault = Box<dyn Error + Send + Sync>;
type Replies<T> = ReceiverStream<Result<T, Status>>;

const MESSAGE_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const TURNS: usize = 3;
const KIB: u32 = 1024;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// None over a Unix socket.
    round_trip_ms: Option<u64>,
    window_bytes: u32,
    frame_bytes: u32,
}

/// What is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    /// Unrolls of so many bytes, so many of them unacknowledged at a time.
    Up { bytes: usize, outbox: usize },
    /// Snapshots.
    Down,
}

const LOADS: [Load; 6] = [
    Load::Up {
        bytes: 64 << 10,
        outbox: 1,
    },
    Load::Up {
        bytes: 1 << 20,
        outbox: 1,
    },
    Load::Up {
        bytes: 1 << 20,
        outbox: 4,
    },
    Load::Up {
        bytes: 4 << 20,
        outbox: 1,
    },
    Load::Up {
        bytes: 4 << 20,
        outbox: 4,
    },
    Load::Down,
];

// === The learner's side ===

/// Acknowledges whatever comes, and sends chunks for as long as they are taken.
struct Sink;

#[tonic::async_trait]
impl Training for Sink {
    type StreamTrajectoriesStream = Replies<LearnerMessage>;
    type StreamParametersStream = Replies<SnapshotChunk>;
    type ActStream = Replies<ActReply>;

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Ok(Response::new(JoinReply::default()))
    }

    async fn act(
        &self,
        _: Request<Streaming<ActRequest>>,
    ) -> Result<Response<Self::ActStream>, Status> {
        Err(Status::unimplemented("nobody acts here"))
    }

    async fn stream_trajectories(
        &self,
        request: Request<Streaming<ActorMessage>>,
    ) -> Result<Response<Self::StreamTrajectoriesStream>, Status> {
        let mut inbound = request.into_inner();
        let (replies, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(_)) = inbound.message().await {
                if replies.send(Ok(LearnerMessage::default())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stream_parameters(
        &self,
        _: Request<ParametersRequest>,
    ) -> Result<Response<Self::StreamParametersStream>, Status> {
        let (chunks, stream) = mpsc::channel(2);
        tokio::spawn(async move {
            let chunk = SnapshotChunk {
                payload: Bytes::from(vec![1; CHUNK_BYTES]),
                ..SnapshotChunk::default()
            };
            while chunks.send(Ok(chunk.clone())).await.is_ok() {}
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A learner at the near end of `line`, and where its far end is.
async fn learner(line: Line, directory: &Path) -> Result<String, Fault> {
    let service = TrainingServer::new(Sink)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .initial_stream_window_size(line.window_bytes)
        .initial_connection_window_size(line.window_bytes)
        .max_frame_size(line.frame_bytes)
        .add_service(service);
    let Some(round_trip_ms) = line.round_trip_ms else {
        let path = directory.join("s");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListenerStream::new(UnixListener::bind(&path)?);
        tokio::spawn(server.serve_with_incoming(listener));
        return Ok(format!("unix:{}", path.display()));
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut address = listener.local_addr()?;
    // As the learner does: small acknowledgements would wait for those of TCP otherwise.
    let incoming = TcpListenerStream::new(listener).map(|accepted| {
        if let Ok(stream) = &accepted {
            let _ = stream.set_nodelay(true);
        }
        accepted
    });
    tokio::spawn(server.serve_with_incoming(incoming));
    if round_trip_ms > 0 {
        address = delayed(address, Duration::from_millis(round_trip_ms)).await?;
    }
    Ok(format!("http://{address}"))
}

// === The line ===

/// Bytes, and when they are due at the other end.
type Due = (Instant, Bytes);

/// A connection whose bytes take half a round trip each way, however many they are.
async fn delayed(upstream: SocketAddr, round_trip: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(upstream).await else {
                return;
            };
            for stream in [&client, &server] {
                let _ = stream.set_nodelay(true);
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            pass(from_client, to_server, round_trip / 2);
            pass(from_server, to_client, round_trip / 2);
        }
    });
    Ok(address)
}

fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    // More than any window: the line itself holds nothing back.
    const PIECES_MAX: usize = 16_384;
    const PIECE_BYTES: usize = 64 << 10;
    let (sender, mut receiver) = mpsc::channel::<Due>(PIECES_MAX);
    tokio::spawn(async move {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(read) = from.read(&mut buffer).await {
            let piece = Bytes::copy_from_slice(&buffer[..read]);
            if read == 0 || sender.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due.into()).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
}

// === The actor's side ===

async fn actor(line: Line) -> Result<TrainingClient<Channel>, Fault> {
    let directory = tempfile::tempdir()?;
    let endpoint = Endpoint::from_shared(learner(line, directory.path()).await?)?
        .tcp_nodelay(true)
        .initial_stream_window_size(line.window_bytes)
        .initial_connection_window_size(line.window_bytes)
        .max_frame_size(line.frame_bytes);
    let client = TrainingClient::new(endpoint.connect().await?);
    Ok(client
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// MB/s over `line` during `turn`, once it has settled.
async fn measure(line: Line, load: Load, turn: Duration) -> Result<f64, Fault> {
    let mut client = actor(line).await?;
    match load {
        Load::Up { bytes, outbox } => up(&mut client, bytes, outbox, turn).await,
        Load::Down => down(&mut client, turn).await,
    }
}

async fn up(
    client: &mut TrainingClient<Channel>,
    bytes: usize,
    outbox: usize,
    turn: Duration,
) -> Result<f64, Fault> {
    let (unrolls, stream) = mpsc::channel(outbox);
    let unroll = ActorMessage {
        kind: Some(Kind::Unroll(v1::Unroll {
            observations: Bytes::from(vec![1; bytes]),
            ..v1::Unroll::default()
        })),
    };
    for _ in 0..outbox {
        unrolls.send(unroll.clone()).await?;
    }
    let replies = client.stream_trajectories(ReceiverStream::new(stream));
    let mut replies = replies.await?.into_inner();
    replies.message().await?;
    unrolls.send(unroll.clone()).await?;
    let (began, mut received) = (Instant::now(), 0);
    while received == 0 || began.elapsed() < turn {
        replies.message().await?;
        received += bytes;
        unrolls.send(unroll.clone()).await?;
    }
    Ok(received as f64 / 1e6 / began.elapsed().as_secs_f64())
}

async fn down(client: &mut TrainingClient<Channel>, turn: Duration) -> Result<f64, Fault> {
    let stream = client.stream_parameters(ParametersRequest::default());
    let mut stream = stream.await?.into_inner();
    stream.message().await?;
    let (began, mut received) = (Instant::now(), 0);
    while received == 0 || began.elapsed() < turn {
        received += stream
            .message()
            .await?
            .map_or(0, |chunk| chunk.payload.len());
    }
    Ok(received as f64 / 1e6 / began.elapsed().as_secs_f64())
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for round_trip_ms in [None, Some(0)] {
        for frame_bytes in [16 * KIB, 64 * KIB, 256 * KIB] {
            lines.push(Line {
                round_trip_ms,
                window_bytes: 1024 * KIB,
                frame_bytes,
            });
        }
    }
    for round_trip_ms in [0, 10, 50, 100] {
        for window_bytes in [1024 * KIB, 4096 * KIB, 16_384 * KIB] {
            lines.push(Line {
                round_trip_ms: Some(round_trip_ms),
                window_bytes,
                frame_bytes: 64 * KIB,
            });
        }
    }
    lines.sort_unstable();
    lines.dedup();
    lines
}

async fn all(turn: Duration) -> Result<BTreeMap<(Line, Load), Vec<f64>>, Fault> {
    let mut found: BTreeMap<(Line, Load), Vec<f64>> = BTreeMap::new();
    for _ in 0..TURNS {
        for line in lines() {
            for load in LOADS {
                let patience = 5 * turn + Duration::from_secs(60);
                let rate = timeout(patience, measure(line, load, turn)).await??;
                found.entry((line, load)).or_default().push(rate);
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn what_is_larger_than_a_window_arrives_over_a_socket_and_over_a_line() {
    for round_trip_ms in [None, Some(0), Some(4)] {
        let line = Line {
            round_trip_ms,
            window_bytes: 64 * KIB,
            frame_bytes: 16 * KIB,
        };
        for load in [LOADS[1], Load::Down] {
            // A turn is one message at least.
            let rate = measure(line, load, Duration::from_millis(1));
            let rate = timeout(Duration::from_secs(60), rate).await;
            assert!(rate.unwrap().unwrap() > 0.0, "{line:?} {load:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_measures_what_windows_let_through() {
    if !campaign() {
        return;
    }
    let turn = std::env::var("SPRINGBOK_TURN_MS").ok();
    let turn = turn.map_or(300, |text| text.parse().unwrap());
    let found = all(Duration::from_millis(turn)).await.unwrap();
    eprintln!("{}", table(&found));
}

fn table(found: &BTreeMap<(Line, Load), Vec<f64>>) -> String {
    let mut table = String::from(
        "| round trip | window | frame | 64 KiB, outbox 1 | 1 MiB, outbox 1 | 1 MiB, outbox 4 | 4 MiB, outbox 1 | 4 MiB, \
         outbox 4 | parameters |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines() {
        let round_trip = match line.round_trip_ms {
            Some(ms) => format!("{ms} ms"),
            None => "Unix socket".to_owned(),
        };
        table.push_str(&format!(
            "| {round_trip} | {} KiB | {} KiB |",
            line.window_bytes / KIB,
            line.frame_bytes / KIB
        ));
        for load in LOADS {
            let mut rates = found.get(&(line, load)).cloned().unwrap_or_default();
            rates.sort_by(f64::total_cmp);
            let median = rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN);
            table.push_str(&format!(" {median:.1} |"));
        }
        table.push('\n');
    }
    table
}
