//! An unroll on its way into a message, beside a copy of as many bytes.

use bytes::Bytes;
use springbok_common::{
    config::ObservationEncoding,
    unroll::Unroll,
    wire::{FrameCompressor, encode_unroll, message_bytes},
};

use super::{
    stage::{Cases, Loops, MIB},
    subject::Subject,
};
use crate::exit::Failure;

/// What the ceiling of everything that moves bytes is.
pub(super) const MEMCPY: &str = "memcpy of as many bytes";

/// The two steps of it, together and one alone.
pub(super) fn cases(subject: &Subject) -> Cases {
    let unroll = subject.unrolls(1)?.remove(0);
    let encoded = message_bytes(&encode_unroll(&unroll));
    let mib = encoded.len() as f64 / MIB;
    let arrays = {
        let unroll = unroll.clone();
        Loops {
            case: "arrays to bytes".to_owned(),
            unit: "MiB/s",
            against: MEMCPY,
            ours: Box::new(move || {
                std::hint::black_box(encode_unroll(&unroll));
                Ok(mib)
            }),
            ceiling: copying(&encoded),
        }
    };
    let mut encode = encoder(subject)?;
    let share = 100.0 * encode(&unroll).len() as f64 / encoded.len() as f64;
    let case = match subject.config.actor.observation_encoding {
        ObservationEncoding::Auto | ObservationEncoding::Raw => {
            "arrays to a message's bytes".to_owned()
        }
        ObservationEncoding::Zstd => format!("the same compressed, to {share:.1} %"),
    };
    let message = Loops {
        case,
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            std::hint::black_box(encode(&unroll));
            Ok(mib)
        }),
        ceiling: copying(&encoded),
    };
    Ok(vec![Box::new(arrays), Box::new(message)])
}

/// Makes messages' bytes as the configured actor sends them.
pub(super) fn encoder(
    subject: &Subject,
) -> Result<impl FnMut(&Unroll) -> Bytes + 'static, Failure> {
    let agreement = subject.agreement.clone();
    let compressed = subject.config.actor.observation_encoding == ObservationEncoding::Zstd;
    let frames = compressed.then(FrameCompressor::new).transpose();
    let mut frames = frames.map_err(Failure::internal)?;
    Ok(move |unroll: &Unroll| {
        let mut message = encode_unroll(unroll);
        if let Some(frames) = &mut frames {
            frames.pack(&mut message, &agreement);
        }
        message_bytes(&message)
    })
}

/// Copies `bytes` into memory that is there already, in MiB.
pub(super) fn copying(bytes: &[u8]) -> super::stage::Work {
    let (from, mut to) = (bytes.to_vec(), vec![0_u8; bytes.len()]);
    let mib = from.len() as f64 / MIB;
    Box::new(move || {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        Ok(mib)
    })
}
