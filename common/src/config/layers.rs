//! Layers of the configuration, lowest first: defaults, what the objective implies, preset, file, environment, `--set`;
//! each value keeps its source.

use std::{fs, path::Path};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    util::nest,
    value::{Dict, Map, Value},
};

use crate::credentials::TOKEN_VARIABLE;

use super::{Config, ConfigError, KEYS, KeyDoc, Objective, Preset, SECTIONS, setting::Setting};

/// What the names of environment variables begin with.
const VARIABLE_PREFIX: &str = "SPRINGBOK__";
/// The one key whose content the environment defines, not this reference.
const OPEN_KEY: &str = "environment.options";
/// Most levels of tables within the options of an environment.
const OPTION_LEVELS_MAX: usize = 32;
/// The keys that other keys take values from.
const PRESET_KEY: &str = "environment.preset";
const OBJECTIVE_KEY: &str = "algorithm.objective";
/// Source of a value that nothing sets.
const DEFAULT_SOURCE: &str = "default";

/// A configuration without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Every key has a value.
    pub config: Config,
    /// (path, value as TOML, source) of every key, in the order of the reference.
    pub provenance: Vec<(String, String, String)>,
    /// Sentences about settings that are allowed and probably not meant.
    pub advice: Vec<String>,
}

impl Config {
    /// Defaults, then `file`, then the variables `SPRINGBOK__SECTION__KEY` of `env`, then each `section.key=value` of
    /// `sets`; the last one counts.
    ///
    /// # Errors
    /// Every unreadable file, unknown key, value of a wrong type and contradiction, all in one error.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Loaded, ConfigError> {
        let mut tokens = false;
        let mut variables: Vec<_> = env
            .inspect(|(name, _)| tokens |= name == TOKEN_VARIABLE)
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        variables.sort();
        let stack = |objective, preset| {
            let mut stack = Stack::new();
            stack.objective(objective);
            stack.preset(preset);
            if let Some(path) = file {
                stack.file(path);
            }
            stack.environment(&variables);
            if tokens {
                // That there is one, and nothing of what it says.
                let source = format!("environment variable {TOKEN_VARIABLE}");
                stack.put("security.token_in_environment", &true.into(), &source);
            }
            for set in sets {
                stack.set(set);
            }
            stack
        };
        // Objective and preset lie below the layers that name them, so they are asked before these are there.
        let named = stack(Objective::Clip, Preset::None);
        let objective = named.chosen(OBJECTIVE_KEY).unwrap_or(Objective::Clip);
        let preset = named.chosen(PRESET_KEY).unwrap_or(Preset::None);
        stack(objective, preset).resolve()
    }
}

/// Values that one source sets.
struct Layer {
    source: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Layers so far, and what is wrong with them.
struct Stack {
    figment: Figment,
    faults: Vec<String>,
}

impl Stack {
    fn new() -> Self {
        let mut stack = Self {
            figment: Figment::new(),
            faults: Vec::new(),
        };
        for (path, value) in Config::default().entries() {
            stack.put(path, &value, DEFAULT_SOURCE);
        }
        stack
    }

    /// The values that `preset` stands for.
    fn preset(&mut self, preset: Preset) {
        for (path, text) in preset.values() {
            self.text(path, text, &format!("preset {preset}"));
        }
    }

    /// The defaults that come with `objective`: as it is described by those who proposed it.
    fn objective(&mut self, objective: Objective) {
        for (path, text) in objective.implies() {
            self.text(path, text, &format!("objective {objective}"));
        }
    }

    /// What the layers choose for the key `path`; none if there is no such choice, which is a fault.
    fn chosen<T: Setting>(&self, path: &str) -> Option<T> {
        T::read(&self.figment.find_value(path).ok()?)
    }

    /// Puts `value` on top of what lower layers say about `path`.
    fn put(&mut self, path: &str, value: &toml::Value, source: &str) {
        let nested = Value::serialize(value).map(|value| nest(path, value).into_dict());
        match nested {
            Ok(Some(values)) => {
                let layer = Layer {
                    source: source.to_owned(),
                    values,
                };
                // Merging a layer of the same profile only takes this value; the others stay.
                self.figment = std::mem::take(&mut self.figment).merge(layer);
            }
            _ => self.faults.push(format!(
                "{source} gives `{path}` a value that cannot be represented: {value}; write it another way"
            )),
        }
    }

    fn file(&mut self, path: &Path) {
        let source = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.faults.push(format!(
                    "{source} cannot be read: {error}; name a readable TOML file"
                ));
                return;
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.tables(&table, &source),
            Err(error) => self.faults.push(format!(
                "{source} is not TOML; correct this: {}",
                error.to_string().trim_end()
            )),
        }
    }

    /// The sections of a file.
    fn tables(&mut self, file: &toml::Table, source: &str) {
        for (section, content) in file {
            self.section(section, content, source);
        }
    }

    /// A section, or what stands where one should.
    fn section(&mut self, section: &str, content: &toml::Value, source: &str) {
        let known = is_section(section);
        match content {
                toml::Value::Table(keys) if known => {
                    for (key, value) in keys {
                        let path = format!("{section}.{key}");
                        if is_section(&path) {
                            self.section(&path, value, source);
                        } else {
                            self.value(&path, value, source);
                        }
                    }
                }
                _ if known => self.faults.push(format!(
                    "`{section}` in {source} is {content}, but it is a section; write its keys under [{section}]"
                )),
                _ => self.unknown(section, source),
            }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        for (name, text) in variables {
            let path = name
                .trim_start_matches(VARIABLE_PREFIX)
                .to_lowercase()
                .replace("__", ".");
            self.text(&path, text, &format!("environment variable {name}"));
        }
    }

