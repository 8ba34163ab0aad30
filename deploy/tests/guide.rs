//! The guide in `deploy/docs` is true: its commands run and say what it quotes, the sentences of its troubleshooting are in
//! the program, its links lead somewhere, and its reference is the program's own.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const BINARY: &str = env!("CARGO_BIN_EXE_springbok");

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(name: &str) -> String {
    fs::read_to_string(docs().join(name)).expect(name)
}

/// Names of the pages.
fn pages() -> Vec<String> {
    let names = fs::read_dir(docs()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<_> = names.filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    assert_eq!(pages.len(), 8, "{pages:?}");
    pages
}

/// A command of a page, and what it is quoted to say.
#[derive(Debug)]
struct Quoted {
    command: String,
    says: Vec<String>,
}

/// The commands of a page's `console` blocks.
fn commands(page: &str) -> Vec<Quoted> {
    let mut commands: Vec<Quoted> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            commands.push(Quoted {
                command: command.to_owned(),
                says: Vec::new(),
            });
        } else if inside && line != "..." {
            let last = commands.last_mut().expect("a command comes first");
            last.says.push(line.to_owned());
        }
    }
    commands
}

fn run(command: &str, directory: &Path) -> Output {
    let words: Vec<_> = command.split_whitespace().collect();
    let (program, arguments) = words.split_first().unwrap();
    assert_eq!(*program, "springbok", "{command}");
    Command::new(BINARY)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A line with each number replaced: how many steps and episodes there are is a matter of time.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut in_number = false;
    for c in line.trim().chars() {
        let continues = c.is_ascii_digit() || (in_number && c == '.');
        if continues && !in_number {
            text.push('#');
        }
        if !continues {
            text.push(c);
        }
        in_number = continues;
    }
    text
}

/// Runs the commands of a page, one after the other in one directory.
fn run_page(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let commands = commands(&read(name));
    assert!(!commands.is_empty(), "{name}");
    for quoted in commands {
        let output = run(&quoted.command, directory.path());
        assert!(output.status.success(), "{}: {output:?}", quoted.command);
        let said = [&output.stderr[..], &output.stdout].concat();
        let said = String::from_utf8(said).unwrap();
        let lines: Vec<_> = said.lines().map(without_numbers).collect();
        for line in &quoted.says {
            assert!(
                lines.contains(&without_numbers(line)),
                "{name}: `{}` does not say {line:?} but:\n{said}",
                quoted.command
            );
        }
    }
    let kept = |policy: &str| fs::read(directory.path().join(policy)).ok();
    // What the page on operating says of these two.
    let twice = ["a", "b"].map(|run| kept(&format!("runs/twice-{run}/policy.safetensors")));
    assert_eq!(twice[0].is_some(), name == "operating.md");
    assert!(twice[0] == twice[1], "not the same policy byte for byte");
}

#[test]
fn the_first_hour_runs_as_it_is_told() {
    run_page("first-hour.md");
}

#[test]
fn the_other_pages_run_as_they_are_told() {
    run_page("concepts.md");
    run_page("operating.md");
}

/// The program's sources as one text: spaces of any kind are one space, and strings that go on in the next line are joined.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut open: Vec<_> = ["common", "learner", "actor", "deploy"]
        .map(|name| root.join(name).join("src"))
        .into();
    let mut text = String::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let text = text.replace("\\\"", "\"");
    let mut joined = String::with_capacity(text.len());
    let mut lines = text.lines();
    let mut next = lines.next();
    while let Some(line) = next {
        let goes_on = line.strip_suffix('\\').filter(|line| !line.ends_with('\\'));
        joined.push_str(goes_on.unwrap_or(line).trim_start());
        if goes_on.is_none() {
            joined.push('\n');
        }
        next = lines.next();
    }
    joined
}

#[test]
fn every_sentence_of_the_troubleshooting_is_one_of_the_program() {
    let sources = sources();
    let page = read("troubleshooting.md");
    let sentences: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .collect();
    assert!(sentences.len() > 25, "{}", sentences.len());
    for sentence in sentences {
        // Dots stand for what is filled in.
        let parts: Vec<_> = sentence
            .split("...")
            .map(|part| part.trim_matches([' ', '`', ',', ';', ':', '(', ')']))
            .filter(|part| !part.is_empty())
            .collect();
        assert!(parts.iter().any(|part| part.len() > 10), "{sentence}");
        for part in parts {
            assert!(
                sources.contains(part),
                "{part:?} of {sentence:?} is not in the sources"
            );
        }
    }
    assert!(!sources.contains("a sentence that was made up"));
}

#[test]
fn the_reference_is_that_of_this_program() {
    for (table, name) in [("config", "configuration.md"), ("metrics", "metrics.md")] {
        let made = run(&format!("springbok reference {table}"), &docs());
        let made = String::from_utf8(made.stdout).unwrap();
        assert!(
            made == read(name),
            "deploy/docs/{name} is not what the program says; make it again:\n  cargo run -p springbok -- reference {table} > \
             deploy/docs/{name}"
        );
    }
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    for name in pages() {
        let page = read(&name);
        for link in page.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.starts_with("https://") {
                continue;
            }
            let target = if path.is_empty() { name.as_str() } else { path };
            assert!(docs().join(target).exists(), "{name}: {link}");
            if !anchor.is_empty() {
                let known = anchors(&read(target));
                assert!(
                    known.contains(&anchor.to_owned()),
                    "{name}: {link}: {known:?}"
                );
            }
        }
    }
}
