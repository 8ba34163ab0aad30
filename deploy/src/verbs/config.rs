//! `springbok config print` and `check`; and how every other verb gets its configuration.

use springbok_actor::{environment::Registry, python::PythonSettings};
use springbok_common::{
    config::{Config, ConfigError, Loaded},
    credentials::TOKEN_VARIABLE,
    injection::LagInjection,
    spec::EnvironmentSpec,
    unroll::Agreement,
};

use crate::{cli::Layers, exit::Failure, output, telemetry};

/// The configuration that defaults, file, environment variables and command line make together.
///
/// # Errors
/// Exit 64 with all faults at once.
pub(super) fn load(layers: &Layers) -> Result<Loaded, Failure> {
    let loaded = try_load(layers).map_err(Failure::usage)?;
    match telemetry::fault(&loaded.config) {
        Some(fault) => Err(Failure::usage(fault)),
        None => Ok(loaded),
    }
}

/// The same for a caller that puts the faults of several configurations together.
///
/// # Errors
/// All faults.
pub(super) fn load_faults(layers: &Layers) -> Result<Config, Vec<String>> {
    match try_load(layers) {
        Ok(loaded) => match telemetry::fault(&loaded.config) {
            Some(fault) => Err(vec![fault]),
            None => Ok(loaded.config),
        },
        Err(error) => Err(error.faults().to_vec()),
    }
}

/// How the port of this configuration's learner is guarded.
///
/// # Errors
/// Exit 64 if a file or token cannot be used.
pub(super) fn learner_security(config: &Config) -> Result<springbok_learner::Security, Failure> {
    springbok_learner::Security::load(config, token_variable().as_deref()).map_err(Failure::usage)
}

/// What this configuration's actors trust and show.
///
/// # Errors
/// Exit 64 if a file or token cannot be used.
pub(super) fn actor_security(config: &Config) -> Result<springbok_actor::Security, Failure> {
    springbok_actor::Security::load(&config.security, token_variable().as_deref())
        .map_err(Failure::usage)
}

fn token_variable() -> Option<String> {
    std::env::var(TOKEN_VARIABLE).ok()
}

fn try_load(layers: &Layers) -> Result<Loaded, ConfigError> {
    // A name or value that is no text cannot set anything.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(layers.file.as_deref(), variables, &layers.sets)
}

/// The same, checked against the environment that it names, with what that environment shows and takes.
///
/// # Errors
/// Exit 64 with all faults at once.
pub(super) fn playable(
    layers: &Layers,
    registry: &Registry,
) -> Result<(Config, EnvironmentSpec), Failure> {
    let config = load(layers)?.config;
    let environment = spec(&config, registry)?;
    Ok((config, environment))
}

fn spec(config: &Config, registry: &Registry) -> Result<EnvironmentSpec, Failure> {
    let environment = registry
        .spec(
            &config.environment.id,
            &config.environment.options,
            &PythonSettings::from(&config.environment.python),
        )
        .map_err(Failure::usage)?;
    config.check_against(&environment).map_err(Failure::usage)?;
    Ok(environment)
}

/// Prints every effective value and where it came from; or, as TOML, a file that can be loaded again.
pub(super) fn print(layers: &Layers, toml: bool) -> Result<(), Failure> {
    let loaded = load(layers)?;
    if toml {
        output::line(loaded.config.to_toml().trim_end());
        return Ok(());
    }
    let width = |column: fn(&(String, String, String)) -> &String| {
        let lengths = loaded.provenance.iter().map(column).map(String::len);
        lengths.max().unwrap_or_default()
    };
    let (path_width, value_width) = (width(|row| &row.0), width(|row| &row.1));
    for (path, value, source) in &loaded.provenance {
        output::line(&format!(
            "{path:path_width$}  {value:value_width$}  {source}"
        ));
    }
    Ok(())
}

/// Lists all faults, or says that there are none, what is probably not meant, and how old experience will be.
pub(super) fn check(layers: &Layers, registry: &Registry) -> Result<(), Failure> {
    let loaded = load(layers)?;
    let environment = spec(&loaded.config, registry)?;
    learner_security(&loaded.config)?;
    actor_security(&loaded.config)?;
    output::line("ok");
    for advice in &loaded.advice {
        output::line(&format!("advice: {advice}"));
    }
    output::line(&predicted_lag(&loaded.config));
    let agreement = Agreement {
        network: loaded.config.network(&environment),
        rollout: loaded.config.rollout(),
        environment,
    };
    let memory = loaded.config.memory_bound(&agreement);
    output::line(&format!(
        "worst-case memory of the learner: at most {memory}"
    ));
    let device = loaded.config.device_memory(&agreement);
    output::line(&format!(
        "memory of its device during an update: about {device}"
    ));
    Ok(())
}

/// How old experience will be.
fn predicted_lag(config: &Config) -> String {
    let natural = config.predicted_lag_max_versions();
    let injected = config.lag.inject.versions_mean(config.actor.count);
    let injects = config.lag.inject != LagInjection::None;
    let rarely = config.learner.publish_interval_updates > 1;
    let source = match rarely {
        true => "the buffers and the publish interval",
        false => "the buffers",
    };
    match (config.run.deterministic, injects) {
        (true, _) => format!(
            "predicted lag: {injected} versions injected on average, and none besides in lock-step"
        ),
        (false, false) => format!(
            "predicted lag: {natural} versions from {source}, and at most one more while parameters are on their way"
        ),
        (false, true) => format!(
            "predicted lag: {natural} versions from {source}, {injected} injected on average, and at most one more while \
             parameters are on their way"
        ),
    }
}
