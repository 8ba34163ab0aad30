//! The whole command line, built with this package so that its tests can start it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: springbok::Allocator = springbok::Allocator;

fn main() -> ExitCode {
    springbok::Launcher::new()
        .environment(
            "Kinds",
            "episodes of two kinds with known values, for tests",
            springbok_tests::kinds::Kinds::from_options,
        )
        .environment(
            "OneState",
            "one state worth a reward for ever, cut off by a time limit, for tests",
            springbok_tests::kinds::OneState::from_options,
        )
        .main()
}
