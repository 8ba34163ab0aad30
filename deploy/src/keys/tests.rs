//! What is made can be used, is for its owner only, and is not overwritten by accident.

use std::os::unix::fs::PermissionsExt as _;

use springbok_common::{
    config::Config,
    credentials::{Token, label, read_certificates, read_key, read_tokens},
};

use super::*;

fn order<'a>(directory: &'a Path, hosts: &'a [String], actors: &'a [String]) -> Order<'a> {
    Order {
        directory,
        hosts,
        actors,
        days: 1,
        renew: false,
        force: false,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_made_can_be_used_and_is_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    let (hosts, actors) = (["learner.lab".to_owned()], ["rack-7".to_owned()]);
    make(&order(&directory, &hosts, &actors)).unwrap();
    assert_eq!(mode(&directory), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".pem") {
            read_certificates(&path).unwrap();
        } else {
            assert_eq!(mode(&path), 0o600, "{name}");
        }
        if name.ends_with(".key") {
            read_key(&path).unwrap();
        }
        names.push(name);
    }
    names.sort();
    let pairs = ["actor", "ca", "learner", "rack-7"];
    let mut expected: Vec<String> = pairs
        .iter()
        .flat_map(|name| [format!("{name}.key"), format!("{name}.pem")])
        .collect();
    expected.push("token".to_owned());
    assert_eq!(names, expected);
    let rack = fs::read(directory.join("rack-7.pem")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&rack).unwrap();
    assert_eq!(label(&pem.contents).as_deref(), Some("rack-7"));

    let mut sets = vec!["learner.listen=0.0.0.0:5005".to_owned()];
    for (key, name, _) in LEARNER_FILES.iter().chain(ACTOR_FILES) {
        sets.push(format!("{key}={}", directory.join(name).display()));
    }
    let config = Config::load(None, std::iter::empty(), &sets)
        .unwrap()
        .config;
    springbok_learner::Security::load(&config, None).unwrap();
    springbok_actor::Security::load(&config.security, None).unwrap();

    // The key of another certificate.
    let other = format!(
        "security.key_file={}",
        directory.join("actor.key").display()
    );
    sets.push(other);
    let config = Config::load(None, std::iter::empty(), &sets)
        .unwrap()
        .config;
    let mismatch = springbok_learner::Security::load(&config, None).unwrap_err();
    assert!(
        mismatch.to_string().contains("cannot be used together"),
        "{mismatch}"
    );
}

#[test]
fn nothing_is_overwritten_unless_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let first = order(directory.path(), &[], &[]);
    make(&first).unwrap();
    let (authority, leaf, token) = (read("ca.pem"), read("learner.pem"), read("token"));
    let refused = make(&first).unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    assert_eq!(read("learner.pem"), leaf);

    make(&Order {
        renew: true,
        ..order(directory.path(), &[], &[])
    })
    .unwrap();
    assert_eq!(
        (read("ca.pem"), read("token")),
        (authority.clone(), token.clone())
    );
    assert_ne!(read("learner.pem"), leaf);

    make(&Order {
        force: true,
        ..order(directory.path(), &[], &[])
    })
    .unwrap();
    assert_ne!(read("ca.pem"), authority);
    assert_ne!(read("token"), token);
    let tokens = read_tokens(&directory.path().join("token")).unwrap();
    assert_eq!(tokens.iter().map(Token::reveal).count(), 1);
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("keys");
    let bad = ["", "a b", "../x", "-x", "a/b", "ca", "learner"];
    for name in bad {
        let actors = [name.to_owned()];
        let refused = make(&order(&directory, &[], &actors)).unwrap_err();
        assert!(
            matches!(refused, KeysError::Name { .. }),
            "{name}: {refused}"
        );
        assert!(!directory.exists());
    }
}
