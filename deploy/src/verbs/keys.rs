//! `springbok keys`: what a learner that other machines can reach needs.

use std::path::PathBuf;

use crate::{
    exit::{Exit, Failure},
    keys::{KeysError, Order, make},
    output,
};

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Where.
    pub(crate) directory: PathBuf,
    /// Names of the learner's machine.
    pub(crate) hosts: Vec<String>,
    /// Labels of machines with actors.
    pub(crate) actors: Vec<String>,
    /// How long certificates last.
    pub(crate) days: i64,
    /// Whether authority and token stay.
    pub(crate) renew: bool,
    /// Whether to replace what is there.
    pub(crate) force: bool,
}

/// Makes them and says what to do next.
pub(super) fn run(keys: &Keys) -> Result<(), Failure> {
    let order = Order {
        directory: &keys.directory,
        hosts: &keys.hosts,
        actors: &keys.actors,
        days: keys.days,
        renew: keys.renew,
        force: keys.force,
    };
    make(&order).map_err(|error| {
        let exit = match &error {
            KeysError::NotEmpty(_) | KeysError::Name { .. } => Exit::Usage,
            KeysError::File { .. } => Exit::Files,
            KeysError::Certificate { .. } | KeysError::Random => Exit::Internal,
        };
        Failure::new(exit, error)
    })?;
    let directory = keys.directory.display();
    let host = keys.hosts.first().map_or("localhost", String::as_str);
    // An IPv6 address needs its brackets.
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let hours = keys.days * 24;
    output::line(&format!(
        "made in {directory}: ca.pem, learner.pem and actor.pem with their keys, and a token; certificates expire in {hours} h"
    ));
    output::line(&format!(
        "learner:  springbok learner --listen 0.0.0.0:5005 --keys {directory}\n\
         actors:   copy ca.pem, actor.pem, actor.key and token (never ca.key) into a directory {directory} of their machine, then\n          \
         springbok actor --learner https://{host}:5005 --keys {directory}"
    ));
    Ok(())
}
