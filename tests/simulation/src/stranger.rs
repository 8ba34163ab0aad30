//! Somebody without a valid token, who tries to get in all the time.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use springbok_actor::{
    ActorError, run_in,
    world::{Prepare, World},
};
use springbok_common::{backoff::Backoff, ids::ActorId};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    actor::options,
    chance::{Who, chance},
    invariants,
    keys::Reader,
    network,
    truth::Shared,
};

/// An attempt lasts no longer.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// One attempt after the other.
pub(crate) async fn host(shared: Shared) -> turmoil::Result {
    let mut draw = chance(shared.plan.seed, Who::Stranger);
    loop {
        sleep(Duration::from_millis(draw.random_range(200..2_000))).await;
        let security = {
            let truth = shared.lock();
            let Some(keys) = &truth.keys else {
                return Ok(());
            };
            keys.tempt(turmoil::sim_elapsed().unwrap_or(truth.now))?;
            keys.of(Reader::Stranger)?
        };
        let world = World {
            dial: network::dial_through(|stream| stream),
            actor_id: ActorId::from_bytes(&[0xee; 16]).ok_or("a stranger has an id")?,
            backoff: Backoff::default().seeded(draw.random()),
            prepare: is_in(&shared),
        };
        let attempt = run_in(
            world,
            springbok_actor::ActorOptions {
                security,
                ..options(99)
            },
            CancellationToken::new(),
        );
        if let Ok(Err(ActorError::Refused { .. })) = timeout(ATTEMPT_MAX, attempt).await {
            shared.lock().strangers_refused += 1;
        }
    }
}

/// Who prepares to make unrolls was let in.
fn is_in(shared: &Shared) -> Prepare {
    let shared = shared.clone();
    Arc::new(move |_, _, _| {
        shared.lock().judge(invariants::guarded::let_in());
        Box::pin(std::future::pending())
    })
}
