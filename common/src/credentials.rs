//! Certificates, keys and tokens: how they are read from files, and what is wrong with those that cannot be used.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use subtle::{Choice, ConstantTimeEq};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, pem::Pem};

/// The variable that tokens may come in: a process's environment is not for everyone to read, its arguments are.
pub const TOKEN_VARIABLE: &str = "SPRINGBOK_TOKEN";
/// Tokens that are valid at one time: a rotation needs two.
pub const TOKENS_MAX: usize = 16;
/// The longest token.
const TOKEN_CHARACTERS_MAX: usize = 256;
/// 32 bytes in hexadecimal and in base64.
const HEX_CHARACTERS_MIN: usize = 64;
const BASE64_CHARACTERS_MIN: usize = 43;
/// No file of this kind is nearly as large.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How soon before its end a certificate is worth a warning.
const EXPIRY_NOTICE: Duration = Duration::from_secs(86_400);
/// The longest label of a peer that is worth showing.
const LABEL_CHARACTERS_MAX: usize = 64;

/// Why a certificate, a key or a token cannot be used; never what it says.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("the {what} {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Others on this machine can read a secret.
    #[error(
        "the {what} {} has mode {mode:03o}, so that others on this machine can read or change it; run `chmod 600` on it",
        path.display()
    )]
    TooOpen {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("{} is no {what}: {cause}", path.display())]
    Garbled {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The certificate's time is over, or has not come.
    #[error("the certificate {} is only valid from {from} to {until}; make a new one, for example with `springbok keys --renew`", path.display())]
    NotNow {
        /// The file.
        path: PathBuf,
        /// Since when it is valid.
        from: String,
        /// Until when.
        until: String,
    },
    /// A token is no token.
    #[error("token {number} in {origin} {cause}; `springbok keys` makes good ones")]
    Token {
        /// Which of them, from 1.
        number: usize,
        /// Where it is.
        origin: String,
        /// What is wrong, without the token.
        cause: String,
    },
    /// There are none, or too many.
    #[error("{origin} has {count} tokens, but there must be between 1 and {TOKENS_MAX}")]
    TokenCount {
        /// Where they should be.
        origin: String,
        /// How many there are.
        count: usize,
    },
    /// The variable is announced and not there.
    #[error(
        "`security.token_in_environment` is true, but there is no variable {TOKEN_VARIABLE}; set it, or name a `security.token_file`"
    )]
    NoVariable,
    /// Files that are each in order do not belong together.
    #[error("{0}")]
    Mismatch(String),
}

/// A secret that proves a peer's right to connect. Comparing two takes the same time whatever they have in common.
#[derive(Clone)]
pub struct Token {
    /// Padded with zeros.
    characters: [u8; TOKEN_CHARACTERS_MAX],
    length: u64,
}

impl Token {
    /// A token of at least 32 random bytes, in hexadecimal or base64.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that says nothing of its content.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
        if !text.bytes().all(plain) {
            return Err("has characters that are neither hexadecimal nor base64".to_owned());
        }
        let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (least, kind) = if hex {
            (HEX_CHARACTERS_MIN, "hexadecimal")
        } else {
            (BASE64_CHARACTERS_MIN, "base64")
        };
        let length = text.trim_end_matches('=').len();
        if !(least..=TOKEN_CHARACTERS_MAX).contains(&length) || text.len() > TOKEN_CHARACTERS_MAX {
            return Err(format!(
                "has {length} characters, but 32 random bytes are {least} in {kind}, and the most is {TOKEN_CHARACTERS_MAX}"
            ));
        }
        Ok(Self::padded(text.as_bytes()))
    }

    /// Whatever a peer shows, made comparable; what is too long equals no token.
    #[must_use]
    pub fn shown(bytes: &[u8]) -> Self {
        if bytes.len() > TOKEN_CHARACTERS_MAX {
            return Self::padded(&[]);
        }
        Self::padded(bytes)
    }

    /// Equal to no token that [`Self::parse`] makes.
    #[must_use]
    pub fn decoy() -> Self {
        Self::padded(&[])
    }

    fn padded(bytes: &[u8]) -> Self {
        let mut characters = [0; TOKEN_CHARACTERS_MAX];
        for (place, byte) in characters.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Self {
            characters,
            length: bytes.len() as u64,
        }
    }

    /// The secret itself, for the one header that it belongs in.
    #[must_use]
    pub fn reveal(&self) -> &str {
        let length = usize::try_from(self.length).unwrap_or_default();
        let characters = self.characters.get(..length).unwrap_or_default();
        // It was text when it was made.
        std::str::from_utf8(characters).unwrap_or_default()
    }
}

