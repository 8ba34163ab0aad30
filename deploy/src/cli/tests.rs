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

/// All verbs that are shown, those of verbs included, as the words that call them.
fn verbs_shown() -> Vec<Vec<String>> {
    let mut open = vec![(Vec::new(), program())];
    let mut shown = Vec::new();
    while let Some((words, verb)) = open.pop() {
        for inner in verb.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let words = [&words[..], &[inner.get_name().to_owned()]].concat();
            shown.push(words.clone());
            open.push((words, inner.clone()));
        }
    }
    shown
}

#[test]
fn every_verb_has_a_manual_page_and_the_page_of_the_program_names_it() {
    let out = tempfile::tempdir().unwrap();
    crate::verbs::write_manual(out.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect(name);
    let verbs = verbs_shown();
    assert!(verbs.len() > 15, "{verbs:?}");
    for words in &verbs {
        let full = words.join("-");
        let page = read(&format!("springbok-{full}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{full}");
        // A page names the pages of its verbs; in roff a hyphen is escaped.
        let parent = words[..words.len() - 1]
            .iter()
            .fold("springbok".to_owned(), |name, word| {
                format!("{name}-{word}")
            });
        let named = format!("springbok-{full}(1)").replace('-', "\\-");
        assert!(
            read(&format!("{parent}.1")).contains(&named),
            "{named} in {parent}"
        );
    }
    let files = std::fs::read_dir(out.path()).unwrap().count();
    assert_eq!(files, verbs.len() + 1, "no page of a hidden verb");
}

/// The command lines of the guide: those that a test runs (`console`) and those that only a person can (`sh`).
fn lines_of_the_guide() -> Vec<String> {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(docs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "md") {
            continue;
        }
        let mut inside = false;
        for line in std::fs::read_to_string(path).unwrap().lines() {
            if line.starts_with("```") {
                inside = ["```console", "```sh"].contains(&line);
            } else if inside {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                let line = line.split(['>', '#']).next().unwrap_or_default();
                if line.starts_with("springbok ") {
                    lines.push(line.trim().to_owned());
                }
            }
        }
    }
    lines
}

#[test]
fn every_command_of_the_guide_is_one() {
    let lines = lines_of_the_guide();
    assert!(lines.len() > 25, "{lines:?}");
    for line in lines {
        if let Err(error) = parsed(&line) {
            panic!("{line}: {error}");
        }
    }
}
