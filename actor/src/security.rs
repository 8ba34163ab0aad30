//! How an actor proves who it is, and makes sure of its learner. Files are read anew for each connection, so that
//! certificates and tokens can be replaced while it runs.

use springbok_common::{
    config::SecurityConfig,
    credentials::{
        CredentialsError, Token, read_certificates, read_key, read_tokens, tokens_of_environment,
    },
};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    connect::{HANDSHAKE_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, causes},
    options::ActorError,
};

/// What an actor trusts and shows; the default is nothing, for a learner on this machine.
#[derive(Debug, Clone, Default)]
pub struct Security {
    files: SecurityConfig,
    /// From the environment, which does not change.
    token: Option<Token>,
}

/// What one connection needs.
pub(crate) struct Credentials {
    /// None without a certificate authority.
    tls: Option<ClientTlsConfig>,
    /// The header that shows the token.
    authorization: Option<MetadataValue<Ascii>>,
}

impl Security {
    /// Remembers the files of `config`, and reads each once to see that it can be used. `variable` is the value of
    /// SPRINGBOK_TOKEN.
    ///
    /// # Errors
    /// A file or a token that cannot be used, in one sentence.
    pub fn load(config: &SecurityConfig, variable: Option<&str>) -> Result<Self, CredentialsError> {
        let token = if config.token_in_environment {
            tokens_of_environment(variable)?.into_iter().next()
        } else {
            None
        };
        let security = Self {
            files: config.clone(),
            token,
        };
        let (_, notices) = security.read()?;
        for notice in notices {
            tracing::warn!("{notice}");
        }
        Ok(security)
    }

    /// Reads the files.
    pub(crate) fn credentials(&self) -> Result<Credentials, CredentialsError> {
        self.read().map(|(credentials, _)| credentials)
    }

    /// Whether the next connection would show the same token as `shown`; not if its file cannot be read this moment.
    pub(crate) fn still_shows(&self, shown: &Credentials) -> bool {
        self.credentials()
            .is_ok_and(|now| now.authorization == shown.authorization)
    }

    /// The same, with what certificates expire soon.
    fn read(&self) -> Result<(Credentials, Vec<String>), CredentialsError> {
        let files = &self.files;
        let mut notices = Vec::new();
        let mut tls = None;
        if let Some(file) = &files.ca_file {
            let authority = read_certificates(file)?;
            notices.extend(authority.expires_soon);
            let mut with =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem));
            if let Some(name) = &files.server_name {
                with = with.domain_name(name.clone());
            }
            if let (Some(certificate), Some(key)) =
                (&files.actor_certificate_file, &files.actor_key_file)
            {
                let certificate = read_certificates(certificate)?;
                notices.extend(certificate.expires_soon);
                with = with.identity(Identity::from_pem(certificate.pem, read_key(key)?));
            }
            tls = Some(with);
        }
        let of_file = match &files.token_file {
            Some(file) => read_tokens(file)?.into_iter().next(),
            None => None,
        };
        let token = of_file.as_ref().or(self.token.as_ref());
        let authorization = token.and_then(|token| {
            // Tokens have no character that a header cannot have.
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.reveal())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok((Credentials { tls, authorization }, notices))
    }

    /// Whether secrets may go to `endpoint` as it is; if not, why.
    fn objection(&self, endpoint: &Endpoint, credentials: &Credentials) -> Option<String> {
        let is_https = endpoint.uri().scheme_str() == Some("https");
        let here = is_loopback(endpoint);
        if is_https && credentials.tls.is_none() {
            return Some(
                "it needs the learner's certificate authority: name it with --ca".to_owned(),
            );
        }
        if !is_https && credentials.tls.is_some() && !here {
            return Some(
                "a certificate authority is given, but http does not use it: write https"
                    .to_owned(),
            );
        }
        let in_the_clear = !is_https && !here && !self.files.insecure;
        if in_the_clear && credentials.authorization.is_some() {
            return Some(
                "the token would be sent for all to read: write https and name --ca, or say --insecure on a network where \
                 you trust every machine"
                    .to_owned(),
            );
        }
        None
    }

    /// The `endpoint` of `url`, with TLS if that says https.
    ///
    /// # Errors
    /// Why it would not be safe or cannot work.
    pub(crate) fn guard(
        &self,
        url: &str,
        endpoint: Endpoint,
        credentials: &Credentials,
    ) -> Result<Endpoint, String> {
        if url.starts_with(UNIX) {
            // Nobody is in between, and who may open the socket is the file system's business.
            return Ok(endpoint);
        }
        if let Some(objection) = self.objection(&endpoint, credentials) {
            return Err(objection);
        }
        match &credentials.tls {
            Some(tls) if endpoint.uri().scheme_str() == Some("https") => endpoint
                .tls_config(tls.clone())
                .map_err(|error| causes(&error)),
            _ => Ok(endpoint),
        }
    }
}

impl Credentials {
    /// A call that shows the token.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        request
    }
}

/// What the address of a Unix socket begins with.
pub(crate) const UNIX: &str = "unix:";

/// HTTP/2 frames of parameters. The default of 16 KiB costs several times as many wake-ups.
const FRAME_BYTES: u32 = 64 * 1024;

/// The learner at `url`, not connected, which may send `window_bytes` ahead.
pub(crate) fn endpoint(url: &str, window_bytes: usize) -> Result<Endpoint, ActorError> {
    let refuse = |cause: String| ActorError::Address {
        url: url.to_owned(),
        cause,
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| refuse(causes(&error)))?;
    match (url.strip_prefix(UNIX), endpoint.uri().scheme_str()) {
        (Some(path), _) if path.trim_start_matches('/').is_empty() => {
            return Err(refuse("the path of the socket is missing".to_owned()));
        }
        (Some(_), _) if !cfg!(unix) => {
            return Err(refuse("this system has no Unix sockets".to_owned()));
        }
        (Some(_), _) | (None, Some("http" | "https")) => {}
        (None, Some(other)) => {
            return Err(refuse(format!(
                "{other} is not supported, only http, https and unix"
            )));
        }
        (None, None) => return Err(refuse("http:// or https:// is missing".to_owned())),
    }
    let window = u32::try_from(window_bytes).unwrap_or(u32::MAX);
    Ok(endpoint
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_frame_size(FRAME_BYTES)
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
/// Whether `endpoint` is an address of this machine.
pub(crate) fn is_loopback(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
