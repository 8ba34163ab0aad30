//! The promise: a run can be watched while it goes on, from outside and without disturbing it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use springbok_tests::{assert_ledger_closes, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");

fn status(arguments: &[&str], code: i32) -> Output {
    let output = Command::new(BINARY)
        .arg("status")
        .args(arguments)
        .output()
        .expect("the program starts");
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {output:?}"
    );
    output
}

#[test]
fn a_run_is_shown_while_it_goes_on_and_missed_when_it_is_gone() {
    let minute = Duration::from_secs(120);
    let mut run = train(
        BINARY,
        &["--total-steps", "1000000000", "--http", "127.0.0.1:0"],
    );
    let said = run.program.wait_for("listening on ", minute);
    let learner = said.rsplit_once("listening on ").unwrap().1;
    let learner = format!("http://{learner}");
    let said = run.program.wait_for("watch it at ", minute);
    let url = said.rsplit_once("watch it at ").unwrap().1;
    run.program.wait_for(" 2 actors", minute);

    status(&[url, "--probe"], 0);
    status(&["--learner", &learner, "--probe"], 0);
    let shown: Value = serde_json::from_slice(&status(&[url, "--json"], 0).stdout).unwrap();
    assert_eq!(shown["phase"], "serving");
    assert_eq!(shown["run"]["environment"], "CartPole-v1");
    assert_eq!(shown["present"], 2);
    assert_ledger_closes(&shown);
    let words = String::from_utf8(status(&[url], 0).stdout).unwrap();
    for part in [
        "serving: CartPole-v1 seed 1",
        "ledger      closes: ",
        "bottleneck  ",
    ] {
        assert!(words.contains(part), "{part:?} is not in:\n{words}");
    }

    run.program.signal(Signal::INT);
    run.wait(minute).assert_done();
    for gone in [
        &[url][..],
        &[url, "--probe"],
        &["--learner", &learner, "--probe"],
    ] {
        let said = status(gone, 69).stderr;
        assert!(!said.is_empty(), "{gone:?} says why");
    }
    status(&["https://127.0.0.1:1"], 64);
}

#[test]
fn other_machines_see_a_run_with_a_token_only() {
    let minute = Duration::from_secs(120);
    let refused = train(BINARY, &["--http", "0.0.0.0:0"]).wait(minute).ended;
    assert_eq!(refused.code(), 64, "{refused:?}");
    assert!(
        refused.stderr.contains("nothing proves who asks"),
        "{refused:?}"
    );

    let keys = tempfile::tempdir().unwrap();
    let file = |name: &str, digits: &str| {
        let path = keys.path().join(name);
        fs::write(&path, digits.repeat(4)).unwrap();
        // Nobody else may read it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, other) = (
        file("token", "0123456789abcdef"),
        file("other", "fedcba9876543210"),
    );
    let mut run = train(
        BINARY,
        &[
            "--total-steps",
            "1000000000",
            "--http",
            "0.0.0.0:0",
            "--token-file",
            &token,
        ],
    );
    let said = run.program.wait_for("watch it at ", minute);
    let url = said.rsplit_once("watch it at ").unwrap().1.to_owned();
    run.program.wait_for(" 2 actors", minute);
    status(&[&url, "--probe"], 0);
    status(&[&url, "--json", "--token-file", &token], 0);
    let none = status(&[&url], 64).stderr;
    assert!(
        String::from_utf8_lossy(&none).contains("--token-file"),
        "{none:?}"
    );
    let wrong = status(&[&url, "--token-file", &other], 64).stderr;
    assert!(
        String::from_utf8_lossy(&wrong).contains("does not know the token"),
        "{wrong:?}"
    );
    run.program.signal(Signal::INT);
    run.wait(minute).assert_done();
}
