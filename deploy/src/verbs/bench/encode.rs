//! An unroll on its way into a message, beside a copy of as many bytes.

use springbok_common::wire::{encode_unroll, message_bytes};

use super::{
    stage::{Cases, Loops, MIB},
    subject::Subject,
};

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
    let message = Loops {
        case: "arrays to a message's bytes".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            std::hint::black_box(message_bytes(&encode_unroll(&unroll)));
            Ok(mib)
        }),
        ceiling: copying(&encoded),
    };
    Ok(vec![Box::new(arrays), Box::new(message)])
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
