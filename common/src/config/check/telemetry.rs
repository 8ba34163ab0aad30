//! Who may look at a run.

use std::net::SocketAddr;

use super::{COUNT_MAX, Faults};
use crate::config::{Config, TelemetryConfig};

impl TelemetryConfig {
    /// Traces hold times and numbers, nothing secret; a collector usually listens on the same machine.
    pub(super) fn trace_faults(&self, faults: &mut Faults) {
        if let Some(endpoint) = &self.otlp_endpoint {
            let rest = endpoint.strip_prefix("http://").unwrap_or_default();
            let plain =
                !rest.is_empty() && !rest.contains('@') && !rest.contains(char::is_whitespace);
            faults.unless(plain, || {
                format!(
                    "`telemetry.otlp_endpoint` is {endpoint:?}, but must be the gRPC port of a collector without TLS; use \
                     \"http://127.0.0.1:4317\" and let a collector on this machine send it on"
                )
            });
        }
        let most = COUNT_MAX as u64;
        faults.duration(
            "telemetry.trace_every_unrolls",
            self.trace_every_unrolls,
            1,
            most,
        );
    }
}

impl Config {
    /// Whoever can ask from another machine has to show a token, unless all of them are trusted.
    pub(super) fn http_faults(&self, faults: &mut Faults) {
        let Some(address) = self.open_http() else {
            return;
        };
        let knows = self.security.has_tokens() || self.security.insecure;
        faults.unless(knows, || {
            format!(
                "`telemetry.http` is {address}, which other machines can reach, but nothing proves who asks: name a \
                 `security.token_file`, which `springbok keys` makes; or use 127.0.0.1:{} and a tunnel such as `ssh -L` from \
                 elsewhere, or say --insecure on a network where you trust every machine",
                address.port()
            )
        });
    }

    /// What is shown over HTTP is not encrypted, and neither is the token.
    pub(super) fn http_advice(&self) -> Option<String> {
        let address = self.open_http()?;
        (self.security.has_tokens() && !self.security.insecure).then(|| {
            format!(
                "`telemetry.http` is {address}, which speaks no TLS: the token can be read on the way; on a network that you \
                 do not trust, use 127.0.0.1:{} behind a proxy that does, or a tunnel",
                address.port()
            )
        })
    }

    /// The address of the page, if other machines can reach it.
    fn open_http(&self) -> Option<SocketAddr> {
        self.telemetry
            .http
            .filter(|address| !address.ip().is_loopback())
    }
}
