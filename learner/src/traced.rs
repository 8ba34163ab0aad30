//! The spans of an unroll that is followed, at the learner: from its arrival to the end of its update.

use springbok_common::{
    ids::{ActorId, UnrollSequence},
    trace::{self, TARGET, TraceParent},
    version::PolicyVersion,
};
use tracing::{Span, debug_span};

/// An unroll that is followed, or, as most are, one that is not.
#[derive(Debug, Default)]
pub struct Traced(Option<Spans>);

#[derive(Debug)]
struct Spans {
    /// From its arrival to the end of its update.
    experience: Span,
    /// What happens to it now.
    stage: Span,
}

impl Traced {
    /// An unroll has arrived: its admission begins. It is followed if the actor follows it, which `traceparent` says, or
    /// if its number is one of those.
    #[must_use]
    pub fn admit(traceparent: &str, actor: ActorId, sequence: UnrollSequence) -> Self {
        let parent = TraceParent::parse(traceparent);
        if parent.is_none() && !trace::is_sampled(sequence) {
            return Self::default();
        }
        let experience = debug_span!(
            target: TARGET,
            parent: None,
            "experience",
            actor = %actor,
            sequence = sequence.0
        );
        if let Some(parent) = parent {
            trace::follow(&experience, parent);
        }
        let stage = debug_span!(target: TARGET, parent: &experience, "admit");
        Self(Some(Spans { experience, stage }))
    }

    /// It was admitted: it waits for a place in the queue, and there for the trainer.
    pub fn queue(&mut self) {
        self.enter(|experience| debug_span!(target: TARGET, parent: experience, "queue"));
    }

    /// The trainer has it: it waits for the rest of the batch.
    pub fn batch(&mut self) {
        self.enter(|experience| debug_span!(target: TARGET, parent: experience, "batch"));
    }

    /// It is trained on by the learner of that version.
    pub fn update(&mut self, version: PolicyVersion) {
        self.enter(|experience| {
            debug_span!(
                target: TARGET,
                parent: experience,
                "update",
                policy_version = version.0
            )
        });
    }

    /// What its update made is published, until the span ends.
    #[must_use]
    pub fn publish(&self) -> Option<Span> {
        let spans = self.0.as_ref()?;
        Some(debug_span!(target: TARGET, parent: &spans.stage, "publish"))
    }

    /// Whether it is followed.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.0.is_some()
    }

    fn enter(&mut self, next: impl FnOnce(&Span) -> Span) {
        if let Some(spans) = &mut self.0 {
            spans.stage = next(&spans.experience);
        }
    }
}
