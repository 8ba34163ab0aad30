//! Every command line and variable in the manifests is one of the program's.

use std::{collections::BTreeMap, process::Command};

use springbok_common::config::KEYS;

use crate::{
    BINARY, at, files, keys, lines_of,
    manifests::{CONFIGURATIONS, address},
    read,
};

/// A command line in a manifest: the words after the program's name.
struct Line {
    file: String,
    words: Vec<String>,
    /// The variables of the configuration in that file.
    variables: BTreeMap<String, String>,
}

/// The keys under which YAML has words of a command line, the last one a health check of Compose.
const WORD_KEYS: [&str; 4] = ["entrypoint", "command", "args", "test"];

/// A value without quotes, with `${NAME:-default}` and `${NAME:?explanation}` as they are without the variable.
fn plain(value: &str) -> String {
    let value = value.trim().trim_matches('"');
    let Some((before, rest)) = value.split_once("${") else {
        return value.to_owned();
    };
    let (inside, after) = rest.split_once('}').expect("a closed variable");
    let default = match (inside.split_once(":-"), inside.split_once(":?")) {
        (Some((_, default)), _) => default,
        (None, Some(_)) => "http://learner:5005",
        _ => panic!("{value}: a variable without a default"),
    };
    plain(&format!("{before}{default}{after}"))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// All lists of words in `yaml`, each with its key, in order.
fn word_lists(yaml: &str) -> Vec<(String, Vec<String>)> {
    let lines: Vec<&str> = lines_of(yaml).filter(|line| !line.is_empty()).collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.trim().trim_start_matches("- ").split_once(':') else {
            continue;
        };
        if !WORD_KEYS.contains(&key) {
            continue;
        }
        let value = value.trim();
        let words = if let Some(inside) = value.strip_prefix('[') {
            let inside = inside.strip_suffix(']').expect("a list on one line");
            // A comma inside quotes would be part of a word; no manifest has one.
            inside.split(", ").map(plain).collect()
        } else {
            assert!(value.is_empty(), "{line}: words come as a list");
            lines[i + 1..]
                .iter()
                .take_while(|item| indent(item) >= indent(line) && item.trim().starts_with("- "))
                .map(|item| plain(item.trim().trim_start_matches("- ")))
                .collect()
        };
        found.push((key.to_owned(), words));
    }
    found
}

/// All `SPRINGBOK__SECTION__KEY` of `yaml` with their values: `NAME: value`, or `- name: NAME` and `value:` below it.
fn variables(yaml: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = lines_of(yaml).map(str::trim).collect();
    let mut found = BTreeMap::new();
    for (i, line) in lines.iter().enumerate() {
        if let Some(name) = line
            .strip_prefix("- name: ")
            .filter(|name| name.starts_with("SPRINGBOK__"))
        {
            let value = lines[i + 1].strip_prefix("value:").expect("a value");
            found.insert(name.to_owned(), plain(value));
        } else if let Some((name, value)) = line.split_once(": ")
            && name.starts_with("SPRINGBOK__")
        {
            found.insert(name.to_owned(), plain(value));
        }
    }
    found
}

/// The words after the program's name, if `words` are a health check: in Kubernetes the command alone, elsewhere after a
/// word that says that no shell is wanted.
fn probe(words: &[String]) -> Option<&[String]> {
    let words = words.strip_prefix(&["CMD".to_owned()]).unwrap_or(words);
    words.strip_prefix(&["springbok".to_owned()])
}

/// The command lines of the program in all manifests.
fn all() -> Vec<Line> {
    let mut found = Vec::new();
    for folder in ["deploy/compose", "deploy/kubernetes"] {
        for file in files(folder, &[".yaml"]) {
            let yaml = read(&file);
            let mut kept_going = false;
            for (key, words) in word_lists(&yaml) {
                // That of Prometheus consists of flags alone.
                if probe(&words).is_some() || words[0].starts_with("--") {
                    continue;
                }
                // In Kubernetes `command` is what Compose calls `entrypoint`.
                let launches =
                    key == "entrypoint" || (folder.ends_with("kubernetes") && key == "command");
                if launches {
                    assert_eq!(
                        words,
                        ["springbok-run"],
                        "{file}: the image has no other program"
                    );
                    kept_going = true;
                    continue;
                }
                let mut words = words;
                if kept_going && words[0] == "learner" {
                    let run = words.remove(1);
                    assert!(
                        run.starts_with("/runs/"),
                        "{file}: {run} is not in the volume"
                    );
                }
                kept_going = false;
                found.push(Line {
                    file: file.clone(),
                    words,
                    variables: variables(&yaml),
                });
            }
        }
    }
    found
}

