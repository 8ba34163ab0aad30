//! Messages of the wire.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use springbok_common::{
    config::SnapshotEncoding,
    ids::{ActorId, UnrollSequence},
    policy,
    reject::{RejectReason, Verdict},
    snapshot::ParameterSnapshot,
    spec::{NetworkSpec, SpecFingerprint},
    step::StepOutcome,
    unroll::{Agreement, Served, Unroll, UnrollHeader},
    version::{LearnerEpoch, PolicyVersion},
    wire,
};
use springbok_learner::admission::{Admission, Fence, Screened};
use springbok_proto::v1::{self, actor_message, learner_message};

use super::{
    Example,
    samples::{RUN, agreements, good_unrolls, run_id},
};

const ACTOR: [u8; 16] = [9; 16];
/// Layout fingerprint and length of the snapshots.
const LAYOUT: u64 = 99;
const SNAPSHOT_BYTES: usize = 96;
const ROUNDED: SnapshotEncoding = SnapshotEncoding::Bf16;
/// Policy version that was published last.
const NEWEST: PolicyVersion = PolicyVersion(12);

pub(super) fn message<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(Bytes::copy_from_slice(bytes)).ok()
}

/// The messages that follow each other in `bytes`, each behind its length.
fn messages<M: Message + Default>(bytes: &[u8]) -> impl Iterator<Item = M> {
    let mut rest = Bytes::copy_from_slice(bytes);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        M::decode_length_delimited(&mut rest).ok()
    })
}

// === Unrolls ===

pub(super) fn unrolls() -> Vec<Example> {
    let names = ["plain", "rich", "torque"];
    let encoded = good_unrolls(4).into_iter();
    let encoded = encoded.map(|unroll| wire::encode_unroll(&unroll).encode_to_vec());
    let mut examples: Vec<Example> = names.into_iter().zip(encoded).collect();
    examples.push(("framed", framed().encode_to_vec()));
    examples
}

/// Bytes that travel in a frame: so few would not be compressed, so the frame is made by hand.
fn framed() -> v1::Unroll {
    // Magic number; a single segment with a size of one byte; 18 bytes; a last block of 18 times 5.
    let frame = [
        0x28,
        0xb5,
        0x2f,
        0xfd,
        0x20,
        18,
        (18 << 3) | (1 << 1) | 1,
        0,
        0,
        5,
    ];
    v1::Unroll {
        observations: Bytes::new(),
        bootstrap_observations: Bytes::new(),
        final_observations: Bytes::new(),
        zstd_observations: Bytes::copy_from_slice(&frame),
        ..wire::encode_unroll(&good_unrolls(4)[1])
    }
}

/// What was admitted satisfies what the trainer relies on, and survives the wire once more.
pub(super) fn unroll(bytes: &[u8]) -> bool {
    let Some(message) = message::<v1::Unroll>(bytes) else {
        return false;
    };
    let mut admitted = false;
    for agreement in agreements() {
        if let Ok(unroll) = wire::decode_unroll(message.clone(), &agreement) {
            assert_sound(&unroll, &agreement);
            admitted = true;
        }
    }
    admitted
}

fn assert_sound(unroll: &Unroll, agreement: &Agreement) {
    let parts = unroll.parts();
    let (rows, columns) = (agreement.rollout.steps(), agreement.rollout.environments);
    let environment = &agreement.environment;
    let width = environment.observation.len();
    assert_eq!(parts.observations.len(), rows * width);
    assert_eq!(parts.bootstrap_observations.len(), columns * width);
    assert_eq!(
        parts.final_observations.len(),
        parts.final_rows.len() * width
    );
    assert_eq!(
        parts.observations.element(),
        environment.observation.element
    );
    assert_eq!(
        parts.core_states.len(),
        columns * agreement.network.state_len()
    );
    assert_eq!(parts.actions.len(), rows * environment.action.len());
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    for elements in [
        &parts.observations,
        &parts.bootstrap_observations,
        &parts.final_observations,
    ] {
        assert!(elements.as_ref().as_f32().is_none_or(finite));
    }
    assert!(finite(&parts.rewards) && finite(&parts.core_states));
    assert!(finite(&parts.behaviour_log_probs) && finite(parts.actions.as_ref().values()));
    let heads = environment.action.heads();
    for (at, &index) in parts.actions.as_ref().indices().iter().enumerate() {
        assert!(
            index < heads[at % heads.len()],
            "action {index} does not exist"
        );
    }
    for (row, outcome) in parts.outcomes.iter().enumerate() {
        let has_final = parts.final_rows.contains(&(row as u32));
        assert_eq!(has_final, *outcome == StepOutcome::Truncated);
    }
    let again = wire::encode_unroll(unroll);
    assert!(again.encoded_len() <= wire::unroll_message_bytes(agreement));
    assert_eq!(wire::decode_unroll(again, agreement).as_ref(), Ok(unroll));
}