impl ConstantTimeEq for Token {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.characters.ct_eq(&other.characters) & self.length.ct_eq(&other.length)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// The tokens of `file`, one a line; empty lines and those that begin with # say nothing.
///
/// # Errors
/// The file cannot be used, or one of its lines is no token.
pub fn read_tokens(file: &Path) -> Result<Vec<Token>, CredentialsError> {
    let text = read_secret(file, "token file")?;
    let lines = text.lines().map(str::trim);
    tokens(
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')),
        &file.display().to_string(),
    )
}

/// The tokens of the variable [`TOKEN_VARIABLE`], separated by commas or spaces.
///
/// # Errors
/// There is none, or one of them is no token.
pub fn tokens_of_environment(value: Option<&str>) -> Result<Vec<Token>, CredentialsError> {
    let value = value.ok_or(CredentialsError::NoVariable)?;
    let words = value.split(|c: char| c == ',' || c.is_whitespace());
    tokens(
        words.filter(|word| !word.is_empty()),
        &format!("the variable {TOKEN_VARIABLE}"),
    )
}

fn tokens<'a>(
    texts: impl Iterator<Item = &'a str>,
    origin: &str,
) -> Result<Vec<Token>, CredentialsError> {
    let mut tokens = Vec::new();
    for (index, text) in texts.enumerate() {
        let token = Token::parse(text).map_err(|cause| CredentialsError::Token {
            number: index + 1,
            origin: origin.to_owned(),
            cause,
        })?;
        tokens.push(token);
    }
    if !(1..=TOKENS_MAX).contains(&tokens.len()) {
        return Err(CredentialsError::TokenCount {
            origin: origin.to_owned(),
            count: tokens.len(),
        });
    }
    Ok(tokens)
}

/// A chain of certificates that are valid now.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// As in the file.
    pub pem: String,
    /// If it is soon: when the first of them expires, as a sentence.
    pub expires_soon: Option<String>,
}

/// Reads a chain of certificates, the first of which must be valid now.
///
/// # Errors
/// The file cannot be used, or its first certificate is not valid now.
pub fn read_certificates(file: &Path) -> Result<Certificates, CredentialsError> {
    const WHAT: &str = "certificate";
    let pem = read(file, WHAT)?;
    let garbled = |cause: String| CredentialsError::Garbled {
        what: WHAT,
        path: file.to_owned(),
        cause,
    };
    let mut expires_soon = None;
    let mut count = 0;
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| garbled(error.to_string()))?;
        if block.label != "CERTIFICATE" {
            return Err(garbled(format!("it holds a {}", block.label)));
        }
        let certificate = block
            .parse_x509()
            .map_err(|error| garbled(error.to_string()))?;
        if count == 0 {
            expires_soon = check_time(file, &certificate, SystemTime::now())?;
        }
        count += 1;
    }
    if count == 0 {
        return Err(garbled(
            "there is no -----BEGIN CERTIFICATE----- in it".to_owned(),
        ));
    }
    Ok(Certificates { pem, expires_soon })
}

fn check_time(
    file: &Path,
    certificate: &X509Certificate<'_>,
    now: SystemTime,
) -> Result<Option<String>, CredentialsError> {
    let validity = certificate.validity();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    if now < from || now > until {
        return Err(CredentialsError::NotNow {
            path: file.to_owned(),
            from: validity.not_before.to_string(),
            until: validity.not_after.to_string(),
        });
    }
    let soon = until - now <= i64::try_from(EXPIRY_NOTICE.as_secs()).unwrap_or(i64::MAX);
    Ok(soon.then(|| {
        format!(
            "the certificate {} expires on {}, in {} minutes",
            file.display(),
            validity.not_after,
            (until - now) / 60
        )
    }))
}

/// Reads a private key, PEM.
///
/// # Errors
/// The file cannot be used, or others can read it.
pub fn read_key(file: &Path) -> Result<String, CredentialsError> {
    const WHAT: &str = "private key";
    let pem = read_secret(file, WHAT)?;
    let first = Pem::iter_from_buffer(pem.as_bytes()).next();
    let cause = match first {
        Some(Ok(block)) if block.label.ends_with("PRIVATE KEY") => return Ok(pem),
        Some(Ok(block)) => format!("it holds a {}", block.label),
        _ => "there is no -----BEGIN PRIVATE KEY----- in it".to_owned(),
    };
    Err(CredentialsError::Garbled {
        what: WHAT,
        path: file.to_owned(),
        cause,
    })
}

/// A short name for whoever holds the certificate `der`: its first name, or its common name.
#[must_use]
pub fn label(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let name = names.and_then(|names| {
        names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            })
    });
    let name = name.or_else(|| {
        let mut common = certificate.subject().iter_common_name();
        common.next()?.as_str().ok().map(str::to_owned)
    })?;
    // It goes into logs: only what cannot be taken for more than a name.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    let mut label = String::new();
    for character in name.chars().take(LABEL_CHARACTERS_MAX) {
        let _ = label.write_char(if plain(character) { character } else { '?' });
    }
    Some(label)
}

fn read_secret(path: &Path, what: &'static str) -> Result<String, CredentialsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        /// Everything for others, and writing for the group, whose reading is how orchestrators hand secrets in.
        const FORBIDDEN: u32 = 0o027;
        let metadata = std::fs::metadata(path).map_err(|cause| unreadable(path, what, cause))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & FORBIDDEN != 0 && metadata.is_file() {
            return Err(CredentialsError::TooOpen {
                what,
                path: path.to_owned(),
                mode,
            });
        }
    }
    read(path, what)
}

fn read(path: &Path, what: &'static str) -> Result<String, CredentialsError> {
    let failed = |cause| unreadable(path, what, cause);
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            return Err(CredentialsError::Garbled {
                what,
                path: path.to_owned(),
                cause: "it is not text".to_owned(),
            });
        }
        Err(cause) => return Err(failed(cause)),
    };
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(CredentialsError::Garbled {
            what,
            path: path.to_owned(),
            cause: format!("it has more than {FILE_BYTES_MAX} bytes"),
        });
    }
    Ok(text)
}

fn unreadable(path: &Path, what: &'static str, cause: io::Error) -> CredentialsError {
    CredentialsError::Unreadable {
        what,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests;
