//! What a run measured, as its `summary.json` tells it. Every field may be absent, so that runs of older versions can
//! be compared with new ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Causes of lag in the order of an unroll's life; others follow these.
pub(crate) const CAUSES: [&str; 7] = [
    "injected",
    "publish",
    "unroll",
    "outbox",
    "transport",
    "queue",
    "batch",
];
/// Lag buckets in order.
pub(crate) const BUCKETS: [&str; 9] = ["0", "1", "2", "3", "4", "5-8", "9-16", "17-32", "33+"];

/// What a run measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Measured {
    /// Registered name of the environment.
    pub(crate) environment: String,
    /// Where the learner computed.
    pub(crate) device: String,
    /// Environment steps made by the actors.
    pub(crate) env_steps: u64,
    /// Environment steps trained on.
    pub(crate) trained_steps: u64,
    /// Updates.
    pub(crate) updates: u64,
    /// Seconds that training took.
    pub(crate) wall_s: f64,
    /// Environment steps made per second.
    pub(crate) env_steps_per_s: Option<f64>,
    /// Environment steps trained on per second.
    pub(crate) trained_steps_per_s: Option<f64>,
    /// Episodes that ended.
    pub(crate) episodes: u64,
    /// Mean return of the last 100 episodes, at the end.
    pub(crate) return_mean_100: Option<f64>,
    /// Best such mean.
    pub(crate) return_best_100: Option<f64>,
    /// When the return was reached that ends a run.
    pub(crate) threshold: Option<Threshold>,
    /// Policy lag.
    pub(crate) lag: Lag,
    /// Mean lag by cause, in versions.
    pub(crate) lag_causes: BTreeMap<String, Option<f64>>,
    /// Health of the updates by lag.
    pub(crate) lag_buckets: Vec<Bucket>,
    /// What the model of lag foretold.
    pub(crate) lag_predicted: Option<Predicted>,
    /// Bytes over the learner's connections.
    pub(crate) network: Network,
    /// How the learner chose actions, if it did.
    pub(crate) inference: Option<Inference>,
    /// Shares of the learner's and the actors' time.
    pub(crate) time: BTreeMap<String, Option<f64>>,
    /// Effective sample size as a share of the steps.
    pub(crate) ess: Option<f64>,
    /// Share of steps whose ratio was outside the clip range.
    pub(crate) clip_fraction: Option<f64>,
    /// What limits the throughput.
    pub(crate) bottleneck: Value,
}

/// When a return was first reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Threshold {
    /// Mean return of the last 100 episodes.
    #[serde(rename = "return")]
    pub(crate) mean_return: f64,
    /// Environment steps by then.
    pub(crate) env_steps: u64,
    /// Seconds by then.
    pub(crate) wall_s: f64,
}

/// Policy lag in versions, and in other units.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lag {
    /// Mean, in versions.
    pub(crate) mean: Option<f64>,
    /// Median, in versions.
    pub(crate) p50: Option<f64>,
    /// 95th percentile, in versions.
    pub(crate) p95: Option<f64>,
    /// 99th percentile, in versions.
    pub(crate) p99: Option<f64>,
    /// Largest, in versions.
    pub(crate) max: Option<f64>,
    /// Mean age in seconds.
    pub(crate) seconds: Option<f64>,
    /// Mean age in environment steps.
    pub(crate) env_steps: Option<f64>,
}

/// Steps of like lag.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bucket {
    /// Lag in versions: "3" or "5-8".
    pub(crate) bucket: String,
    /// Trained steps.
    pub(crate) steps: f64,
    /// Effective sample size as a share of the steps.
    pub(crate) ess: Option<f64>,
    /// Share of steps whose ratio was outside the clip range.
    pub(crate) clip_fraction: Option<f64>,
    /// Divergence of the proximal from the behaviour policy, in nat.
    pub(crate) k3: Option<f64>,
    /// Share of steps whose V-trace ratio was cut at rho_bar.
    pub(crate) rho_saturation: Option<f64>,
    /// Mean absolute advantage.
    pub(crate) abs_advantage: Option<f64>,
}

/// Bytes over the learner's connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    /// From the actors.
    pub(crate) received_bytes: Option<f64>,
    /// To the actors.
    pub(crate) sent_bytes: Option<f64>,
}

/// Actions chosen by the learner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Inference {
    /// Environments in one pass, mean.
    pub(crate) batch_rows: Option<f64>,
    /// Environments acted for in a second.
    pub(crate) rows_per_s: Option<f64>,
    /// Seconds that a request waited for its pass, mean.
    pub(crate) wait_s: Option<f64>,
}

/// A prediction of lag.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Predicted {
    /// Versions.
    pub(crate) versions: Option<f64>,
    /// Which side was expected to be the slower.
    pub(crate) regime: Value,
    /// Whether the measured lag is within the model's tolerance.
    pub(crate) agrees: Option<bool>,
    /// Why not.
    pub(crate) cause: Value,
}

/// `value` for people; nothing if it says nothing.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Measured {
    /// Reads `summary.json`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn read(summary: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(summary)
    }

    /// Whether the run did all that it was asked to do, and was not stopped on the way.
    pub(crate) fn is_complete(&self, total_steps: u64) -> bool {
        self.trained_steps >= total_steps || self.threshold.is_some()
    }

    /// Lag of one cause, in versions.
    pub(crate) fn cause(&self, name: &str) -> Option<f64> {
        self.lag_causes.get(name).copied().flatten()
    }

    /// Bytes over the learner's connections for each environment step, from and to the actors.
    pub(crate) fn bytes_per_step(&self) -> [Option<f64>; 2] {
        let steps = self.env_steps as f64;
        let network = [self.network.received_bytes, self.network.sent_bytes];
        network.map(|bytes| {
            bytes
                .map(|bytes| bytes / steps)
                .filter(|each| each.is_finite())
        })
    }

    /// A share of time.
    pub(crate) fn time(&self, name: &str) -> Option<f64> {
        self.time.get(name).copied().flatten()
    }

    /// The predicted lag in versions.
    pub(crate) fn predicted(&self) -> Option<f64> {
        self.lag_predicted.as_ref()?.versions
    }
}
