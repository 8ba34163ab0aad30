//! Who may look at a run: this machine, or whoever shows a token that actors show too.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HOST, HeaderValue},
};
use tokio_util::sync::CancellationToken;

use crate::{
    security::ValidTokens,
    service::{TokenTable, keep_table},
};

/// Who may look.
#[derive(Debug, Clone)]
pub struct Access(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Only requests from this machine arrive.
    ThisMachine,
    /// Whoever has a token.
    Bearer(TokenTable),
    /// Whoever asks: so it was configured.
    Anyone,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is meant for another machine.
    Misdirected,
    /// It shows no token, or none that is valid.
    NoToken,
}

impl Access {
    /// Who may look at what is served on `address`: on the loopback interface this machine, elsewhere whoever has one of
    /// `tokens`, which are kept as their file says until `stop`.
    pub(crate) fn to(
        address: Option<SocketAddr>,
        tokens: Option<ValidTokens>,
        stop: CancellationToken,
    ) -> Self {
        // An address that cannot be told may be any.
        let is_local = address.is_some_and(|address| address.ip().is_loopback());
        Self(match tokens {
            _ if is_local => Kind::ThisMachine,
            Some(tokens) => Kind::Bearer(keep_table(tokens, stop)),
            None => Kind::Anyone,
        })
    }

    /// Whether a request with `headers` may be asked at all.
    pub(super) fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.0 {
            Kind::ThisMachine
                if !is_for_this_machine(headers.get(HOST).map(HeaderValue::as_bytes)) =>
            {
                Err(Refusal::Misdirected)
            }
            _ => Ok(()),
        }
    }

    /// Whether it may have what the run does; gives what is cancelled when it may no more.
    pub(super) fn shows(&self, headers: &HeaderMap) -> Result<CancellationToken, Refusal> {
        let Kind::Bearer(tokens) = &self.0 else {
            return Ok(CancellationToken::new());
        };
        let shown = headers.get(AUTHORIZATION);
        let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown
            .and_then(|shown| tokens.find(shown))
            .ok_or(Refusal::NoToken)
    }
}

/// Whether the Host header names this machine. A web page elsewhere that has its own name resolve to 127.0.0.1 could read
/// everything otherwise (DNS rebinding). No browser leaves the header out. Where a token is asked for, such a page has none.
pub fn is_for_this_machine(host: Option<&[u8]>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
