//! Log lines on the standard error stream, the last of which are kept.

use std::{
    collections::VecDeque,
    env,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt as _,
    util::TryInitError,
};

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

/// What takes the spans of this process elsewhere.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Lines that are kept.
const TAIL_LINES_MAX: usize = 40;

/// Bytes of a line that are kept.
const TAIL_LINE_BYTES_MAX: usize = 500;

/// The last lines, oldest first.
static TAIL: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The last lines that this process logged, oldest first, without colours: at most 40, each cut at 500 bytes.
#[must_use]
pub fn log_tail() -> Vec<String> {
    let tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().cloned().collect()
}

/// The standard error stream, and a copy of its last lines.
struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(bytes)?;
        // The subscriber writes an event at once.
        let text = String::from_utf8_lossy(bytes);
        let mut tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            if tail.len() == TAIL_LINES_MAX {
                tail.pop_front();
            }
            tail.push_back(kept(line));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line without the sequences that colour it, cut to what is kept.
fn kept(line: &str) -> String {
    let mut text = String::new();
    let mut coloured = line.split('\u{1b}');
    text.push_str(coloured.next().unwrap_or_default());
    for part in coloured {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    let end = text.floor_char_boundary(TAIL_LINE_BYTES_MAX);
    text.truncate(end);
    text
}

/// Sends log lines of this process to the standard error stream as `format`, filtered by [`LOG_VARIABLE`].
///
/// # Errors
/// If the variable is malformed, or if logging was set up before.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    init_with(format, None)
}

/// The same, and lets `spans` have what it wants, whatever is logged.
///
/// # Errors
/// As [`init`].
pub fn init_with(format: LogFormat, spans: Option<SpanLayer>) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let filter = filter(env::var(LOG_VARIABLE).ok().as_deref())?;
    let lines = fmt::layer().with_writer(|| Tee);
    let registry = tracing_subscriber::registry().with(spans);
    // Colours are for people at a terminal; files and pipes get plain text.
    let lines = lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    match format {
        LogFormat::Text => registry.with(lines.with_filter(filter)).try_init()?,
        LogFormat::Pretty => registry
            .with(lines.pretty().with_filter(filter))
            .try_init()?,
        LogFormat::Json => registry.with(lines.json().with_filter(filter)).try_init()?,
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
    fn the_last_lines_are_kept_plain_and_short() {
        // As the subscriber does it: each event is written at once.
        let write = |line: String| Tee.write_all(line.as_bytes()).unwrap();
        for line in 0..=TAIL_LINES_MAX {
            write(format!("\u{1b}[32m INFO\u{1b}[0m line {line}\n"));
        }
        write(format!("{}\n", "\u{e4}".repeat(TAIL_LINE_BYTES_MAX)));
        let tail = log_tail();
        assert_eq!(tail.len(), TAIL_LINES_MAX);
        assert_eq!(tail[0], " INFO line 2");
        assert_eq!(tail[TAIL_LINES_MAX - 1].len(), TAIL_LINE_BYTES_MAX);
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
