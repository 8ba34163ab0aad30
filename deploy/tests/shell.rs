//! What the program gives a shell: completions and manual pages.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    process::{Command, Stdio},
};

/// Runs the program to its end; asserts its exit code. What it says on stdout, and on stderr.
fn run(arguments: &[&str], code: i32) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springbok"));
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

#[test]
fn completions_are_scripts_that_know_the_verbs() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell], 0).0;
        for word in ["soak", "envs-per-actor", "target-lag"] {
            assert_contains(&script, word);
        }
        assert!(!script.contains("--run-directory"), "{shell}");
    }
    assert_contains(&run(&["completions", "tcsh"], 64).1, "elvish");

    // bash reads the script, and completes with it.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), run(&["completions", "bash"], 0).0).unwrap();
    let bash = |arguments: &[&str]| {
        let output = Command::new("bash").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = file.path().to_str().unwrap();
    bash(&["-n", path]);
    let completes = format!(
        "source '{path}'; COMP_WORDS=(springbok tr); COMP_CWORD=1; _springbok springbok tr springbok; echo ${{COMPREPLY[@]}}"
    );
    assert_eq!(bash(&["--norc", "-c", &completes]).trim(), "train");
}

#[test]
fn manual_pages_are_printed_or_written() {
    assert_contains(&run(&["man"], 0).0, ".TH springbok 1");
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("man1");
    run(&["man", "--out", out.to_str().unwrap()], 0);
    let page = fs::read_to_string(out.join("springbok-train.1")).unwrap();
    assert_contains(&page, "actor.count");
    fs::write(parent.path().join("file"), "").unwrap();
    let taken = parent.path().join("file/man1");
    let (_, said) = run(&["man", "--out", taken.to_str().unwrap()], 74);
    assert_contains(&said, "cannot make");
}
