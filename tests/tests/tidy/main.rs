//! The architecture, checked from the manifests and the sources: which crate may know which, what may be named where,
//! and a few habits. Each rule is also shown a planted violation, so that a rule that sees nothing fails too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod code;
mod planted;
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rules::{forbids_unsafe, source_violations};

/// Folder of each crate, and the crates of this workspace that it may depend on.
const CRATES: [(&str, &[&str]); 7] = [
    ("proto", &[]),
    ("common", &["springbok-proto"]),
    ("learner", &["springbok-proto", "springbok-common"]),
    ("actor", &["springbok-proto", "springbok-common"]),
    (
        "deploy",
        &["springbok-common", "springbok-learner", "springbok-actor"],
    ),
    (
        "tests",
        &[
            "springbok",
            "springbok-proto",
            "springbok-common",
            "springbok-learner",
            "springbok-actor",
        ],
    ),
    (
        "tests/simulation",
        &["springbok-common", "springbok-learner", "springbok-actor"],
    ),
];

/// Crates of this workspace in any dependency table of `manifest`, also those of one target and renamed ones.
fn workspace_dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let of_targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = of_targets
        .into_iter()
        .flat_map(toml::Table::values)
        .filter_map(toml::Value::as_table);
    let mut found = Vec::new();
    for table in of_targets.chain([&manifest]) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = table.get(kind).and_then(toml::Value::as_table);
            for (name, value) in dependencies.into_iter().flatten() {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                let package = renamed.unwrap_or(name);
                if package.starts_with("springbok") {
                    found.push(package.to_owned());
                }
            }
        }
    }
    found
}

/// Dependencies of `manifest` against the arrows.
fn arrow_violations(folder: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    workspace_dependencies(manifest)
        .into_iter()
        .filter(|dependency| !allowed.contains(&dependency.as_str()))
        .map(|dependency| format!("{folder}/Cargo.toml: must not depend on {dependency}"))
        .collect()
}

// === The repository ===

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust sources below `folder`, as paths from the root of the repository.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/target") {
                found.extend(sources(&path));
            }
        } else if path.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).expect(path)
}

#[test]
fn sources_keep_every_rule() {
    let paths = CRATES.iter().flat_map(|(folder, _)| sources(folder));
    let mut files = 0;
    let mut found = Vec::new();
    for path in paths {
        files += 1;
        found.extend(source_violations(&path, &read(&path)));
    }
    assert!(files > 20, "only {files} sources were found");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn dependency_arrows_point_one_way() {
    let root: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = root["workspace"]["members"].as_array().unwrap();
    let members: Vec<&str> = members.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(members, CRATES.map(|(folder, _)| folder));

    let found: Vec<String> = CRATES
        .iter()
        .flat_map(|(folder, allowed)| {
            arrow_violations(folder, allowed, &read(&format!("{folder}/Cargo.toml")))
        })
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_library_forbids_unsafe_code() {
    for (folder, _) in CRATES {
        let path = format!("{folder}/src/lib.rs");
        assert!(forbids_unsafe(&read(&path)), "{path}");
    }
}

#[test]
fn arrows_the_wrong_way_are_found() {
    let (_, allowed) = CRATES[3];
    let fine = "[dependencies]\nspringbok-common.workspace = true\ntoml = \"1\"\n";
    assert!(arrow_violations("actor", allowed, fine).is_empty());
    let wrong = [
        "[dependencies]\nspringbok-learner.workspace = true\n",
        "[dev-dependencies]\nspringbok-learner = { path = \"../learner\" }\n",
        "[build-dependencies]\nspringbok = { workspace = true }\n",
        "[dependencies]\nother = { package = \"springbok-learner\", path = \"../learner\" }\n",
        "[target.'cfg(unix)'.dependencies]\nspringbok-learner.workspace = true\n",
    ];
    for manifest in wrong {
        let found = arrow_violations("actor", allowed, manifest);
        assert_eq!(found.len(), 1, "{manifest}: {found:?}");
    }
}
