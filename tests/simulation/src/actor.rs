//! An actor: the real client and session; a task takes the place of the thread that makes unrolls.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use rand_pcg::Pcg64;
use springbok_actor::{
    ActorOptions, Security,
    environment::Registry,
    python::PythonSettings,
    run_in,
    worker::{Bench, Finished, Published, Worker},
    world::{Prepare, World},
};
use springbok_common::{
    backoff::Backoff,
    ids::ActorId,
    unroll::{Agreement, UnrollHeader},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::{Who, chance},
    invariants,
    keys::Reader,
    network,
    truth::{Made, Shared, Violation},
    work,
};

/// An actor whose environments take longer for a step is given up and started again.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Who an actor is.
#[derive(Debug, Clone, Copy)]
struct Name {
    place: u32,
    actor: ActorId,
}

/// One life after the other of the actor at `place`, until the host dies.
pub(crate) async fn host(shared: Shared, place: u32) -> turmoil::Result {
    loop {
        live(&shared, place).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn live(shared: &Shared, place: u32) {
    let life = {
        let mut truth = shared.lock();
        let life = &mut truth.actor_lives[place as usize];
        *life += 1;
        *life
    };
    let seed = shared.plan.seed;
    let mut draw = chance(seed, Who::Actor(place, life));
    let number = (u128::from(seed) << 64) | (u128::from(place) << 32) | u128::from(life);
    let Some(actor) = ActorId::from_bytes(&number.to_be_bytes()) else {
        return;
    };
    shared.event(&format!("actor {place} begins life {life}"));
    // Some say goodbye before they are killed.
    let leaving = CancellationToken::new();
    if draw.random_bool(0.3) && shared.lock().calm_since.is_none() {
        let (leaving, after) = (leaving.clone(), draw.random_range(1_000..10_000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            leaving.cancel();
        });
    }
    let hung = CancellationToken::new();
    let world = World {
        dial: network::dial(shared, chance(seed, Who::Damage(place, life))),
        actor_id: actor,
        backoff: Backoff::default().seeded(draw.random()),
        prepare: prepare(shared, Name { place, actor }, draw, hung.clone()),
    };
    let mut options = options(place);
    if let Some(keys) = &shared.lock().keys {
        match keys.of(Reader::Actors) {
            Ok(security) => options.security = security,
            Err(error) => return shared.event(&format!("actor {place} cannot start: {error}")),
        }
    }
    let outcome = tokio::select! {
        biased;
        () = hung.cancelled() => return shared.event(&format!("actor {place} is given up: it hangs")),
        outcome = run_in(world, options, leaving.clone()) => outcome,
    };
    match outcome {
        Ok(report) if leaving.is_cancelled() => {
            shared.event(&format!("actor {place} left: {report:?}"));
        }
        Ok(_) => {}
        Err(error) => {
            let seen = format!("actor {place} gave up: {error}");
            let verdict = Err(Violation {
                invariant: "liveness",
                seen,
            });
            shared.lock().judge(verdict);
        }
    }
}

/// What an actor is started with.
pub(crate) fn options(place: u32) -> ActorOptions {
    ActorOptions {
        learner: format!("http://learner:{}", network::PORT),
        index: Some(place),
        environment_id: None,
        registry: Arc::new(Registry::new()),
        python: PythonSettings::default(),
        learner_wait_max: Duration::ZERO,
        step_max: Duration::from_secs(60),
        window_bytes: 2 << 20,
        security: Security::default(),
    }
}

fn prepare(shared: &Shared, name: Name, draw: Pcg64, hung: CancellationToken) -> Prepare {
    let shared = shared.clone();
    Arc::new(move |_, _, supplies| {
        let newest = supplies.parameters;
        let (shared, draw, hung) = (shared.clone(), draw.clone(), hung.clone());
        Box::pin(async move {
            let (worker, bench) = Worker::new();
            let making = make_unrolls(shared.clone(), name, draw, bench, newest);
            tokio::spawn(async move {
                if making.await == Work::Hung {
                    hung.cancel();
                }
            });
            Ok((shared.task.agreement.clone(), worker))
        })
    })
}

/// How the work of whoever makes unrolls ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nobody wants any more.
    Done,
    /// A step did not return for too long.
    Hung,
}

async fn make_unrolls(
    shared: Shared,
    name: Name,
    mut draw: Pcg64,
    mut bench: Bench,
    newest: watch::Receiver<Option<Published>>,
) -> Work {
    let agreement = shared.task.agreement.clone();
    while let Some(permission) = bench.permissions.recv().await {
        let Some(published) = newest.borrow().clone() else {
            return Work::Done;
        };
        let header = UnrollHeader {
            run_id: published.run_id,
            epoch: published.snapshot.epoch(),
            sequence: permission.sequence,
            version: published.snapshot.version(),
        };
        let life = begin(&shared, name, header, &published);
        let longest = shared.plan.unroll_ms[name.place as usize];
        sleep(Duration::from_millis(
            draw.random_range(longest / 2..=longest),
        ))
        .await;
        if hang(&shared, name.place).await == Work::Hung {
            return Work::Hung;
        }
        let unroll = finish(&shared, name, header, life, &agreement, &published);
        let Some(unroll) = unroll else {
            return Work::Done;
        };
        let finished = Finished {
            unroll,
            at: Instant::now().into_std(),
            received: published.received,
        };
        if bench.results.send(Ok(finished)).await.is_err() {
            return Work::Done;
        }
    }
    Work::Done
}

/// A step that does not return, if the plan has one now. The real watch over steps looks at the operating system's clock,
/// so it is done here what it would do.
async fn hang(shared: &Shared, place: u32) -> Work {
    let now = turmoil::sim_elapsed().unwrap_or_default();
    let Some(until) = shared.plan.hangs_until(place, now) else {
        return Work::Done;
    };
    let length = until.saturating_sub(now);
    shared.event(&format!("actor {place} hangs for {length:?}"));
    sleep(length.min(STEP_MAX)).await;
    if length > STEP_MAX {
        Work::Hung
    } else {
        Work::Done
    }
}

/// Parameters are loaded for the unroll that begins; gives the learner's life that made them, as they say themselves.
fn begin(shared: &Shared, name: Name, header: UnrollHeader, published: &Published) -> u32 {
    let mut truth = shared.lock();
    let Name { place, actor } = name;
    let payload = published.snapshot.payload();
    let life = work::life_of(payload);
    let (epoch, version, sequence) = (header.epoch.0, header.version.0, header.sequence.0);
    truth.event(&format!(
        "actor {place} begins unroll {sequence} with version {version} of epoch {epoch}"
    ));
    let verdict = invariants::snapshots::whole(&shared.task, payload, life, version);
    truth.judge(verdict);
    let before = truth.loaded.insert(actor, (epoch, version));
    truth.judge(invariants::versions::forwards(before, (epoch, version)));
    let mark = truth
        .running
        .as_ref()
        .filter(|running| running.life == life);
    let mark = mark.and_then(|running| running.books.lock().roster.mark(actor));
    if let Some(mark) = mark {
        let verdict = invariants::capacity::outbox(sequence, mark.0, shared.plan.outbox_unrolls);
        truth.judge(verdict);
    }
    life
}

/// The unroll is made and gets its id.
fn finish(
    shared: &Shared,
    name: Name,
    header: UnrollHeader,
    life: u32,
    agreement: &Agreement,
    published: &Published,
) -> Option<springbok_common::unroll::Unroll> {
    let mut truth = shared.lock();
    let id = truth.made.len() as u64;
    let at = turmoil::sim_elapsed().unwrap_or(truth.now);
    truth.made.push(Made {
        header,
        life,
        actor: name.actor,
        place: name.place,
        at,
    });
    truth.event(&format!(
        "actor {} made unroll {} as {id}",
        name.place, header.sequence.0
    ));
    work::unroll(agreement, header, published.served, id)
}
