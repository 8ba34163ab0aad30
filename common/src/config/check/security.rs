//! Who may connect: a learner that other machines can reach has to know who calls.

use std::path::PathBuf;

use super::{Config, Faults, MILLISECONDS_MAX};
use crate::config::SecurityConfig;

impl SecurityConfig {
    /// Whether the learner speaks TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.certificate_file.is_some()
    }

    /// Whether there are tokens.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        self.token_file.is_some() || self.token_in_environment
    }

    /// Whether the learner knows who calls, and nobody in between hears it.
    fn protects(&self) -> bool {
        self.has_tls() && (self.client_ca_file.is_some() || self.has_tokens())
    }
}

impl Config {
    pub(super) fn security_faults(&self, faults: &mut Faults) {
        let (security, listen) = (&self.security, self.learner.listen);
        let open = !listen.ip().is_loopback();
        faults.unless(!open || security.insecure || security.protects(), || {
            let missing = if security.has_tls() {
                "nothing proves who calls: name a `security.token_file` or a `security.client_ca_file`"
            } else if security.has_tokens() {
                "tokens would be sent for all to read: name a `security.certificate_file` and its key"
            } else {
                "there is neither TLS nor a token: `springbok keys` makes both, and --keys takes them"
            };
            format!(
                "`learner.listen` is {listen}, which other machines can reach, but {missing}; or use 127.0.0.1, or say \
                 --insecure on a network where you trust every machine"
            )
        });
        pair(
            faults,
            ("security.certificate_file", &security.certificate_file),
            ("security.key_file", &security.key_file),
        );
        pair(
            faults,
            (
                "security.actor_certificate_file",
                &security.actor_certificate_file,
            ),
            ("security.actor_key_file", &security.actor_key_file),
        );
        let asks = security.client_ca_file.is_some();
        faults.unless(!asks || security.has_tls(), || {
            "`security.client_ca_file` is set, but without `security.certificate_file` there is no TLS in which a \
             certificate could be shown; set both or neither"
                .to_owned()
        });
        let twice = security.token_file.is_some() && security.token_in_environment;
        faults.unless(!twice, || {
            "`security.token_file` is set, but the variable SPRINGBOK_TOKEN has tokens too; leave one of them out"
                .to_owned()
        });
        faults.duration(
            "security.refresh_ms",
            security.refresh_ms,
            10,
            MILLISECONDS_MAX,
        );
    }
}

/// A certificate is of no use without its key, and a key without its certificate.
fn pair(faults: &mut Faults, certificate: (&str, &Option<PathBuf>), key: (&str, &Option<PathBuf>)) {
    faults.unless(certificate.1.is_some() == key.1.is_some(), || {
        let (set, unset) = if key.1.is_some() {
            (key.0, certificate.0)
        } else {
            (certificate.0, key.0)
        };
        format!("`{set}` is set, but `{unset}` is not; set both or neither")
    });
}
