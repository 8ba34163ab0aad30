//! What a resumed run may change: everything that does not change what is learned.

use std::{collections::BTreeMap, fmt};

use super::Config;

/// Sections and keys that may differ between a run and its continuation.
const FREE: &[&str] = &[
    "run.total_steps",
    "run.stop_return",
    "run.out",
    "run.name",
    "environment.python",
    "actor.window_bytes",
    "actor.learner_wait_s_max",
    "learner.listen",
    "learner.listen_unix",
    "learner.insecure",
    "limits",
    "security",
    "checkpoint",
    "telemetry",
];

/// These may differ only outside lock-step, where they decide the course of the run.
const FREE_WITHOUT_LOCK_STEP: &[&str] = &[
    "actor.count",
    "learner.device",
    "learner.gradient_parts",
    "checkpoint.enabled",
    "checkpoint.interval_updates",
];

/// A key that has another value than it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `section.key`.
    pub key: String,
    /// Its value when the checkpoint was written, as TOML.
    pub then: String,
    /// Its value now, as TOML.
    pub now: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, then, now } = self;
        write!(formatter, "`{key}`: then {then}, now {now}")
    }
}

impl Config {
    /// The keys whose value differs from that in `then`, the TOML of an earlier configuration, so that the run would go
    /// on as another. A key that the earlier one does not know had its default.
    ///
    /// # Errors
    /// `then` is not TOML.
    pub fn differences(&self, then: &str) -> Result<Vec<Difference>, toml::de::Error> {
        let table: toml::Table = then.parse()?;
        let mut earlier: BTreeMap<&str, toml::Value> =
            Self::default().entries().into_iter().collect();
        for (key, value) in &mut earlier {
            if let Some(found) = find(&table, key) {
                *value = found.clone();
            }
        }
        let changed = self.entries().into_iter().filter_map(|(key, now)| {
            let then = earlier.get(key)?;
            (*then != now && !self.may_differ(key)).then(|| Difference {
                key: key.to_owned(),
                then: then.to_string(),
                now: now.to_string(),
            })
        });
        Ok(changed.collect())
    }

    fn may_differ(&self, key: &str) -> bool {
        let named = |list: &[&str]| {
            list.iter().any(|free| {
                key.strip_prefix(free)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        if named(FREE_WITHOUT_LOCK_STEP) {
            !self.run.deterministic
        } else {
            named(FREE)
        }
    }
}

fn find<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let (section, rest) = key.split_once('.')?;
    let value = table.get(section)?;
    let inner = value.as_table()?;
    inner.get(rest).or_else(|| find(inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sets: &[&str]) -> Config {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        Config::load(None, std::iter::empty(), &sets)
            .unwrap()
            .config
    }

    #[test]
    fn only_what_changes_the_learning_is_a_difference() {
        let then = config(&["environment.options.rows=5"]).to_toml();
        let now = config(&[
            "environment.options.rows=6",
            "algorithm.gamma=0.9",
            "run.total_steps=7",
            "run.name=other",
            "actor.count=3",
            "learner.queue_unrolls=3",
            "environment.python.interpreter=python3",
            "checkpoint.interval_updates=9",
            "telemetry.stall_s=9",
        ]);
        let found = now.differences(&then).unwrap();
        let keys: Vec<&str> = found.iter().map(|one| one.key.as_str()).collect();
        let expected = [
            "environment.options",
            "learner.queue_unrolls",
            "algorithm.gamma",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            found[2].to_string(),
            "`algorithm.gamma`: then 0.99, now 0.9"
        );
        assert_eq!(now.differences(&now.to_toml()).unwrap(), []);
    }

    #[test]
    fn in_lock_step_the_boundaries_and_the_actors_belong_to_the_course() {
        let lock_step = ["run.deterministic=true", "checkpoint.interval_updates=8"];
        let then = config(&lock_step).to_toml();
        let now = config(&[
            "run.deterministic=true",
            "checkpoint.interval_updates=9",
            "actor.count=1",
        ]);
        assert_eq!(now.differences(&then).unwrap().len(), 2);
    }

    #[test]
    fn a_key_that_was_unknown_had_its_default() {
        let found = config(&["algorithm.gamma=0.5"])
            .differences("[run]\nseed = 1\n")
            .unwrap();
        assert_eq!(found.len(), 1);
        assert!(config(&[]).differences("no toml").is_err());
    }
}
