//! Readers of parameters that are slow, or stop reading, beside others that are quick: parameters of several chunks, one
//! publication after the other, and a count of the snapshots that are still held.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use springbok_actor::{
    run_in,
    worker::{Bench, Finished, Published, Worker},
    world::{Prepare, World},
};
use springbok_common::{
    backoff::Backoff,
    config::Config,
    ids::{ActorId, RunId},
    injection::LagInjection,
    policy::layout_fingerprint,
    unroll::UnrollHeader,
    version::{LearnerEpoch, PolicyVersion},
};
use springbok_learner::{
    admission::{Admission, Fence},
    books::Books,
    network::NetworkBytes,
    pacing::Pacing,
    publisher::{Publications, Publisher},
    queue::{QueueReceiver, queue},
    service::{Edge, Inbox, serve},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    actor,
    counted::{Held, count, lend},
    learner,
    network::{Ear, PORT, dial_through},
    slow::{Reading, Slow},
    work::Task,
};

const TICK: Duration = Duration::from_millis(10);

/// Time that an unroll takes, in ms.
const UNROLL_MS: u64 = 100;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Readers {
    /// How each actor reads what its connection brings.
    pub readings: Vec<Reading>,
    /// Widths of the hidden layers: they decide how many chunks the parameters have.
    pub hidden_sizes: Vec<usize>,
    /// Time between two publications.
    pub publish_interval: Duration,
    /// How long it is looked at.
    pub lasts: Duration,
}

/// A version that an actor received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub version: u64,
    /// When it was there.
    pub at: Duration,
    /// For how long a newer one had been published by then.
    pub outdated_for: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// What each actor received, in order.
    pub received: Vec<Vec<Received>>,
    /// Unrolls of each actor that reached the trainer.
    pub unrolls: Vec<u64>,
    /// Bytes of one snapshot.
    pub snapshot_bytes: usize,
    /// Snapshots that were held, the newest among them, after each tick.
    pub held: Vec<usize>,
    /// What [`Config::memory_bound`] says of parameters, published and being sent, in bytes.
    pub bound_bytes: u64,
    published_at: Vec<Duration>,
}

impl Seen {
    fn publish(&mut self) {
        self.published_at.push(elapsed());
    }

    fn receive(&mut self, place: u32, version: u64) {
        let now = elapsed();
        let newer = self.published_at.get(version as usize + 1);
        self.received[place as usize].push(Received {
            version,
            at: now,
            outdated_for: newer.map_or(Duration::ZERO, |newer| now.saturating_sub(*newer)),
        });
    }
}

fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

#[derive(Clone)]
struct Scene {
    readers: Arc<Readers>,
    task: Arc<Task>,
    config: Arc<Config>,
    seen: Arc<Mutex<Seen>>,
    held: Held,
}

impl Scene {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at `readers`.
///
/// # Errors
/// The simulation itself failed.
pub fn look_at(readers: Readers) -> turmoil::Result<Seen> {
    let task = Task::new(readers.hidden_sizes.clone());
    let mut config = Config::default();
    config.limits.actors_max = readers.readings.len();
    let bound = config.memory_bound(&task.agreement);
    let of_parameters = ["published parameters", "parameters being sent"];
    let terms = bound
        .terms
        .iter()
        .filter(|(what, _)| of_parameters.contains(what));
    let seen = Seen {
        received: vec![Vec::new(); readers.readings.len()],
        unrolls: vec![0; readers.readings.len()],
        snapshot_bytes: task.payload_bytes(),
        bound_bytes: terms.map(|(_, bytes)| bytes).sum(),
        ..Seen::default()
    };
    let scene = Scene {
        task: Arc::new(task),
        config: Arc::new(config),
        seen: Arc::new(Mutex::new(seen)),
        held: Arc::default(),
        readers: Arc::new(readers),
    };
    let mut sim = turmoil::Builder::new()
        .rng_seed(1)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3600))
        .min_message_latency(TICK)
        .max_message_latency(TICK)
        .tcp_capacity(4096)
        .build();
    let lent = scene.clone();
    sim.host("learner", move || host_learner(lent.clone()));
    for (place, reading) in (0..).zip(&scene.readers.readings) {
        let (lent, reading) = (scene.clone(), *reading);
        sim.host(format!("actor-{place}"), move || {
            host_actor(lent.clone(), place, reading)
        });
    }
    while sim.elapsed() < scene.readers.lasts {
        sim.step()?;
        let held = count(&scene.held);
        scene.lock().held.push(held);
    }
    let seen = std::mem::take(&mut *scene.lock());
    Ok(seen)
}

