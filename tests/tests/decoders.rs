//! Bytes from outside never crash a process, ask for no more memory than a decoder is entitled to, and are not believed
//! when a checksum says otherwise. Each decoder runs in a process of its own, with little memory and a small stack.
//!
//! `SPRINGBOK_MUTATIONS=100` makes a run a hundred times as long, and `SPRINGBOK_SEED=7` another one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use springbok_tests::{
    Ended, Program,
    decoders::{DECODERS, Decoder, PLANTED, named},
};

/// Bytes of the whole corpus.
const CORPUS_BYTES_MAX: u64 = 200_000;

fn corpus(decoder: &Decoder) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(decoder.name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A number from the environment.
fn variable(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs `decoder` in a process of its own; gives how it ended, and the last input.
fn run(decoder: &Decoder) -> (Ended, PathBuf) {
    let times = variable("SPRINGBOK_MUTATIONS", 1);
    let mutations = decoder.mutations.saturating_mul(times);
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("input-{}", decoder.name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_decode-under-test"));
    command
        .arg(decoder.name)
        .arg(variable("SPRINGBOK_SEED", 1).to_string())
        .arg(mutations.to_string())
        .arg(&last)
        .args(files(&corpus(decoder)))
        // One arena: memory that is only reserved would count.
        .env("MALLOC_ARENA_MAX", "1")
        // Names in a backtrace take more memory than there is, and a panic in the middle of a panic may wait for itself.
        .env("RUST_BACKTRACE", "0");
    let patience = Duration::from_secs(60).saturating_mul(times.max(1));
    (Program::start(command).wait(patience), last)
}

fn holds(name: &str) {
    let decoder = named(name).expect("a decoder of that name");
    let (ended, last) = run(decoder);
    assert!(
        ended.status.success(),
        "the input is in {}: {ended:#?}",
        last.display()
    );
}

/// A test for each decoder, so that they run side by side and fail apart.
macro_rules! decoders {
    ($($test:ident $name:literal),* $(,)?) => {
        const TESTED: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                holds($name);
            }
        )*
    };
}

decoders! {
    observations "observed",
    choices "acted",
    acknowledgements "acknowledgement",
    conversations "conversation",
    networks_of_joins "join-network",
    joins "join",
    snapshots "snapshot",
    unrolls "unroll",
    checkpoints "checkpoint",
    contents_of_checkpoints "checkpoint-content",
    stores_of_checkpoints "checkpoint-store",
    recordings "recording",
    lives "learner-life",
    metrics "metrics",
    policies "safetensors",
    certificates "certificate",
    labels_of_certificates "certificate-label",
    private_keys "private-key",
    tokens "tokens",
    configurations "configuration",
    sets_and_variables "configuration-sets",
    lag_injections "lag-injection",
    options_of_environments "environment-options",
    events_of_learners "learner-event",
    hosts_of_requests "http-host",
    answers_of_python "python-answer",
    saved_policies "run-policy",
    run_directories "run-directory",
    rows_of_the_lab "lab-rows",
    answers_of_a_learner "status-answer",
}

#[test]
fn every_decoder_is_tested() {
    let all: Vec<&str> = DECODERS.iter().map(|decoder| decoder.name).collect();
    assert_eq!(TESTED, all);
}

#[test]
fn planted_faults_are_found() {
    for decoder in PLANTED {
        let (ended, last) = run(decoder);
        assert!(!ended.status.success(), "{}: {ended:?}", decoder.name);
        assert!(last.exists());
    }
}

/// The corpus has a file for each example: what a release wrote, though not always this one. The examples of today are
/// tried in any case. `SPRINGBOK_WRITE_CORPUS=1` writes them anew.
#[test]
fn the_corpus_is_small_and_has_every_example() {
    let mut bytes_in_all = 0;
    for decoder in DECODERS {
        let folder = corpus(decoder);
        for (name, bytes) in (decoder.examples)() {
            let path = folder.join(name);
            if env::var_os("SPRINGBOK_WRITE_CORPUS").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            assert!(path.is_file(), "{} is missing", path.display());
        }
        let sizes = files(&folder)
            .into_iter()
            .map(|path| fs::metadata(path).unwrap().len());
        bytes_in_all += sizes.sum::<u64>();
    }
    assert!(bytes_in_all <= CORPUS_BYTES_MAX, "{bytes_in_all} bytes");
}
