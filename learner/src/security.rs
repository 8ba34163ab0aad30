//! What a learner needs to know who calls: its certificate, the authority of the actors' certificates, the tokens.

use std::{fmt, path::PathBuf, time::Duration};

use springbok_common::{
    config::Config,
    credentials::{
        CredentialsError, Token, read_certificates, read_key, read_tokens, tokens_of_environment,
    },
};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// How the learner's port is guarded; the default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub(crate) tls: Option<Tls>,
    pub(crate) tokens: Option<ValidTokens>,
}

/// Tokens, and the file that may change them.
#[derive(Debug, Clone)]
pub(crate) struct ValidTokens {
    pub(crate) tokens: Vec<Token>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) refresh: Duration,
}

/// TLS as its files say, and the files, which may change it.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) files: TlsFiles,
    pub(crate) material: TlsMaterial,
    pub(crate) refresh: Duration,
}

/// Where the learner's certificate comes from.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    handshake_max: Duration,
}

/// What the files had.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TlsMaterial {
    certificate: String,
    key: String,
    client_ca: Option<String>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsMaterial(..)")
    }
}

impl Security {
    /// Reads the files that `config` names. `variable` is the value of SPRINGBOK_TOKEN.
    ///
    /// # Errors
    /// A file or a token that cannot be used, in one sentence.
    pub fn load(config: &Config, variable: Option<&str>) -> Result<Self, CredentialsError> {
        let security = &config.security;
        let refresh = Duration::from_millis(security.refresh_ms);
        let file = security.token_file.clone();
        let tokens = match &file {
            Some(file) => Some(read_tokens(file)?),
            None if security.token_in_environment => Some(tokens_of_environment(variable)?),
            None => None,
        };
        let tls = match TlsFiles::of(config) {
            Some(files) => Some(Tls {
                material: files.read()?,
                files,
                refresh,
            }),
            None => None,
        };
        Ok(Self {
            tls,
            tokens: tokens.map(|tokens| ValidTokens {
                tokens,
                file,
                refresh,
            }),
        })
    }
}

impl TlsFiles {
    fn of(config: &Config) -> Option<Self> {
        let security = &config.security;
        Some(Self {
            certificate: security.certificate_file.clone()?,
            key: security.key_file.clone()?,
            client_ca: security.client_ca_file.clone(),
            handshake_max: Duration::from_secs(config.limits.tls_handshake_s_max),
        })
    }

    /// What the files have now, if it can be used.
    ///
    /// # Errors
    /// A file that cannot be used, or files that do not belong together.
    fn read(&self) -> Result<TlsMaterial, CredentialsError> {
        self.read_anew(None).map(|(material, _)| material)
    }

    /// The same, and whether it is something else than `known`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_anew(
        &self,
        known: Option<&TlsMaterial>,
    ) -> Result<(TlsMaterial, bool), CredentialsError> {
        let certificate = read_certificates(&self.certificate)?;
        let mut notices = vec![certificate.expires_soon];
        let key = read_key(&self.key)?;
        let mut client_ca = None;
        if let Some(file) = &self.client_ca {
            let authority = read_certificates(file)?;
            notices.push(authority.expires_soon);
            client_ca = Some(authority.pem);
        }
        let material = TlsMaterial {
            certificate: certificate.pem,
            key,
            client_ca,
        };
        if known == Some(&material) {
            return Ok((material, false));
        }
        for notice in notices.into_iter().flatten() {
            tracing::warn!("{notice}");
        }
        // What only shows when both are put together should show now, not when somebody connects.
        if let Err(error) = Server::builder().tls_config(self.config(&material)) {
            let cause =
                std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
            return Err(CredentialsError::Mismatch(format!(
                "the certificate {} and the key {} cannot be used together: {cause}",
                self.certificate.display(),
                self.key.display()
            )));
        }
        Ok((material, true))
    }

    /// What a server needs to speak TLS with `material`.
    pub(crate) fn config(&self, material: &TlsMaterial) -> ServerTlsConfig {
        let identity = Identity::from_pem(&material.certificate, &material.key);
        let config = ServerTlsConfig::new()
            .identity(identity)
            .timeout(self.handshake_max);
        match &material.client_ca {
            Some(authority) => config.client_ca_root(Certificate::from_pem(authority)),
            None => config,
        }
    }
}
