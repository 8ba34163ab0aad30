//! What a learner's page says: one GET over plain HTTP, bounded in time and size.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::Path,
    time::{Duration, Instant},
};

use springbok_common::credentials::{TOKEN_VARIABLE, Token, read_tokens, tokens_of_environment};
use springbok_learner::monitor::status::Status;

use crate::exit::{Exit, Failure};

/// Time for a whole answer.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of a whole answer: far above what a thousand actors make.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Exit code for a peer that is not there, or not ready.
const UNAVAILABLE: Exit = Exit::Passed(69);

/// An answer.
pub(crate) struct Answer {
    /// Status code.
    pub(crate) code: u16,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// That nobody answers at `url`, and why.
pub(crate) fn unavailable(url: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(UNAVAILABLE, format!("no learner answers at {url}: {why}"))
}

/// Gets `path` of the server at `url`, which is shown `token`.
///
/// # Errors
/// Exit 64 for a URL that is none, exit 69 for a server that does not answer.
pub(crate) fn get(url: &str, path: &str, token: Option<&Token>) -> Result<Answer, Failure> {
    let authority = authority(url)?;
    exchange(authority, path, token).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "; has the run ended, or was it started without --http?"
            }
            _ => "",
        };
        unavailable(url, format!("{error}{hint}"))
    })
}

/// The token to show: the first of `file`, or else of the variable, if there is one.
///
/// # Errors
/// Exit 64 for a file or a variable without tokens.
pub(crate) fn token(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    let variable = std::env::var(TOKEN_VARIABLE).ok();
    let tokens = match (file, variable) {
        (Some(file), _) => read_tokens(file),
        (None, Some(variable)) => tokens_of_environment(Some(&variable)),
        (None, None) => return Ok(None),
    };
    Ok(tokens.map_err(Failure::usage)?.into_iter().next())
}

/// How the learner whose page is at `url` is; it is shown `token`.
///
/// # Errors
/// Those of [`get`]; exit 64 if it asks for another token, exit 69 if the answer is no status.
pub(crate) fn status(url: &str, token: Option<&Token>) -> Result<Status, Failure> {
    let answer = get(url, "/status", token)?;
    if answer.code == 401 {
        return Err(Failure::usage(match token {
            None => format!(
                "the learner at {url} asks for a token; name its file with --token-file, or set {TOKEN_VARIABLE}"
            ),
            Some(_) => format!(
                "the learner at {url} does not know the token that was shown; show one of those in its token file"
            ),
        }));
    }
    read_status(&answer).ok_or_else(|| {
        let why = format!(
            "it answers {} and no status; is it a learner of this release?",
            answer.code
        );
        unavailable(url, why)
    })
}

/// The status that `answer` is, if it is one.
pub(crate) fn read_status(answer: &Answer) -> Option<Status> {
    let status = serde_json::from_slice(&answer.body).ok();
    status.filter(|_| answer.code == 200)
}

/// `host:port` of a URL without a path.
fn authority(url: &str) -> Result<&str, Failure> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if has_port && !rest.contains('/') && !rest.contains(char::is_whitespace) {
        return Ok(rest);
    }
    Err(Failure::usage(format!(
        "{url:?} is no address of a learner's page; write it as --http had it, such as http://127.0.0.1:9090"
    )))
}

fn exchange(authority: &str, path: &str, token: Option<&Token>) -> io::Result<Answer> {
    let deadline = Instant::now() + TIME_MAX;
    let mut stream = connect(authority, deadline)?;
    // A token is letters, digits and a few signs, whatever file it came from.
    let shown = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {}\r\n", token.reveal())
    });
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{shown}Connection: close\r\n\r\n");
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            read => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        if answer.len() as u64 > BYTES_MAX {
            return Err(damaged("it says more than 16 MiB"));
        }
    }
    parse(&answer)
}

fn connect(authority: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The time until `deadline`, never 0.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.checked_duration_since(Instant::now());
    left.filter(|left| !left.is_zero())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// Takes an answer apart; one that was cut off is none.
pub(crate) fn parse(answer: &[u8]) -> io::Result<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| damaged("it speaks no HTTP"))?;
    let (head, body) = answer.split_at(end);
    let body = body.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().filter(|line| line.starts_with("HTTP/1."));
    let code = status.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        return Err(damaged("its answer was cut off"));
    }
    Ok(Answer {
        code: code.ok_or_else(|| damaged("it speaks no HTTP"))?,
        body: body.to_vec(),
    })
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_shown() {
        for url in [
            "http://127.0.0.1:9090",
            "127.0.0.1:9090/",
            "http://[::1]:9090",
        ] {
            assert!(authority(url).is_ok(), "{url}");
        }
        for url in [
            "https://127.0.0.1:9090",
            "http://127.0.0.1",
            "9090",
            "http://a:1/b",
            ":1",
            "a b:1",
        ] {
            let failure = authority(url).unwrap_err();
            assert_eq!(failure.exit.code(), 64, "{url}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n";
        let answer = parse(whole).unwrap();
        assert_eq!((answer.code, &answer.body[..]), (503, &b"no\n"[..]));
        assert!(parse(&whole[..whole.len() - 1]).is_err());
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(parse(b"").is_err());
    }
}
