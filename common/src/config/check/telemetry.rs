//! Who may look at a run.

use super::Faults;
use crate::config::TelemetryConfig;

impl TelemetryConfig {
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
