//! Who calls, asked before a byte of any message is looked at.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use springbok_common::credentials::{self, TOKENS_MAX, Token, read_tokens};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::Interceptor, transport::server::TlsConnectInfo};

use super::{incoming::PeerInfo, places::OpenCall};
use crate::security::ValidTokens;

/// What a call that was let in carries; it holds the call's places, so it has to live as long as the call.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// The token that was shown is valid no more.
    pub(super) revoked: CancellationToken,
    /// From where; none where the transport has no addresses.
    pub(super) address: Option<IpAddr>,
    /// Who calls, as their certificate says.
    pub(super) label: Option<String>,
    places: Arc<(OwnedSemaphorePermit, Option<OpenCall>)>,
}

impl Pass {
    /// The pass of `request`. Every request has one: it has come through the door.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let pass = request.extensions().get::<Self>().cloned();
        pass.ok_or_else(|| Status::unauthenticated("this call came past the door"))
    }

    /// Waits until nothing has come over the call's connection for `patience`, counted from now at the earliest.
    pub(super) async fn fell_silent(&self, patience: Duration) {
        let Some(call) = &self.places.1 else {
            return std::future::pending().await;
        };
        let begun = Instant::now();
        loop {
            let end = call.heard().max(begun) + patience;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// How a stream ends whose token is valid no more.
pub(super) fn revoked() -> Status {
    Status::unauthenticated("the token that was shown is valid no more")
}

/// Lets calls in.
#[derive(Debug, Clone)]
pub(super) struct Doorkeeper {
    tokens: Option<TokenTable>,
    calls: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Doorkeeper {
    pub(super) fn new(tokens: Option<TokenTable>, calls_max: usize) -> Self {
        Self {
            tokens,
            calls: Arc::new(Semaphore::new(calls_max)),
            refused: Arc::default(),
        }
    }

    fn refuse(&self, peer: Option<&PeerInfo>, why: &'static str) -> Status {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // A flood of them must not become a flood of lines.
        if refused.is_power_of_two() {
            let peer = peer.map(|peer| peer.peer);
            tracing::warn!(?peer, refused, "a call was refused: {why}");
        }
        Status::unauthenticated(why)
    }
}

impl Interceptor for Doorkeeper {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let extensions = request.extensions();
        let tls = extensions.get::<TlsConnectInfo<PeerInfo>>();
        let peer = tls.map(TlsConnectInfo::get_ref);
        let peer = peer.or_else(|| extensions.get::<PeerInfo>());
        let revoked = match &self.tokens {
            None => CancellationToken::new(),
            Some(tokens) => {
                let header = request.metadata().get("authorization");
                let shown = header.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
                let Some(shown) = shown else {
                    return Err(self.refuse(peer, "no token was shown"));
                };
                match tokens.find(shown) {
                    Some(revoked) => revoked,
                    None => return Err(self.refuse(peer, "the token is not valid")),
                }
            }
        };
        let call = Arc::clone(&self.calls).try_acquire_owned();
        let call = call.map_err(|_| {
            Status::resource_exhausted("too many calls are open (limits.streams_max)")
        })?;
        let certificates = tls.and_then(TlsConnectInfo::peer_certs);
        let label = certificates
            .as_ref()
            .and_then(|chain| credentials::label(chain.first()?));
        let address = peer.and_then(|peer| peer.peer.ip());
        let open = peer.map(|peer| peer.conduct.begin_call());
        request.extensions_mut().insert(Pass {
            revoked,
            address,
            label,
            places: Arc::new((call, open)),
        });
        Ok(request)
    }
}

/// The tokens that are valid now.
#[derive(Debug, Clone)]
pub(crate) struct TokenTable(Arc<RwLock<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    token: Token,
    revoked: CancellationToken,
}

impl TokenTable {
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        let table = Self(Arc::default());
        table.replace(tokens);
        table
    }

    /// The way to hear of the end of the token `shown`; `None` if it is not valid. The time that this takes tells
    /// nothing of the tokens, nor how many there are.
    pub(crate) fn find(&self, shown: &[u8]) -> Option<CancellationToken> {
        let shown = Token::shown(shown);
        let decoy = Token::decoy();
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = 0_u64;
        for place in 0..TOKENS_MAX {
            let entry = entries.get(place);
            let token = entry.map_or(&decoy, |entry| &entry.token);
            let equal = token.ct_eq(&shown) & Choice::from(u8::from(entry.is_some()));
            found.conditional_assign(&(place as u64 + 1), equal);
        }
        let place = usize::try_from(found).ok()?.checked_sub(1)?;
        entries.get(place).map(|entry| entry.revoked.clone())
    }

    /// Makes `tokens` the valid ones. Returns how many are new and how many are revoked.
    fn replace(&self, tokens: Vec<Token>) -> (usize, usize) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *entries);
        let mut new = 0;
        for token in tokens {
            let same = |entry: &Entry| bool::from(entry.token.ct_eq(&token));
            let entry = match old.iter().position(same) {
                Some(place) => old.swap_remove(place),
                None => {
                    new += 1;
                    Entry {
                        token,
                        revoked: CancellationToken::new(),
                    }
                }
            };
            entries.push(entry);
        }
        for entry in &old {
            entry.revoked.cancel();
        }
        (new, old.len())
    }
}

/// The table of `valid`, kept as its file says until `stop`.
pub(crate) fn keep_table(valid: ValidTokens, stop: CancellationToken) -> TokenTable {
    let table = TokenTable::new(valid.tokens);
    if let Some(file) = valid.file {
        let follow = follow(file, valid.refresh, table.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow => {}
            }
        });
    }
    table
}

async fn follow(file: PathBuf, refresh: Duration, table: TokenTable) {
    let mut complaint = String::new();
    loop {
        sleep(refresh).await;
        let path = file.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || read_tokens(&path)).await else {
            continue;
        };
        match read {
            Ok(tokens) => {
                complaint.clear();
                let (new, revoked) = table.replace(tokens);
                if new + revoked > 0 {
                    tracing::info!(new, revoked, "the tokens have changed");
                }
            }
            // Someone may be writing it this moment, so what was valid stays valid.
            Err(error) => {
                let text = error.to_string();
                if text != complaint {
                    tracing::warn!("the tokens stay as they were: {text}");
                    complaint = text;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "doorkeeper_tests.rs"]
mod tests;
