//! What went wrong in a server, and the sentence that people get to read.

use std::{io, time::Duration};

use serde::Deserialize;

use crate::environment::{EnvironmentError, listed};

/// What went wrong, as the server tells it, or as it looks from here.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Complaint(Box<Words>);

#[derive(Debug, Default, Deserialize)]
struct Words {
    /// `unknown_option`, `option`, `import`, `unsupported`, `construction` or `raised`.
    kind: String,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    traceback: Option<String>,
    /// What to install, as `pip` calls it.
    #[serde(default)]
    package: Option<String>,
    #[serde(default)]
    option: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    limit: Option<String>,
    #[serde(default)]
    known: Vec<String>,
    /// The interpreter that it happened in.
    #[serde(skip)]
    interpreter: String,
}

impl Complaint {
    /// One that this side makes.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Words {
            kind: "raised".into(),
            message: message.into(),
            ..Words::default()
        }))
    }

    /// The interpreter could not be started.
    pub(super) fn no_interpreter(interpreter: &str, error: &io::Error) -> Self {
        Self::new(format!(
            "the Python interpreter `{interpreter}` cannot be started ({error}); install Python 3.9 or later, or name \
             one with `environment.python.interpreter`"
        ))
    }

    /// No answer came in time.
    pub(super) fn late(what: &str, limit: Duration, key: &str) -> Self {
        Self::new(format!(
            "{what} took longer than {} s; make the environment faster or raise `environment.python.{key}`",
            limit.as_secs_f64()
        ))
    }

    /// The same, with what the process last wrote to its stderr.
    pub(super) fn with_last_words(mut self, words: &str) -> Self {
        let words = words.trim();
        if self.0.traceback.is_none() && !words.is_empty() {
            self.0.traceback = Some(format!("its last words were:\n{words}"));
        }
        self
    }

    pub(super) fn in_interpreter(mut self, interpreter: &str) -> Self {
        interpreter.clone_into(&mut self.0.interpreter);
        self
    }

    /// The error if the environment `id` was being made.
    pub(super) fn of_construction(self, id: &str) -> EnvironmentError {
        let environment = id.to_owned();
        let words = *self.0;
        match (words.kind.as_str(), &words.option) {
            ("unknown_option", Some(option)) => {
                let known: Vec<&str> = words.known.iter().map(String::as_str).collect();
                EnvironmentError::UnknownOption {
                    environment,
                    option: option.clone(),
                    known: listed(&known),
                }
            }
            ("option", Some(option)) if words.limit.is_some() => EnvironmentError::InvalidOption {
                environment,
                option: option.clone(),
                value: words.value.unwrap_or_default(),
                limit: words.limit.unwrap_or_default(),
            },
            _ => EnvironmentError::Construction {
                environment,
                reason: words.sentence(),
            },
        }
    }

    /// The error if the environment `id` was being played.
    pub(super) fn of_play(self, id: &str) -> EnvironmentError {
        EnvironmentError::Failed {
            environment: id.to_owned(),
            reason: self.0.sentence(),
        }
    }
}

impl Words {
    fn sentence(&self) -> String {
        let mut text = self.message.clone();
        if let Some(package) = &self.package {
            text = format!(
                "{text}; install it with `{} -m pip install {package}`",
                self.interpreter
            );
        }
        if let Some(hint) = &self.hint {
            text = format!("{text}; {hint}");
        }
        // A package that is missing needs no traceback; one that something else misses does.
        if let Some(traceback) = self.traceback.as_ref().filter(|_| self.kind != "import") {
            text = format!("{text}\n{}", traceback.trim_end());
        }
        text
    }
}
