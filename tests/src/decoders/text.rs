//! What people and launchers write.

use springbok_actor::environment::Registry;
use springbok_common::{
    config::Config,
    ids::RunId,
    injection::{INJECTED_VERSIONS_MAX, LagInjection},
};
use springbok_learner::{LearnerEvent, Progress};

use super::{Example, scratch};

fn example(name: &'static str, text: &str) -> Example {
    (name, text.as_bytes().to_vec())
}

pub(super) fn configurations() -> Vec<Example> {
    let options = "[environment]\nid = \"GridWorld\"\noptions = { size = 5, deep = { a = [1, 2.5, \"x\"] } }\n";
    vec![
        ("defaults", Config::default().to_toml().into_bytes()),
        example("options", options),
        example(
            "short",
            "[run]\nseed = 7\n[lag]\nmax_versions = 8\ninject = \"uniform:0..4\"\n",
        ),
    ]
}

/// A configuration without faults is read again as it was written.
pub(super) fn configuration(bytes: &[u8]) -> bool {
    let path = scratch::file("config.toml", bytes);
    let Ok(loaded) = Config::load(Some(&path), std::iter::empty(), &[]) else {
        return false;
    };
    assert_reloads(&loaded.config);
    true
}

fn assert_reloads(config: &Config) {
    let path = scratch::file("again.toml", config.to_toml().as_bytes());
    let again = Config::load(Some(&path), std::iter::empty(), &[]);
    // As text: an option may be no number, which equals nothing.
    let again = again.map(|loaded| loaded.config.to_toml());
    assert_eq!(again, Ok(config.to_toml()));
}

pub(super) fn set_lists() -> Vec<Example> {
    vec![
        example(
            "sets",
            "run.seed=3\nalgorithm.gamma = 0.9\npolicy.hidden_sizes=[32, 32]\nenvironment.id=Catch",
        ),
        example(
            "options",
            "environment.options.a.b=1\nenvironment.options.a.c=\"x\"",
        ),
        example(
            "variables",
            "SPRINGBOK__RUN__SEED=3\nSPRINGBOK__ACTOR__COUNT=2\nSPRINGBOK_TOKEN=secret",
        ),
    ]
}

/// The same for `--set` and environment variables, one a line.
pub(super) fn sets(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (variables, sets): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| line.starts_with("SPRINGBOK_"));
    let variables = variables.iter().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
    let Ok(loaded) = Config::load(None, variables, &sets) else {
        return false;
    };
    assert_reloads(&loaded.config);
    true
}

pub(super) fn injections() -> Vec<Example> {
    vec![
        example("none", "none"),
        example("fixed", "fixed:8"),
        example("uniform", "uniform:0..8"),
        example("per-actor", "per-actor:0,4,16"),
    ]
}

/// What is read is shown as it is written, and within its limit whoever asks.
pub(super) fn injection(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(injection) = text.parse::<LagInjection>() else {
        return false;
    };
    assert_eq!(injection.to_string().parse().as_ref(), Ok(&injection));
    assert!(injection.versions_max() <= INJECTED_VERSIONS_MAX);
    for serial in 0..4 {
        let versions = injection.versions(1, serial as u32, serial);
        assert!((injection.versions_min()..=injection.versions_max()).contains(&versions));
    }
    true
}

pub(super) fn option_tables() -> Vec<Example> {
    vec![
        example("grid", "GridWorld\nsize = 7\n"),
        example("repeat", "RepeatPrevious\nk = 2\n"),
        example("synthetic", "Synthetic\nobservation_shape = [4, 8]\n"),
        example("maze", "TMaze\nlength = 6\n"),
        example("catch", "Catch\n"),
    ]
}

/// An environment that is made from options shows something.
pub(super) fn options(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (id, table) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(table) = table.parse::<toml::Table>() else {
        return false;
    };
    let made = Registry::built_in().make(id, &table);
    made.is_ok_and(|environment| !environment.spec().observation.is_empty())
}

pub(super) fn events() -> Vec<Example> {
    let events = [
        LearnerEvent::Listening {
            address: "127.0.0.1:7000".into(),
            unix: Some("/tmp/springbok-1/learner".into()),
            run_id: RunId::from_bytes(&[7; 16]).expect("16 bytes"),
            device: "cpu".into(),
            device_reason: "asked for".into(),
            http: None,
        },
        LearnerEvent::Progress(Progress::default()),
    ];
    let lines = events.map(|event| serde_json::to_vec(&event).expect("JSON"));
    ["listening", "progress"].into_iter().zip(lines).collect()
}

/// A line of a learner's stdout.
pub(super) fn event(bytes: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<LearnerEvent>(bytes) else {
        return false;
    };
    let line = serde_json::to_string(&event).expect("JSON");
    assert_eq!(
        serde_json::from_str::<LearnerEvent>(&line).ok(),
        Some(event)
    );
    true
}
