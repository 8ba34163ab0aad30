//! The spans of an unroll that is followed, at the actor: its making and its sending.

use std::sync::{Arc, Mutex, PoisonError};

use springbok_common::{
    ids::UnrollSequence,
    trace::{self, TARGET},
    unroll::{UnrollHeader, UnrollTiming},
};
use tracing::{Span, debug_span, field::Empty};

/// An unroll that is followed, or, as most are, one that is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traced(Option<Spans>);

#[derive(Debug, Clone)]
struct Spans {
    /// From its first step until it is settled.
    unroll: Span,
    /// Of all copies that wait to be acknowledged.
    stage: Arc<Mutex<Option<Span>>>,
}

impl Traced {
    /// The unroll with that number is begun.
    pub(crate) fn begin(sequence: UnrollSequence) -> Self {
        if !trace::is_sampled(sequence) {
            return Self::default();
        }
        let unroll = debug_span!(target: TARGET, parent: None, "unroll", sequence = sequence.0);
        let rollout = debug_span!(
            target: TARGET,
            parent: &unroll,
            "rollout",
            policy_version = Empty,
            environment_us = Empty,
            inference_us = Empty
        );
        Self(Some(Spans {
            unroll,
            stage: Arc::new(Mutex::new(Some(rollout))),
        }))
    }

    /// Its last step is made; it is about to be sent, or waits for that.
    pub(crate) fn made(&self, header: &UnrollHeader, timing: &UnrollTiming) {
        let Some(spans) = &self.0 else { return };
        let rollout = spans.enter(debug_span!(target: TARGET, parent: &spans.unroll, "send"));
        if let Some(rollout) = rollout {
            rollout.record("policy_version", header.version.0);
            rollout.record("environment_us", timing.environment_us);
            rollout.record("inference_us", timing.inference_us);
        }
    }

    /// It is handed to the stream, perhaps again: gives the `traceparent` that travels with it, which may be empty.
    pub(crate) fn sent(&self) -> String {
        let Some(spans) = &self.0 else {
            return String::new();
        };
        let mut stage = spans.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let again = || debug_span!(target: TARGET, parent: &spans.unroll, "send", again = true);
        let send = stage.take().unwrap_or_else(again);
        trace::name(&send).map_or_else(String::new, |name| name.to_string())
    }
}

impl Spans {
    /// The span of the next stage begins; gives that of the one before.
    fn enter(&self, span: Span) -> Option<Span> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        stage.replace(span)
    }
}
