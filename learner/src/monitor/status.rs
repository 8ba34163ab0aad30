//! What the learner says of itself to whoever looks: the content of `/status`, and of each event of `/events`.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use springbok_common::{ids::RunId, reject::RejectReason};

use super::{actors::ActorStatus, feed::Live};
use crate::{
    lag::buckets::BUCKET_BOUNDS,
    ledger::LedgerCounts,
    metrics::{Metric, Row},
    roster::ActorCounts,
    verdict::TimeShares,
};

/// Which run it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// The training run.
    pub run_id: RunId,
    /// Registered name of the environment.
    pub environment: String,
    /// Where the learner computes.
    pub device: String,
    /// Seed of the run.
    pub seed: u64,
    /// Environment steps after which the run is done.
    pub total_steps: u64,
    /// Release of this program.
    pub version: String,
}

/// How far the learner has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No parameters are published yet.
    Starting,
    /// Actors may come.
    Serving,
    /// It asks its actors to leave.
    Draining,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// Steps trained with a lag in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagBin {
    /// Lags in versions, such as "5-8".
    pub bucket: String,
    /// Steps trained with such a lag, so far.
    pub steps: u64,
}

/// What the books say at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounts {
    /// The ledger.
    pub ledger: LedgerCounts,
    /// Rejected unrolls by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Lives of actors.
    pub counts: ActorCounts,
    /// Actors that have a place.
    pub present: u64,
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which run.
    pub run: RunIdentity,
    /// How far it has come.
    pub phase: Phase,
    /// When this was read, in seconds since 1970.
    pub unix_s: f64,
    /// Seconds since the last update; none before the first.
    pub last_update_s: Option<f64>,
    /// The metrics of the last update that have a value, by the names of `metrics.jsonl`.
    pub metrics: BTreeMap<String, f64>,
    /// Steps trained so far by policy lag.
    pub lag_histogram: Vec<LagBin>,
    /// Where the time went.
    pub time: TimeShares,
    /// The slower side, the knob to turn, and the evidence.
    pub bottleneck: String,
    /// The trajectory ledger.
    pub ledger: LedgerCounts,
    /// Whether it balances.
    pub ledger_closes: bool,
    /// Rejected unrolls by reason; reasons that did not occur are absent.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Lives of actors.
    pub lives: ActorCounts,
    /// Actors that have a place.
    pub present: u64,
    /// Those of them that are listed.
    pub actors: Vec<ActorStatus>,
    /// The last lines of the learner's log.
    pub log: Vec<String>,
}

impl Status {
    /// Puts together what is known `now`.
    #[must_use]
    pub fn new(
        run: RunIdentity,
        phase: Phase,
        now: (Instant, SystemTime),
        live: &Live,
        accounts: Accounts,
        actors: Vec<ActorStatus>,
    ) -> Self {
        let metrics = live.row.values();
        let bins = BUCKET_BOUNDS.iter().zip(live.lag.steps);
        let time = time_shares(&live.row);
        Self {
            run,
            phase,
            unix_s: unix_s(now.1),
            last_update_s: live
                .updated
                .map(|(at, _)| now.0.saturating_duration_since(at).as_secs_f64()),
            metrics: metrics
                .map(|(doc, value)| (doc.name.to_owned(), value))
                .collect(),
            lag_histogram: bins
                .map(|((bucket, _), steps)| LagBin {
                    bucket: (*bucket).to_owned(),
                    steps,
                })
                .collect(),
            time,
            bottleneck: match live.updated {
                Some(_) => time.verdict(),
                None => "unknown: nothing was trained yet".to_owned(),
            },
            ledger_closes: accounts.ledger.check().is_ok(),
            ledger: accounts.ledger,
            rejected: accounts.rejected,
            lives: accounts.counts,
            present: accounts.present,
            actors,
            log: Vec::new(),
        }
    }

    /// The value of one metric of the last update.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> Option<f64> {
        self.metrics
            .get(crate::metrics::METRICS[metric as usize].name)
            .copied()
    }
}

/// Seconds since 1970; 0 on a clock before that.
pub(super) fn unix_s(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Where the time went, as a row has it.
fn time_shares(row: &Row) -> TimeShares {
    let share = |metric| row.get(metric).unwrap_or(0.0);
    TimeShares {
        learner_busy: share(Metric::LearnerBusy),
        learner_waiting: share(Metric::LearnerWaiting),
        learner_measuring: share(Metric::LearnerMeasuring),
        actors_blocked: share(Metric::ActorsBlocked),
        actors_environment: share(Metric::ActorsEnvironment),
        actors_inference: share(Metric::ActorsInference),
        actors_sending: share(Metric::ActorsSending),
        queue_fill: share(Metric::QueueFill),
    }
}