// === The conversation of an actor ===

pub(super) fn conversations() -> Vec<Example> {
    let [agreement, ..] = agreements();
    let hello = actor_message::Kind::Hello(v1::StreamHello {
        actor_id: ACTOR.to_vec().into(),
        run_id: RUN.to_vec().into(),
        learner_epoch: 1,
        spec_fingerprint: agreement.fingerprint().0,
    });
    let unroll = |sequence| {
        let unroll = &good_unrolls(sequence)[0];
        actor_message::Kind::Unroll(wire::encode_unroll(unroll))
    };
    let goodbye = |final_sequence| actor_message::Kind::Goodbye(v1::Goodbye { final_sequence });
    let encoded = |kinds: Vec<actor_message::Kind>| -> Vec<u8> {
        let messages = kinds
            .into_iter()
            .map(|kind| v1::ActorMessage { kind: Some(kind) });
        messages
            .flat_map(|message| message.encode_length_delimited_to_vec())
            .collect()
    };
    vec![
        (
            "whole",
            encoded(vec![
                hello.clone(),
                unroll(1),
                unroll(2),
                unroll(2),
                goodbye(2),
            ]),
        ),
        (
            "gap",
            encoded(vec![hello, unroll(1), unroll(5), goodbye(7)]),
        ),
    ]
}

/// The messages of a stream, through the checks that the service makes of them: whatever is said, the ledger balances,
/// and no number is admitted twice.
pub(super) fn conversation(bytes: &[u8]) -> bool {
    let [agreement, ..] = agreements();
    let fence = Fence {
        run_id: run_id(),
        epoch: LearnerEpoch::FIRST,
        lag_versions_max: Some(8),
    };
    let actor = ActorId::from_bytes(&ACTOR).expect("16 bytes");
    let mut door = Admission::new(fence, 4);
    door.join(actor, None, None, Instant::now())
        .expect("a free place");
    let (mut last_admitted, mut admitted) = (0, 0);
    for message in messages::<v1::ActorMessage>(bytes) {
        let settled = match message.kind {
            Some(actor_message::Kind::Unroll(unroll)) => {
                let Some(header) = wire::decode_header(&unroll) else {
                    break;
                };
                let verdict = admit(&mut door, actor, &header, unroll, &agreement);
                if verdict == Ok(Verdict::Admitted) {
                    assert!(header.sequence.0 > last_admitted, "admitted twice");
                    last_admitted = header.sequence.0;
                    admitted += 1;
                }
                verdict.map(|_| ())
            }
            Some(actor_message::Kind::Goodbye(goodbye)) => door
                .goodbye(actor, UnrollSequence(goodbye.final_sequence))
                .map_err(|_| ()),
            Some(actor_message::Kind::Hello(_)) => Ok(()),
            None => Err(()),
        };
        assert_eq!(door.ledger.counts().admitted, admitted);
        let counts = door.ledger.counts();
        assert_eq!(
            counts.produced,
            counts.admitted + counts.rejected + counts.lost
        );
        if settled.is_err() {
            break;
        }
    }
    admitted > 0
}

