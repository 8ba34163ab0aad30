//! `springbok-run`: what it makes of a run directory, and of how its program ends. The program is a stand-in that writes
//! down its arguments and does as it is told.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::at;

const UNDONE: &str = "{\n  \"env_steps\": 999,\n  \"threshold\": null\n}\n";
const DONE: &str = "{\n  \"env_steps\": 1000,\n  \"threshold\": null\n}\n";
const STOPPED_EARLY: &str =
    "{\n  \"env_steps\": 9,\n  \"threshold\": {\n    \"return\": 1.0\n  }\n}\n";

/// A stand-in and a place for runs.
struct Stage {
    folder: TempDir,
}

impl Stage {
    /// The stand-in leaves a run with `summary` behind, and ends with each of `statuses` in turn.
    fn new(summary: &str, statuses: &[i32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let statuses: String = statuses
            .iter()
            .map(|status| format!("{status}\n"))
            .collect();
        fs::write(folder.path().join("statuses"), statuses).unwrap();
        fs::write(folder.path().join("summary"), summary).unwrap();
        let stand_in = folder.path().join("springbok");
        let script = "#!/bin/sh\nset -eu\nhere=$(dirname \"$0\")\necho \"$*\" >>\"$here/calls\"\n\
            if [ \"$1\" = learner ]; then mkdir -p \"$here/run\"; cp \"$here/summary\" \"$here/run/summary.json\"; \
            echo 'total_steps = 1000' >\"$here/run/config.toml\"; fi\n\
            exit \"$(sed -n \"$(wc -l <\"$here/calls\")p\" \"$here/statuses\")\"\n";
        fs::write(&stand_in, script).unwrap();
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run_directory(&self) -> PathBuf {
        self.path().join("run")
    }

    fn keep(&self, arguments: &[&str]) -> i32 {
        let status = Command::new(at("deploy/docker/springbok-run"))
            .args(arguments)
            .env("SPRINGBOK_BINARY", self.path().join("springbok"))
            .output()
            .unwrap();
        status.status.code().unwrap()
    }

    /// `springbok-run learner RUN --seed 7`.
    fn learner(&self) -> i32 {
        self.keep(&[
            "learner",
            &self.run_directory().display().to_string(),
            "--seed",
            "7",
        ])
    }

    /// What the program was called with, with the place of runs as `HERE`.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        let here = self.path().display().to_string();
        calls
            .lines()
            .map(|line| line.replace(&here, "HERE"))
            .collect()
    }
}

#[test]
fn a_run_is_begun_gone_on_with_and_left_alone_when_it_is_done() {
    let stage = Stage::new(UNDONE, &[0, 0, 0]);
    assert_eq!(stage.learner(), 75, "it drained before it was done");
    assert_eq!(stage.calls(), ["learner --out HERE --name run --seed 7"]);

    let checkpoints = stage.run_directory().join("checkpoints");
    fs::create_dir(&checkpoints).unwrap();
    fs::write(checkpoints.join("checkpoint-000000000004.ckpt"), "").unwrap();
    fs::write(stage.path().join("summary"), DONE).unwrap();
    assert_eq!(stage.learner(), 0);
    assert_eq!(stage.calls()[1], "learner --resume HERE/run --seed 7");

    assert_eq!(stage.learner(), 0);
    assert_eq!(
        stage.calls().len(),
        2,
        "a run that is done was started again"
    );
}

#[test]
fn a_return_that_was_reached_ends_a_run_too() {
    let stage = Stage::new(STOPPED_EARLY, &[0]);
    assert_eq!(stage.learner(), 0);
    assert_eq!(stage.learner(), 0);
    assert_eq!(stage.calls().len(), 1);
}

#[test]
fn what_a_learner_left_without_a_checkpoint_is_put_aside() {
    let stage = Stage::new(DONE, &[0]);
    fs::create_dir(stage.run_directory()).unwrap();
    fs::write(stage.run_directory().join("metrics.jsonl"), "precious").unwrap();
    assert_eq!(stage.learner(), 0);
    assert_eq!(stage.calls(), ["learner --out HERE --name run --seed 7"]);
    let aside = fs::read_dir(stage.path()).unwrap().flatten().find(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("run.aside-")
    });
    let kept = fs::read_to_string(aside.unwrap().path().join("metrics.jsonl")).unwrap();
    assert_eq!(kept, "precious");
}

#[test]
fn faults_keep_their_exit_codes() {
    for status in [64, 70, 74] {
        assert_eq!(Stage::new(UNDONE, &[status]).learner(), status);
        assert_eq!(Stage::new(UNDONE, &[status]).keep(&["actor"]), status);
    }
    assert_eq!(Stage::new(UNDONE, &[]).keep(&["trainer"]), 64);
}

#[test]
fn an_actor_outlives_its_learners_until_no_further_one_comes() {
    let stage = Stage::new(UNDONE, &[0, 0, 69]);
    assert_eq!(stage.keep(&["actor", "--learner", "http://l:1"]), 0);
    assert_eq!(stage.calls(), ["actor --learner http://l:1"; 3]);
    // One that never found any has failed.
    assert_eq!(Stage::new(UNDONE, &[69]).keep(&["actor"]), 69);
}