/// Runs the program, and returns its exit code and all that it wrote.
fn run(words: &[&str], variables: &BTreeMap<String, String>) -> (i32, String) {
    let output = Command::new(BINARY)
        .args(words)
        .envs(variables)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn every_flag_is_one_of_its_verb() {
    let lines = all();
    // A reader of YAML that overlooks lines would make this test say nothing.
    let verbs = |verb| lines.iter().filter(|line| line.words[0] == verb).count();
    assert_eq!(
        (verbs("learner"), verbs("actor")),
        (3, 4),
        "command lines in the manifests"
    );
    for line in &lines {
        let mut words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        // The words before it are judged first; so nothing is started.
        words.push("--help");
        let (code, text) = run(&words, &BTreeMap::new());
        assert_eq!(code, 0, "{}: {:?}: {text}", line.file, line.words);
    }
}

#[test]
fn health_checks_ask_where_the_learner_shows_itself() {
    let files = files("deploy/compose", &[".yaml"])
        .into_iter()
        .chain(files("deploy/kubernetes", &[".yaml"]));
    let mut probes: Vec<(String, Vec<String>)> = files
        .flat_map(|file| {
            let lists = word_lists(&read(&file));
            lists
                .into_iter()
                .map(move |(_, words)| (file.clone(), words))
        })
        .collect();
    let image = read("deploy/docker/Dockerfile");
    let check = image.split("HEALTHCHECK ").nth(1).unwrap();
    let words = check.split("CMD [").nth(1).unwrap().split(']').next();
    let words = words.unwrap().split(", ").map(plain).collect();
    probes.push((
        "Dockerfile".to_owned(),
        [vec!["CMD".to_owned()], words].concat(),
    ));

    let mut seen = 0;
    for (file, words) in &probes {
        let Some(words) = probe(words) else { continue };
        for configuration in CONFIGURATIONS {
            let page = address(configuration, "telemetry", "http");
            assert!(
                words.contains(&format!("http://{page}")),
                "{file}: {words:?}"
            );
        }
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("--help");
        let (code, text) = run(&words, &BTreeMap::new());
        assert_eq!(code, 0, "{file}: {words:?}: {text}");
        assert!(words.contains(&"--probe"), "{file}: {words:?}");
        seen += 1;
    }
    assert_eq!(seen, 5, "Compose, the image, and three in Kubernetes");
}

#[test]
fn every_value_key_and_variable_passes_config_check() {
    let made = keys();
    for line in all() {
        let beside = at(line.file.rsplit_once('/').unwrap().0);
        let mut words = vec!["config".to_owned(), "check".to_owned()];
        let mut rest = line.words[1..].iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--no-progress" | "--json" => {}
                // The files are read too; so they are those that the program makes.
                "--keys" => {
                    rest.next().unwrap();
                    words.extend([
                        "--keys".to_owned(),
                        made.path().join("keys").display().to_string(),
                    ]);
                }
                "--learner" => {
                    let url = rest.next().unwrap();
                    assert!(
                        url.starts_with("http://") || url.starts_with("https://"),
                        "{url}"
                    );
                }
                "--config" => {
                    assert_eq!(rest.next().unwrap(), "/etc/springbok/springbok.toml");
                    // Batch takes the file of the base.
                    let own = beside.join("springbok.toml");
                    let file = if own.exists() {
                        own
                    } else {
                        at("deploy/kubernetes/base/springbok.toml")
                    };
                    words.extend(["--config".to_owned(), file.display().to_string()]);
                }
                other => words.push(other.to_owned()),
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, text) = run(&words, &line.variables);
        assert_eq!(code, 0, "{}: {:?}: {text}", line.file, line.words);
    }
}

#[test]
fn every_variable_and_set_in_scripts_is_a_key() {
    let mut seen = 0;
    for file in files(
        "deploy",
        &[
            ".yaml",
            ".sh",
            ".sbatch",
            ".md",
            ".example",
            "Dockerfile",
            "springbok-run",
        ],
    ) {
        let text = read(&file);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if let Some(name) = word.strip_prefix("SPRINGBOK__") {
                let path = name.to_lowercase().replace("__", ".");
                assert!(
                    KEYS.iter().any(|key| key.path == path),
                    "{file}: {word}: no key {path}"
                );
                seen += 1;
            }
        }
        for (_, after) in text
            .match_indices("--set ")
            .map(|(i, found)| text.split_at(i + found.len()))
        {
            let path = after.split('=').next().unwrap();
            // The guide's words for any of them.
            if path == "section.key" {
                continue;
            }
            assert!(
                KEYS.iter().any(|key| key.path == path),
                "{file}: --set {path}: no such key"
            );
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} keys seen");
}
