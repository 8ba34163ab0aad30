//! What can be used is read; what cannot gets one sentence, which never has the secret in it.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::NamedTempFile;
use time::OffsetDateTime;

use super::*;

fn file(content: &str, mode: u32) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let mode = std::fs::Permissions::from_mode(mode);
    file.as_file().set_permissions(mode).unwrap();
    file
}

fn hex(digit: char) -> String {
    digit.to_string().repeat(64)
}

#[test]
fn tokens_have_at_least_32_bytes_and_nothing_of_them_is_shown() {
    let base64 = "AbC-_+/9".repeat(6);
    for (text, good) in [
        (hex('a'), true),
        (hex('a')[1..].to_owned(), false),
        (base64[..43].to_owned(), true),
        (base64[..42].to_owned(), false),
        (format!("{}=", &base64[..42]), false),
        ("z".repeat(256), true),
        ("z".repeat(257), false),
        (format!("{} {}", hex('a'), hex('b')), false),
        (format!("{}\u{e9}", hex('a')), false),
    ] {
        let token = Token::parse(&text);
        assert_eq!(token.is_ok(), good, "{text}");
        match token {
            Ok(token) => {
                assert_eq!(token.reveal(), text);
                assert_eq!(format!("{token:?}"), "Token(..)");
            }
            Err(cause) => assert!(!cause.contains(&text[..8]), "{cause}"),
        }
    }
}

#[test]
fn only_the_same_token_is_equal() {
    let token = Token::parse(&hex('a')).unwrap();
    let equal = |shown: &[u8]| bool::from(token.ct_eq(&Token::shown(shown)));
    assert!(equal(hex('a').as_bytes()));
    for other in [&hex('a')[1..], &hex('b'), "", &hex('a').repeat(5)] {
        assert!(!equal(other.as_bytes()), "{other}");
    }
    // Neither padding nor what is too long equals anything.
    let mut padded = hex('a').into_bytes();
    padded.push(0);
    assert!(!equal(&padded));
    assert!(!bool::from(token.ct_eq(&Token::decoy())));
}

#[test]
fn a_token_file_has_one_a_line() {
    let text = format!("# new\n{}\n\n  {}\n", hex('a'), hex('b'));
    let tokens = read_tokens(file(&text, 0o640).path()).unwrap();
    let tokens: Vec<&str> = tokens.iter().map(Token::reveal).collect();
    assert_eq!(tokens, [hex('a'), hex('b')]);
    let variable = format!("{},{}", hex('c'), hex('d'));
    let of_environment = tokens_of_environment(Some(&variable)).unwrap();
    assert_eq!(of_environment.len(), 2);
    assert!(tokens_of_environment(None).is_err());
}

#[test]
fn files_that_cannot_be_used_are_named_in_one_sentence() {
    let key = KeyPair::generate().unwrap();
    let certificate = |from: i64, until: i64| {
        let now = OffsetDateTime::now_utc();
        let mut wish = CertificateParams::new(vec!["rack-7".to_owned()]).unwrap();
        wish.not_before = now + time::Duration::hours(from);
        wish.not_after = now + time::Duration::hours(until);
        wish.self_signed(&key).unwrap().pem()
    };
    let secret = hex('a');
    type Read = fn(&Path) -> Result<(), CredentialsError>;
    let tokens: Read = |path| read_tokens(path).map(drop);
    let keys: Read = |path| read_key(path).map(drop);
    let certificates: Read = |path| read_certificates(path).map(drop);
    let cases: [(Read, String, u32, &str); 13] = [
        (tokens, secret.clone(), 0o604, "chmod 600"),
        (tokens, secret.clone(), 0o620, "mode 620"),
        (tokens, format!("{secret}\n{secret}x y\n"), 0o600, "token 2"),
        (tokens, "# none\n".into(), 0o600, "has 0 tokens"),
        (tokens, format!("{secret}\n").repeat(17), 0o600, "17 tokens"),
        (keys, key.serialize_pem(), 0o644, "private key"),
        (keys, "hello".into(), 0o600, "BEGIN PRIVATE KEY"),
        (keys, certificate(-1, 1), 0o600, "holds a CERTIFICATE"),
        (certificates, "hello".into(), 0o644, "BEGIN CERTIFICATE"),
        (
            certificates,
            key.serialize_pem(),
            0o600,
            "holds a PRIVATE KEY",
        ),
        (certificates, certificate(-2, -1), 0o644, "only valid from"),
        (certificates, certificate(1, 2), 0o644, "only valid from"),
        (
            certificates,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            0o644,
            "is no certificate",
        ),
    ];
    for (read, content, mode, says) in cases {
        let file = file(&content, mode);
        let error = read(file.path()).expect_err(says).to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(!error.contains('\n') && !error.contains(&secret), "{error}");
        let path = file.path().display().to_string();
        assert!(error.contains(&path), "{error}");
    }
    let missing = read_certificates(Path::new("/nowhere/ca.pem")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/ca.pem"));
    assert!(read_key(file(&key.serialize_pem(), 0o440).path()).is_ok());
}

#[test]
fn a_certificate_that_expires_within_a_day_is_noticed_and_its_label_is_harmless() {
    let key = KeyPair::generate().unwrap();
    let certificate = |hours: i64, name: &str| {
        let mut wish = CertificateParams::new(Vec::new()).unwrap();
        wish.distinguished_name.push(DnType::CommonName, name);
        wish.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
        wish.not_after = OffsetDateTime::now_utc() + time::Duration::hours(hours);
        wish.self_signed(&key).unwrap()
    };
    for (hours, soon) in [(23, true), (25, false)] {
        let file = file(&certificate(hours, "x").pem(), 0o644);
        let read = read_certificates(file.path()).unwrap();
        assert_eq!(read.expires_soon.is_some(), soon, "{hours} h");
    }
    let shown = |name: &str| label(certificate(1, name).der()).unwrap();
    assert_eq!(shown("rack-7.lab"), "rack-7.lab");
    assert_eq!(shown("a\nactor joined"), "a?actor?joined");
    assert_eq!(shown(&"n".repeat(64)).len(), 64);
    assert_eq!(label(b"no certificate"), None);
}
