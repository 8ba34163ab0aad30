//! Every fault is found, all at once; every value knows its source; what is written is what is read.

use std::{collections::BTreeSet, io::Write as _, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::spec::{ActionSpec, Activation, ObservationSpec};

fn none() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

pub(super) fn with(sets: &[&str]) -> Result<Loaded, ConfigError> {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Config::load(None, none(), &sets)
}

pub(super) fn only_fault(sets: &[&str]) -> String {
    let error = with(sets).expect_err(&format!("{sets:?} must be refused"));
    assert_eq!(error.faults().len(), 1, "{sets:?}: {error}");
    error.faults()[0].clone()
}

/// A file that is removed when the test ends.
pub(super) struct File(pub(super) PathBuf);

impl File {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let name = format!("springbok-config-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(path)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(Some(&self.0), none(), &[])
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn defaults_have_no_fault_and_no_advice() {
    let loaded = with(&[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.advice, Vec::<String>::new());
    assert!(
        loaded
            .provenance
            .iter()
            .all(|(.., source)| source == "default")
    );
    assert_eq!(loaded.provenance.len(), KEYS.len());
}

#[test]
fn keys_are_exactly_the_serialised_defaults() {
    let table: toml::Table = Config::default().to_toml().parse().unwrap();
    let (mut written, mut sections) = (BTreeSet::new(), BTreeSet::new());
    let mut open = vec![(String::new(), toml::Value::Table(table))];
    while let Some((section, content)) = open.pop() {
        for (name, value) in content.as_table().unwrap() {
            let path = format!("{section}{name}");
            if SECTIONS.iter().any(|(known, _)| *known == path) {
                sections.insert(path.clone());
                open.push((format!("{path}."), value.clone()));
            } else {
                written.insert((path, value.to_string()));
            }
        }
    }
    let documented: BTreeSet<_> = KEYS
        .iter()
        .map(|key| (key.path.to_owned(), key.default.clone()))
        .collect();
    assert_eq!(documented, written);
    assert_eq!(KEYS.len(), documented.len(), "no key twice");
    assert_eq!(SECTIONS.len(), sections.len());
    for key in KEYS.iter() {
        assert!(
            key.doc.ends_with('.') && !key.expected.is_empty(),
            "{key:?}"
        );
    }
}

#[test]
fn later_layers_win_and_every_value_knows_its_source() {
    let file = File::new(
        "layers",
        "[algorithm]\ngamma = 0.9\nlambda = 0.8\nepochs = 2\n[environment.options]\nrows = 5\n",
    );
    let env = [
        ("SPRINGBOK__ALGORITHM__LAMBDA", "0.7"),
        ("SPRINGBOK__ALGORITHM__EPOCHS", "3"),
        ("SPRINGBOK_LOG", "debug"),
        ("HOME", "/"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sets = ["algorithm.epochs=5", "environment.options.columns = 7"].map(String::from);
    let loaded = Config::load(Some(&file.0), env.into_iter(), &sets).unwrap();
    let algorithm = &loaded.config.algorithm;
    assert_eq!(
        (algorithm.gamma, algorithm.lambda, algorithm.epochs),
        (0.9, 0.7, 5)
    );
    assert_eq!(
        loaded.config.environment.options.to_string(),
        "columns = 7\nrows = 5\n"
    );

    let trace = |path: &str| {
        let found = loaded.provenance.iter().find(|(key, ..)| key == path);
        let (_, value, source) = found.unwrap();
        (value.as_str(), source.as_str())
    };
    let path = file.0.display().to_string();
    assert_eq!(trace("algorithm.gamma"), ("0.9", path.as_str()));
    assert_eq!(
        trace("algorithm.lambda"),
        ("0.7", "environment variable SPRINGBOK__ALGORITHM__LAMBDA")
    );
    assert_eq!(trace("algorithm.epochs"), ("5", "--set"));
    assert_eq!(trace("environment.options.rows"), ("5", path.as_str()));
    assert_eq!(trace("environment.options.columns"), ("7", "--set"));
    assert_eq!(trace("run.total_steps"), ("1000000", "default"));
}

#[test]
fn typed_text_means_what_its_key_expects() {
    let loaded = with(&[
        "run.name=42",
        "run.out=\"my runs\"",
        "run.stop_return=475",
        "policy.hidden_sizes=[32]",
        "policy.activation=tanh",
        "algorithm.rho_bar=none",
        "algorithm.c_bar=2",
        "learner.listen=[::1]:7000",
        "learner.device=cpu",
        "lag.max_versions=8",
        "run.seed=18446744073709551615",
        "environment.options.name=left=right",
    ]);
    let config = loaded.unwrap().config;
    assert_eq!(config.run.name.as_deref(), Some("42"));
    assert_eq!(config.run.out, PathBuf::from("my runs"));
    assert_eq!(config.run.stop_return, Some(475.0));
    assert_eq!(config.policy.hidden_sizes, Some(vec![32]));
    assert_eq!(config.policy.activation, Activation::Tanh);
    assert_eq!(config.algorithm.rho_bar, None);
    assert_eq!(config.algorithm.c_bar, Some(2.0));
    assert!(config.learner.listen.is_ipv6());
    assert_eq!(config.learner.device, DeviceChoice::Cpu);
    assert_eq!(config.lag.max_versions, Some(8));
    assert_eq!(config.run.seed, u64::MAX);
    let name = config.environment.options["name"].as_str();
    assert_eq!(name, Some("left=right"));
}

#[test]
fn values_of_a_wrong_type_are_refused() {
    for (path, text) in [
        ("run.seed", "-1"),
        ("run.seed", "1.5"),
        ("run.total_steps", "many"),
        ("algorithm.gamma", "high"),
        ("algorithm.rho_bar", "off"),
        ("security.insecure", "1"),
        ("learner.listen", "localhost"),
        ("learner.device", "tpu"),
        ("policy.hidden_sizes", "64"),
        ("policy.hidden_sizes", "[64, -1]"),
        ("environment.options", "5"),
        ("algorithm.ratio", "wrong"),
        ("telemetry.log_format", "xml"),
    ] {
        let fault = only_fault(&[&format!("{path}={text}")]);
        let key = KEYS.iter().find(|key| key.path == path).unwrap();
        assert!(
            fault.contains(path) && fault.contains(key.expected) && fault.contains("--set"),
            "{fault}"
        );
    }
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    for (typed, meant) in [
        ("algorithm.gama=0.9", "algorithm.gamma"),
        ("run.gamma=0.9", "algorithm.gamma"),
        ("gamma=0.9", "algorithm.gamma"),
        ("algorithms.gamma=0.9", "algorithm.gamma"),
        ("learner.queue_unrols=3", "learner.queue_unrolls"),
        ("actor.envs_per_actor=3", "remove it"),
        ("algorithm.quite_another=3", "remove it"),
        ("algorithm=3", "is a section"),
        ("environment.options.=3", "`environment.options`?"),
    ] {
        let fault = only_fault(&[typed]);
        assert!(fault.contains(meant), "{typed}: {fault}");
    }
    assert!(only_fault(&["algorithm.gamma"]).contains("no `=`"));

    let file = File::new(
        "unknown",
        "seed = 3\n[learnr]\nx = 1\n[actor]\ncuont = 3\nlimits = 3\n",
    );
    let error = file.load().unwrap_err();
    let all = error.to_string();
    for meant in ["`run.seed`", "`learner`", "`actor.count`", "`limits`"] {
        assert!(all.contains(meant), "{meant} in {all}");
    }
    assert_eq!(error.faults().len(), 4, "{all}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let missing = Config::load(Some("/nowhere/x.toml".as_ref()), none(), &[]).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/nowhere/x.toml cannot be read")
    );
    let malformed = File::new("malformed", "[run]\nseed = = 3\n");
    let error = malformed.load().unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let section = File::new("section", "run = 3\n");
    let error = section.load().unwrap_err().to_string();
    assert!(error.contains("[run]"), "{error}");
}

#[test]
fn every_fault_is_found() {
    for (sets, named) in [
        (&["run.total_steps=0"][..], "run.total_steps"),
        (&["run.stop_return=nan"], "run.stop_return"),
        (&["run.out="], "run.out"),
        (&["run.name=../x"], "run.name"),
        (&["run.name="], "run.name"),
        (&["environment.id="], "environment.id"),
        (&["policy.hidden_sizes=[64, 0]"], "policy.hidden_sizes"),
        (&["actor.count=0"], "actor.count"),
        (&["actor.count=65"], "limits.actors_max"),
        (&["actor.unroll_length=0"], "actor.unroll_length"),
        (&["actor.environments_per_actor=100000"], "environments_per"),
        (&["actor.outbox_unrolls=0"], "none would ever begin"),
        (&["actor.outbox_unrolls=100000"], "actor.outbox_unrolls"),
        (&["actor.learner_wait_s_max=86401"], "learner_wait_s_max"),
        (&["actor.step_deadline_s_max=0"], "step_deadline_s_max"),
        (&["learner.listen=0.0.0.0:7000"], "--insecure"),
        (&["telemetry.http=0.0.0.0:9090"], "nothing proves who asks"),
        (
            &["telemetry.otlp_endpoint=https://collector"],
            "without TLS",
        ),
        (&["telemetry.trace_every_unrolls=0"], "between 1 and"),
        (&["learner.batch_unrolls=0"], "learner.batch_unrolls"),
        (&["learner.queue_unrolls=1"], "never come together"),
        (&["learner.queue_unrolls=100000"], "learner.queue_unrolls"),
        (&["learner.update_delay_ms=3600001"], "update_delay_ms"),
        (&["algorithm.gamma=1.01"], "algorithm.gamma"),
        (&["algorithm.gamma=nan"], "algorithm.gamma"),
        (&["algorithm.lambda=-0.1"], "algorithm.lambda"),
        (&["algorithm.rho_bar=0"], "algorithm.rho_bar"),
        (&["algorithm.c_bar=-1"], "algorithm.c_bar"),
        (&["algorithm.rho_bar=inf"], "\"none\""),
        (
            &["algorithm.weight_bar=0", "algorithm.ratio=decoupled"],
            "algorithm.weight_bar",
        ),
        (&["algorithm.clip_epsilon=1"], "algorithm.clip_epsilon"),
        (&["algorithm.epochs=0"], "algorithm.epochs"),
        (&["algorithm.minibatches=0"], "algorithm.minibatches"),
        (&["algorithm.minibatches=1025"], "the 1024 rows"),
        (
            &[
                "algorithm.minibatches=1024",
                "algorithm.advantage_normalisation=minibatch",
            ],
            "makes every advantage 0",
        ),
        (&["algorithm.policy_learning_rate=0"], "policy_learning"),
        (&["algorithm.value_learning_rate=inf"], "value_learning"),
        (&["algorithm.adam_epsilon=0"], "algorithm.adam_epsilon"),
        (&["algorithm.entropy_coefficient=-1"], "entropy_coefficient"),
        (&["algorithm.value_coefficient=-1"], "value_coefficient"),
        (&["algorithm.value_clip=0.3"], "does not clip"),
        (
            &["algorithm.value_clip=0", "algorithm.value_loss=clipped"],
            "algorithm.value_clip",
        ),
        (&["algorithm.huber_delta=2"], "no such bend"),
        (
            &["algorithm.huber_delta=0", "algorithm.value_loss=huber"],
            "algorithm.huber_delta",
        ),
        (&["algorithm.gradient_norm_max=0"], "gradient_norm_max"),
        (&["algorithm.reward_scale=0"], "algorithm.reward_scale"),
        (&["limits.message_bytes_max=1048576"], "message_bytes_max"),
        (&["limits.reward_abs_max=0"], "limits.reward_abs_max"),
        (&["limits.first_message_s_max=0"], "first_message_s_max"),
        (&["limits.idle_s_max=0"], "limits.idle_s_max"),
        (&["limits.drain_s_max=86401"], "limits.drain_s_max"),
        (&["telemetry.progress_interval_ms=1"], "progress_interval"),
    ] {
        let fault = only_fault(sets);
        assert!(fault.contains(named), "{sets:?}: {fault}");
    }
}

#[test]
fn all_faults_are_listed_at_once() {
    let error = with(&[
        "algorithm.gamma=2",
        "learner.queue_unrolls=1",
        "nothing.here=1",
        "learner.device=tpu",
        "limits.idle_s_max=0",
    ]);
    let error = error.unwrap_err();
    assert_eq!(error.faults().len(), 5, "{error}");
    assert!(
        error
            .to_string()
            .starts_with("the configuration has 5 faults:\n  - ")
    );
}

#[test]
fn what_is_allowed_but_odd_gets_advice() {
    let loaded = with(&["algorithm.rho_bar=0.5", "lag.max_versions=1"]).unwrap();
    assert_eq!(loaded.advice.len(), 2, "{:?}", loaded.advice);
    assert!(loaded.advice[0].contains("rho_bar"));
    assert!(loaded.advice[1].contains("the lag of 2"));
    let none = with(&["algorithm.c_bar=none", "lag.max_versions=2"]).unwrap();
    assert_eq!(none.advice.len(), 1, "no cap is above 1: {:?}", none.advice);
}

#[test]
fn predicted_lag_is_the_arithmetic() {
    let predicted = |sets: &[&str]| with(sets).unwrap().config.predicted_lag_max_versions();
    assert_eq!(predicted(&[]), 2);
    assert_eq!(predicted(&["actor.count=3"]), 3);
    assert_eq!(predicted(&["actor.count=3", "learner.reuse=2"]), 6);
    assert_eq!(predicted(&["actor.count=8", "learner.queue_unrolls=4"]), 6);
    let one_of_each = [
        "actor.count=1",
        "learner.batch_unrolls=1",
        "learner.queue_unrolls=1",
    ];
    assert_eq!(predicted(&one_of_each), 2);
}

#[test]
fn messages_must_hold_one_unroll_of_the_environment() {
    let mut environment = EnvironmentSpec::new(
        "Pixels",
        ObservationSpec::floats([4], [0.0, 1.0]),
        ActionSpec::Discrete(2),
    );
    let config = Config::default();
    config.check_against(&environment).unwrap();
    environment.observation.shape = vec![84, 84, 4];
    let error = config.check_against(&environment).unwrap_err();
    assert!(error.to_string().contains("limits.message_bytes_max"));

    environment.observation.shape = vec![0];
    environment.action = ActionSpec::Discrete(1);
    let error = config.check_against(&environment).unwrap_err();
    assert_eq!(error.faults().len(), 2, "{error}");
}

#[test]
fn the_usual_encoder_follows_the_shape() {
    let encoder = |shape: &[usize]| {
        let environment = EnvironmentSpec::new(
            "E",
            ObservationSpec::bytes(shape, 255),
            ActionSpec::Discrete(2),
        );
        Config::default().network(&environment).encoder
    };
    let mlp = EncoderSpec::Mlp {
        hidden_sizes: vec![64, 64],
    };
    assert_eq!(encoder(&[4]), mlp);
    assert_eq!(encoder(&[10, 5]), mlp);
    let board = EncoderSpec::MinatarConv {
        layout: ImageLayout::ChannelsLast,
        hidden_sizes: vec![128],
    };
    assert_eq!(encoder(&[10, 10, 4]), board);
    let screen = EncoderSpec::NatureConv {
        layout: ImageLayout::ChannelsFirst,
        hidden_sizes: vec![512],
    };
    assert_eq!(encoder(&[4, 84, 84]), screen);

    let mut named = Config::default();
    named.policy.encoder = "mine".into();
    named.policy.core = Core::Gru;
    let environment = EnvironmentSpec::new(
        "E",
        ObservationSpec::floats([4], [0.0, 1.0]),
        ActionSpec::Discrete(2),
    );
    let network = named.network(&environment);
    assert_eq!(
        network.encoder,
        EncoderSpec::Custom {
            name: "mine".into()
        }
    );
    assert_eq!(network.state_len(), 2 * 64);
}

#[test]
fn settings_of_a_memory_need_a_memory() {
    let faults = |sets: &[&str]| match with(sets) {
        Ok(_) => Vec::new(),
        Err(error) => error.faults().to_vec(),
    };
    assert!(faults(&["algorithm.burn_in=4", "policy.core=lstm"]).is_empty());
    assert_eq!(faults(&["algorithm.burn_in=4"]).len(), 1);
    assert_eq!(faults(&["policy.core_size=128"]).len(), 1);
    let whole_unroll = ["algorithm.burn_in=32", "policy.core=gru"];
    assert_eq!(faults(&whole_unroll).len(), 1);
    // 2 unrolls of 16 environments are 32 columns.
    let split = ["policy.core=gru", "algorithm.minibatches=33"];
    assert_eq!(faults(&split).len(), 1);
}

#[test]
fn only_a_bounded_continuous_action_can_be_squashed() {
    let mut config = Config::default();
    config.policy.squash = true;
    let squashed = |high: f32| {
        let action = ActionSpec::Box {
            low: vec![-1.0],
            high: vec![high],
        };
        let observation = ObservationSpec::floats([4], [0.0, 1.0]);
        config.check_against(&EnvironmentSpec::new("E", observation, action))
    };
    assert!(squashed(1.0).is_ok());
    assert!(squashed(f32::INFINITY).is_err());
}

#[test]
fn the_hash_sees_every_change() {
    let config = Config::default();
    assert_eq!(config.hash(), Config::default().hash());
    assert_eq!(config.hash().len(), 16);
    let mut other = config.clone();
    other.environment.options.insert("x".into(), 1.into());
    assert_ne!(config.hash(), other.hash());
    other = config.clone();
    other.algorithm.gamma = 0.99 + f64::EPSILON;
    assert_ne!(config.hash(), other.hash());
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        seed in any::<u64>(),
        rate in 1e-12_f64..1.0,
        name in "[a-zA-Z0-9 \"'#=]{1,12}",
        cap in proptest::option::of(0.1_f64..10.0),
        hidden_sizes in proptest::collection::vec(1_usize..512, 0..4),
        option in ".{0,12}",
        listed in -5_i64..5,
    ) {
        let mut config = Config::default();
        config.run.seed = seed;
        // "none" as a name means no name.
        config.run.name = Some(format!("{name}!"));
        config.algorithm.policy_learning_rate = rate;
        config.algorithm.rho_bar = cap;
        config.policy.hidden_sizes = Some(hidden_sizes);
        let mut inner = toml::Table::new();
        inner.insert("a key".into(), option.into());
        inner.insert("list".into(), vec![listed, 1].into());
        config.environment.options.insert("inner".into(), inner.into());
        config.environment.options.insert("half".into(), 0.5.into());

        let file = File::new("round-trip", &config.to_toml());
        let loaded = file.load().unwrap();
        prop_assert_eq!(&loaded.config, &config);
        prop_assert_eq!(loaded.config.hash(), config.hash());
    }
}
