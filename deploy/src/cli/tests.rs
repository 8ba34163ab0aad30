//! The command line as it is parsed.

use super::*;

fn parsed(line: &str) -> Result<Command, clap::Error> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn clap_finds_no_fault_in_the_definition() {
    program().debug_assert();
}

#[test]
fn every_flag_names_a_key_that_exists() {
    let flags = COMMON_FLAGS
        .iter()
        .chain(&TRAINING_FLAGS)
        .chain(&LAG_FLAGS)
        .chain(&SWITCHES)
        .chain([&ACTORS_FLAG, &LISTEN_FLAG])
        .chain(security::flags());
    for flag in flags {
        assert!(
            KEYS.iter().any(|key| key.path == flag.key),
            "--{} stands for the unknown key {}",
            flag.long,
            flag.key
        );
    }
}

#[test]
fn flags_win_over_set() {
    let Command::Train {
        layers, reports, ..
    } = parsed("springbok train --seed 7 --set run.seed=3 --json --no-progress").unwrap()
    else {
        panic!("not train");
    };
    assert_eq!(layers.sets, ["run.seed=3", "run.seed=7"]);
    assert!(reports.json && !reports.progress);
}

#[test]
fn the_run_directory_belongs_to_the_launcher() {
    assert!(parsed("springbok learner --run-directory x").is_err());
    assert!(parsed("springbok learner --supervised --run-directory x").is_ok());
}
