//! The `springbok` binary: the launcher with the built-in environments.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: springbok::Allocator = springbok::Allocator;

fn main() -> ExitCode {
    springbok::Launcher::new().main()
}
