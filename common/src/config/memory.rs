//! How much a learner can be made to hold, computed from the configuration alone.

use std::{fmt, num::NonZeroUsize, thread::available_parallelism};

use super::{Config, InferencePlace, Objective, Ratio};
use crate::{
    arrays::ElementType,
    policy::{FlatLayout, kept_len, payload_bytes},
    unroll::Agreement,
    wire::{SNAPSHOT_CHUNK_BYTES_MAX, act_message_bytes, unroll_message_bytes},
};

/// What a connection costs besides its window: the records of TLS, the tables of HTTP/2, the buffers of the socket's
/// wrapper.
const CONNECTION_BYTES: u64 = 256 * 1024;
/// What HTTP/2 buffers of each stream before the peer has read it; hyper's default.
const SEND_BUFFER_BYTES: u64 = 400 * 1024;
/// Chunks of parameters on their way in one stream: two in the channel, one being encoded, its encoded form.
const CHUNKS: u64 = 4;
/// A buffer that grows may have twice the size that it needs.
const GROWTH: u64 = 2;
/// Copies of the parameters at the trainer: themselves, gradients, two moments, the target, the copy before the update,
/// each on the device and once more while they are read or written.
const PARAMETER_COPIES: u64 = 12;
/// Copies of the parameters for each part of a minibatch: its gradients, and those in one piece.
const PARAMETER_COPIES_OF_A_PART: u64 = 2;
/// Batches at the trainer besides the reservoir: the one being assembled and the one being trained.
const BATCHES: u64 = 2;
/// A request to act, and its answer: encoded and decoded, and once more on their way.
const MESSAGE_COPIES: u64 = 6;
/// A generator of random numbers.
const GENERATOR_BYTES: u64 = 64;
/// Parameters that are acted with, and those that they are being replaced by, each also on its way to the device.
const ACTING_PARAMETER_COPIES: u64 = 4;
const FLOAT_BYTES: u64 = 4;
/// Observations that the learner evaluates at one time: a bound on the memory that a convolution takes.
pub const EVALUATION_ROWS_MAX: usize = 4096;
/// Copies of the parameters on the device: themselves, gradients, two moments, those three of before the update, what one
/// optimiser step makes anew, and all of them in one piece for the way back.
const PARAMETERS_ON_DEVICE: u64 = 9;
/// Numbers per step on the device besides observation, action and mask, of 4 bytes each: five that a loss reads and a row
/// number, for each pass.
const NUMBERS_OF_A_PASS: u64 = 6;

/// The worst case of a learner's memory, part by part; or about what its device holds. What the device needs to compute a
/// minibatch depends on the network, not on any peer: it is in [`Config::device_memory`] and not in
/// [`Config::memory_bound`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBound {
    /// What for, and bytes.
    pub terms: Vec<(&'static str, u64)>,
}

impl MemoryBound {
    /// All parts together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.terms
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// All parts together, in MiB, rounded up.
    #[must_use]
    pub fn mib(&self) -> u64 {
        self.bytes().div_ceil(1 << 20)
    }

    /// The largest part.
    #[must_use]
    pub fn largest(&self) -> (&'static str, u64) {
        let largest = self.terms.iter().max_by_key(|(_, bytes)| *bytes);
        largest.copied().unwrap_or_default()
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} MiB:", self.mib())?;
        for (index, (what, bytes)) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let mib = *bytes as f64 / f64::from(1 << 20);
            write!(formatter, "{comma} {mib:.1} {what}")?;
        }
        Ok(())
    }
}

impl Config {
    /// The largest message that the learner reads: no honest actor's unroll is larger.
    #[must_use]
    pub fn message_bytes_read_max(&self, agreement: &Agreement) -> usize {
        message_bytes_read_max(self.limits.message_bytes_max, agreement)
    }

