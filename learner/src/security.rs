//! What a learner needs to know who calls: its certificate, the authority of the actors' certificates, the tokens.

use std::{path::PathBuf, time::Duration};

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
    pub(crate) tls: Option<ServerTlsConfig>,
    pub(crate) tokens: Option<ValidTokens>,
}

/// Tokens, and the file that may change them.
#[derive(Debug, Clone)]
pub(crate) struct ValidTokens {
    pub(crate) tokens: Vec<Token>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) refresh: Duration,
}

impl Security {
    /// Reads the files that `config` names. `variable` is the value of SPRINGBOK_TOKEN.
    ///
    /// # Errors
    /// A file or a token that cannot be used, in one sentence.
    pub fn load(config: &Config, variable: Option<&str>) -> Result<Self, CredentialsError> {
        let security = &config.security;
        let file = security.token_file.clone();
        let tokens = match &file {
            Some(file) => Some(read_tokens(file)?),
            None if security.token_in_environment => Some(tokens_of_environment(variable)?),
            None => None,
        };
        Ok(Self {
            tls: tls(config)?,
            tokens: tokens.map(|tokens| ValidTokens {
                tokens,
                file,
                refresh: Duration::from_millis(security.token_refresh_ms),
            }),
        })
    }
}

fn tls(config: &Config) -> Result<Option<ServerTlsConfig>, CredentialsError> {
    let security = &config.security;
    let (Some(certificate_file), Some(key_file)) = (&security.certificate_file, &security.key_file)
    else {
        return Ok(None);
    };
    let certificate = read_certificates(certificate_file)?;
    let mut notices = vec![certificate.expires_soon];
    let mut tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate.pem, read_key(key_file)?))
        .timeout(Duration::from_secs(config.limits.tls_handshake_s_max));
    if let Some(file) = &security.client_ca_file {
        let authority = read_certificates(file)?;
        notices.push(authority.expires_soon);
        tls = tls.client_ca_root(Certificate::from_pem(authority.pem));
    }
    for notice in notices.into_iter().flatten() {
        tracing::warn!("{notice}");
    }
    // What only shows when both are put together should show now, not when the port is open.
    if let Err(error) = Server::builder().tls_config(tls.clone()) {
        let cause =
            std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
        return Err(CredentialsError::Mismatch(format!(
            "the certificate {} and the key {} cannot be used together: {cause}",
            certificate_file.display(),
            key_file.display()
        )));
    }
    Ok(Some(tls))
}
