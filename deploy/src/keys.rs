//! Certificates and tokens for development and for clusters without an authority of their own.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rand::{TryRng as _, rngs::SysRng};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A key of the configuration, the name of the file that it takes, and whether it may be missing.
type KeyFile = (&'static str, &'static str, bool);

/// What a learner takes from the directory.
pub(crate) const LEARNER_FILES: &[KeyFile] = &[
    ("security.certificate_file", "learner.pem", false),
    ("security.key_file", "learner.key", false),
    ("security.client_ca_file", "ca.pem", false),
];
/// What an actor takes from it; the token is a learner's too.
pub(crate) const ACTOR_FILES: &[KeyFile] = &[
    ("security.ca_file", "ca.pem", false),
    ("security.actor_certificate_file", "actor.pem", true),
    ("security.actor_key_file", "actor.key", true),
    ("security.token_file", "token", true),
];

/// The label that `--keys` takes.
pub(crate) const USUAL_ACTOR: &str = "actor";
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks differ.
const SKEW: Duration = Duration::minutes(5);
const TOKEN_BYTES: usize = 32;

/// Why nothing, or not all, was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// Something is there already.
    #[error("{} is not empty; add --renew for new certificates under the authority that is there, or --force to replace \
             everything in it", .0.display())]
    NotEmpty(PathBuf),
    /// A name cannot be in a certificate.
    #[error("{name:?} cannot be a name in a certificate; use letters, digits, dots and hyphens")]
    Name {
        /// As typed.
        name: String,
    },
    /// Making or reading a certificate failed.
    #[error("{what} could not be made: {cause}")]
    Certificate {
        /// Which.
        what: String,
        /// The library's word.
        cause: rcgen::Error,
    },
    /// A file or the directory.
    #[error("{} could not be written or read: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's word.
        cause: io::Error,
    },
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// What is to be made.
pub(crate) struct Order<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) hosts: &'a [String],
    pub(crate) actors: &'a [String],
    pub(crate) days: i64,
    /// Keep authority and token.
    pub(crate) renew: bool,
    pub(crate) force: bool,
}

/// Makes what is ordered.
///
/// # Errors
/// Something is there already, a name is no name, or files cannot be written.
pub(crate) fn make(order: &Order<'_>) -> Result<(), KeysError> {
    let hosts = ["localhost", "127.0.0.1", "::1"].into_iter();
    let hosts: Vec<&str> = hosts
        .chain(order.hosts.iter().map(String::as_str))
        .collect();
    let labels = order.actors.iter().map(String::as_str);
    let labels: Vec<&str> = labels.filter(|label| *label != USUAL_ACTOR).collect();
    for name in hosts.iter().chain(&labels) {
        check_name(name)?;
    }
    // These are the names of other files here.
    if let Some(name) = labels
        .iter()
        .find(|label| ["ca", "learner"].contains(*label))
    {
        return Err(KeysError::Name {
            name: (*name).to_owned(),
        });
    }
    prepare(order)?;
    let store = Store(order.directory);
    let authority = if order.renew {
        Authority::read(&store)?
    } else {
        let authority = Authority::make(&store)?;
        store.write("token", &format!("{}\n", token()?), true)?;
        authority
    };
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    authority.sign(&store, "learner", &hosts, server, order.days)?;
    for label in labels.into_iter().chain([USUAL_ACTOR]) {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        authority.sign(&store, label, &[label], client, order.days)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), KeysError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let good = name.parse::<IpAddr>().is_ok()
        || (!name.is_empty()
            && name.len() <= 253
            && name.chars().all(plain)
            && !name.starts_with(['-', '.']));
    if good {
        return Ok(());
    }
    Err(KeysError::Name {
        name: name.to_owned(),
    })
}

/// Makes the directory, or makes sure that it may be used.
fn prepare(order: &Order<'_>) -> Result<(), KeysError> {
    let path = order.directory;
    let failed = |cause| KeysError::File {
        path: path.to_owned(),
        cause,
    };
    if !order.renew {
        fs::create_dir_all(path).map_err(failed)?;
    }
    let mut entries = fs::read_dir(path).map_err(failed)?;
    if entries.next().is_some() && !order.force && !order.renew {
        return Err(KeysError::NotEmpty(path.to_owned()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// The directory.
struct Store<'a>(&'a Path);

impl Store<'_> {
    /// Writes a file whole, or leaves the one that is there as it is.
    fn write(&self, name: &str, content: &str, secret: bool) -> Result<(), KeysError> {
        let path = self.0.join(name);
        let write = || -> io::Result<()> {
            // For its owner only, from the beginning.
            let mut file = tempfile::NamedTempFile::new_in(self.0)?;
            io::Write::write_all(&mut file, content.as_bytes())?;
            #[cfg(unix)]
            if !secret {
                use std::os::unix::fs::PermissionsExt as _;
                let public = fs::Permissions::from_mode(0o644);
                file.as_file().set_permissions(public)?;
            }
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|cause| KeysError::File { path, cause })
    }

    fn read(&self, name: &str) -> Result<String, KeysError> {
        let path = self.0.join(name);
        fs::read_to_string(&path).map_err(|cause| KeysError::File { path, cause })
    }
}

/// Who signs.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn make(store: &Store<'_>) -> Result<Self, KeysError> {
        let failed = |cause| not_made("the certificate authority", cause);
        let mut wish = CertificateParams::default();
        wish.distinguished_name
            .push(DnType::CommonName, "springbok development authority");
        wish.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasting(&mut wish, AUTHORITY_DAYS);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = wish.self_signed(&key).map_err(failed)?;
        store.write("ca.key", &key.serialize_pem(), true)?;
        store.write("ca.pem", &certificate.pem(), false)?;
        Ok(Self(Issuer::new(wish, key)))
    }

    fn read(store: &Store<'_>) -> Result<Self, KeysError> {
        let failed = |cause| not_made("the certificate authority", cause);
        let key = KeyPair::from_pem(&store.read("ca.key")?).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&store.read("ca.pem")?, key).map_err(failed)?;
        Ok(Self(issuer))
    }

    /// Makes `name.pem` and `name.key`.
    fn sign(
        &self,
        store: &Store<'_>,
        name: &str,
        alternative_names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        days: i64,
    ) -> Result<(), KeysError> {
        let failed = |cause| not_made(&format!("the certificate of {name}"), cause);
        let names: Vec<String> = alternative_names.iter().map(ToString::to_string).collect();
        let mut wish = CertificateParams::new(names).map_err(failed)?;
        wish.distinguished_name.push(DnType::CommonName, name);
        wish.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wish.extended_key_usages = vec![purpose];
        wish.use_authority_key_identifier_extension = true;
        lasting(&mut wish, days);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = wish.signed_by(&key, &self.0).map_err(failed)?;
        store.write(&format!("{name}.key"), &key.serialize_pem(), true)?;
        store.write(&format!("{name}.pem"), &certificate.pem(), false)
    }
}

fn lasting(wish: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    wish.not_before = now - SKEW;
    wish.not_after = now + Duration::days(days);
}

fn not_made(what: &str, cause: rcgen::Error) -> KeysError {
    KeysError::Certificate {
        what: what.to_owned(),
        cause,
    }
}

/// 32 random bytes in hexadecimal.
fn token() -> Result<String, KeysError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| KeysError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