    /// The worst case of the learner's memory.
    #[must_use]
    pub fn memory_bound(&self, agreement: &Agreement) -> MemoryBound {
        let limits = &self.limits;
        let unroll = unroll_message_bytes(agreement) as u64;
        let payload = payload_bytes(&agreement.network) as u64;
        let flat = FlatLayout::of(&agreement.network);
        let snapshot = flat.bytes(self.learner.snapshot_encoding) as u64;
        let chunk = snapshot.min(SNAPSHOT_CHUNK_BYTES_MAX as u64);
        let streams = streams_of_a_kind_max(limits.actors_max) as u64;
        let observation = agreement.environment.observation.len() as u64;
        let rows = self.batch_rows() as u64;
        // Observation and final observation become numbers; the rest of a row is as large as on the wire.
        let row = (2 * observation + 16 + agreement.environment.action.len() as u64) * FLOAT_BYTES
            + agreement.environment.mask_len() as u64;
        let phase = if self.algorithm.objective == Objective::Ppg {
            self.algorithm.ppg_policy_updates as u64
        } else {
            0
        };
        let connection = limits.window_bytes as u64
            + CONNECTION_BYTES
            + product(&[
                limits.streams_per_connection_max as u64,
                limits.header_bytes_max as u64,
            ]);
        let message = self.message_bytes_read_max(agreement) as u64;
        let batches = self.learner.reservoir_batches as u64 + BATCHES;
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let parts = self.gradient_parts(&agreement.network, cores) as u64;
        let mut terms = vec![
            (
                "connections",
                product(&[limits.connections_max as u64, connection]),
            ),
            (
                "messages being read",
                product(&[limits.streams_max as u64, message, GROWTH]),
            ),
            ("unrolls that wait for a place", product(&[streams, unroll])),
            (
                "the queue",
                product(&[self.learner.queue_unrolls as u64, unroll]),
            ),
            ("batches", product(&[batches, rows, row])),
            // Kept, and once more on the device while it trains.
            ("an auxiliary phase", product(&[2, phase, rows, row])),
            (
                "parameters being sent",
                product(&[streams, CHUNKS * chunk + SEND_BUFFER_BYTES]),
            ),
            (
                "published parameters",
                // Each slow reader may hold another one.
                product(&[self.lag.inject.versions_max() + 2 + streams, snapshot]),
            ),
            (
                "the trainer's parameters",
                product(&[
                    PARAMETER_COPIES + PARAMETER_COPIES_OF_A_PART * (parts - 1),
                    payload,
                ]),
            ),
        ];
        if self.actor.inference == InferencePlace::Central {
            terms.push(("acting for actors", self.acting_bytes(agreement, streams)));
        }
        MemoryBound { terms }
    }

    /// What central inference holds: requests and answers as messages and as numbers, seats, one pass, and the parameters.
    fn acting_bytes(&self, agreement: &Agreement, streams: u64) -> u64 {
        let environments = agreement.rollout.environments as u64;
        let message = act_message_bytes(agreement) as u64;
        let state = agreement.network.state_len() as u64 * FLOAT_BYTES;
        let observation = agreement.environment.observation.len() as u64 * FLOAT_BYTES;
        let outputs = agreement.network.distribution_len() as u64 * FLOAT_BYTES;
        let seat = product(&[environments, state.saturating_add(GENERATOR_BYTES)]);
        let of_streams = product(&[streams, message.saturating_mul(MESSAGE_COPIES) + seat]);
        let row = GROWTH * (observation + 2 * state + outputs);
        let pass = product(&[self.learner.inference_batch_rows_max as u64, row]);
        let parameters = product(&[
            ACTING_PARAMETER_COPIES,
            payload_bytes(&agreement.network) as u64,
        ]);
        of_streams.saturating_add(pass).saturating_add(parameters)
    }
}

impl Config {
    /// About what the learner holds on its device during an update. How its allocator rounds comes on top.
    #[must_use]
    pub fn device_memory(&self, agreement: &Agreement) -> MemoryBound {
        let (environment, network) = (&agreement.environment, &agreement.network);
        let payload = payload_bytes(network) as u64;
        let len = environment.observation.len() as u64;
        let steps = self.batch_rows() as u64;
        let columns = product(&[
            agreement.rollout.environments as u64,
            self.learner.batch_unrolls as u64,
        ]);
        let has_target = self.algorithm.ratio == Ratio::TargetNetwork;
        // Bytes go up four to a number where that comes out even.
        let packs = environment.observation.element == ElementType::U8 && len.is_multiple_of(4);
        let number_bytes = if packs { 1 } else { FLOAT_BYTES };
        let step = (environment.action.len() + environment.mask_len()) as u64;
        let arrays = product(&[steps.saturating_add(columns), len, number_bytes])
            .saturating_add(product(&[steps, step, FLOAT_BYTES]));
        let epochs = self.algorithm.epochs as u64;
        let passes = product(&[NUMBERS_OF_A_PASS, epochs, steps, FLOAT_BYTES]);
        let minibatch = steps.div_ceil(self.algorithm.minibatches.max(1) as u64);
        // Each number that is kept has a gradient; what nothing is learnt from is kept by no one.
        let rows = minibatch.saturating_mul(2);
        let rows = rows.max(steps.min(EVALUATION_ROWS_MAX as u64));
        let kept = (kept_len(network) as u64).saturating_add(len);
        MemoryBound {
            terms: vec![
                (
                    "parameters, gradients and moments",
                    product(&[PARAMETERS_ON_DEVICE + u64::from(has_target), payload]),
                ),
                ("the batch", arrays.saturating_add(passes)),
                // Staged while this one is trained on.
                ("the next batch", arrays),
                ("activations", product(&[rows, kept, FLOAT_BYTES])),
            ],
        }
    }
}