async fn host_learner(scene: Scene) -> turmoil::Result {
    let listener =
        turmoil::net::TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let fence = Fence {
        run_id: RunId::from_bytes(&[9; 16]).ok_or("a run has an id")?,
        epoch: LearnerEpoch::FIRST,
        lag_versions_max: None,
    };
    let (limits, agreement) = (&scene.config.limits, &scene.task.agreement);
    let books = Books::new(Admission::new(fence, limits.actors_max));
    let (sender, arriving) = queue(scene.config.learner.queue_unrolls);
    let layout = layout_fingerprint(&agreement.network);
    let (publisher, publications): (Publisher, Publications) =
        Publisher::new(fence.epoch, layout, 0);
    let inbox = Inbox {
        queue: sender,
        pacing: Pacing::new(learner::no_limits()),
        desk: None,
        traffic: NetworkBytes::default(),
    };
    let edge = Edge::new(
        books.clone(),
        inbox,
        publications,
        agreement.clone(),
        learner::terms(fence, agreement, limits),
        limits.clone(),
        LagInjection::None,
    );
    let serving = serve(Ear(listener), edge).await;
    // Two that differ everywhere: of a mixture of both the checksum is wrong.
    let contents = [0, 1].map(|version| scene.task.parameters(1, version));
    for version in 0.. {
        let content = contents[version as usize % 2].clone();
        scene.lock().publish();
        publisher.publish(PolicyVersion(version), lend(content, &scene.held));
        if version == 0 {
            serving.ready().await;
        }
        let next = Instant::now() + scene.readers.publish_interval;
        while Instant::now() < next {
            take_all(&scene, &books, &arriving);
            sleep_until(next.min(Instant::now() + Duration::from_millis(5))).await;
        }
    }
    Ok(())
}

fn take_all(scene: &Scene, books: &Books, arriving: &QueueReceiver) {
    while let Ok(arrived) = arriving.take(Duration::ZERO) {
        let mut books = books.lock();
        books.ledger.train(1);
        let place = books.roster.index(arrived.actor);
        scene.lock().unrolls[place as usize] += 1;
    }
}

async fn host_actor(scene: Scene, place: u32, reading: Reading) -> turmoil::Result {
    let began = Instant::now();
    let number = u128::from(place) + 1;
    let world = World {
        dial: dial_through(move |stream| Slow::new(stream, reading, began)),
        actor_id: ActorId::from_bytes(&number.to_be_bytes()).ok_or("an actor has an id")?,
        backoff: Backoff::default().seeded(u64::from(place)),
        prepare: prepare(scene, place),
    };
    run_in(world, actor::options(place), CancellationToken::new()).await?;
    Ok(())
}

fn prepare(scene: Scene, place: u32) -> Prepare {
    Arc::new(move |_, _, supplies| {
        let newest = supplies.parameters;
        let scene = scene.clone();
        Box::pin(async move {
            let agreement = scene.task.agreement.clone();
            let (worker, bench) = Worker::new();
            tokio::spawn(follow(scene.clone(), place, newest.clone()));
            tokio::spawn(make_unrolls(scene, bench, newest));
            Ok((agreement, worker))
        })
    })
}

async fn follow(scene: Scene, place: u32, mut newest: watch::Receiver<Option<Published>>) {
    while newest.changed().await.is_ok() {
        if let Some(published) = newest.borrow_and_update().as_ref() {
            let version = published.snapshot.version().0;
            scene.lock().receive(place, version);
        }
    }
}

async fn make_unrolls(scene: Scene, mut bench: Bench, newest: watch::Receiver<Option<Published>>) {
    while let Some(permission) = bench.permissions.recv().await {
        let Some(published) = newest.borrow().clone() else {
            return;
        };
        sleep(Duration::from_millis(UNROLL_MS)).await;
        let header = UnrollHeader {
            run_id: published.run_id,
            epoch: published.snapshot.epoch(),
            sequence: permission.sequence,
            version: published.snapshot.version(),
        };
        let Some(unroll) = crate::work::unroll(&scene.task.agreement, header, published.served, 0)
        else {
            return;
        };
        let finished = Finished {
            unroll,
            at: Instant::now().into_std(),
            received: published.received,
        };
        if bench.results.send(Ok(finished)).await.is_err() {
            return;
        }
    }
}