/// As the service does it.
fn admit(
    door: &mut Admission,
    actor: ActorId,
    header: &UnrollHeader,
    unroll: v1::Unroll,
    agreement: &Agreement,
) -> Result<Verdict, ()> {
    let verdict = match door.screen(actor, header, NEWEST).map_err(|_| ())? {
        Screened::Settled(verdict) => verdict,
        Screened::Content => {
            let content = wire::decode_unroll(unroll, agreement);
            let content = content.and_then(|unroll| {
                Admission::check_steps(&unroll, NEWEST)?;
                unroll.check_rewards(1e6)
            });
            door.settle(actor, header.sequence, content)
                .map_err(|_| ())?
        }
    };
    if let Verdict::Rejected(reason) = verdict {
        door.judge(actor, None, reason, Instant::now());
    }
    Ok(verdict)
}

// === What the learner says ===

pub(super) fn joins() -> Vec<Example> {
    let names = ["plain", "rich", "torque"];
    let terms = agreements().map(|agreement| wire::JoinTerms {
        run_id: run_id(),
        epoch: LearnerEpoch(3),
        actor_index: 7,
        environment_id: agreement.environment.id.clone(),
        environment_options: "size = 5".into(),
        network: agreement.network,
        rollout: agreement.rollout,
        seed: u64::MAX,
        fingerprint: SpecFingerprint(42),
        outbox_unrolls: 2,
        message_bytes_max: 1 << 20,
        unrolls_per_snapshot: std::num::NonZeroU32::new(3),
        life_versions: std::num::NonZeroU64::new(50),
        refresh: springbok_common::config::Refresh::Step,
        inference: springbok_common::config::InferencePlace::Central,
        observations: springbok_common::config::ObservationEncoding::Zstd,
    });
    let encoded = terms.map(|terms| wire::join_reply(&terms).encode_to_vec());
    names.into_iter().zip(encoded).collect()
}

/// Terms survive the wire; a network without fault has a size that can be computed.
pub(super) fn join(bytes: &[u8]) -> bool {
    let Some(Ok(terms)) = message::<v1::JoinReply>(bytes).map(wire::join_terms) else {
        return false;
    };
    let again = wire::join_terms(wire::join_reply(&terms));
    if terms.network.fault().is_some() {
        return false;
    }
    assert_eq!(again.ok().as_ref(), Some(&terms));
    assert_small(&terms.network);
    let row = terms.network.observation.row_bytes();
    let unroll = terms.rollout.steps().checked_mul(row);
    assert!(
        unroll.is_some_and(|bytes| bytes <= terms.message_bytes_max),
        "an unroll would not fit into a message"
    );
    assert!(terms.message_bytes_max <= wire::MESSAGE_BYTES_MAX);
    true
}

pub(super) fn networks() -> Vec<Example> {
    let [plain, rich, torque] = agreements().map(|agreement| {
        serde_json::to_vec(&agreement.network).expect("numbers and lists have a JSON form")
    });
    vec![("plain", plain), ("rich", rich), ("torque", torque)]
}

/// The description of a network in otherwise good terms.
pub(super) fn network(bytes: &[u8]) -> bool {
    let network = String::from_utf8_lossy(bytes).into_owned();
    let (_, good) = joins().swap_remove(0);
    let reply = message::<v1::JoinReply>(&good).expect("good terms");
    join(&v1::JoinReply { network, ..reply }.encode_to_vec())
}

/// What both sides do with a network that has no fault, before they make room for it.
pub(super) fn assert_small(network: &NetworkSpec) {
    let bytes = policy::payload_bytes(network);
    assert!(
        bytes as u64 <= policy::PARAMETERS_MAX * 4,
        "a network of {bytes} bytes is no fault"
    );
    let _ = policy::layout_fingerprint(network);
}

