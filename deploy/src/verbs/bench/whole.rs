//! The whole: a learner and its actors in processes, beside the bare loops of all of them in one process, which hand over
//! nothing but the news that an unroll is done. And the same for more and more actors.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    bare::{BareActor, BareLearner},
    crowd::Crowd,
    processes::{Run, rate},
    runner::Pace,
    stage::{Cases, Note, Stage},
    subject::Subject,
};
use crate::{cli::Layers, exit::Failure};

/// Actors of the cases of scaling.
const ACTORS: [usize; 5] = [1, 2, 4, 8, 16];
/// As many of them where there is little time.
const ACTORS_QUICK: usize = 2;
/// A run of processes gets a slice as long as so many others, and at most so many rounds.
const SLICES: u32 = 10;
const ROUNDS_MAX: u32 = 3;

/// As many actors as are configured.
pub(super) fn cases(subject: &Subject) -> Cases {
    let actors = subject.config.actor.count;
    Ok(vec![Box::new(Whole::new(subject, actors)?)])
}

/// Ever more actors; then a crowd of sessions.
pub(super) fn scaling(subject: &Subject) -> Cases {
    let counts = if subject.pace.is_quick {
        &ACTORS[..ACTORS_QUICK]
    } else {
        &ACTORS
    };
    let mut cases: Vec<Box<dyn Stage>> = Vec::new();
    for actors in counts {
        cases.push(Box::new(Whole::new(subject, *actors)?));
    }
    cases.push(Box::new(Crowd::new(subject)));
    Ok(cases)
}

/// The pace of what runs in processes.
pub(super) fn unhurried(usual: &Pace) -> Pace {
    Pace {
        slice: usual.slice * SLICES,
        rounds: if usual.is_quick {
            1
        } else {
            usual.rounds.min(ROUNDS_MAX)
        },
        warms_up: false,
        ..*usual
    }
}

struct Whole {
    layers: Layers,
    actors: usize,
    pipeline: Pipeline,
    summary: Value,
}

impl Whole {
    fn new(subject: &Subject, actors: usize) -> Result<Self, Failure> {
        Ok(Self {
            layers: subject.layers.clone(),
            actors,
            pipeline: Pipeline::new(subject, actors)?,
            summary: Value::Null,
        })
    }
}

impl Stage for Whole {
    fn case(&self) -> String {
        match self.actors {
            1 => "1 actor process".to_owned(),
            actors => format!("{actors} actor processes"),
        }
    }

    fn unit(&self) -> &'static str {
        "steps/s"
    }

    fn against(&self) -> &'static str {
        "the bare loops of all of them, as threads of one process"
    }

    fn pace(&self, usual: &Pace) -> Pace {
        unhurried(usual)
    }

    fn ours(&mut self, slice: Duration) -> Result<f64, Failure> {
        let mut run = Run::start(&self.layers, self.actors)?;
        run.wait(self.actors, slice)?;
        let (rows, summary) = run.end()?;
        self.summary = summary;
        rate(&rows, slice)
            .ok_or_else(|| Failure::internal("the run made too few updates to measure"))
    }

    fn ceiling(&mut self, slice: Duration) -> Result<f64, Failure> {
        self.pipeline.rate(slice)
    }

    /// Lag, and where the time of the last run went.
    fn notes(&self) -> Vec<Note> {
        let lag = self.summary["lag"]["mean"].as_f64();
        let shares = self.summary["time"].as_object().into_iter().flatten();
        let shares = shares.filter(|(name, _)| *name != "queue_fill");
        let shares = shares.filter_map(|(name, value)| {
            Some((
                format!("share of {}", name.replace('_', " ")),
                value.as_f64()?,
            ))
        });
        let lag = lag.map(|lag| ("mean lag in versions".to_owned(), lag));
        lag.into_iter().chain(shares).collect()
    }
}

/// Bare actors and a bare learner with a queue of nothing between them.
struct Pipeline {
    actors: Vec<BareActor>,
    learner: BareLearner,
    batch_unrolls: usize,
    queue_unrolls: usize,
    batch_steps: usize,
}

impl Pipeline {
    fn new(subject: &Subject, actors: usize) -> Result<Self, Failure> {
        let learner = &subject.config.learner;
        let batch = subject.batch(&subject.unrolls(learner.batch_unrolls)?);
        Ok(Self {
            actors: (0..actors)
                .map(|_| BareActor::new(subject))
                .collect::<Result<_, _>>()?,
            learner: BareLearner::new(subject, &batch),
            batch_unrolls: learner.batch_unrolls,
            queue_unrolls: learner.queue_unrolls,
            batch_steps: batch.steps(),
        })
    }

    /// Steps trained on each second.
    fn rate(&mut self, slice: Duration) -> Result<f64, Failure> {
        let (done, arrivals) = sync_channel(self.queue_unrolls.max(1));
        let (learner, batch_unrolls) = (&mut self.learner, self.batch_unrolls);
        let updates_per_s = thread::scope(|scope| {
            for actor in &mut self.actors {
                let done = done.clone();
                scope.spawn(move || act(actor, &done));
            }
            drop(done);
            // It drops the receiver, and then the actors end.
            train(learner, batch_unrolls, arrivals, slice)
        });
        let updates_per_s =
            updates_per_s.ok_or_else(|| Failure::internal("a bare actor failed"))?;
        Ok(updates_per_s * self.batch_steps as f64)
    }
}

fn act(actor: &mut BareActor, done: &SyncSender<()>) {
    while actor.unroll().is_ok() && done.send(()).is_ok() {}
}

/// Updates each second, the first apart: for that the actors had to start. `None` if there are no actors any more.
fn train(
    learner: &mut BareLearner,
    batch_unrolls: usize,
    arrivals: Receiver<()>,
    slice: Duration,
) -> Option<f64> {
    let mut update = || {
        for _ in 0..batch_unrolls {
            arrivals.recv().ok()?;
        }
        learner.update();
        Some(())
    };
    update()?;
    let (begun, mut updates) = (Instant::now(), 0_u32);
    loop {
        update()?;
        updates += 1;
        let elapsed = begun.elapsed();
        if elapsed >= slice {
            return Some(f64::from(updates) / elapsed.as_secs_f64());
        }
    }
}
