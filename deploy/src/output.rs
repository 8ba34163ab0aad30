//! All that is written to stdout and stderr. A reader that goes away (`springbok envs | head -1`) is no fault:
//! errors of these writes are dropped, where the `print` macros would panic.

use std::io::{self, Write as _};

/// Writes `text` and a line break to stdout.
pub(crate) fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

/// Writes `text` and a line break to stderr.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes `value` as JSON to stdout: indented for people and tools alike.
pub(crate) fn json(value: &impl serde::Serialize) {
    // Plain numbers, strings and lists always have a JSON form.
    if let Ok(text) = serde_json::to_string_pretty(value) {
        line(&text);
    }
}
