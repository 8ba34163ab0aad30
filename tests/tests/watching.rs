//! The promise: a trained policy can be watched in a terminal and recorded, and the terminal comes back as it was.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use springbok_tests::{Ended, Program, Trained, train};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok-under-test");
const WAIT_MAX: Duration = Duration::from_secs(120);
const HIDE: &str = "\x1b[?25l";
const SHOW: &str = "\x1b[?25h";

/// A policy of no skill.
fn trained(environment: &str) -> Trained {
    let arguments = ["--env", environment, "--total-steps", "2000"];
    let trained = train(BINARY, &arguments).wait(WAIT_MAX);
    trained.assert_done();
    trained
}

fn eval(run: &Path, arguments: &[&str], path: Option<&Path>) -> Ended {
    let mut command = Command::new(BINARY);
    command.arg("eval").arg(run).args(arguments);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    Program::start(command).wait(WAIT_MAX)
}

#[test]
fn an_episode_is_recorded_whole() {
    let run = trained("Catch");
    let out = tempfile::tempdir().unwrap();
    let gif = out.path().join("catch.gif");
    let arguments = ["--greedy", "--json", "--episodes", "2", "--record"];
    let recorded = |file: &Path, path| {
        let ended = eval(
            &run.run_directory(),
            &[&arguments[..], &[file.to_str().unwrap()]].concat(),
            path,
        );
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended.json()
    };
    let report = recorded(&gif, None);
    assert_eq!(report["episodes"], 2);
    assert!(
        report["greedy"]["mean"].is_number() && report["sampled"].is_null(),
        "{report}"
    );
    let header = fs::read(&gif).unwrap();
    let side = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    assert_eq!((&header[..6], side(6), side(8)), (&b"GIF89a"[..], 50, 100));

    // A stand-in for ffmpeg that keeps what it is given: every state of two episodes of nine steps.
    let ffmpeg = out.path().join("ffmpeg");
    fs::write(
        &ffmpeg,
        "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\nfor last; do :; done\nexec /bin/cat > \"$last\"\n",
    )
    .unwrap();
    fs::set_permissions(&ffmpeg, fs::Permissions::from_mode(0o755)).unwrap();
    let film = out.path().join("catch.mp4");
    assert_eq!(recorded(&film, Some(out.path())), {
        let mut same = report;
        same["recorded"] = film.to_str().unwrap().into();
        same
    });
    assert_eq!(fs::read(&film).unwrap().len(), 2 * 9 * 50 * 100 * 3);

    // One that fails leaves nothing behind, and is quoted.
    fs::write(
        &ffmpeg,
        "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\necho no encoder >&2\nexit 3\n",
    )
    .unwrap();
    let lost = out.path().join("lost.mp4");
    let ended = eval(
        &run.run_directory(),
        &["--record", lost.to_str().unwrap()],
        Some(out.path()),
    );
    assert_eq!(ended.code(), 74, "{ended:?}");
    assert!(ended.stderr.contains("no encoder"), "{ended:?}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3);
}

#[test]
fn a_game_is_watched_in_a_terminal_until_ctrl_c() {
    let run = trained("CartPole-v1");
    // `script` runs a command in a terminal of its own, and types there what it reads.
    let watched = format!(
        "exec '{BINARY}' eval '{}' --watch",
        run.run_directory().display()
    );
    let mut script = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &watched,
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let mut interrupted = false;
    loop {
        // The end of the game ends this; if it never comes, the test runner's limit does.
        let count = screen.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen);
        if !interrupted && text.contains("step 3 ") {
            keys.write_all(b"\x03").unwrap();
            interrupted = true;
        }
    }
    let text = String::from_utf8_lossy(&seen);
    assert!(script.wait().unwrap().success(), "{text}");
    let (begin, game) = text.split_once(HIDE).expect("the cursor was hidden");
    assert!(!begin.contains('\u{2580}'), "{begin}");
    let (game, after) = game.rsplit_once(SHOW).expect("the cursor came back");
    assert!(
        game.contains('\u{2580}') && game.contains("return 3.00"),
        "{game}"
    );
    assert!(
        !after.contains('\u{2580}') && !after.contains(HIDE),
        "{after}"
    );
}
