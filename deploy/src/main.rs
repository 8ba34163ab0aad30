//! The `springbok` binary: the launcher with the built-in environments.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    springbok::Launcher::new().main()
}
