//! Ports, paths, users and build inputs agree between the image, the manifests and the configuration files.

use std::{collections::BTreeSet, process::Command};

use crate::{BINARY, at, files, keys, lines_of, read};

pub(crate) const CONFIGURATIONS: [&str; 3] = [
    "deploy/compose/springbok.toml",
    "deploy/kubernetes/base/springbok.toml",
    "deploy/kubernetes/overlays/tls/springbok.toml",
];

/// The address under `section` and `key`.
pub(crate) fn address(configuration: &str, section: &str, key: &str) -> String {
    let table: toml::Table = read(configuration).parse().unwrap();
    table[section][key].as_str().unwrap().to_owned()
}

/// The ports under `section` and `key` in all configurations.
fn ports(section: &str, key: &str) -> BTreeSet<String> {
    CONFIGURATIONS
        .iter()
        .map(|file| address(file, section, key))
        .map(|address| address.rsplit_once(':').unwrap().1.to_owned())
        .collect()
}

/// Numbers of `line` that can be ports of an unprivileged program.
fn high_numbers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_digit()).filter(|number| {
        number
            .parse::<u32>()
            .is_ok_and(|n| (1024..65_536).contains(&n))
    })
}

#[test]
fn every_port_is_one_that_the_learner_has() {
    let (training, page) = (ports("learner", "listen"), ports("telemetry", "http"));
    assert_eq!((training.len(), page.len()), (1, 1));
    let mut seen = 0;
    // Prometheus and Grafana have ports of their own; `watched` looks at what they ask the learner.
    let manifests = files("deploy/compose", &[".yaml"])
        .into_iter()
        .chain(files("deploy/kubernetes", &[".yaml"]))
        .chain(["deploy/docker/Dockerfile".to_owned()])
        .filter(|file| !file.starts_with("deploy/compose/monitoring"));
    for file in manifests {
        for line in lines_of(&read(&file)) {
            let names_port = ["port", "PORT", "EXPOSE", "expose", "://", "/dev/tcp/"];
            if !names_port.iter().any(|word| line.contains(word)) {
                continue;
            }
            for number in high_numbers(line) {
                let of_page = line.contains("127.0.0.1");
                let known = page.contains(number) || (training.contains(number) && !of_page);
                assert!(known, "{file}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen} ports seen");
}

#[test]
fn a_port_that_is_named_exists() {
    for file in files("deploy/kubernetes", &[".yaml"]) {
        for line in lines_of(&read(&file)) {
            if let Some(name) = line.trim().strip_prefix("targetPort: ") {
                let pods = ["base/learner.yaml", "overlays/batch/jobs.yaml"];
                for pod in pods {
                    let pod = read(&format!("deploy/kubernetes/{pod}"));
                    assert!(
                        pod.contains(&format!("- name: {name}\n")),
                        "{file}: no port {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn configurations_are_without_fault() {
    let made = keys();
    for file in CONFIGURATIONS {
        let check = Command::new(BINARY)
            .args(["config", "check", "--keys"])
            .arg(made.path().join("keys"))
            .arg("--config")
            .arg(at(file))
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&check.stderr)
        );
    }
}

#[test]
fn what_is_mounted_exists_and_is_where_it_is_looked_for() {
    let compose = read("deploy/compose/compose.yaml");
    let mut mounts = 0;
    for line in lines_of(&compose) {
        let Some(mount) = line.trim().strip_prefix("- ./") else {
            continue;
        };
        let (source, target) = mount.split_once(':').unwrap();
        assert!(
            at(&format!("deploy/compose/{source}")).is_file(),
            "{source}"
        );
        let target = target.trim_end_matches(":ro");
        assert!(
            compose.contains(&format!("- {target}\n")),
            "nothing reads {target}"
        );
        mounts += 1;
    }
    assert_eq!(mounts, 1);
    // The volume of runs, the same everywhere.
    assert!(read("deploy/docker/Dockerfile").contains("\nVOLUME /runs\n"));
    assert!(compose.contains("- runs:/runs\n"));
    for pod in ["base/learner.yaml", "overlays/batch/jobs.yaml"] {
        let pod = read(&format!("deploy/kubernetes/{pod}"));
        assert!(pod.contains("- name: runs\n              mountPath: /runs\n"));
        assert!(pod.contains("- name: config\n              mountPath: /etc/springbok\n"));
        assert!(pod.contains("- /etc/springbok/springbok.toml\n"));
    }
}

#[test]
fn kustomizations_name_files_that_exist() {
    let kustomizations = files("deploy/kubernetes", &["kustomization.yaml"]);
    let mut seen = 0;
    for file in &kustomizations {
        let folder = file.rsplit_once('/').unwrap().0;
        let text = read(file);
        let resources = text.split("resources:\n").nth(1).unwrap();
        for line in resources
            .lines()
            .take_while(|line| line.starts_with("  - "))
        {
            let resource = line.trim_start_matches("  - ");
            assert!(
                at(&format!("{folder}/{resource}")).exists(),
                "{file}: {resource}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} resources in {kustomizations:?}");
}

#[test]
fn the_gpu_overlay_replaces_the_word_after_device() {
    let learner = read("deploy/kubernetes/base/learner.yaml");
    let arguments = learner.split("args:\n").nth(1).unwrap();
    let words: Vec<&str> = lines_of(arguments)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map_while(|line| line.strip_prefix("- "))
        .collect();
    let device = words.iter().position(|&word| word == "--device").unwrap() + 1;
    let overlay = read("deploy/kubernetes/overlays/gpu/kustomization.yaml");
    assert!(overlay.contains(&format!(
        "/containers/0/args/{device}\n        value: gpu\n"
    )));
}

#[test]
fn every_pod_runs_as_the_user_of_the_image() {
    let image = read("deploy/docker/Dockerfile");
    let user = image
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .unwrap();
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid != "0" && image.contains(&format!("--uid {uid} ")));
    for (pod, count) in [
        ("base/learner.yaml", 1),
        ("base/actors.yaml", 1),
        ("overlays/batch/jobs.yaml", 2),
    ] {
        let pod = read(&format!("deploy/kubernetes/{pod}"));
        for line in [
            &format!("runAsUser: {uid}\n"),
            &format!("runAsGroup: {gid}\n"),
            "runAsNonRoot: true\n",
            "readOnlyRootFilesystem: true\n",
            "allowPrivilegeEscalation: false\n",
            "drop: [ALL]\n",
            "automountServiceAccountToken: false\n",
        ] {
            assert_eq!(pod.matches(line).count(), count, "{line}");
        }
    }
}

#[test]
fn the_image_is_built_from_every_member_of_the_workspace() {
    let image = read("deploy/docker/Dockerfile");
    let context = read(".dockerignore");
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        assert!(
            image.contains(&format!("\nCOPY {member}/Cargo.toml {member}/\n")),
            "the Dockerfile lacks the manifest of {member}"
        );
        let let_in = [format!("!{member}\n"), format!("!{member}/Cargo.toml\n")];
        assert!(
            let_in.iter().any(|line| context.contains(line)),
            ".dockerignore keeps {member} out"
        );
    }
    // All else that is copied in exists; the binary of the target `prebuilt` is put there by whoever builds it.
    for line in image.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let sources: Vec<&str> = line.split(' ').collect();
        for source in &sources[..sources.len() - 1] {
            let made = source.starts_with("--from")
                || source.starts_with("/out")
                || source.starts_with("target/image/");
            assert!(made || at(source).exists(), "{source}");
        }
    }
}

#[test]
fn secrets_are_files_that_keys_makes() {
    let folder = keys();
    let made = folder.path().join("keys");
    let places = [
        ("deploy/compose/compose.yaml", "/secrets}/", 6),
        ("deploy/compose/host-actors.yaml", "/secrets}/", 4),
        (
            "deploy/kubernetes/overlays/tls/kustomization.yaml",
            "=keys/",
            8,
        ),
    ];
    for (file, before, count) in places {
        let text = read(file);
        let mut seen = 0;
        for (i, _) in text.match_indices(before) {
            let name = text[i + before.len()..].split_whitespace().next().unwrap();
            assert!(made.join(name).is_file(), "{file}: {name}");
            assert_ne!(name, "ca.key", "{file} hands out the authority itself");
            seen += 1;
        }
        assert_eq!(seen, count, "{file}");
    }
}

#[test]
fn the_tls_overlay_replaces_the_word_after_learner() {
    let actors = read("deploy/kubernetes/base/actors.yaml");
    let arguments = actors.split("args:\n").nth(1).unwrap();
    let url = lines_of(arguments)
        .take_while(|line| !line.ends_with("--learner"))
        .count()
        + 1;
    let overlay = read("deploy/kubernetes/overlays/tls/kustomization.yaml");
    let host = overlay
        .split("--host ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(overlay.contains(&format!(
        "/containers/0/args/{url}\n        value: https://{host}:"
    )));
}

#[test]
fn scripts_are_executable_and_parse() {
    use std::os::unix::fs::PermissionsExt as _;
    let scripts = files("deploy", &[".sh", ".sbatch", "springbok-run"]);
    assert!(scripts.len() >= 5, "{scripts:?}");
    for script in scripts {
        let shell = if read(&script).starts_with("#!/bin/sh\n") {
            "sh"
        } else {
            "bash"
        };
        let check = Command::new(shell)
            .arg("-n")
            .arg(at(&script))
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&check.stderr)
        );
        let mode = at(&script).metadata().unwrap().permissions().mode();
        assert!(
            mode & 0o111 != 0 || script.ends_with(".sbatch"),
            "{script} is not executable"
        );
    }
}
