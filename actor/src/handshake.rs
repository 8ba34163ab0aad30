//! Why an actor and its learner cannot speak TLS with each other, and the way out.
//!
//! The transport hands its errors on as texts of rustls (its `Error`, `CertificateError` and `AlertDescription`), which
//! name the cause, but neither side of it nor what to do.

use std::error::Error;

/// What rustls says, and what it means here.
const MEANINGS: [(&str, &str); 15] = [
    (
        "peer certificate: UnknownIssuer",
        "its certificate is not signed by the authority that this actor trusts; name the ca.pem that signed it with --ca",
    ),
    (
        "peer certificate: BadSignature",
        "its certificate is not signed by the authority that this actor trusts, but by one of the same name; name the \
         ca.pem that signed it with --ca",
    ),
    (
        "certificate expired",
        "its certificate has expired; make it a new one, for example with `springbok keys --renew`",
    ),
    (
        "certificate not valid yet",
        "its certificate is not valid yet; set the clocks of both machines",
    ),
    (
        "not valid for name",
        "its certificate is for other names than the one that it was called by; use one of those, in the URL or as \
         `security.server_name`, or make it another with `springbok keys --host`",
    ),
    (
        "peer certificate",
        "its certificate cannot be used; make it another, for example with `springbok keys --renew`",
    ),
    (
        "alert: CertificateRequired",
        "it asks for a certificate, and this actor has shown none; name one with --certificate and --key, or a directory \
         that has both with --keys",
    ),
    (
        "alert: UnknownCA",
        "it does not know the authority that signed this actor's certificate; take one that the authority of its \
         --client-ca has signed",
    ),
    (
        "alert: DecryptError",
        "this actor's certificate is not signed by the authority that it names; take one that the authority of the \
         learner's --client-ca has signed",
    ),
    (
        "alert: CertificateExpired",
        "this actor's certificate has expired, or is not valid yet by the learner's clock; make a new one, for example \
         with `springbok keys --renew`",
    ),
    (
        "alert: CertificateRevoked",
        "this actor's certificate was revoked; take another",
    ),
    (
        "alert: ProtocolVersion",
        "both have no version of TLS in common; use the same release on both sides",
    ),
    (
        "alert: ",
        "it does not accept this actor's certificate; take one that the authority of its --client-ca has signed for \
         client authentication",
    ),
    (
        "InvalidContentType",
        "what listens there does not speak TLS; write http, or give the learner a certificate",
    ),
    // The first bytes of an alert of TLS, read as the header of a frame of HTTP/2.
    (
        "frame with invalid size",
        "what listens there does not speak HTTP/2 in the clear; if the learner has a certificate, write https and name \
         --ca",
    ),
];

/// Why there is no TLS with the learner, if that is what `error` is about: what is wrong, what to do, and the word of the
/// library.
pub(crate) fn fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(one) = next {
        let text = one.to_string();
        if let Some((_, meaning)) = MEANINGS.iter().find(|(word, _)| text.contains(word)) {
            return Some(format!("{meaning} ({text})"));
        }
        next = one.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Transport(#[source] io::Error);

    /// An error as the transport wraps it.
    fn wrapped(text: &str) -> Transport {
        Transport(io::Error::new(io::ErrorKind::InvalidData, text.to_owned()))
    }

    #[test]
    fn the_most_particular_meaning_is_told_with_the_library_s_word() {
        for (text, meaning) in [
            ("invalid peer certificate: UnknownIssuer", "--ca"),
            (
                "invalid peer certificate: certificate expired: verification time 9 (UNIX)",
                "its certificate has expired",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for b",
                "--host",
            ),
            ("invalid peer certificate: BadEncoding", "cannot be used"),
            ("received fatal alert: CertificateRequired", "--certificate"),
            ("received fatal alert: UnknownCA", "--client-ca"),
            (
                "received fatal alert: CertificateExpired",
                "this actor's certificate has expired",
            ),
            (
                "received fatal alert: BadCertificate",
                "does not accept this actor's certificate",
            ),
            (
                "received corrupt message of type InvalidContentType",
                "write http,",
            ),
        ] {
            let told = fault(&wrapped(text)).unwrap();
            assert!(told.contains(meaning), "{told}");
            assert!(told.ends_with(&format!("({text})")), "{told}");
        }
    }

    #[test]
    fn what_is_not_about_tls_is_left_alone() {
        for text in [
            "connection refused",
            "operation was canceled",
            "connection reset by peer",
        ] {
            assert_eq!(fault(&wrapped(text)), None, "{text}");
        }
    }
}
