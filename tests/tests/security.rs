//! The promise: only those who can prove who they are get in, and no secret gets out.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use springbok_tests::{
    Ended, Program, assert_ledger_closes,
    farm::{Learner, actor_with, learner},
    proxy::{Proxy, Toxic},
    secrets::{Keys, files, found},
    train_with,
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(60);
const DRAIN_MAX: Duration = Duration::from_secs(12);
/// Reachable by other machines.
const OPEN: [&str; 2] = ["--listen", "0.0.0.0:0"];

/// Runs `springbok` in an empty directory, which must stay empty.
fn refused(arguments: &[&str]) -> Ended {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(out.path());
    let ended = Program::start(command).wait(WAIT_MAX);
    assert_eq!(files(out.path()).len(), 0, "nothing was begun");
    ended
}

#[test]
fn an_open_address_without_keys_is_refused_in_one_sentence() {
    for verb in ["train", "learner"] {
        let ended = refused(&[&[verb], &OPEN[..]].concat());
        assert_eq!(ended.code(), 64, "{ended:?}");
        assert_eq!(ended.stdout, "", "{verb}");
        assert_eq!(ended.stderr.lines().count(), 1, "{verb}: {}", ended.stderr);
        for part in [
            "springbok: ",
            "`learner.listen` is 0.0.0.0:0, which other machines can reach",
            "there is neither TLS nor a token",
            "--keys",
            "127.0.0.1",
            "--insecure",
        ] {
            assert!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn insecure_is_a_way_to_listen_without_keys() {
    let arguments = [&OPEN[..], &["--insecure", "--total-steps", "2000"]].concat();
    let trained = train_with(BINARY, &arguments, &[]).wait(2 * WAIT_MAX);
    trained.assert_done();
    assert_ledger_closes(&trained.summary());
}

/// What the HTTP server at `address` answers to a request for `path`.
fn page(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}");
    answer
}

#[test]
fn with_keys_a_run_trains_and_no_secret_is_to_be_found_in_anything_that_it_shows() {
    let keys = Keys::make(BINARY);
    let secrets = keys.secrets();
    let in_files: Vec<u8> = files(keys.path())
        .into_iter()
        .flat_map(|(_, content)| content)
        .collect();
    assert!(
        found(&secrets, &in_files) >= 4,
        "the search finds what is there"
    );

    let more = ["--keys", keys.argument(), "--http", "127.0.0.1:0"];
    // Over its own socket nobody would show a certificate.
    let by_tls = ["--set", "learner.listen_unix=none"];
    let endless = ["--total-steps", "1000000000000"];
    // The most talkative that our own code can be; of the libraries, what they complain of.
    let talkative = [("SPRINGBOK_LOG", "debug,springbok=trace,h2=trace")];
    let mut run = train_with(
        BINARY,
        &[&OPEN[..], &more, &by_tls, &endless].concat(),
        &talkative,
    );
    let said = run.program.wait_for("watch it at http://", WAIT_MAX);
    let http = said.rsplit_once("http://").unwrap().1.to_owned();
    run.program.wait_for(" 2 actors", WAIT_MAX);

    let mut shown = Vec::new();
    for path in ["/", "/metrics", "/config", "/status", "/history"] {
        shown.push((path.to_owned(), page(&http, path)));
    }
    let mut pids = run.pids("");
    assert_eq!(pids.len(), 3, "a learner and two actors");
    pids.push(run.program.pid());
    for pid in pids {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            let content = fs::read(&path).unwrap();
            assert!(!content.is_empty(), "{path}");
            shown.push((path, content));
        }
    }
    run.program.signal(Signal::INT);
    let trained = run.wait(DRAIN_MAX);
    trained.assert_done();
    let summary = trained.summary();
    assert!(summary["trained_steps"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["actors"]["left"].as_u64(), Some(2), "{summary}");
    assert_ledger_closes(&summary);
    for (path, content) in files(&trained.run_directory()) {
        shown.push((path.display().to_string(), content));
    }
    let Ended { stdout, stderr, .. } = &trained.ended;
    shown.push(("stdout".to_owned(), stdout.clone().into_bytes()));
    shown.push(("stderr".to_owned(), stderr.clone().into_bytes()));
    for (place, content) in &shown {
        assert_eq!(found(&secrets, content), 0, "a secret is in {place}");
    }
    // The actors showed a certificate, and the learner's log has its name.
    let log = trained.run_directory().join("logs").join("learner.log");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("label=\"actor\""), "{log}");
}

fn token(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn slow_learner(keys: &Keys) -> Learner {
    let slow = ["--set", "learner.update_delay_ms=40"];
    let look = ["--set", "security.refresh_ms=10"];
    let guard = ["--keys", keys.argument()];
    learner(BINARY, "127.0.0.1:0", &[slow, look, guard].concat())
}

fn made(actor: Program) -> (u64, u64) {
    let ended = actor.wait(WAIT_MAX);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let done = ended
        .stderr
        .lines()
        .find(|line| line.contains("actor done"));
    let done = done.unwrap_or_else(|| panic!("no report: {ended:?}"));
    let number = |name: &str| -> u64 {
        let (_, rest) = done.split_once(&format!(" {name}=")).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    (number("unrolls"), number("dropped") + number("rejected"))
}

#[test]
fn tokens_are_rotated_under_actors_that_are_cut_off_or_connected_and_no_unroll_is_lost() {
    let keys = Keys::make(BINARY);
    let theirs = keys.for_an_actor();
    let stale = keys.for_an_actor();
    let mut learner = slow_learner(&keys);
    let proxy = Proxy::to(learner.address);
    let actors: Vec<Program> = (0..2)
        .map(|i| actor_with(BINARY, &proxy.tls_url(), i, &["--keys", theirs.argument()]))
        .collect();
    learner.wait_for_actors(2, WAIT_MAX);

    // While they are cut off, the one token is replaced by another.
    proxy.apply(Toxic::Refuse);
    proxy.reset();
    learner.program.wait_for("stream ended", WAIT_MAX);
    learner.program.wait_for("stream ended", WAIT_MAX);
    keys.set_tokens(&[&token('a')]);
    learner
        .program
        .wait_for("the tokens have changed", WAIT_MAX);
    theirs.set_tokens(&[&token('a')]);
    proxy.apply(Toxic::None);
    learner.wait_for_actors(2, WAIT_MAX);
    learner.wait_for_training(20.0, WAIT_MAX);

    // While they are connected, as README says: the learner's first, then the actors', then the old one goes.
    keys.set_tokens(&[&token('b'), &token('a')]);
    learner
        .program
        .wait_for("the tokens have changed", WAIT_MAX);
    theirs.set_tokens(&[&token('b')]);
    keys.set_tokens(&[&token('b')]);
    learner.program.wait_for("stream ended", WAIT_MAX);
    learner.program.wait_for("stream ended", WAIT_MAX);
    learner.wait_for_actors(2, WAIT_MAX);
    learner.wait_for_training(20.0, WAIT_MAX);

    let direct = format!("https://{}", learner.address);
    let refused = actor_with(BINARY, &direct, 2, &["--keys", stale.argument()]).wait(WAIT_MAX);
    assert_eq!(refused.code(), 64, "{refused:?}");
    let sentence = format!("the learner at {direct} refuses this actor: the token is not valid");
    assert!(refused.stderr.contains(&sentence), "{refused:?}");

    let summary = learner.drain(DRAIN_MAX);
    let (made, dropped) = actors
        .into_iter()
        .map(made)
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let ledger = &summary["ledger"];
    assert_eq!(ledger["produced"].as_u64(), Some(made), "{summary}");
    assert_eq!(
        ["lost", "rejected"].map(|name| ledger[name].as_u64()),
        [Some(0); 2],
        "{summary}"
    );
    assert_eq!(dropped, 0);
    assert_eq!(summary["actors"]["joined"].as_u64(), Some(2), "{summary}");
}

#[test]
fn an_actor_without_the_right_certificate_is_told_why_and_what_to_do() {
    let (keys, other) = (Keys::make(BINARY), Keys::make(BINARY));
    let (theirs, nameless, foreign) = (
        keys.for_an_actor(),
        keys.for_an_actor(),
        keys.for_an_actor(),
    );
    for name in ["actor.pem", "actor.key"] {
        fs::remove_file(nameless.file(name)).unwrap();
        fs::copy(other.file(name), foreign.file(name)).unwrap();
    }
    let mut learner = slow_learner(&keys);
    let address = learner.address;
    let (url, plain) = (format!("https://{address}"), format!("http://{address}"));
    let honest = actor_with(BINARY, &url, 0, &["--keys", theirs.argument()]);
    learner.wait_for_actors(1, WAIT_MAX);
    let mut misnamed = vec!["--keys", theirs.argument()];
    misnamed.extend(["--set", "security.server_name=learner.lab"]);
    for (url, arguments, parts) in [
        (
            &url,
            vec!["--keys", other.argument()],
            ["is not signed by the authority", "--ca"],
        ),
        (
            &url,
            vec!["--keys", nameless.argument()],
            ["it asks for a certificate", "--certificate and --key"],
        ),
        (
            &url,
            vec!["--keys", foreign.argument()],
            ["this actor's certificate", "--client-ca"],
        ),
        (
            &url,
            misnamed,
            [
                "its certificate is for other names",
                "`springbok keys --host`",
            ],
        ),
        (
            &plain,
            vec![],
            ["does not speak HTTP/2 in the clear", "write https"],
        ),
    ] {
        let refused = actor_with(BINARY, url, 1, &arguments).wait(WAIT_MAX);
        assert_eq!(refused.code(), 64, "{refused:?}");
        let sentence = refused.stderr.lines().last().unwrap_or_default();
        let begin = format!("springbok: no TLS with the learner at {url}: ");
        assert!(sentence.starts_with(&begin), "{refused:?}");
        for part in parts {
            assert!(sentence.contains(part), "{part:?}: {refused:?}");
        }
    }
    learner.wait_for_training(4.0, WAIT_MAX);
    let summary = learner.drain(DRAIN_MAX);
    assert_eq!(summary["actors"]["joined"].as_u64(), Some(1), "{summary}");
    assert_eq!(made(honest).1, 0);
}
