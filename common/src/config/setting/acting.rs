//! How actors act.

use figment::value::Value;

use super::Setting;

choice! {
    /// When an actor takes up newer parameters that have arrived.
    Refresh {
        /// Before an unroll: all of its steps have one version.
        Unroll = "unroll",
        /// Before each step: an unroll says which version made which step.
        Step = "step",
    }
}

choice! {
    /// Who chooses the actions.
    InferencePlace {
        /// Each actor, with parameters that the learner sends it.
        Local = "local",
        /// The learner, out of observations that the actors send it.
        Central = "central",
    }
}
