//! The command line as a contract: exit codes, sentences, and what goes to stdout.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn springbok(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_springbok"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program to its end; asserts its exit code.
fn run(arguments: &[&str], code: i32) -> Output {
    let output = springbok(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

#[test]
fn help_names_every_verb_and_the_exit_codes() {
    let text = stdout(&run(&["--help"], 0));
    for part in [
        "train", "learner", "actor", "eval", "lab", "report", "status", "envs", "bench", "config",
        "130",
    ] {
        assert_contains(&text, part);
    }
    let text = stdout(&run(&["train", "--help"], 0));
    assert_contains(&text, "--envs-per-actor");
    assert_contains(&text, "run.total_steps");
    assert!(!text.contains("--supervised"), "{text}");
}

#[test]
fn environments_are_measured_without_a_learner() {
    let arguments = "bench environment Catch --environments 3 --seconds 1 --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report: Value = serde_json::from_slice(&run(&arguments, 0).stdout).unwrap();
    assert_eq!(
        (&report["environment"], &report["environments"]),
        (&"Catch".into(), &3.into())
    );
    // An episode of Catch has nine steps.
    let (rate, episodes) = (&report["steps_per_second"], &report["episodes"]);
    assert!(
        rate.as_f64().unwrap() > 0.0 && episodes.as_u64().unwrap() > 0,
        "{report}"
    );
    assert!(report["ratio"].is_null(), "{report}");
}

#[test]
fn version_is_printed() {
    let text = stdout(&run(&["--version"], 0));
    assert_contains(&text, concat!("springbok ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn usage_faults_exit_64_and_say_which() {
    for (arguments, part) in [
        (&["train", "--frobnicate"][..], "--frobnicate"),
        (&["fly"], "fly"),
        (&[], "Usage"),
        (&["config"], "Usage"),
        (&["bench", "nothing"], "learner"),
        (&["bench", "--seconds", "0"], "0.001"),
        (&["bench", "environment", "Catch", "--bare"], "--bare"),
        (
            &["bench", "environment", "rollout"],
            "bench rollout environment",
        ),
        (
            &[
                "train",
                "--env",
                "py:nothing",
                "--set",
                "environment.python.interpreter=/no/python",
            ],
            "`/no/python` cannot be started",
        ),
        (&["actor"], "--learner"),
        (&["eval", "x", "--episodes", "0"], "episodes"),
        (&["config", "check", "--set", "run.sed=1"], "run.sed"),
        (&["config", "check", "--set", "run.seed"], "run.seed"),
        (
            &["config", "check", "--config", "/nonexistent.toml"],
            "/nonexistent.toml",
        ),
        (&["train", "--env", "Nonesuch-v0"], "Nonesuch-v0"),
        (&["train", "--actors", "many"], "actor.count"),
        (&["actor", "--learner", "not a url"], "not a url"),
        (&["lab"], "--out"),
        (&["lab", "--dry-run", "--sweep", "lag"], "no `=`"),
        (&["lab", "--dry-run", "--preset", "x"], "corrections"),
        (
            &["lab", "--dry-run", "--sweep", "run.seed=1,2"],
            "use --seeds",
        ),
        (&["report"], "Usage"),
    ] {
        let output = run(arguments, 64);
        assert_contains(&stderr(&output), part);
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn all_faults_are_listed_at_once_and_nothing_is_created() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("runs");
    let output = run(
        &[
            "train",
            "--out",
            out.to_str().unwrap(),
            "--total-steps",
            "0",
            "--actors",
            "-1",
            "--set",
            "algorithm.gama=0.9",
        ],
        64,
    );
    let text = stderr(&output);
    for part in ["run.total_steps", "actor.count", "algorithm.gamma"] {
        assert_contains(&text, part);
    }
    assert!(!out.exists());
}

#[test]
fn config_print_shows_values_and_origins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    fs::write(&file, "[algorithm]\ngamma = 0.9\n").unwrap();
    let output = springbok(&["config", "print", "--seed", "7", "--config"])
        .arg(&file)
        .env("SPRINGBOK__ACTOR__COUNT", "5")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    let line = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.unwrap_or_else(|| panic!("{key} is not in {text}"))
            .to_owned()
    };
    assert_contains(&line("algorithm.gamma "), "0.9");
    assert_contains(&line("algorithm.gamma "), "mine.toml");
    assert_contains(&line("run.seed "), "7");
    assert_contains(&line("run.seed "), "--set");
    assert_contains(&line("actor.count "), "5");
    assert_contains(&line("actor.count "), "SPRINGBOK__ACTOR__COUNT");
    assert_contains(&line("algorithm.lambda "), "default");
}

#[test]
fn a_printed_configuration_loads_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.toml");
    let first = stdout(&run(
        &[
            "config",
            "print",
            "--format",
            "toml",
            "--stop-return",
            "-3.5",
        ],
        0,
    ));
    assert_contains(&first, "stop_return = -3.5");
    fs::write(&file, &first).unwrap();
    let again = run(
        &[
            "config",
            "print",
            "--format",
            "toml",
            "--config",
            file.to_str().unwrap(),
        ],
        0,
    );
    assert_eq!(stdout(&again), first);
}

#[test]
fn config_check_says_ok_and_predicts_the_lag() {
    let text = stdout(&run(&["config", "check"], 0));
    assert!(text.starts_with("ok\n"), "{text}");
    assert_contains(&text, "predicted lag: 2 versions from the buffers");
}

#[test]
fn envs_lists_spaces_for_people_and_tools() {
    let text = stdout(&run(&["envs"], 0));
    assert_contains(&text, "CartPole-v1");
    assert_contains(&text, "Discrete(2)");
    let listed: Value = serde_json::from_str(&stdout(&run(&["envs", "--json"], 0))).unwrap();
    let cartpole = &listed.as_array().unwrap()[0];
    assert_eq!(cartpole["id"], "CartPole-v1");
    assert_eq!(cartpole["observation_shape"][0], 4);
    assert_eq!(cartpole["episode_steps_max"], 500);
    assert_eq!(listed.as_array().unwrap().len(), 9);
    let grid = listed.as_array().unwrap().iter();
    let grid = grid
        .into_iter()
        .find(|row| row["id"] == "GridWorld")
        .unwrap();
    assert_eq!(
        (&grid["action_mask"], &grid["element"]),
        (&true.into(), &"uint8".into())
    );
}

#[test]
fn envs_check_reports_what_it_saw() {
    let thorough = ["--seeds", "3", "--steps", "100"];
    let check = |more: &[&str], code| run(&[&["envs", "check"], more, &thorough].concat(), code);
    assert_contains(&stdout(&check(&["Catch"], 0)), "Catch conforms:");
    let options = ["GridWorld", "--set", "environment.options.size=4", "--json"];
    let report: Value = serde_json::from_str(&stdout(&check(&options, 0))).unwrap();
    assert_eq!(
        (&report["steps"], &report["frame"][0]),
        (&300.into(), &40.into()),
        "{report}"
    );

    assert_contains(&stderr(&check(&["Nonesuch-v0"], 64)), "Nonesuch-v0");
}

#[test]
fn what_cannot_be_shown_is_said_before_anything_is_loaded() {
    for (arguments, part) in [
        (&["--watch"][..], "stdout is none"),
        (&["--record", "game.avi"], "game.avi"),
        (&["--record", "game.mp4"], "ffmpeg"),
        (&["--watch", "--json"], "--json"),
        (&["--fps", "0"], "fps"),
    ] {
        let output = springbok(&["eval", "/nonexistent"])
            .args(arguments)
            .env("PATH", "/nonexistent")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert_contains(&stderr(&output), part);
    }
}

#[test]
fn a_closed_stdout_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = springbok(&["config", "print"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_actor_without_a_learner_gives_up() {
    // A port that was free a moment ago, and that nobody listens on now.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}");
    let output = run(
        &[
            "actor",
            "--learner",
            &url,
            "--set",
            "actor.learner_wait_s_max=1",
        ],
        69,
    );
    assert_contains(&stderr(&output), &url);
}

#[test]
fn an_output_directory_that_cannot_be_made_is_exit_74() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let out = file.join("runs");
    let output = run(&["train", "--out", out.to_str().unwrap()], 74);
    let text = stderr(&output);
    assert_contains(&text, out.to_str().unwrap());
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

#[test]
fn an_address_in_use_is_named_and_nothing_is_created() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("runs");
    let output = run(
        &[
            "learner",
            "--listen",
            &address,
            "--out",
            out.to_str().unwrap(),
        ],
        64,
    );
    let text = stderr(&output);
    assert_contains(&text, &address);
    assert_contains(&text, "--listen");
    assert!(!out.exists());
}

#[test]
fn a_launcher_passes_on_what_its_learner_says() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let out = tempfile::tempdir().unwrap();
    let output = run(
        &[
            "train",
            "--listen",
            &address,
            "--out",
            out.path().to_str().unwrap(),
        ],
        64,
    );
    assert_contains(&stderr(&output), &address);
}

#[test]
fn a_plan_is_printed_as_a_command_and_nothing_is_run() {
    let text = stdout(&run(
        &[
            "lab",
            "--dry-run",
            "--preset",
            "reuse",
            "--sweep",
            "lag=none;per-actor:0,4",
            "--seeds",
            "2",
            "--total-steps",
            "1000",
            "--set",
            "run.deterministic=false",
        ],
        0,
    ));
    for part in [
        "--set 'algorithm.minibatches=2'",
        "--sweep 'algorithm.epochs=1,2,4,8'",
        "--sweep 'lag.inject=none;per-actor:0,4'",
        "--seeds 2",
        "16 runs, 16000 steps together",
        "epochs-8_lag-per-actor-0-4_seed-2",
    ] {
        assert_contains(&text, part);
    }
}

#[test]
fn a_report_needs_a_grid_or_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_contains(&stderr(&run(&["report", path], 74)), "summary.json");

    fs::write(
        directory.path().join("summary.json"),
        "{\"environment\":\"Catch\"}",
    )
    .unwrap();
    assert_contains(&stdout(&run(&["report", path], 0)), "report.html");
    let page = fs::read_to_string(directory.path().join("report.html")).unwrap();
    assert_contains(&page, "No episode has ended.");

    fs::write(directory.path().join("results.jsonl"), "{\n").unwrap();
    assert_contains(&stderr(&run(&["report", path], 74)), "line 1");
}

#[test]
fn several_runs_are_compared_on_one_page() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for (name, gamma) in [("first", "0.9"), ("second", "0.99"), ("grid", "")] {
        fs::create_dir(path(name)).unwrap();
        let write = |file: &str, content: &str| {
            fs::write(Path::new(&path(name)).join(file), content).unwrap();
        };
        if name == "grid" {
            write(
                "results.jsonl",
                "{\"cell\":\"lag-8\",\"settings\":{},\"seed\":3,\"status\":\"done\"}\n",
            );
            continue;
        }
        write("summary.json", "{\"environment\":\"Catch\"}");
        write(
            "config.toml",
            &format!("[run]\nseed = 1\n[algorithm]\ngamma = {gamma}\n"),
        );
    }
    let (out, directories) = (path("out"), ["first", "second", "grid"].map(path));
    let mut arguments = vec!["report", "--out", &out];
    arguments.extend(directories.iter().map(String::as_str));
    assert_contains(&stdout(&run(&arguments, 0)), "out/report.html");
    let page = fs::read_to_string(place.path().join("out/report.html")).unwrap();
    for part in [
        "3 runs of Catch",
        "<td class=\"t\">algorithm.gamma</td><td class=\"n\">0.9</td><td class=\"n\">0.99</td>",
        "grid/lag-8",
    ] {
        assert_contains(&page, part);
    }
    // One directory keeps its own report, wherever another one goes.
    assert!(!place.path().join("first/report.html").exists());
}

#[test]
fn a_run_that_is_missing_or_damaged_cannot_be_played() {
    let run_directory = tempfile::tempdir().unwrap();
    let path = run_directory.path().to_str().unwrap();
    assert_contains(&stderr(&run(&["eval", path], 74)), "policy.json");

    let write = |file: &str, content: &str| {
        fs::write(Path::new(path).join(file), content).unwrap();
    };
    write("policy.json", "{");
    assert_contains(&stderr(&run(&["eval", path], 74)), "policy.json");
    write(
        "policy.json",
        r#"{"network": {
                "observation": {"shape": [4], "element": "float32", "bounds": [null, null], "parts": []},
                "action": {"discrete": 2}, "encoder": {"mlp": {"hidden_sizes": [8]}}, "activation": "relu",
                "core": "none", "gaussian": {"std": "state_independent", "log_std_initial": 0.0, "squash": false},
                "shared_torso": false, "normalise_observations": false, "popart": false},
            "environment": {"id": "CartPole-v1"}, "environment_options": ""}"#,
    );
    write("policy.safetensors", "no tensors");
    assert_contains(&stderr(&run(&["eval", path], 74)), "policy.safetensors");
}