/// The largest message that a learner with `message_bytes_max` reads from the actors of `agreement`.
#[must_use]
pub fn message_bytes_read_max(message_bytes_max: usize, agreement: &Agreement) -> usize {
    /// A greeting is small, but not nothing.
    const GREETING_BYTES: usize = 64 * 1024;
    unroll_message_bytes(agreement)
        .saturating_add(GREETING_BYTES)
        .min(message_bytes_max)
}

/// Streams of one kind that a learner opens: an actor that reconnects may have its old one open for a while.
#[must_use]
pub fn streams_of_a_kind_max(actors_max: usize) -> usize {
    actors_max.saturating_mul(2).saturating_add(2)
}

fn product(factors: &[u64]) -> u64 {
    factors
        .iter()
        .fold(1, |product, factor| product.saturating_mul(*factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ActionSpec, EncoderSpec, EnvironmentSpec, ImageLayout, ObservationSpec};

    fn agreement(config: &Config, environment: EnvironmentSpec) -> Agreement {
        Agreement {
            network: config.network(&environment),
            rollout: config.rollout(),
            environment,
        }
    }

    #[test]
    fn what_a_device_holds_follows_from_network_and_batch() {
        let sets = [
            "actor.unroll_length=10",
            "actor.environments_per_actor=2",
            "learner.batch_unrolls=5",
            "learner.queue_unrolls=5",
            "policy.hidden_sizes=[8]",
            "algorithm.epochs=3",
            "algorithm.minibatches=2",
        ];
        let sets = sets.map(str::to_owned);
        let config = Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config;
        let shown = ObservationSpec::floats([4], [-1.0, 1.0]);
        let environment = EnvironmentSpec::new("Test-v0", shown, ActionSpec::Discrete(2));
        let agreement = agreement(&config, environment);
        let parameters = payload_bytes(&agreement.network) as u64;
        let held = config.device_memory(&agreement);
        let terms = held.terms.iter().map(|(_, bytes)| *bytes);
        let expected = [
            9 * parameters,
            // 100 steps and 10 bootstrap states of 4 numbers; an action, and 6 numbers in each of 3 passes.
            4 * (110 * 4 + 100 * (1 + 6 * 3)),
            4 * (110 * 4 + 100),
            // A minibatch of 50 steps, with gradients: 4 numbers seen, 8 units before and after ReLU in each of two torsos.
            4 * 2 * 50 * (4 + 2 * 2 * 8),
        ];
        assert_eq!(terms.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_picture_is_a_byte_a_number_and_its_convolutions_are_most_of_it() {
        let sets = ["policy.shared_torso=true".to_owned()];
        let config = Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config;
        let shown = ObservationSpec::bytes([4, 84, 84], 255);
        let environment = EnvironmentSpec::new("Test-v0", shown, ActionSpec::Discrete(2));
        let mut agreement = agreement(&config, environment);
        // 32 x 20 x 20, 64 x 9 x 9 and 64 x 7 x 7, then 512, all before and after ReLU (Mnih et al. 2015).
        agreement.network.encoder = EncoderSpec::NatureConv {
            layout: ImageLayout::ChannelsFirst,
            hidden_sizes: vec![512],
        };
        assert_eq!(
            kept_len(&agreement.network),
            2 * (12_800 + 5_184 + 3_136 + 512)
        );
        let held = config.device_memory(&agreement);
        assert_eq!(held.largest().0, "activations");
        let steps = config.batch_rows() as u64;
        let batch = held.terms[1].1;
        assert!(
            (steps * 28_224..steps * 28_224 * 2).contains(&batch),
            "{held}"
        );
    }
}
