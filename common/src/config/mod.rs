//! The configuration: defaults, then a TOML file, then `SPRINGBOK__SECTION__KEY` variables, then `--set section.key=value`;
//! all faults are found before anything is started.

#[macro_use]
mod setting;
#[macro_use]
mod section_macro;
mod check;
mod layers;
mod memory;
mod parts;
mod preset;
mod resume;
mod sections;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    fmt::{self, Write as _},
    num::{NonZeroU32, NonZeroU64},
};

pub use layers::Loaded;
pub use memory::{EVALUATION_ROWS_MAX, MemoryBound, message_bytes_read_max, streams_of_a_kind_max};
pub use resume::Difference;
pub use sections::*;
pub use setting::{
    AdvantageNormalisation, Cap, ClipRange, Core, Critic, DeviceChoice, InferencePlace,
    KlAdaptation, KlDirection, LogFormat, MdpoSchedule, Objective, OverLimit, PgTarget, Preset,
    Ratio, RecomputeTargets, Refresh, Schedule, Std, ValueLoss,
};
pub use transport::{ObservationEncoding, SnapshotEncoding, UNIX_PATH_BYTES_MAX, UnixListen};
use xxhash_rust::xxh3::xxh3_64;

use crate::spec::{
    CoreSpec, CriticSpec, EncoderSpec, EnvironmentSpec, GaussianSpec, ImageLayout, NetworkSpec,
    ObservationSpec, RolloutShape, StdKind,
};

/// Every fault of a configuration, each as one sentence that names the value, the limit and a way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    faults: Vec<String>,
}

impl ConfigError {
    /// The error that lists `faults`; `Ok` if there are none.
    fn list(faults: Vec<String>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self { faults })
        }
    }

    /// The faults, in the order of the reference.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [only] => write!(formatter, "the configuration has a fault: {only}"),
            faults => {
                write!(formatter, "the configuration has {} faults:", faults.len())?;
                faults
                    .iter()
                    .try_for_each(|fault| write!(formatter, "\n  - {fault}"))
            }
        }
    }
}

/// Shortest side of an image on which the convolutions of "nature_conv" fit.
const NATURE_SIDE_MIN: usize = 36;
/// Shortest side of an image on which the convolution of "minatar_conv" fits.
const MINATAR_SIDE_MIN: usize = 3;

impl PolicyConfig {
    /// The configured encoder, or the usual one for `observation`.
    fn encoder_for(&self, observation: &ObservationSpec) -> EncoderSpec {
        let layout = ImageLayout::of(&observation.shape);
        let name = match self.encoder.as_str() {
            "auto" => usual_encoder(&observation.shape, layout),
            name => name,
        };
        let sizes = |usual: &[usize]| self.hidden_sizes.clone().unwrap_or_else(|| usual.to_vec());
        match name {
            "mlp" => EncoderSpec::Mlp {
                hidden_sizes: sizes(&[64, 64]),
            },
            "minatar_conv" => EncoderSpec::MinatarConv {
                layout,
                hidden_sizes: sizes(&[128]),
            },
            "nature_conv" => EncoderSpec::NatureConv {
                layout,
                hidden_sizes: sizes(&[512]),
            },
            "impala_resnet" => EncoderSpec::ImpalaResnet {
                layout,
                hidden_sizes: sizes(&[256]),
            },
            name => EncoderSpec::Custom {
                name: name.to_owned(),
            },
        }
    }
}

fn usual_encoder(shape: &[usize], layout: ImageLayout) -> &'static str {
    let side = match (shape, layout) {
        (&[_, height, width], ImageLayout::ChannelsFirst) => height.min(width),
        (&[height, width, _], ImageLayout::ChannelsLast) => height.min(width),
        _ => 0,
    };
    match side {
        0..MINATAR_SIDE_MIN => "mlp",
        MINATAR_SIDE_MIN..NATURE_SIDE_MIN => "minatar_conv",
        _ => "nature_conv",
    }
}

