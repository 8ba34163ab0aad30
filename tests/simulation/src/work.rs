//! The task that everyone works on: four steps of two environments with three numbers to see and two actions. Its
//! parameters say which they are, and its unrolls which they are.

use bytes::Bytes;
use springbok_common::{
    arrays::{Actions, Elements},
    policy::payload_bytes,
    spec::{ActionSpec, Activation, EnvironmentSpec, NetworkSpec, ObservationSpec, RolloutShape},
    step::StepOutcome,
    unroll::{Agreement, EpisodeSummary, Served, Unroll, UnrollHeader, UnrollParts, UnrollTiming},
    wire::SNAPSHOT_CHUNK_BYTES_MAX,
};

/// What both sides agree on, and what its parameters look like.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) agreement: Agreement,
    payload_bytes: usize,
}

impl Task {
    /// A task whose network has these hidden layers.
    pub(crate) fn new(hidden_sizes: Vec<usize>) -> Self {
        let environment = EnvironmentSpec::new(
            "Simulated-v0",
            ObservationSpec::floats([3], [-1.0, 1.0]),
            ActionSpec::Discrete(2),
        );
        let network = NetworkSpec::mlp(&environment, hidden_sizes, Activation::Relu, false);
        Self {
            payload_bytes: payload_bytes(&network),
            agreement: Agreement {
                network,
                environment,
                rollout: RolloutShape {
                    unroll_length: 4,
                    environments: 2,
                },
            },
        }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The parameters of `version` in a `life` of the learner: in each chunk the same number again and again, and no
    /// other chunk's.
    pub(crate) fn parameters(&self, life: u32, version: u64) -> Bytes {
        let mut payload = Vec::with_capacity(self.payload_bytes);
        for chunk in 0..self.payload_bytes.div_ceil(SNAPSHOT_CHUNK_BYTES_MAX) {
            let number = (life << 20) | ((chunk as u32) << 16) | (version as u32) | MARK;
            let left = self.payload_bytes - payload.len();
            let count = left.min(SNAPSHOT_CHUNK_BYTES_MAX) / 4;
            payload.extend(number.to_le_bytes().repeat(count));
        }
        payload.into()
    }

    /// Parameters of which the second half is still that of the version before.
    pub(crate) fn torn_parameters(&self, life: u32, version: u64) -> Bytes {
        let new = self.parameters(life, version);
        let old = self.parameters(life, version.saturating_sub(1));
        let half = new.len() / 2;
        [&new[..half], &old[half..]].concat().into()
    }

    /// Parameters of which the first two chunks have changed places; `None` if there are not two.
    pub(crate) fn shuffled_parameters(&self, life: u32, version: u64) -> Option<Bytes> {
        let right = self.parameters(life, version);
        let (first, rest) = right.split_at_checked(SNAPSHOT_CHUNK_BYTES_MAX)?;
        let (second, rest) = rest.split_at(rest.len().min(SNAPSHOT_CHUNK_BYTES_MAX));
        (!second.is_empty()).then(|| [second, first, rest].concat().into())
    }
}

/// In the numbers of all parameters: with it they are no tiny ones.
const MARK: u32 = 0x4000_0000;

/// The unroll `id`; `None` if the real checks refuse it.
pub(crate) fn unroll(
    agreement: &Agreement,
    header: UnrollHeader,
    served: Served,
    id: u64,
) -> Option<Unroll> {
    let rows = agreement.rollout.steps();
    let mut outcomes = vec![StepOutcome::Continued; rows];
    outcomes[5] = StepOutcome::Truncated;
    let parts = UnrollParts {
        header,
        step_versions: Vec::new(),
        observations: Elements::F32(vec![0.5; rows * 3]),
        bootstrap_observations: Elements::F32(vec![0.25; 2 * 3]),
        actions: Actions::Indices(vec![1; rows]),
        action_masks: Vec::new(),
        core_states: Vec::new(),
        rewards: vec![1.0; rows],
        behaviour_log_probs: vec![-0.7; rows],
        outcomes,
        final_rows: vec![5],
        final_observations: Elements::F32(vec![0.0; 3]),
        // Where the id travels.
        episodes: vec![EpisodeSummary {
            episode_return: id as f64,
            length: 3,
        }],
        timing: UnrollTiming {
            rollout_us: 100,
            served,
            ..UnrollTiming::default()
        },
    };
    Unroll::new(parts, agreement).ok()
}

/// Which unroll this is.
pub(crate) fn id_of(unroll: &Unroll) -> Option<u64> {
    unroll
        .parts()
        .episodes
        .first()
        .map(|episode| episode.episode_return as u64)
}

/// The learner's life that made these parameters, as they say themselves.
pub(crate) fn life_of(payload: &[u8]) -> u32 {
    let first = payload
        .first_chunk()
        .map_or(0, |first| u32::from_le_bytes(*first));
    (first & !MARK) >> 20
}
