//! Places for connections. When all are taken, the oldest connection that has not proved who it is makes room: idle
//! connections, however many, cannot lock an actor out, because an actor proves itself with its first call.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use springbok_common::config::LimitsConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a connection may wait with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From connecting to the first byte.
    pub(super) first_byte: Duration,
    /// From connecting to the first call that proves who calls.
    pub(super) first_call: Duration,
    /// Without a call.
    pub(super) idle: Duration,
}

impl Patience {
    pub(super) fn new(limits: &LimitsConfig, has_tls: bool) -> Self {
        let handshake = if has_tls {
            limits.tls_handshake_s_max
        } else {
            0
        };
        Self {
            first_byte: Duration::from_secs(limits.first_byte_s_max),
            first_call: Duration::from_secs(limits.first_message_s_max.saturating_add(handshake)),
            idle: Duration::from_secs(limits.idle_s_max),
        }
    }
}

/// What a connection has done so far.
#[derive(Debug)]
pub(super) struct Conduct {
    began: Instant,
    /// Whether it has proved who it is.
    known: AtomicBool,
    /// When it last sent anything: milliseconds after it began.
    heard_ms: AtomicU64,
    calls: Mutex<Calls>,
    /// It has to make room.
    evicted: CancellationToken,
}

#[derive(Debug)]
struct Calls {
    open: usize,
    last_end: Instant,
}

impl Conduct {
    fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            began: now,
            known: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
            calls: Mutex::new(Calls {
                open: 0,
                last_end: now,
            }),
            evicted: CancellationToken::new(),
        })
    }

    /// A call of a peer that has proved who it is; it lasts until the value is dropped.
    pub(super) fn begin_call(self: &Arc<Self>) -> OpenCall {
        self.known.store(true, Ordering::Relaxed);
        self.calls().open += 1;
        OpenCall(Arc::clone(self))
    }

    /// Something was received.
    pub(super) fn hear(&self, now: Instant) {
        let after = now.saturating_duration_since(self.began).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.heard_ms.store(after, Ordering::Relaxed);
    }

    /// When anything was received last.
    fn heard(&self) -> Instant {
        self.began + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    pub(super) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// When the connection is to be looked at next; `None` if its time is over.
    pub(super) fn next_look(
        &self,
        now: Instant,
        has_spoken: bool,
        patience: &Patience,
    ) -> Option<Instant> {
        let end = if self.known.load(Ordering::Relaxed) {
            let calls = self.calls();
            let since = if calls.open > 0 { now } else { calls.last_end };
            since + patience.idle
        } else if has_spoken {
            self.began + patience.first_call
        } else {
            self.began + patience.first_byte.min(patience.first_call)
        };
        (now < end).then_some(end)
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that goes on.
#[derive(Debug)]
pub(super) struct OpenCall(Arc<Conduct>);

impl OpenCall {
    /// When the connection that it is on received anything last.
    pub(super) fn heard(&self) -> Instant {
        self.0.heard()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.open = calls.open.saturating_sub(1);
        calls.last_end = Instant::now();
    }
}

/// All places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    total_max: usize,
    per_peer_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By age, the oldest first.
    /// An address is none where the transport has none.
    places: BTreeMap<u64, (Option<IpAddr>, Arc<Conduct>)>,
}

impl Taken {
    /// Whether fewer than `max` of the places that `counts` are taken, perhaps after one was taken away.
    fn has_room(&mut self, max: usize, counts: impl Fn(&Option<IpAddr>) -> bool) -> bool {
        let scope = || self.places.iter().filter(|(_, (peer, _))| counts(peer));
        if scope().count() < max {
            return true;
        }
        let unknown = scope().find(|(_, (_, conduct))| !conduct.known.load(Ordering::Relaxed));
        let Some(id) = unknown.map(|(id, _)| *id) else {
            return false;
        };
        if let Some((_, conduct)) = self.places.remove(&id) {
            conduct.evicted.cancel();
        }
        true
    }
}

impl Places {
    pub(super) fn new(limits: &LimitsConfig) -> Self {
        Self {
            total_max: limits.connections_max,
            per_peer_max: limits.connections_per_peer_max,
            taken: Arc::default(),
        }
    }

    /// A place for a connection from `peer`; `None` if all are taken by peers that have proved who they are.
    pub(super) fn take(&self, peer: Option<IpAddr>) -> Option<Place> {
        let mut taken = self.lock();
        let room = taken.has_room(self.per_peer_max, |other| *other == peer)
            && taken.has_room(self.total_max, |_| true);
        if !room {
            return None;
        }
        let conduct = Conduct::new(Instant::now());
        let id = taken.next;
        taken.next += 1;
        taken.places.insert(id, (peer, Arc::clone(&conduct)));
        Some(Place {
            id,
            conduct,
            places: self.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    places: Places,
    pub(super) conduct: Arc<Conduct>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.id);
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
