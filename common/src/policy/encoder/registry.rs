//! The encoders that a program brings along.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::Encoder;

/// One for the process, and not handed through: a specification that arrives over the network or from a file names
/// the encoder, and whoever reads it (actor, learner, exporter, player) must find the same one.
static REGISTERED: RwLock<BTreeMap<String, Arc<dyn Encoder>>> = RwLock::new(BTreeMap::new());

/// Makes `encoder` available as `name` in each network specification that this process meets from now on.
///
/// Call it before the command line is run, in the learner's process and in the actors' alike. A second encoder under
/// the same name replaces the first for networks made after that.
pub fn register_encoder(name: impl Into<String>, encoder: Arc<dyn Encoder>) {
    REGISTERED
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name.into(), encoder);
}

/// The encoder registered as `name`.
pub(in crate::policy) fn registered(name: &str) -> Option<Arc<dyn Encoder>> {
    let encoders = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    encoders.get(name).cloned()
}

/// The names of all registered encoders, in alphabetical order.
pub(in crate::policy) fn registered_names() -> Vec<String> {
    let encoders = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    encoders.keys().cloned().collect()
}