impl Config {
    /// T and K.
    #[must_use]
    pub fn rollout(&self) -> RolloutShape {
        RolloutShape {
            unroll_length: self.actor.unroll_length,
            environments: self.actor.environments_per_actor,
        }
    }

    /// The network that plays `environment`.
    #[must_use]
    pub fn network(&self, environment: &EnvironmentSpec) -> NetworkSpec {
        let policy = &self.policy;
        let size = policy.core_size;
        NetworkSpec {
            observation: environment.observation.clone(),
            action: environment.action.clone(),
            encoder: policy.encoder_for(&environment.observation),
            activation: policy.activation,
            core: match policy.core {
                Core::None => CoreSpec::None,
                Core::Lstm => CoreSpec::Lstm { size },
                Core::Gru => CoreSpec::Gru { size },
            },
            gaussian: GaussianSpec {
                std: match policy.std {
                    Std::StateIndependent => StdKind::StateIndependent,
                    Std::StateDependent => StdKind::StateDependent,
                },
                log_std_initial: policy.log_std_initial as f32,
                squash: policy.squash,
            },
            shared_torso: policy.shared_torso,
            normalise_observations: policy.normalise_observations,
            popart: policy.popart,
            critic: match self.algorithm.critic {
                Critic::Retrace => CriticSpec::Q,
                Critic::Vtrace | Critic::Gae | Critic::NStep => CriticSpec::V,
            },
            auxiliary_value: self.algorithm.objective == Objective::Ppg,
        }
    }

    /// Environment steps in one batch: T * K * `batch_unrolls`.
    #[must_use]
    pub fn batch_rows(&self) -> usize {
        self.rollout()
            .steps()
            .saturating_mul(self.learner.batch_unrolls)
    }

    /// In lock-step, the unrolls that each actor makes with each snapshot: its share of a batch.
    #[must_use]
    pub fn unrolls_per_snapshot(&self) -> Option<NonZeroU32> {
        let share = self.learner.batch_unrolls / self.actor.count.max(1);
        let share = u32::try_from(share).ok().and_then(NonZeroU32::new);
        share.filter(|_| self.run.deterministic)
    }

    /// In lock-step, the versions between two at which all environments begin anew, so that a checkpoint of such a version
    /// holds all that the run depends on; `None` if they never do.
    #[must_use]
    pub fn life_versions(&self) -> Option<NonZeroU64> {
        let interval = self.checkpoint.interval_updates.and_then(NonZeroU64::new);
        interval.filter(|_| self.run.deterministic && self.checkpoint.enabled)
    }

    /// The steady policy lag, in versions, that the buffers alone make for actors of equal speed when the learner is
    /// the slower side. An unroll that is begun while newer parameters are on their way is one version older.
    ///
    /// When an unroll is begun, at most queue + actors * outbox - 1 others come before it, and one batch is being
    /// trained. So it is trained after 1 + floor((queue + actors * outbox - 1) / batch) updates, which is
    /// ceil((queue + actors * outbox) / batch). Each of these batches makes `learner.reuse` versions, on average if the
    /// reservoir holds several. Where every P-th version is published, an unroll that is begun just before the next is
    /// P - 1 versions older.
    #[must_use]
    pub fn predicted_lag_max_versions(&self) -> u64 {
        let begun = self.actor.count.saturating_mul(self.actor.outbox_unrolls);
        let ahead = begun.saturating_add(self.learner.queue_unrolls);
        let batches = ahead.div_ceil(self.learner.batch_unrolls.max(1));
        let buffered = batches.saturating_mul(self.learner.reuse) as u64;
        buffered.saturating_add(self.learner.publish_interval_updates.saturating_sub(1))
    }

    /// Every key with its value as TOML; loading it gives this configuration again.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut open = "";
        for (path, value) in self.entries() {
            let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
            if section != open {
                let gap = if open.is_empty() { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{gap}[{section}]");
                open = section;
            }
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }

    /// Sixteen hexadecimal digits that differ when any effective value does.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("{:016x}", xxh3_64(self.to_toml().as_bytes()))
    }
}
