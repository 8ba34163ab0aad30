//! One unroll followed from the environment to the update that trains on it, through both processes.
//!
//! The spans are ordinary ones of `tracing`, at debug level with the target [`TARGET`]. Only every n-th unroll of an
//! actor's life has them ([`sample_every`]), so the others cost nothing. Where a [`Tracer`] is installed, the actor's span
//! travels with the unroll as a `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>), and the learner's
//! spans belong to the same trace.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::Span;

use crate::ids::UnrollSequence;

/// Target of all spans about unrolls.
pub const TARGET: &str = "springbok_common::trace";

/// Length of a `traceparent`.
const LENGTH: usize = 55;
/// The only version that there is, and the flag that says that the trace is recorded.
const VERSION: &str = "00";
const RECORDED: u8 = 1;

/// 0 samples none.
static EVERY: AtomicU64 = AtomicU64::new(0);
static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Which span of which trace, in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
}

impl TraceParent {
    /// That span of that trace; none is numbered 0.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id })
    }

    /// Reads a `traceparent` of version 00 that is recorded. Anything else is none: whoever sends it loses a trace, and
    /// nothing more.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower =
            |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
        if text.len() != LENGTH || !text.bytes().all(lower) {
            return None;
        }
        let mut fields = text.split('-');
        let (version, trace, span, flags) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let lengths = [version.len(), trace.len(), span.len(), flags.len()];
        if lengths != [2, 32, 16, 2] || version != VERSION || fields.next().is_some() {
            return None;
        }
        let is_recorded = u8::from_str_radix(flags, 16).ok()? & RECORDED != 0;
        let trace_id = u128::from_str_radix(trace, 16).ok()?;
        let span_id = u64::from_str_radix(span, 16).ok()?;
        Self::new(trace_id, span_id).filter(|_| is_recorded)
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The span.
    #[must_use]
    pub fn span_id(self) -> u64 {
        self.span_id
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id } = self;
        write!(
            formatter,
            "{VERSION}-{trace_id:032x}-{span_id:016x}-{RECORDED:02x}"
        )
    }
}

/// Knows how spans are called outside this process.
pub trait Tracer: Send + Sync {
    /// What `span` is called, if it is recorded.
    fn name(&self, span: &Span) -> Option<TraceParent>;

    /// Makes `span`, which was just made, a child of `parent`.
    fn follow(&self, span: &Span, parent: TraceParent);
}

/// Uses `tracer` in this process from now on; `false` if there is one already.
pub fn install(tracer: Box<dyn Tracer>) -> bool {
    TRACER.set(tracer).is_ok()
}

/// Follows one unroll of `unrolls` of each life of an actor, beginning with its first; 0 follows none.
pub fn sample_every(unrolls: u64) {
    EVERY.store(unrolls, Ordering::Relaxed);
}

/// Whether the unroll with that number is followed.
#[must_use]
pub fn is_sampled(sequence: UnrollSequence) -> bool {
    let every = EVERY.load(Ordering::Relaxed);
    every > 0 && sequence.0 % every == 1 % every
}

/// What `span` is called outside this process; none without a tracer.
#[must_use]
pub fn name(span: &Span) -> Option<TraceParent> {
    TRACER.get()?.name(span)
}

/// Makes `span`, which was just made, a child of `parent`; without a tracer it stays as it is.
pub fn follow(span: &Span, parent: TraceParent) {
    if let Some(tracer) = TRACER.get() {
        tracer.follow(span, parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        // The example of the W3C's recommendation.
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text).unwrap();
        assert_eq!(parent.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(parent.span_id(), 0x00f0_67aa_0ba9_02b7);
        assert_eq!(parent.to_string(), text);
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for bad in [
            "",
            zeros,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902-b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47\u{e4}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_unroll_and_every_nth_after_it_are_followed() {
        // No other test of this process samples.
        let sampled = |every| {
            sample_every(every);
            let numbers = (1..=9).filter(|number| is_sampled(UnrollSequence(*number)));
            numbers.collect::<Vec<_>>()
        };
        assert_eq!(sampled(4), [1, 5, 9]);
        assert_eq!(sampled(1).len(), 9);
        assert_eq!(sampled(0), [0; 0]);
    }
}
