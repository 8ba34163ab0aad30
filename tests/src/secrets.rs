//! Directories that `springbok keys` made, and the search for what is secret in them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::Program;

/// The private number of a P-256 key within its PKCS #8 form (RFC 5208, RFC 5915).
const PRIVATE_NUMBER: std::ops::Range<usize> = 36..68;
/// A line of PEM that is shorter is too likely to be found by chance.
const LINE_CHARACTERS_MIN: usize = 16;

/// A directory with an authority, certificates, keys and a token; it vanishes with the value.
pub struct Keys(TempDir);

impl Keys {
    /// Runs `springbok keys`.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn make(binary: &str) -> Self {
        let keys = Self(tempfile::tempdir().expect("a temporary directory"));
        keys.order(binary, &["--force"]);
        keys
    }

    /// Makes new certificates under the same authority.
    ///
    /// # Panics
    /// If that fails.
    pub fn renew(&self, binary: &str) {
        self.order(binary, &["--renew"]);
    }

    fn order(&self, binary: &str, arguments: &[&str]) {
        let mut command = Command::new(binary);
        command
            .args(["keys", "--out"])
            .arg(self.path())
            .args(arguments);
        let ended = Program::start(command).wait(std::time::Duration::from_secs(60));
        assert_eq!(ended.code(), 0, "{ended:?}");
    }

    /// What an actor's machine gets.
    ///
    /// # Panics
    /// If a file cannot be copied.
    #[must_use]
    pub fn for_an_actor(&self) -> Self {
        let copy = Self(tempfile::tempdir().expect("a temporary directory"));
        for name in ["ca.pem", "actor.pem", "actor.key", "token"] {
            fs::copy(self.file(name), copy.file(name)).expect("a copy");
        }
        copy
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory, as an argument.
    ///
    /// # Panics
    /// If it is no text.
    #[must_use]
    pub fn argument(&self) -> &str {
        self.path().to_str().expect("a path of plain characters")
    }

    /// One of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Puts `tokens` into the token file, which is never half-written.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn set_tokens(&self, tokens: &[&str]) {
        let fresh = self.file("token.new");
        fs::write(&fresh, tokens.join("\n")).expect("a token file");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("its mode");
        fs::rename(&fresh, self.file("token")).expect("a token file");
    }

    /// All that is secret in it: the token, and each private key as text and as numbers.
    ///
    /// # Panics
    /// If a file is missing or not what it should be.
    #[must_use]
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        let read = |name: &str| fs::read_to_string(self.file(name)).expect("a file of text");
        let mut secrets = vec![read("token").trim().as_bytes().to_vec()];
        for name in ["ca.key", "learner.key", "actor.key"] {
            let pem = read(name);
            let lines = pem.lines().filter(|line| !line.starts_with("-----"));
            let text: Vec<&str> = lines.collect();
            let long = text.iter().filter(|line| line.len() >= LINE_CHARACTERS_MIN);
            secrets.extend(long.map(|line| line.as_bytes().to_vec()));
            secrets.push(base64(&text.concat())[PRIVATE_NUMBER].to_vec());
        }
        secrets
    }
}

/// The bytes that `text` stands for (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut kept, mut bits) = (Vec::new(), 0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let six = ALPHABET.iter().position(|one| *one == character);
        kept = (kept << 6) | six.expect("base64") as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((kept >> bits) as u8);
            kept &= (1 << bits) - 1;
        }
    }
    bytes
}

/// How many of `secrets` are in `content`, as they are or in hexadecimal.
#[must_use]
pub fn found(secrets: &[Vec<u8>], content: &[u8]) -> usize {
    let has = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    let hex =
        |secret: &[u8]| -> String { secret.iter().map(|byte| format!("{byte:02x}")).collect() };
    let known = |secret: &&Vec<u8>| has(secret) || has(hex(secret).as_bytes());
    secrets.iter().filter(known).count()
}

/// All files under `directory`, with what is in them.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            files.push((path, content));
        }
    }
    files
}
