//! Parameters on their way from the learner's device to the actors' networks.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use springbok_common::{
    policy::{ActorCritic, FlatLayout, export_flat},
    snapshot::ParameterSnapshot,
    unroll::Served,
    version::PolicyVersion,
    wire::{SnapshotAssembler, snapshot_chunks},
};

use super::{
    encode::{MEMCPY, copying},
    null_learner::{NullLearner, Way},
    scripted::listener,
    stage::{Cases, Loops, MIB, Note, Stage, repeat},
    subject::Subject,
    transport::socket,
};
use crate::exit::Failure;

/// Actors that a version is sent to.
const ACTORS: [usize; 3] = [1, 8, 64];
/// The longest that a version may be on its way.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// Encoding, receiving, loading, and all actors together.
pub(super) fn cases(subject: &Subject) -> Cases {
    let snapshot = subject.snapshot();
    let mib = snapshot.payload().len() as f64 / MIB;
    let network = &subject.agreement.network;
    let model = ActorCritic::new(network, subject.config.run.seed, &subject.device);
    let (layout, published) = (snapshot.layout(), snapshot.clone());
    let encode = Loops {
        case: "export and seal".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            let flat = export_flat(&model);
            let (epoch, version) = (published.epoch(), published.version());
            std::hint::black_box(ParameterSnapshot::seal(epoch, version, layout, flat));
            Ok(mib)
        }),
        ceiling: copying(snapshot.payload()),
    };
    let (sent, flat) = (snapshot.clone(), FlatLayout::of(network));
    let receive = Loops {
        case: "cut, put together, verify".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            let mut assembler = SnapshotAssembler::new(layout, flat.clone());
            for chunk in snapshot_chunks(&sent, Served::default()) {
                std::hint::black_box(assembler.push(chunk).map_err(Failure::internal)?);
            }
            Ok(mib)
        }),
        ceiling: copying(snapshot.payload()),
    };
    let (mut inference, payload) = (subject.inference()?, snapshot.payload().clone());
    let load = Loops {
        case: "load".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            inference.load(&payload).map_err(Failure::internal)?;
            Ok(mib)
        }),
        ceiling: copying(snapshot.payload()),
    };
    let mut cases: Vec<Box<dyn Stage>> = vec![Box::new(encode), Box::new(receive), Box::new(load)];
    let counts = ACTORS.len() - usize::from(subject.pace.is_quick);
    for actors in &ACTORS[..counts] {
        cases.push(Box::new(Broadcast::new(subject, &snapshot, *actors)?));
    }
    Ok(cases)
}

/// A version to all actors, then the next one.
struct Broadcast {
    learner: NullLearner,
    actors: usize,
    snapshot: ParameterSnapshot,
    arrivals: Arc<Arrivals>,
    version: u64,
    /// Of a version to all of them, in the last slice.
    last_s: f64,
    message: Arc<[u8]>,
}

impl Broadcast {
    fn new(
        subject: &Subject,
        snapshot: &ParameterSnapshot,
        actors: usize,
    ) -> Result<Self, Failure> {
        let subject = subject.with_room(actors);
        let learner = NullLearner::start(&subject, 1, Way::Tcp)?;
        let arrivals = Arc::new(Arrivals::default());
        for _ in 0..actors {
            let arrivals = Arc::clone(&arrivals);
            let heard = Arc::new(move |version| arrivals.count(version));
            learner.invite(listener(&subject.agreement, heard));
        }
        arrivals.wait(0, actors)?;
        Ok(Self {
            learner,
            actors,
            snapshot: snapshot.clone(),
            arrivals,
            version: 0,
            last_s: f64::NAN,
            message: snapshot.payload().to_vec().into(),
        })
    }

    /// Publishes the next version and waits until all actors have it.
    fn send(&mut self) -> Result<(), Failure> {
        self.version += 1;
        let next = ParameterSnapshot::seal(
            self.snapshot.epoch(),
            PolicyVersion(self.version),
            self.snapshot.layout(),
            self.snapshot.payload().clone(),
        );
        self.learner.publish(&next);
        self.arrivals.wait(self.version, self.actors)
    }
}

impl Stage for Broadcast {
    fn case(&self) -> String {
        format!("broadcast to {}", self.actors)
    }

    fn unit(&self) -> &'static str {
        "MiB/s"
    }

    fn against(&self) -> &'static str {
        "as many bytes through one loopback socket"
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let mib = self.actors as f64 * self.message.len() as f64 / MIB;
        let rate = repeat(slice, || {
            self.send()?;
            Ok(mib)
        })?;
        self.last_s = mib / rate;
        Ok(rate)
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        socket(&self.message, slice).map_err(Failure::internal)
    }

    fn notes(&self) -> Vec<Note> {
        vec![(
            "milliseconds until all have it".to_owned(),
            1e3 * self.last_s,
        )]
    }
}

/// How many actors have the newest version.
#[derive(Debug, Default)]
struct Arrivals {
    /// The version, and how many have it.
    state: Mutex<(u64, usize)>,
    changed: Condvar,
}

impl Arrivals {
    fn count(&self, version: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match version {
            newer if newer > state.0 => *state = (newer, 1),
            same if same == state.0 => state.1 += 1,
            _ => return,
        }
        self.changed.notify_all();
    }

    /// Waits until so many actors have `version`.
    fn wait(&self, version: u64, actors: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + DELIVERY_MAX;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 < version || state.1 < actors {
            let left = deadline
                .checked_duration_since(Instant::now())
                .ok_or_else(|| {
                    let (seconds, have) = (DELIVERY_MAX.as_secs(), state.1);
                    Failure::internal(format!(
                        "only {have} of {actors} actors had version {version} within {seconds} s"
                    ))
                })?;
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}
