//! The options of [`super::Synthetic`].

use std::time::Duration;

use springbok_common::{
    arrays::ElementType,
    spec::{ActionSpec, EnvironmentSpec, ObservationSpec},
    step::StepOutcome,
};

use crate::environment::{EnvironmentError, options::Options};

const ID: &str = "Synthetic";
const OPTIONS: [&str; 17] = [
    "observation_len",
    "observation_shape",
    "element",
    "action_kind",
    "actions",
    "action_len",
    "action_mask",
    "episode_length",
    "end",
    "life_steps",
    "reward",
    "step_us",
    "wait",
    "crash_after",
    "crash",
    "stall_after",
    "stall_ms",
];
const OBSERVATION_LEN_MAX: u32 = 1 << 20;
const ACTIONS_MAX: u32 = 1 << 16;
const ACTION_LEN_MAX: u32 = 1024;
const STEPS_MAX: u32 = 1_000_000_000;
const STEP_US_MAX: u32 = 10_000_000;
const STALL_MS_MAX: u32 = 86_400_000;
const REWARD_MAX: f32 = 1e6;

/// How the time of a step passes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wait {
    Busy,
    Sleep,
}

/// How it crashes.
#[derive(Clone, Copy)]
pub(super) enum Crash {
    Panic,
    Abort,
}

#[derive(Clone, Copy)]
enum ActionKind {
    Discrete,
    MultiDiscrete,
    Box,
}

/// Everything that is not part of the specification.
pub(super) struct Settings {
    pub(super) episode_length: u32,
    /// What the last step of an episode reports.
    pub(super) end: StepOutcome,
    pub(super) life_steps: u32,
    pub(super) reward: f32,
    pub(super) step_time: Duration,
    pub(super) wait: Wait,
    pub(super) crash_after: u32,
    pub(super) crash: Crash,
    pub(super) stall_after: u32,
    pub(super) stall: Duration,
}

pub(super) fn read(table: &toml::Table) -> Result<(EnvironmentSpec, Settings), EnvironmentError> {
    let options = Options::new(ID, table, &OPTIONS)?;
    let ends = [
        ("terminated", StepOutcome::Terminated),
        ("truncated", StepOutcome::Truncated),
        ("time_limit", StepOutcome::Continued),
    ];
    let waits = [("busy", Wait::Busy), ("sleep", Wait::Sleep)];
    let crashes = [("panic", Crash::Panic), ("abort", Crash::Abort)];
    let step_us = options.integer("step_us", 0, 0..=STEP_US_MAX)?;
    let stall_ms = options.integer("stall_ms", 60_000, 0..=STALL_MS_MAX)?;
    let settings = Settings {
        episode_length: options.integer("episode_length", 100, 1..=STEPS_MAX)?,
        end: options.choice("end", &ends, StepOutcome::Terminated)?,
        life_steps: options.integer("life_steps", 0, 0..=STEPS_MAX)?,
        reward: options.float("reward", 1.0, -REWARD_MAX..=REWARD_MAX)?,
        step_time: Duration::from_micros(u64::from(step_us)),
        wait: options.choice("wait", &waits, Wait::Busy)?,
        crash_after: options.integer("crash_after", 0, 0..=STEPS_MAX)?,
        crash: options.choice("crash", &crashes, Crash::Panic)?,
        stall_after: options.integer("stall_after", 0, 0..=STEPS_MAX)?,
        stall: Duration::from_millis(u64::from(stall_ms)),
    };
    let mut spec = EnvironmentSpec::new(ID, observation(&options, table)?, action(&options)?);
    if settings.end == StepOutcome::Continued {
        spec = spec.with_steps_max(settings.episode_length);
    }
    if options.flag("action_mask")? {
        spec = spec.with_action_mask();
    }
    Ok((spec, settings))
}

fn observation(
    options: &Options<'_>,
    table: &toml::Table,
) -> Result<ObservationSpec, EnvironmentError> {
    let len = options.integer("observation_len", 4, 1..=OBSERVATION_LEN_MAX)?;
    let (only_len, max) = ([len as usize], OBSERVATION_LEN_MAX as usize);
    let shape = options.shape("observation_shape", &only_len, max)?;
    if let Some(value) = table.get("observation_len")
        && options.has("observation_shape")
    {
        let limit = "left out where `observation_shape` is given".to_owned();
        return Err(options.invalid("observation_len", value, limit));
    }
    let elements = [("float32", ElementType::F32), ("uint8", ElementType::U8)];
    Ok(
        match options.choice("element", &elements, ElementType::F32)? {
            ElementType::F32 => ObservationSpec::floats(shape, [0.0, 1.0]),
            ElementType::U8 => ObservationSpec::bytes(shape, u8::MAX),
        },
    )
}

fn action(options: &Options<'_>) -> Result<ActionSpec, EnvironmentError> {
    let kinds = [
        ("discrete", ActionKind::Discrete),
        ("multi_discrete", ActionKind::MultiDiscrete),
        ("box", ActionKind::Box),
    ];
    let actions = options.integer("actions", 2, 1..=ACTIONS_MAX)?;
    let len = options.integer("action_len", 2, 1..=ACTION_LEN_MAX)? as usize;
    Ok(
        match options.choice("action_kind", &kinds, ActionKind::Discrete)? {
            ActionKind::Discrete => ActionSpec::Discrete(actions),
            ActionKind::MultiDiscrete => ActionSpec::MultiDiscrete(vec![actions; len]),
            ActionKind::Box => ActionSpec::Box {
                low: vec![-1.0; len],
                high: vec![1.0; len],
            },
        },
    )
}
