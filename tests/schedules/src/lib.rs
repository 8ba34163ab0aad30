//! The hand-off from the streams to the trainer, `learner/src/queue/hand_off.rs`, over primitives whose every step is an
//! opportunity for another thread to run. The tests try the orders.
//!
//! What is checked is that file, word for word: the order of its own steps, and what it relies on its primitives for.
//! The primitives themselves, tokio's semaphore and crossbeam's channel, are taken to do what they promise, and so is the
//! memory model: between two steps everything is visible to everyone.
#![forbid(unsafe_code)]

mod primitives;

/// The real text.
#[path = "../../../learner/src/queue/hand_off.rs"]
pub mod hand_off;

mod sync {
    pub(crate) use crate::primitives::{
        OwnedSemaphorePermit, Receiver, RecvTimeoutError, Semaphore, Sender, TrySendError, bounded,
    };
}

/// Copies of it with a fault each; see `build.rs`.
macro_rules! faulty {
    ($($name:ident)*) => {
        $(
            #[allow(missing_docs, dead_code)]
            pub mod $name {
                use crate::sync;

                pub mod hand_off {
                    include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
                }
            }
        )*
    };
}

faulty!(lost twice unasked waits careless);