pub(super) fn snapshots() -> Vec<Example> {
    let served = Served {
        newest: PolicyVersion(7),
        issued_us: 12_345,
    };
    let snapshot = |version: u64| {
        let payload: Bytes = (0..SNAPSHOT_BYTES)
            .map(|i| (i as u64 * version % 251) as u8)
            .collect();
        ParameterSnapshot::seal(LearnerEpoch::FIRST, PolicyVersion(version), LAYOUT, payload)
    };
    let whole = [5, 6].map(|version| {
        let mut chunks = wire::snapshot_chunks(&snapshot(version), served);
        chunks.remove(0)
    });
    // A chunk of such a network is never full; in halves it goes the way of a larger one.
    let [first, _] = &whole;
    let half = |range: std::ops::Range<usize>| v1::SnapshotChunk {
        offset: range.start as u64,
        payload: first.payload.slice(range),
        ..first.clone()
    };
    let halves = [
        half(0..SNAPSHOT_BYTES / 2),
        half(SNAPSHOT_BYTES / 2..SNAPSHOT_BYTES),
    ];
    let encoded = |chunks: &[v1::SnapshotChunk]| -> Vec<u8> {
        chunks
            .iter()
            .flat_map(Message::encode_length_delimited_to_vec)
            .collect()
    };
    let flat = policy::FlatLayout::weights(SNAPSHOT_BYTES / 4);
    let packed = flat.pack(ROUNDED, snapshot(5).payload());
    let packed = packed.expect("as long as the layout");
    let (epoch, version) = (LearnerEpoch::FIRST, PolicyVersion(5));
    let rounded = ParameterSnapshot::seal_in(ROUNDED, epoch, version, LAYOUT, packed);
    let rounded = wire::snapshot_chunks(&rounded, served);
    vec![
        ("whole", encoded(&whole)),
        ("halves", encoded(&halves)),
        ("rounded", encoded(&rounded)),
    ]
}

/// A snapshot that comes out is whole, and is one that was sealed.
pub(super) fn snapshot(bytes: &[u8]) -> bool {
    let mut assembler =
        wire::SnapshotAssembler::new(LAYOUT, policy::FlatLayout::weights(SNAPSHOT_BYTES / 4));
    let mut complete = false;
    for chunk in messages::<v1::SnapshotChunk>(bytes) {
        if let Ok(Some((snapshot, _))) = assembler.push(chunk) {
            assert_eq!(snapshot.payload().len(), SNAPSHOT_BYTES);
            let flat = policy::FlatLayout::weights(SNAPSHOT_BYTES / 4);
            let sealed = [SnapshotEncoding::F32, ROUNDED].map(|encoding| {
                let packed = flat.pack(encoding, snapshot.payload());
                let packed = packed.expect("as long as the layout");
                let (epoch, version) = (snapshot.epoch(), snapshot.version());
                ParameterSnapshot::seal_in(encoding, epoch, version, LAYOUT, packed).checksum()
            });
            assert!(sealed.contains(&snapshot.checksum()));
            complete = true;
        }
    }
    complete
}

pub(super) fn acknowledgements() -> Vec<Example> {
    let encoded = |kind| v1::LearnerMessage { kind: Some(kind) }.encode_to_vec();
    let verdict = |verdict| {
        let message = wire::acknowledgement(UnrollSequence(300), verdict);
        encoded(learner_message::Kind::Acknowledgement(message))
    };
    vec![
        ("admitted", verdict(Verdict::Admitted)),
        (
            "rejected",
            verdict(Verdict::Rejected(RejectReason::NonFiniteReward)),
        ),
        (
            "draining",
            encoded(learner_message::Kind::Draining(v1::Draining {})),
        ),
    ]
}

/// A verdict survives the wire.
pub(super) fn acknowledgement(bytes: &[u8]) -> bool {
    let kind = message::<v1::LearnerMessage>(bytes).and_then(|message| message.kind);
    let Some(learner_message::Kind::Acknowledgement(message)) = kind else {
        return kind.is_some();
    };
    let Some((sequence, verdict)) = wire::parse_acknowledgement(&message) else {
        return false;
    };
    let again = wire::acknowledgement(sequence, verdict);
    assert_eq!(
        wire::parse_acknowledgement(&again),
        Some((sequence, verdict))
    );
    true
}