    fn set(&mut self, set: &str) {
        match set.split_once('=') {
            Some((path, text)) => self.text(path.trim(), text.trim(), "--set"),
            None => self.faults.push(format!(
                "--set {set} has no `=`; write --set section.key=value"
            )),
        }
    }

    /// A value that was typed without TOML around it.
    fn text(&mut self, path: &str, text: &str, source: &str) {
        let quoted = text.starts_with(['"', '\'']);
        let verbatim = key(path).is_some_and(|key| key.is_text) && !quoted;
        let parsed = if verbatim { None } else { text.parse().ok() };
        let value = parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()));
        self.value(path, &value, source);
    }

    fn value(&mut self, path: &str, value: &toml::Value, source: &str) {
        let levels = path.split('.').count();
        if levels > OPTION_LEVELS_MAX {
            // Each level is a call within a call, and no key of ours is nearly as deep.
            self.faults.push(format!(
                "{source} sets a key of {levels} levels, but at most {OPTION_LEVELS_MAX} are read; use fewer dots"
            ));
        } else if key(path).is_some() || is_option(path) {
            self.put(path, value, source);
        } else {
            self.unknown(path, source);
        }
    }

    fn unknown(&mut self, path: &str, source: &str) {
        let hint = if is_section(path) {
            format!("`{path}` is a section; set one of its keys, `{path}.key`")
        } else {
            match nearest(path) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "remove it; `springbok config print` lists every key".to_owned(),
            }
        };
        self.faults
            .push(format!("{source} sets `{path}`, which is no key: {hint}"));
    }

    /// The typed, cross-checked configuration.
    fn resolve(mut self) -> Result<Loaded, ConfigError> {
        let mut config = Config::default();
        let mut provenance = Vec::new();
        for key in KEYS.iter() {
            // Every key has a default, so there is always a value.
            let Ok(value) = self.figment.find_value(key.path) else {
                continue;
            };
            if !config.assign(key.path, &value) {
                self.faults.push(format!(
                    "`{}` is {} ({}), but must be {}; its default is {}",
                    key.path,
                    display(&value),
                    self.source(&value),
                    key.expected,
                    key.default
                ));
            }
            self.trace(key.path, &value, &mut provenance);
        }
        let advice = config.advice();
        self.faults.extend(config.faults());
        ConfigError::list(self.faults)?;
        Ok(Loaded {
            config,
            provenance,
            advice,
        })
    }

    /// Adds where `value` came from; a table's entries have a source each.
    fn trace(&self, path: &str, value: &Value, into: &mut Vec<(String, String, String)>) {
        match value.as_dict() {
            Some(entries) if !entries.is_empty() => {
                for (name, entry) in entries {
                    self.trace(&format!("{path}.{name}"), entry, into);
                }
            }
            Some(_) => into.push((path.to_owned(), "{}".to_owned(), DEFAULT_SOURCE.to_owned())),
            None => into.push((path.to_owned(), display(value), self.source(value))),
        }
    }

    fn source(&self, value: &Value) -> String {
        // A table has no source of its own: its entries have.
        let tag = match value.as_dict().and_then(|entries| entries.values().next()) {
            Some(entry) => entry.tag(),
            None => value.tag(),
        };
        let metadata = self.figment.get_metadata(tag);
        metadata.map_or(DEFAULT_SOURCE.to_owned(), |metadata| {
            metadata.name.to_string()
        })
    }
}

fn key(path: &str) -> Option<&'static KeyDoc> {
    KEYS.iter().find(|key| key.path == path)
}

fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|(name, _)| *name == path)
}

/// Whether `path` lies inside the options of the environment.
fn is_option(path: &str) -> bool {
    path.strip_prefix(OPEN_KEY)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|name| !name.is_empty() && !name.split('.').any(str::is_empty))
}

/// `value` as TOML.
fn display(value: &Value) -> String {
    match value.deserialize::<toml::Value>() {
        Ok(value) => value.to_string(),
        Err(_) => format!("{value:?}"),
    }
}

/// The key or section that `path` was probably meant to be.
fn nearest(path: &str) -> Option<&'static str> {
    // Right key, wrong section: `run.gamma` for `algorithm.gamma`.
    let last = path.rsplit('.').next().unwrap_or(path);
    let moved = KEYS
        .iter()
        .find(|key| key.path.rsplit('.').next() == Some(last));
    if let Some(key) = moved {
        return Some(key.path);
    }
    let sections = SECTIONS.iter().map(|(name, _)| *name);
    let paths = KEYS.iter().map(|key| key.path);
    // Whole paths and bare names both count: `gama` is near `algorithm.gamma` too.
    sections
        .chain(paths)
        .map(|candidate| {
            let name = candidate.rsplit('.').next().unwrap_or(candidate);
            let whole = edit_distance(path, candidate);
            (whole.min(edit_distance(last, name)), whole, candidate)
        })
        .min()
        .filter(|(distance, ..)| *distance <= (last.len() / 3).max(2))
        .map(|(.., candidate)| candidate)
}

/// Insertions, deletions and substitutions between `a` and `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every level was a call within a call: such a path ended the process.
    #[test]
    fn a_path_of_ten_thousand_levels_is_a_fault_like_any_other() {
        let set = |levels: usize| vec![format!("environment.options{}=1", ".a".repeat(levels))];
        let load = |levels| Config::load(None, std::iter::empty(), &set(levels));
        assert!(load(OPTION_LEVELS_MAX - 2).is_ok());
        let error = load(10_000).unwrap_err();
        assert_eq!(error.faults().len(), 1);
        assert!(error.to_string().contains("10002 levels"), "{error}");
    }
}
