//! Log lines on the standard error stream.

use std::{env, io};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, util::TryInitError};

use crate::config::LogFormat;

/// Environment variable that chooses what is logged, such as `debug` or `warn,springbok_learner=trace`.
pub const LOG_VARIABLE: &str = "SPRINGBOK_LOG";

/// What is logged if [`LOG_VARIABLE`] is not set: our own doings, and the troubles of the libraries.
const DEFAULT_FILTER: &str = "warn,springbok=info";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable's text is no filter.
    #[error(
        "{LOG_VARIABLE} is {text:?}, which is no log filter ({source}); use error, warn, info, debug or trace, or unset it"
    )]
    Filter {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Something in this process already receives log lines.
    #[error("logging was set up before; it can be done once in a process: {0}")]
    Twice(#[from] TryInitError),
}

/// Sends log lines of this process to the standard error stream as `format`, filtered by [`LOG_VARIABLE`].
///
/// # Errors
/// If the variable is malformed, or if logging was set up before.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let filter = filter(env::var(LOG_VARIABLE).ok().as_deref())?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            // Colours are for people at a terminal; files and pipes get plain text.
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(colours).finish().try_init()?;
        }
        LogFormat::Json => builder.json().finish().try_init()?,
    }
    Ok(())
}

/// What `text` chooses; unset or empty text chooses the default.
fn filter(text: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = text
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT_FILTER);
    EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter {
        text: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_chooses_what_is_logged() {
        let shown = |text| filter(text).unwrap().to_string();
        assert!(shown(None).contains("springbok=info"));
        assert_eq!(shown(None), shown(Some("")));
        assert_eq!(shown(Some("debug")), "debug");
    }

    #[test]
    fn a_malformed_filter_is_named() {
        let error = filter(Some("springbok=loud")).unwrap_err();
        assert!(error.to_string().contains("springbok=loud"), "{error}");
    }

    #[test]
    fn logging_is_set_up_once() {
        // Another test of this process may have come first, but never two in a row succeed.
        let _ = init(LogFormat::Text);
        assert!(matches!(
            init(LogFormat::Json),
            Err(TelemetryError::Twice(_))
        ));
    }
}
