//! What the learner does with a message before it trains: decoding and checking, admission, the batch.

use std::{cell::RefCell, rc::Rc, time::Instant};

use springbok_common::{
    ids::{ActorId, UnrollSequence},
    unroll::UnrollHeader,
    version::{LearnerEpoch, PolicyVersion},
    wire::{encode_unroll, message_bytes, unroll_of_bytes},
};
use springbok_learner::{
    admission::{Admission, Fence},
    books::Books,
    trainer::batch::Batch,
};

use super::{
    encode::{MEMCPY, copying, encoder},
    stage::{Cases, Loops, MIB},
    subject::{Subject, assemble},
};
use crate::exit::Failure;

/// Unrolls that are admitted between two looks at the clock.
const ADMITTED: u64 = 64;

/// Each step alone, then all of them.
pub(super) fn cases(subject: &Subject) -> Cases {
    let unrolls = subject.unrolls(subject.config.learner.batch_unrolls)?;
    let mut encode = encoder(subject)?;
    let encoded: Vec<_> = unrolls.iter().map(&mut encode).collect();
    // Compressed messages count as what they hold.
    let plain = unrolls
        .iter()
        .map(|unroll| message_bytes(&encode_unroll(unroll)));
    let all = plain.collect::<Vec<_>>().concat();
    let mib = all.len() as f64 / MIB;

    let (messages, agreement) = (encoded.clone(), subject.agreement.clone());
    let decode = Loops {
        case: "decode and check".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            for message in &messages {
                let unroll = unroll_of_bytes(message.clone(), &agreement);
                std::hint::black_box(unroll.map_err(Failure::internal)?);
            }
            Ok(mib)
        }),
        ceiling: copying(&all),
    };

    let agreement = subject.agreement.clone();
    let mut batch = Batch::default();
    let assembled = Loops {
        case: "batch".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            assemble(&mut batch, &unrolls, &agreement);
            std::hint::black_box(&batch);
            Ok(mib)
        }),
        ceiling: copying(&all),
    };

    let mut door = Door::open(subject)?;
    let agreement = subject.agreement.clone();
    let mut batch = Batch::default();
    let whole = Loops {
        case: "decode, admit, batch".to_owned(),
        unit: "MiB/s",
        against: MEMCPY,
        ours: Box::new(move || {
            let mut admitted = Vec::with_capacity(encoded.len());
            for message in &encoded {
                let unroll = unroll_of_bytes(message.clone(), &agreement);
                door.admit()?;
                admitted.push(unroll.map_err(Failure::internal)?);
            }
            assemble(&mut batch, &admitted, &agreement);
            std::hint::black_box(&batch);
            Ok(mib)
        }),
        ceiling: copying(&all),
    };
    let admission = admission(subject)?;
    Ok(vec![
        Box::new(decode),
        Box::new(admission),
        Box::new(assembled),
        Box::new(whole),
    ])
}

/// Books with one actor in them.
struct Door {
    books: Books,
    actor: ActorId,
    header: UnrollHeader,
}

impl Door {
    fn open(subject: &Subject) -> Result<Self, Failure> {
        let fence = Fence {
            run_id: subject.run_id,
            epoch: LearnerEpoch::FIRST,
            lag_versions_max: Some(0),
        };
        let actor = ActorId::random();
        let mut admission = Admission::new(fence, 1);
        admission
            .join(actor, None, None, Instant::now())
            .map_err(|_| Failure::internal("an empty roster refuses an actor"))?;
        Ok(Self {
            books: Books::new(admission),
            actor,
            header: UnrollHeader {
                run_id: fence.run_id,
                epoch: fence.epoch,
                sequence: UnrollSequence::FIRST,
                version: PolicyVersion(0),
            },
        })
    }

    /// Screens and settles the actor's next unroll, as a stream does.
    fn admit(&mut self) -> Result<(), Failure> {
        let (actor, header) = (self.actor, self.header);
        let screened = self.books.lock().screen(actor, &header, header.version);
        screened.map_err(Failure::internal)?;
        let settled = self.books.lock().settle(actor, header.sequence, Ok(()));
        settled.map_err(Failure::internal)?;
        self.header.sequence = UnrollSequence(header.sequence.0 + 1);
        Ok(())
    }
}

/// The books of an unroll, beside their lock alone.
fn admission(subject: &Subject) -> Result<Loops, Failure> {
    let door = Rc::new(RefCell::new(Door::open(subject)?));
    let locks = Rc::clone(&door);
    Ok(Loops {
        case: "admit".to_owned(),
        unit: "unrolls/s",
        against: "two empty turns in the books",
        ours: Box::new(move || {
            let mut door = door.borrow_mut();
            for _ in 0..ADMITTED {
                door.admit()?;
            }
            Ok(ADMITTED as f64)
        }),
        ceiling: Box::new(move || {
            let door = locks.borrow();
            for _ in 0..2 * ADMITTED {
                std::hint::black_box(&mut *door.books.lock());
            }
            Ok(ADMITTED as f64)
        }),
    })
}
