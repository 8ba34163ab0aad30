//! Who may look at a run.

use super::{COUNT_MAX, Faults};
use crate::config::TelemetryConfig;

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

    /// Nothing authenticates those who ask over HTTP, so only this machine may.
    pub(super) fn http_faults(&self, faults: &mut Faults) {
        if let Some(address) = self.http {
            faults.unless(address.ip().is_loopback(), || {
                format!(
                    "`telemetry.http` is {address}, which other machines can reach, but it authenticates no one; use \
                     127.0.0.1:{}, and a tunnel such as `ssh -L` from elsewhere",
                    address.port()
                )
            });
        }
    }
}
